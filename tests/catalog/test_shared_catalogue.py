"""Several writers and readers on one PostgreSQL, which is the real one, and killed at times."""

import time

import pytest
from sharing import PATIENCE, campaign

pytestmark = pytest.mark.timeout(900)  # on a machine that is busy with other things


def check(outcome, runs):
    assert outcome.failed == []
    assert len(outcome.written) == runs
    assert outcome.lost == outcome.doubled == outcome.differing == outcome.left == []
    assert outcome.wrong == []
    assert outcome.read > 0


@pytest.mark.slow
def test_two_write_while_one_reads(shared, tmp_path):
    outcome = campaign(shared, tmp_path, writers=2, runs=2, measured=0, readers=1, spectra=2)
    check(outcome, 4)
    assert outcome.errors == 0


@pytest.mark.slow
def test_four_write_while_two_read(shared, tmp_path):
    outcome = campaign(shared, tmp_path, writers=4, runs=2, measured=1, readers=2, spectra=2)
    check(outcome, 8)
    assert outcome.errors == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_write_25_runs_each_while_four_read(shared, tmp_path):
    outcome = campaign(shared, tmp_path, writers=4, runs=25, measured=4, readers=4, patience=3000)
    check(outcome, 100)
    assert outcome.errors == 0


def when(written, count):
    """Wait until so many documents were emitted."""
    deadline = time.monotonic() + PATIENCE
    while written() < count:
        assert time.monotonic() < deadline, f"only {written()} documents were emitted"
        time.sleep(0.01)


def killed_in_between(shared, documents, times):
    """Kill Tiled and PostgreSQL in turn while so many documents are emitted."""

    def meanwhile(written):
        for n in range(times):
            when(written, documents * (n + 1) // (times + 1))
            if n % 2 == 0:
                shared.server.kill()
                shared.server.start()
            else:
                shared.cluster.restart(crash=True)

    return meanwhile


@pytest.mark.slow
def test_tiled_and_postgresql_are_killed_in_between(shared, tmp_path):
    # 9 documents a run, of which the writers emit one every so often
    outcome = campaign(
        shared,
        tmp_path,
        writers=2,
        runs=4,
        measured=0,
        readers=1,
        spectra=4,
        pause=0.4,
        meanwhile=killed_in_between(shared, 2 * 4 * 9, times=2),
    )
    check(outcome, 8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_are_killed_in_between(shared, tmp_path):
    outcome = campaign(
        shared,
        tmp_path,
        writers=4,
        runs=10,
        measured=4,
        readers=2,
        spectra=6,
        pause=1.0,
        meanwhile=killed_in_between(shared, 4 * 9 * 11, times=8),
        patience=3000,
    )
    check(outcome, 40)

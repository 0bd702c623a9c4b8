"""Several writers and readers on one PostgreSQL, which is the real one, and killed at times."""

import pytest
from sharing import NO_POSTGRES, campaign, open_directory

from curiosity_bluesky.shared.serving import SharedCatalogue

pytestmark = [
    pytest.mark.skipif(NO_POSTGRES is not None, reason=NO_POSTGRES or ""),
    pytest.mark.timeout(900),  # on a machine that is busy with other things
]


@pytest.fixture(scope="module")
def shared():
    with open_directory() as directory, SharedCatalogue(directory) as catalogue:
        yield catalogue


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TILED_API_KEY", "none yet")


def check(outcome, runs):
    assert outcome.failed == []
    assert len(outcome.written) == runs
    assert outcome.lost == outcome.doubled == outcome.differing == outcome.left == []
    assert outcome.wrong == []
    assert outcome.read > 0


def test_four_write_while_two_read(shared, tmp_path):
    outcome = campaign(shared, tmp_path, writers=4, runs=3, readers=2, spectra=3)
    check(outcome, 12)
    assert outcome.errors == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_write_25_runs_each_while_four_read(shared, tmp_path):
    outcome = campaign(shared, tmp_path, writers=4, runs=25, readers=4, patience=3000)
    check(outcome, 100)
    assert outcome.errors == 0

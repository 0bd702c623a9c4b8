"""A run whose process was killed reads the same everywhere, before anybody writes again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from sharing import made_run
from support import WAIT, whole_events
from tiled.queries import Key

from curiosity_bluesky import InputError, connect, read
from curiosity_bluesky.analysis import predict
from curiosity_bluesky.catalog import recovery, upload
from curiosity_bluesky.catalog.journal import RunJournal, journals
from curiosity_bluesky.catalog.writer import JournaledWriter
from curiosity_bluesky.cli._export import run_export
from curiosity_bluesky.documents import RESUMES, Incomplete
from curiosity_bluesky.views.report import show_run

KILLED = """
import os, signal, sys
from sharing import measured_run
from support import whole_events
from curiosity_bluesky import connect
emitted = []
measured_run(lambda *document: emitted.append(document), 0, 8)
in_tiled, in_all = (
    emitted.index(("event", whole_events(emitted, "primary")[n])) + 1 for n in (3, 6)
)
catalog = connect(sys.argv[1])
writer = catalog.writer()
for document in emitted[:in_tiled]:
    writer(*document)
writer.flush()
for document in emitted[in_tiled:in_all]:
    writer(*document)
os.kill(os.getpid(), signal.SIGKILL)
"""
POINTS = 7


@pytest.fixture
def catalog(tmp_path):
    with connect(tmp_path / "runs") as opened:
        yield opened


def left_by(catalog: Any, emitted: list[tuple[str, Any]]) -> str:
    """Leave the journal of a process that died; return the uid."""
    journal = RunJournal(catalog.journal, emitted[0][1]["uid"])
    for document in emitted:
        journal.append(*document)
    assert journal.close()
    return journal.uid


@pytest.mark.slow
@pytest.mark.parametrize("first", ["show", *[pytest.param("runs", marks=pytest.mark.slow)]])
def test_a_killed_run_has_as_many_spectra_for_whoever_asks(tmp_path, first):
    where = tmp_path / "runs"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(where)]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    [path] = journals(where / "journal")
    uid = path.stem
    with connect(where, create=False, serve=False) as catalog:
        if first == "runs":
            [summary] = catalog.runs()
            assert (summary.points, summary.status) == (POINTS, "interrupted")
            assert catalog.reads_files and path.exists()  # which a list leaves alone
        shown = show_run(catalog, uid[:8])
        assert shown.points is not None and shown.points.sizes["point"] == POINTS
        assert shown.status == "interrupted" and not shown.missing and not path.exists()
        [summary] = catalog.runs()
        assert (summary.points, summary.status) == (POINTS, "interrupted")
        run = catalog[-1]
        assert run.start["uid"] == uid and read(run).sizes["point"] == POINTS
        predicted = predict(run)
        [key] = [key for key in predicted if str(key).endswith("_measured")]
        measured = ~np.isnan(predicted[key].values).all(axis=2)
        assert np.count_nonzero(measured) == POINTS
        exported = run_export(run, tmp_path / "run.h5")
        assert POINTS in {n for each in exported["datasets"] for n in each["shape"]}
        assert len(whole_events(catalog.documents(uid), "primary")) == POINTS


def test_a_run_that_only_a_journal_has_is_the_last_one(catalog):
    emitted = list(made_run(0, 0, 3))
    uid = left_by(catalog, emitted[:-2])
    assert catalog[-1].start["uid"] == uid and read(catalog[-1]).sizes["point"] == 2
    assert not journals(catalog.journal)


@pytest.mark.quick("<lambda>0", "<lambda>2")
@pytest.mark.parametrize(
    "seen",
    [
        lambda catalog, uid: len(catalog) == 1,
        lambda catalog, uid: list(catalog) == [uid],
        lambda catalog, uid: [key for key, _ in catalog.items()] == [uid],
        lambda catalog, uid: list(catalog.search(Key("plan_name") == "made")) == [uid],
    ],
)
def test_a_run_that_only_a_journal_has_is_counted_listed_and_found(catalog, seen):
    uid = left_by(catalog, list(made_run(0, 0, 3))[:-2])
    assert seen(catalog, uid)


def test_what_is_uploaded_for_too_long_is_a_clear_error(catalog, monkeypatch):
    monkeypatch.setattr(recovery, "WAIT", 0.0)
    catalog.writer()._recovery._note_upload("0123456789")
    with pytest.raises(InputError, match="run 0123456789 .* still being uploaded from its journal"):
        _ = catalog["01234"]


@pytest.mark.slow
def test_what_a_run_went_on_with_is_taken_in_with_it(catalog):
    runs = [list(made_run(0, number, 2)) for number in range(4)]
    for earlier, later in ((0, 1), (1, 2)):
        runs[later][0][1][RESUMES] = runs[earlier][0][1]["uid"]
    left_by(catalog, runs[1])
    catalog.recover()
    uids = [left_by(catalog, emitted) for emitted in (runs[0], runs[2], runs[3])]
    # The newest from its journal, that in the middle in Tiled, the oldest from its journal.
    assert read(catalog[uids[1]]).sizes["point"] == 6
    assert [path.stem for path in journals(catalog.journal)] == [uids[2]]


def test_a_run_that_somebody_writes_is_left_alone(catalog):
    emitted = list(made_run(0, 0, 3))
    journal = RunJournal(catalog.journal, emitted[0][1]["uid"])
    for document in emitted[:-2]:
        journal.append(*document)
    written = journal.path.read_bytes()
    for key in (journal.uid, -1):
        with pytest.raises(InputError, match="no run"):
            _ = catalog[key]
    assert journal.path.read_bytes() == written and journal.is_locked
    for document in emitted[-2:]:
        journal.append(*document)
    assert journal.close()
    assert read(catalog[-1]).sizes["point"] == 3


def test_a_run_whose_journal_is_damaged_is_read_as_far_as_it_goes_and_that_is_said_once(catalog):
    emitted = list(made_run(0, 0, 3))
    uid = left_by(catalog, emitted)
    path = catalog.journal / f"{uid}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"spoilt\n", *lines[7:]]))
    with pytest.warns(Incomplete, match=rf"{uid} may be read without .*line 7"):
        run = catalog[uid]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Incomplete)
        again = catalog[uid]
    for each in (run, again):
        assert len(each["primary"]["time"].read()) == 2
    assert path.exists()


def test_a_run_that_the_writer_takes_in_at_this_moment_is_waited_for(catalog, monkeypatch):
    emitted = list(made_run(0, 0, 3))
    uid = left_by(catalog, emitted)
    begun, asked = threading.Event(), threading.Event()
    take_in, wait = upload._taken_in, JournaledWriter.wait_for_recovery

    def taken_in(*given):
        begun.set()
        assert asked.wait(WAIT)
        return take_in(*given)

    def waits(writer, key):
        asked.set()
        wait(writer, key)

    monkeypatch.setattr(upload, "_taken_in", taken_in)
    monkeypatch.setattr(JournaledWriter, "wait_for_recovery", waits)
    catalog.writer()
    assert begun.wait(WAIT)
    assert read(catalog[uid[:8]]).sizes["point"] == 3

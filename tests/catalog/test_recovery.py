"""What a process that died has left is found, taken in once, and said to be interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from sharing import made_run
from support import QUICK, collected_run, events
from typer.testing import CliRunner
from uploads import same
from zarr.storage import LocalStore

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog.document_counts import count_documents
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.journal_lines import documents, lines
from curiosity_bluesky.catalog.run_uploader import UploadCancelled, rewrite_run
from curiosity_bluesky.catalog.upload import upload_journal
from curiosity_bluesky.cli.app import app

MEASURE = """
import sys, time
from bluesky import RunEngine
from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import open_sample
film = simulated_instrument(open_sample(sys.argv[1]), speed=float("inf"))
few = {"patch_size": 3, "n_seeds": 30}
devices = [film.spectrometer], film.stage.x, film.stage.y, film.imager
catalog = connect(sys.argv[2])
RE = RunEngine({})
RE.subscribe(catalog.writer())
RE.subscribe(lambda name, doc: print(name, flush=True))
RE.subscribe(lambda name, doc: time.sleep(0.02))
RE(curiosity_plan(*devices, num_points=30, strategy="random", options={"parameters": few},
                  md={"sample": "killed"}))
"""


@pytest.fixture
def catalog(tmp_path):
    with connect(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture
def run(RE, instrument):
    return collected_run(RE, instrument, num_points=6, strategy="random", parameters=QUICK)


@pytest.fixture
def small():
    """Return a run of two streams, with little for a server to do."""
    made = list(made_run(0, 0, 3))
    return made[0][1]["uid"], made


def journalled(catalog, run, until: int | None = None) -> Path:
    """Leave a journal as a process that died does."""
    uid, emitted = run
    journal = RunJournal(catalog.journal, uid)
    for document in emitted[:until]:
        journal.append(*document)
    journal.close()
    return journal.path


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_was_acknowledged(film_file, tmp_path):
    command = [sys.executable, "-c", MEASURE, str(film_file), str(tmp_path / "runs")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    seen = []
    for line in child.stdout:
        seen.append(line.strip())
        if seen.count("event") == 25:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    [path] = (tmp_path / "runs" / "journal").glob("*.jsonl")
    left = list(documents(path))
    assert [name for name, _ in left][: len(seen)] == seen
    # Before anything is taken in, it is listed, and read from its journal.
    with connect(tmp_path / "runs", create=False) as catalog:
        [summary] = catalog.runs(sample="killed")
        assert (summary.uid, summary.status) == (path.stem, "interrupted")
        assert summary.points == count_documents(lines(path)).events["primary"]
        assert catalog.documents(path.stem[:6]) == left
        assert catalog.runs(sample="other") == []
    done = CliRunner().invoke(app, ["recover", "--catalog", str(tmp_path / "runs"), "--json"])
    [recovered] = json.loads(done.stdout)
    assert recovered["uid"] == path.stem and recovered["interrupted"]
    assert recovered["documents"] == len(left)
    again = CliRunner().invoke(app, ["recover", "--catalog", str(tmp_path / "runs"), "--json"])
    assert json.loads(again.stdout) == []
    with connect(tmp_path / "runs", create=False) as catalog:
        assert [(run.points, run.status) for run in catalog.runs()] == [
            (summary.points, "interrupted")
        ]
        same(left, catalog.documents(path.stem))
        assert catalog[-1].metadata["interrupted"]["time"] == left[-1][1]["time"]
        assert "stop" not in catalog[-1].metadata
        assert read(catalog[-1]).sizes["point"] == summary.points
    assert not list((tmp_path / "runs" / "journal").iterdir())


def test_a_journal_of_a_whole_run_goes_in_and_once_only(catalog, small):
    uid, emitted = small
    kept = shutil.copy(journalled(catalog, small), catalog.journal.parent / "kept")
    [recovered] = catalog.recover()
    assert (recovered.uid, recovered.status, recovered.interrupted) == (uid, "written", False)
    same(emitted, catalog.documents(uid))
    assert [run.status for run in catalog.runs()] == ["success"]
    shutil.copy(kept, catalog.journal / f"{uid}.jsonl")
    assert [one.status for one in catalog.recover()] == ["present"]
    assert catalog.recover() == [] and not list(catalog.journal.iterdir())
    same(emitted, catalog.documents(uid))


@pytest.mark.slow
def test_what_was_broken_off_in_the_middle_is_written_anew(catalog, run):
    uid, emitted = run
    path = journalled(catalog, run)
    calls = iter([True] * 12)
    with pytest.raises(UploadCancelled):
        upload_journal(catalog.client, path, lambda: next(calls, False))
    assert path.exists() and catalog.runs()[0].uid == uid
    assert [one.status for one in catalog.recover()] == ["written"]
    same(emitted, catalog.documents(uid))


def test_a_journal_that_somebody_writes_is_left_alone(catalog, small):
    uid, emitted = small
    journal = RunJournal(catalog.journal, uid)
    for document in emitted[:-2]:
        journal.append(*document)
    assert catalog.recover() == []
    assert [(run.uid, run.status) for run in catalog.runs()] == [(uid, "open")]
    journal.close()
    assert [run.status for run in catalog.runs()] == ["interrupted"]


@pytest.mark.slow
def test_two_at_once_take_in_each_journal_once(catalog, run, tmp_path):
    uid, emitted = run
    journalled(catalog, run)
    code = "from curiosity_bluesky.cli import main; main()"
    command = [sys.executable, "-c", code, "recover", "--catalog", str(tmp_path / "runs")]
    both = [subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert sum(map(len, said)) == 1
    same(emitted, catalog.documents(uid))


def test_nothing_is_taken_from_tiled_that_the_journal_does_not_hold(catalog, small):
    uid, emitted = small
    path = journalled(catalog, small)
    assert upload_journal(catalog.client, path) is not None
    # A journal whose end was lost with the memory of its process: Tiled has more.
    shorter = journalled(catalog, small, until=-3)
    tally = count_documents(lines(shorter))
    with pytest.raises(Exception, match="Tiled holds more of run"):
        rewrite_run(catalog.client, uid, documents(shorter), tally)
    assert [one.status for one in catalog.recover()] == ["present"]
    same(emitted, catalog.documents(uid))
    assert [run.status for run in catalog.runs()] == ["success"]
    # And one that differs both ways stays for somebody to look at.
    catalog.client[uid]["survey"].delete(recursive=True, external_only=False)
    kept = journalled(catalog, small, until=-3)
    [recovered] = catalog.recover()
    assert recovered.status == "kept" and "Tiled holds more" in recovered.detail
    assert kept.exists()


@pytest.mark.slow
def test_files_that_a_killed_server_left_of_an_array_are_in_nobodys_way(catalog, run):
    uid, emitted = run
    journalled(catalog, run)
    # Killed after it had made the files of an array, and before it had written whose they are.
    left = catalog.journal.parent / "data" / uid / "primary" / "spectrometer_response"
    zarr.create_array(LocalStore(left), shape=(3, 7), chunks=(1, 7), dtype="f8")
    assert [one.status for one in catalog.recover()] == ["written"]
    same(emitted, catalog.documents(uid))
    spectra = read(catalog[uid])["spectrometer_response"].values
    expected = [event["spectrometer_response"] for event in events(emitted, "primary")]
    np.testing.assert_array_equal(spectra, expected)


@pytest.mark.parametrize("by", [pytest.param("recover", marks=pytest.mark.slow), "writer"])
@pytest.mark.slow
def test_a_journal_that_the_server_refuses_keeps_no_other_waiting(
    catalog, RE, instrument, monkeypatch, by
):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)  # half a minute else
    runs = [collected_run(RE, instrument, num_points=6, strategy="random") for _ in range(2)]
    first, second = (journalled(catalog, run) for run in runs)
    os.utime(first, (0, 0))
    # A file where the server would put the arrays of the first.
    (catalog.journal.parent / "data" / runs[0][0]).write_text("in the way")
    if by == "recover":
        kept, written = catalog.recover()
        assert (kept.uid, kept.status, written.status) == (runs[0][0], "kept", "written")
        assert "500" in kept.detail and kept.documents == len(runs[0][1])
    else:
        catalog.writer(retry=(0.1, 0.5))
        deadline = time.monotonic() + 60
        while second.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert first.exists() and not second.exists()
    same(runs[1][1], catalog.documents(runs[1][0]))
    (catalog.journal.parent / "data" / runs[0][0]).unlink()
    catalog.recover()
    same(runs[0][1], catalog.documents(runs[0][0]))


@pytest.mark.parametrize("by", ["recover", "writer"])
@pytest.mark.slow
def test_a_journal_that_nobody_can_read_keeps_no_other_waiting(catalog, run, by):
    uid, emitted = run
    # Of a writer that was subscribed in the middle of a run, and one that is no run at all.
    other = RunJournal(catalog.journal, "other")
    other.append("event", next(doc for name, doc in emitted if name == "event"))
    other.close()
    odd = RunJournal(catalog.journal, "odd-run")
    odd.append("start", {"uid": "odd-run", "time": 0.0})
    keys = {"x": {"dtype": "no such", "shape": [], "source": ""}}
    described = {"uid": "d", "name": "primary", "run_start": "odd-run", "time": 0.0}
    odd.append("descriptor", {**described, "data_keys": keys})
    odd.close()
    for path in (other.path, odd.path):
        os.utime(path, (0, 0))
    path = journalled(catalog, run)
    if by == "recover":
        found = {one.uid: (one.status, one.detail) for one in catalog.recover()}
        assert found[uid] == ("written", "")
        assert found["odd-run"][0] == "kept" and "no such" in found["odd-run"][1]
        assert found["other"][0] == "kept" and "start document" in found["other"][1]
    else:
        writer = catalog.writer(retry=(0.05, 0.05))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and writer._recovery._kept != {"odd-run", "other"}:
            time.sleep(0.05)
        assert writer._recovery._tries == {"odd-run": 3}  # and not for ever
    assert not path.exists() and other.path.exists() and odd.path.exists()
    same(emitted, catalog.documents(uid))


@pytest.mark.slow
def test_a_journal_with_events_that_nothing_describes_is_written_and_stays(catalog, run):
    uid, _ = run
    path = journalled(catalog, run, until=-1)
    more = RunJournal(catalog.journal, uid)
    known = {"uid": "e", "seq_num": 1, "time": 0.0, "data": {}, "timestamps": {}}
    more.append("event", {"descriptor": "?", **known})
    more.close()
    for _ in range(2):
        [recovered] = catalog.recover()
        assert (recovered.status, recovered.detail[:8]) == ("kept", "1 events")
    assert path.exists() and len(catalog.client[uid]["primary"].read()["time"]) == 6


@pytest.mark.slow
def test_a_new_writer_takes_in_by_itself_what_others_left(catalog, run):
    uid, emitted = run
    journalled(catalog, run, until=-1)
    path = catalog.journal / f"{uid}.jsonl"
    catalog.writer(retry=(0.1, 0.5))
    deadline = time.monotonic() + 60
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [run.status for run in catalog.runs()] == ["interrupted"]
    same(emitted[:-1], catalog.documents(uid))


def test_a_journal_of_nothing_or_of_no_run_does_no_harm(catalog):
    (catalog.journal / "empty.jsonl").touch()
    (catalog.journal / "torn.jsonl").write_text('{"name": "start", "d')
    (catalog.journal / "other.jsonl").write_text('{"name": "stop", "doc": {"uid": "x"}}\n')
    assert catalog.runs() == []
    found = {one.uid: one.status for one in catalog.recover()}
    assert found == {"empty": "present", "torn": "present", "other": "kept"}
    assert [path.name for path in catalog.journal.glob("*.jsonl")] == ["other.jsonl"]

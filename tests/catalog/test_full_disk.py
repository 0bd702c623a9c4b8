"""The disk of the journal is full: the plan pauses, what is said is so, and nothing is lost."""

from __future__ import annotations

import errno
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from support import QUICK, grouped, until
from uploads import documents_of, same
from uploads import until as patiently

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer, LogFile
from curiosity_bluesky.catalog.journal import RunJournal, describe_backlog
from curiosity_bluesky.catalog.journal_lines import documents
from curiosity_bluesky.catalog.writer import JournaledWriter
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.utils.run_end import EndKind, RunEnd
from curiosity_bluesky.views import LiveView


class Disk:
    """A disk that can be filled to its last byte, and emptied again."""

    def __init__(self, folder: Path, full: Callable[[bool], None]) -> None:
        self.folder = folder
        self.full = full


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Disk]:
    """A disk of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"there is no mount here: {error}")
    if done.returncode:
        pytest.skip(f"this user may not mount a disk: {done.stderr.strip()}")

    def full(yes: bool) -> None:
        ballast = folder / "ballast"
        if not yes:
            ballast.unlink(missing_ok=True)
            return
        with suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass

    yield Disk(folder, full)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk whose journals cannot be written, for where none may be mounted."""
    write, state = os.write, {"full": False}

    def refused(file: int, data: bytes) -> int:
        if state["full"] and os.readlink(f"/proc/self/fd/{file}").endswith(".jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr(os, "write", refused)
    return Disk(tmp_path / "disk", lambda yes: state.update(full=yes))


@pytest.fixture(params=["tmpfs", "injected"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    with connect(tmp_path_factory.mktemp("full") / "runs") as opened:
        yield opened


@pytest.fixture
def on_disk() -> Iterator[Callable[..., JournaledWriter]]:
    """Return what makes a writer whose journals are on a disk; none is left full by any test."""
    made: list[tuple[JournaledWriter, Disk]] = []

    def make(tiled: Callable[[], Any], disk: Disk, **options: Any) -> JournaledWriter:
        folder = disk.folder / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        made.append((JournaledWriter(tiled, folder, retry=(0.05, 0.1), **options), disk))
        return made[-1][0]

    yield make
    for writer, disk in made:
        runs = list(writer._runs.values())
        disk.full(False)
        writer.close(timeout=0.01)
        for run in runs:
            run.journal.close()
        assert not [run for run in runs if describe_backlog(run.journal.uid)]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def of_the_journal(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in said(caplog) if "journal" in text]


@pytest.mark.quick("injected")
def test_the_plan_pauses_while_documents_wait_and_goes_on_when_there_is_room(
    catalog, disk, on_disk, RE, instrument, caplog
):
    writer = on_disk(catalog._connection.open, disk, may_wait=3)
    # Tiled lags behind, so that the journal is all there is.
    writer._advance_all = lambda: [run.journal.retry() for run in list(writer._runs.values())]
    emitted: list[tuple[str, dict[str, Any]]] = []

    def fill(name: str, doc: dict[str, Any]) -> None:
        emitted.append((name, doc))
        if len(emitted) == 12:
            disk.full(True)

    RE.subscribe(writer)
    RE.subscribe(fill)
    plan = curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        num_points=12,
        strategy="random",
        options={"parameters": {**QUICK, "n_seeds": 3}},
    )
    with pytest.raises(RunEngineInterrupted):
        RE(plan)
    # At most the documents of one point more than may wait.
    assert 3 < writer.in_memory < 3 + 8
    there = len(list(documents(next((disk.folder / "journal").glob("*.jsonl")))))
    assert there + writer.in_memory == len(emitted)
    assert writer.status.startswith(f"{writer.in_memory} documents wait in memory alone (No space")
    full, pauses = of_the_journal(caplog)
    assert "make room on that disk" in full
    assert pauses.startswith(f"{writer.in_memory} documents wait in memory alone, since the disk")
    assert "The plan pauses" in pauses and "RE.resume() goes on" in pauses
    # Resumed too early, it pauses again.
    with pytest.raises(RunEngineInterrupted):
        RE.resume()
    disk.full(False)
    RE.resume()
    until(lambda: not writer.in_memory)
    told = of_the_journal(caplog)
    assert len(told) == 4 and "nothing is missing" in told[-1]
    [path] = (disk.folder / "journal").glob("*.jsonl")
    assert [(n, d["uid"]) for n, d in documents(path)] == [(n, d["uid"]) for n, d in emitted]
    del writer._advance_all
    writer._wake.set()
    until(lambda: writer.backlog == 0 and not writer._runs)
    writer.close()
    same(emitted, catalog.documents(emitted[0][1]["uid"]))


@pytest.mark.parametrize("mine", [True, False])
def test_only_the_disk_of_its_own_run_stops_a_plan(injected, RE, instrument, mine):
    injected.full(True)
    other = RunJournal(injected.folder, "another-run", may_wait=0)
    other.append("start", {"uid": "another-run"})
    assert describe_backlog("another-run")

    def journalled(name: str, doc: dict[str, Any]) -> None:
        if mine and name == "start":
            other.uid = doc["uid"]

    plan = curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        num_points=3,
        strategy="random",
        options={"parameters": {**QUICK, "n_seeds": 3}},
    )
    if mine:
        with pytest.raises(RunEngineInterrupted):
            RE(plan, journalled)
        injected.full(False)
        RE.resume()
    else:
        RE(plan, journalled)
    injected.full(False)
    assert other.close()


@pytest.mark.parametrize("attended", [True, False])
def test_where_nobody_can_make_room_the_run_ends_and_says_so(
    injected, on_disk, instrument, attended, caplog
):
    RE, found = RunEngine({}), []
    writer = on_disk(lambda: None, injected, may_wait=0)
    writer._advance_all = lambda: None

    def fill(name: str, doc: dict[str, Any]) -> None:
        found.append((name, doc))
        injected.full(len(found) > 8)

    RE.subscribe(writer)
    RE.subscribe(fill)
    agent = CuriosityAgent(Strategy.named("random", budget=30, **{**QUICK, "n_seeds": 3}), 0)
    devices = [instrument.spectrometer], instrument.stage.x, instrument.stage.y, instrument.imager
    plan = explore(agent, *devices, **grouped(attended=attended))
    if attended:
        with pytest.raises(RunEngineInterrupted):
            RE(plan)
        RE.stop()
    else:
        RE(plan)
    end = RunEnd.of(found[-1][1])
    assert end.kind is EndKind.DISK and "documents wait in memory alone" in end.text
    assert ("The plan pauses: make room there" in caplog.text) == attended
    assert ("The run ends" in caplog.text) == (not attended)


def test_what_waits_is_written_without_another_document(catalog, injected, on_disk, caplog):
    writer = on_disk(catalog._connection.open, injected)
    writer._upload.advance = lambda client, run: False  # Tiled is of no concern here
    emitted = documents_of("run-waits")
    for document in emitted[:2]:
        writer(*document)
    injected.full(True)
    for document in emitted[2:5]:
        writer(*document)
    assert writer.in_memory == 3
    injected.full(False)
    until(lambda: not writer.in_memory)
    path = injected.folder / "journal" / "run-waits.jsonl"
    assert list(documents(path)) == emitted[:5]
    assert len(said(caplog)) == 2 and writer.status == ""
    writer.close(timeout=0.01)


def test_a_process_that_ends_while_the_disk_is_full_says_what_is_lost(injected, on_disk, caplog):
    full = threading.Event()

    def away() -> None:
        full.wait()
        raise InputError("the server is on that disk, too")

    folder = injected.folder / "journal"
    writer = on_disk(away, injected, where="runs")
    emitted = documents_of("run-lost")
    for document in emitted[:4]:
        writer(*document)
    injected.full(True)
    for document in emitted[4:]:
        writer(*document)
    full.set()
    writer.close()
    assert writer.in_memory == 3
    [text] = [text for text in said(caplog) if "are not in Tiled" in text]
    assert text.startswith("7 documents of 1 run are") and f"4 are in {folder}" in text
    assert "the last 3 are in memory alone (No space left" in text
    assert "are lost when this process ends" in text
    assert not [text for text in said(caplog) if "all its documents" in text]


@pytest.mark.parametrize("given", [-1, math.nan, "3", None, True])
def test_a_setting_that_cannot_be_is_refused_at_once(catalog, given):
    with pytest.raises(InputError, match="may_wait is .*expected how many documents"):
        catalog.writer(may_wait=given)


def test_a_log_on_a_full_disk_says_nothing_on_the_screen(capsys):
    log = LogFile("/dev/full")
    log.emit(logging.makeLogRecord({"msg": "something happened"}))
    with suppress(OSError):
        log.close()
    assert capsys.readouterr().err == ""
    log = LogFile(os.devnull)
    log.emit(logging.makeLogRecord({"msg": "a defect %d", "args": ("no number",)}))
    log.close()
    assert "no number" in capsys.readouterr().err


def test_a_catalogue_on_a_full_disk_is_refused_in_one_line(tmp_path, monkeypatch):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("curiosity_bluesky.catalog.embedded_server.json.dump", full)
    with pytest.raises(InputError, match="cannot be opened .No space left.*make room"):
        EmbeddedServer(tmp_path)


@pytest.mark.slow
def test_a_demo_on_a_full_disk_ends_and_says_what_is_so(tmpfs):
    where = tmpfs.folder / "runs"
    code = "from curiosity_bluesky.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", "--sample", "synthetic", "--strategy", "random"]
    command += ["--points", "60", "--speed", "30", "--set", "n_seeds=10", "--no-plot"]
    child = subprocess.Popen(
        [*command, "--catalog", str(where)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip

    def lines() -> int:
        found = list((where / "journal").glob("*.jsonl"))
        return found[0].read_bytes().count(b"\n") if found else 0

    patiently(lambda: lines() > 30)  # a process begins slowly on a busy machine
    tmpfs.full(True)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 2 and "Traceback" not in out + err
    assert len([line for line in err.splitlines() if line.strip()]) < 12
    there = lines()
    assert f"; {there} are in {where}/journal, and `curiosity recover" in err
    assert "all its documents" not in err and "is not whole" in err
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", "--catalog", str(where)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    tmpfs.full(False)
    with connect(where) as catalog:
        [recovered] = catalog.recover()
        assert (recovered.status, recovered.documents) == ("written", there)
        [summary] = catalog.runs()
        assert summary.status == "interrupted"


def test_tiled_on_another_disk_gets_what_waits_from_memory(catalog, injected, on_disk):
    writer = on_disk(catalog._connection.open, injected)
    emitted = documents_of("run-elsewhere")
    for document in emitted[:3]:
        writer(*document)
    injected.full(True)
    for document in emitted[3:]:
        writer(*document)
    until(lambda: not writer._runs)
    assert writer.in_memory == 0 and writer.status == ""
    assert not list((injected.folder / "journal").glob("*.jsonl"))
    same(emitted, catalog.documents("run-elsewhere"))
    writer.close()


def test_a_picture_that_cannot_be_written_is_said_once(tmp_path, monkeypatch, caplog):
    class Picture:
        ended = False

        def __call__(self, name: str, doc: Any) -> None:
            pass

    calls = []

    def full() -> None:
        calls.append(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    view = LiveView(tmp_path, interval=0.001, window=False)
    view.picture = Picture()
    monkeypatch.setattr(view, "save", full)

    def drawn_again() -> bool:
        view("start", {"uid": "run-one"})
        return len(calls) > 3

    until(drawn_again)
    assert len([text for text in said(caplog) if "could not be drawn" in text]) == 1

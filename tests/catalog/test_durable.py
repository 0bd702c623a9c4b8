"""With ``durable=True`` the disk has each document before the RunEngine goes on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import until
from uploads import QUICK_RETRY, documents_of

from curiosity_bluesky import connect
from curiosity_bluesky.catalog.journal import RunJournal


@pytest.fixture
def forced(monkeypatch) -> list[tuple[str, int]]:
    """What was forced onto the disk: each name, with its size then."""
    found: list[tuple[str, int]] = []
    fsync = os.fsync

    def noted(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        if path.suffix == ".jsonl" or path.name in ("journal", "runs"):
            found.append((path.name, path.stat().st_size if path.is_file() else 0))
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    return found


@pytest.mark.parametrize("durable", [True, False])
def test_each_document_is_on_the_disk_when_the_plan_goes_on(tmp_path, forced, durable, monkeypatch):
    with connect(tmp_path / "runs") as catalog:
        monkeypatch.setattr(catalog, "flush", lambda: None)
        writer = catalog.writer(retry=QUICK_RETRY, durable=durable)
        path = catalog.journal / "run-one.jsonl"
        for number, document in enumerate(documents_of("run-one")[:4]):
            before = len(forced)
            writer(*document)
            new = forced[before:]
            if not durable:
                assert new == []
                continue
            assert (path.name, path.stat().st_size) in new
            # The directories that say that there is such a file, once.
            assert {name for name, _ in new} - {path.name} == (
                {"journal", "runs"} if number == 0 else set()
            )


@pytest.mark.parametrize("durable", [True, False])
def test_what_tiled_wrote_is_on_the_disk_before_the_journal_is_deleted(
    tmp_path, durable, monkeypatch
):
    there: list[bool] = []
    with connect(tmp_path / "runs") as catalog:
        path = catalog.journal / "run-one.jsonl"
        sync = os.sync
        monkeypatch.setattr(os, "sync", lambda: (there.append(path.exists()), sync()))
        writer = catalog.writer(retry=QUICK_RETRY, durable=durable)
        for document in documents_of("run-one"):
            writer(*document)
        until(lambda: not path.exists())
    assert there == [True] * durable


def test_a_disk_that_does_not_confirm_is_said_once_and_nothing_else(tmp_path, monkeypatch, caplog):
    def fails(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    journal = RunJournal(tmp_path, "uid", durable=True)
    for n in range(3):
        journal.append("event", {"n": n})
    assert journal.on_disk and "error" in journal.state.why
    assert journal.path.read_bytes().count(b"\n") == 3
    [text] = [record.getMessage() for record in caplog.records]
    assert "does not confirm it" in text and "wait in memory" not in text
    monkeypatch.undo()
    journal.append("event", {"n": 3})
    assert journal.state.why == "" and journal.close()


@pytest.mark.slow
def test_the_benchmark_prints_the_ratio_and_writes_its_figures(tmp_path):
    file = tmp_path / "figures.json"
    script = Path(__file__).parents[2] / "benchmarks" / "durable.py"
    command = [sys.executable, str(script), "--directory", str(tmp_path), "--events", "3"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--json", str(file)], capture_output=True, text=True, check=True
    )
    figures = json.loads(file.read_text())
    assert f"{figures['ratio']} times as long" in done.stdout and figures["events"] == 6

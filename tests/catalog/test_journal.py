"""The journal has each document when the callback returns, whatever happens to it then."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curiosity_bluesky.catalog.document_counts import count_documents
from curiosity_bluesky.catalog.journal import (
    JournalLocked,
    JournalTruncated,
    RunJournal,
    is_held,
    journals,
)
from curiosity_bluesky.catalog.journal_lines import UNREAD, documents, lines


def event(number: int, descriptor: str = "d", **data: Any) -> dict[str, Any]:
    return {"descriptor": descriptor, "seq_num": number, "time": float(number), "data": data}


def test_what_is_read_is_what_was_written_from_any_position(tmp_path):
    journal = RunJournal(tmp_path, "uid")
    written = [("event", event(n, a=[0.1] * 20_000, b=float("nan"))) for n in range(5)]
    for document in written:
        journal.append(*document)
    text = [json.dumps(document) for document in written]
    assert [json.dumps(document) for document in documents(journal.path)] == text
    # in pieces that are smaller than one line
    position, found = journal.begins, []
    while batch := journal.read(position):
        position = batch[-1][0]
        found += [(name, doc) for _, name, doc in batch]
    assert [json.dumps(document) for document in found] == text and position == journal.end
    half = [after for after, *_ in lines(journal.path)][2]
    assert [json.dumps(document) for document in documents(journal.path, half)] == text[3:]
    assert [after for after, *_ in journal.lines(half)][-1] == half
    journal.close()


def test_numbers_of_every_kind_come_back_equal(tmp_path):
    journal = RunJournal(tmp_path, "uid")
    values = np.random.default_rng(0).normal(size=50).astype("f4")
    journal.append("event", event(1, f4=values, i=np.int64(3), b=np.bool_(True), f=np.float64(0.1)))
    [(_, doc)] = documents(journal.path)
    np.testing.assert_array_equal(np.array(doc["data"]["f4"], "f4"), values)
    assert (doc["data"]["i"], doc["data"]["b"], doc["data"]["f"]) == (3, True, 0.1)
    journal.close()


def test_what_json_cannot_hold_never_ends_a_run(tmp_path, caplog):
    journal = RunJournal(tmp_path, "uid")
    lockin = np.array([[1 + 2j, np.nan - 1j]], "c8")
    odd = {"raw": b"\x00", "set": {1}, "when": datetime(2026, 11, 21), (1, 2): "key"}
    odd |= {"long": np.longdouble(0.5), "stamp": np.datetime64("2026-11-21"), "path": tmp_path}
    odd["itself"] = odd
    journal.append("start", {"uid": "uid", **{k: v for k, v in odd.items() if k != "itself"}})
    journal.append("start", odd)
    journal.append("event", event(1, lockin=lockin, one=3 - 1j, scalar=np.complex64(1j)))
    journal.close()
    (_, start), _, (_, doc) = documents(journal.path)
    assert (start["set"], start["when"], start["long"]) == ("{1}", "2026-11-21 00:00:00", 0.5)
    assert start["stamp"] == "2026-11-21" and start["path"] == str(tmp_path)
    np.testing.assert_array_equal(doc["data"]["lockin"], lockin)
    assert doc["data"]["lockin"].dtype == "c8"
    assert doc["data"]["one"] == 3 - 1j and doc["data"]["scalar"] == 1j
    assert len([r for r in caplog.records if "its text is kept" in r.getMessage()]) == 1


def test_a_line_that_a_kill_left_unfinished_is_passed_over_and_spoils_no_other(tmp_path):
    path = tmp_path / "uid.jsonl"
    path.write_text('{"name": "start", "doc": {"uid": "uid"}}\n{"name": "event", "do')
    assert [name for name, _ in documents(path)] == ["start"]
    journal = RunJournal(tmp_path, "uid")
    journal.append("stop", {"run_start": "uid"})
    journal.close()
    assert [name for name, _ in documents(path)] == ["start", "stop"]


def test_a_killed_process_leaves_all_that_was_acknowledged_and_no_lock(tmp_path):
    code = """
import sys
from pathlib import Path
from curiosity_bluesky.catalog.journal import RunJournal
journal = RunJournal(Path(sys.argv[1]), "uid")
for n in range(10**9):
    journal.append("event", {"n": n, "data": "x" * (n * 37 % 5000)})
    print(n, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 40:
            assert is_held(tmp_path / "uid.jsonl")
            break
    child.send_signal(signal.SIGKILL)
    acknowledged = int((line + child.stdout.read()).split()[-1])
    child.wait()
    found = [doc["n"] for _, doc in documents(tmp_path / "uid.jsonl")]
    assert found == list(range(len(found))) and len(found) > acknowledged
    assert not is_held(tmp_path / "uid.jsonl")


def test_lines_that_a_full_disk_refuses_wait_and_are_written_in_order(tmp_path, caplog):
    journal = RunJournal(tmp_path, "uid")
    for n in range(3):
        journal.append("event", {"n": n})
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = journal.path.stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, most))  # room for a part of a line
        for n in range(3, 6):
            journal.append("event", {"n": n})
        assert not journal.on_disk
        assert [doc["n"] for _, doc in documents(journal.path)] == [0, 1, 2]
        assert not journal.close()  # nothing is let go of before it is written
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    # Tiled is fed from memory meanwhile.
    found, position = [], journal.begins
    while batch := journal.read(position):
        position = batch[-1][0]
        found += [doc["n"] for *_, doc in batch]
    assert found == [0, 1, 2, 3, 4, 5]
    journal.append("event", {"n": 6})
    assert journal.on_disk and journal.close()
    assert [doc["n"] for _, doc in documents(journal.path)] == list(range(7))
    said = [record.getMessage() for record in caplog.records]
    assert (
        len(said) == 2 and "make room on that disk" in said[0] and "nothing is missing" in said[1]
    )


def test_a_directory_that_was_deleted_is_made_again(tmp_path):
    folder = tmp_path / "journal"
    journal = RunJournal(folder, "uid")
    journal.append("event", {"n": 0})
    journal.close()
    assert [doc["n"] for _, doc in documents(journal.path)] == [0]


def test_the_lock_and_the_file_go_together(tmp_path):
    journal = RunJournal(tmp_path, "uid")
    assert is_held(journal.path) and journals(tmp_path) == [journal.path]
    journal.delete()
    assert not list(tmp_path.iterdir())


def test_a_second_journal_of_a_run_is_refused_at_once(tmp_path):
    first = RunJournal(tmp_path, "uid")
    begun = time.monotonic()
    with pytest.raises(JournalLocked, match="in this process"):
        RunJournal(tmp_path / "." / "x" / "..", "uid")
    assert time.monotonic() - begun < 0.5
    first.append("event", {"n": 0})
    first.close()
    RunJournal(tmp_path, "uid").close()  # it is free again


def test_a_journal_of_another_process_is_refused(tmp_path):
    code = """
import sys
from pathlib import Path
from curiosity_bluesky.catalog.journal import RunJournal
journal = RunJournal(Path(sys.argv[1]), "uid")
print("locked", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"locked\n"
    with pytest.raises(JournalLocked, match="another process"):
        RunJournal(tmp_path, "uid")
    child.communicate()
    RunJournal(tmp_path, "uid").close()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    journal = RunJournal(tmp_path, "uid")
    keys = {
        "a": {"dtype": "array", "shape": [3], "source": ""},
        "file": {"dtype": "array", "shape": [3], "source": "", "external": "FILESTORE:"},
        "n": {"dtype": "number", "shape": [], "source": ""},
    }
    journal.append("start", {"uid": "uid", "time": 0.0})
    journal.append("descriptor", {"uid": "d", "name": "primary", "data_keys": keys, "time": 0.5})
    for number in (1, 2, 2, 3):
        journal.append("event", event(number))
    journal.append("stop", {"uid": "end", "run_start": "uid", "time": 9.0})
    journal.close()
    return journal.path


def test_a_tally_counts_a_repeated_event_once(told):
    tally = count_documents(lines(told))
    assert tally.events == {"primary": 3} and tally.arrays == {"primary": {"a"}}
    assert (tally.documents, tally.time) == (7, 9.0)
    assert tally.start and tally.stop and tally.stop["uid"] == "end"


def test_a_tally_passes_over_events_of_unknown_descriptors_and_counts_them(told):
    again = RunJournal(told.parent, "uid")
    again.append("event", event(4, "never described"))
    again.append("event_page", {"descriptor": "never described", "seq_num": [5, 6]})
    again.close()
    tally = count_documents(lines(told))
    assert (tally.events, tally.unknown) == ({"primary": 3}, 3)


def test_a_run_that_is_journalled_again_counts_together_with_what_was_there(told):
    before = told.read_bytes()
    again = RunJournal(told.parent, "uid")
    for name, doc in list(documents(told)):
        again.append(name, doc)
    again.append("event", event(4, "d"))
    assert again.begins == len(before)
    again.close()
    tally = count_documents(lines(told))
    assert (tally.events, tally.documents, tally.unread) == ({"primary": 4}, 8 + 4, [])
    assert tally.stop is not None


def test_a_second_start_document_that_differs_is_said(told):
    again = RunJournal(told.parent, "uid")
    again.append("start", {"uid": "uid", "time": 10.0})
    again.close()
    tally = count_documents(lines(told))
    assert tally.start == {"uid": "uid", "time": 0.0} and tally.events == {"primary": 3}
    [(position, why)] = tally.unread
    assert position == told.stat().st_size and "second start" in why


def test_what_is_asked_while_a_line_is_written_is_what_was_so_before(tmp_path, monkeypatch):
    journal = RunJournal(tmp_path, "uid")
    seen, write = [], os.write

    def watched(file: int, data: bytes) -> int:
        seen.append((journal.on_disk, journal.end, journal.state.waiting))
        return write(file, data)

    monkeypatch.setattr(os, "write", watched)
    for n in range(3):
        end = journal.end
        journal.append("event", {"n": n})
        assert seen.pop() == (True, end, 0)
        assert journal.end > end
    journal.close()


def test_a_journal_that_is_cut_off_while_it_is_written_is_no_endless_loop(tmp_path, caplog):
    journal = RunJournal(tmp_path, "uid")
    for n in range(3):
        journal.append("event", {"n": n, "x": "x" * 1000})
    os.truncate(journal.path, 1500)
    with pytest.raises(JournalTruncated, match="were taken away"):
        journal.read(journal.begins)
    journal.append("event", {"n": 3})  # the half line before it does not spoil it
    assert [doc["n"] for _, doc in documents(journal.path)] == [0, 3]
    with pytest.raises(JournalTruncated):
        journal.read(journal.begins)
    assert [name for _, name, _ in journal.lines(journal.end)] == ["event", UNREAD, "event"]
    os.truncate(journal.path, 0)
    assert list(journal.lines(10**9)) == []
    journal.append("event", {"n": 4})
    assert [doc["n"] for _, doc in documents(journal.path)] == [4]
    assert journal.close()
    said = [r.getMessage() for r in caplog.records if "was shortened by" in r.getMessage()]
    assert len(said) == 1


def test_what_another_program_writes_into_a_journal_spoils_no_line_of_it(tmp_path):
    journal = RunJournal(tmp_path, "uid")
    journal.append("event", {"n": 0})
    with open(journal.path, "ab") as file:
        file.write(b"\\x00\\xff{}")
    journal.append("event", {"n": 1})
    found = journal.read(journal.begins)
    assert [name for _, name, _ in found] == ["event", UNREAD, "event"]
    assert found[-1][0] == journal.end == journal.path.stat().st_size
    journal.close()

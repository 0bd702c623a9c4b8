"""A damaged journal: what can be read lands in the catalogue, the rest is kept and said."""

from __future__ import annotations

import contextlib
import json
import math
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import QUICK, collected_run, slowly
from uploads import QUICK_RETRY, documents_of, same, until

from curiosity_bluesky import CuriosityAgent, connect
from curiosity_bluesky.catalog.document_counts import (
    DocumentCounts,
    count_documents,
    readable_documents,
)
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.summaries import summary_of_journal
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.resume import InterruptedRun
from sim_devices import SyntheticSample

JUNK = [
    b"{}",
    b'{"name": "event", "doc": null}',
    b'{"name": "event", "doc": {}}',
    b'{"name": "stop", "doc": {}}',
    b'{"name": null, "doc": {"uid": "x"}}',
    b'{"name": ["event"], "doc": {"uid": "x"}}',
    b'{"name": "no such", "doc": {"uid": "x"}}',
    b'{"name": "descriptor", "doc": {"uid": "x", "name": "primary", "data_keys": {"a": 1}}}',
    b'{"name": "event", "doc": {"__complex__": 1}}',
    b"null",
    b"3",
    b'"text"',
    b"[1, 2]",
    b"",
    b"\x00" * 50,
    b"\xff\xfe\x80",
    b'{"name": "event", "do',
    b"[" * 100_000,
]
"""Lines that are no document, whatever is done with them."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    with connect(tmp_path_factory.mktemp("damage") / "runs") as opened:
        yield opened


@pytest.fixture(scope="module")
def written() -> list[tuple[str, dict[str, Any]]]:
    film = simulated_instrument(SyntheticSample((12, 10), seed=1, points=8), speed=math.inf)
    return collected_run(
        RunEngine({}), film, num_points=3, strategy="random", parameters={**QUICK, "n_seeds": 2}
    )[1]


def lines_of(directory: Path, documents: Any) -> list[bytes]:
    uid = documents[0][1]["uid"]
    (directory / f"{uid}.jsonl").unlink(missing_ok=True)
    journal = RunJournal(directory, uid)
    for document in documents:
        journal.append(*document)
    journal.close()
    found = journal.path.read_bytes().split(b"\n")[:-1]
    journal.path.unlink()
    return found


def damaged(path: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    path.write_bytes(b"\n".join(lines) + end)
    return path


def numbers(catalog: Any, uid: str) -> list[int]:
    """Return the numbers of the events that Tiled has of a run of `documents_of`."""
    return [int(value) for value in catalog.client[uid]["primary"].read()["x"]]


@pytest.mark.parametrize("place", [0, 3, 99])
def test_what_is_no_document_breaks_neither_runs_nor_resume(tmp_path, written, place):
    uid = written[0][1]["uid"]
    whole = lines_of(tmp_path, written)
    path = tmp_path / f"{uid}.jsonl"
    for junk in JUNK:
        found = damaged(path, [*whole[:place], junk, *whole[place:]])
        assert [doc for _, doc in readable_documents(found)] == [
            json.loads(line)["doc"] for line in whole
        ]
        summary = summary_of_journal(found)
        assert summary is not None and (summary.points, summary.status) == (3, "success")
        assert InterruptedRun.of([readable_documents(found)]).uid == uid


def test_recover_keeps_what_it_cannot_read_and_names_the_lines(catalog):
    uid = "run-with-junk"
    whole = lines_of(catalog.journal, documents_of(uid))
    assert len(whole) == 7
    spoilt = [*whole[:3], JUNK[0], JUNK[1], *whole[3:5], b"\x00" * 9, *whole[5:]]
    spoilt[5] = spoilt[5][:40]  # half an event in the middle
    path = damaged(catalog.journal / f"{uid}.jsonl", spoilt)
    before = path.read_bytes()
    for _ in range(2):
        [recovered] = catalog.recover()
        assert (recovered.uid, recovered.status) == (uid, "kept")
        for number in (4, 5, 6, 8):
            assert f"line {number}: " in recovered.detail
        assert "line 3" not in recovered.detail and "line 7" not in recovered.detail
        assert path.read_bytes() == before
    assert numbers(catalog, uid) == [1, 3, 4]
    assert [(run.uid, run.status) for run in catalog.runs()] == [(uid, "success")]
    path.unlink()


def test_lines_that_are_there_twice_or_out_of_order_all_land_and_are_said(catalog):
    uid = "run-out-of-order"
    emitted = documents_of(uid)
    whole = lines_of(catalog.journal, emitted)
    order = [3, 0, 5, 1, 6, 2, 4, 2, 1, 0, 6]
    path = damaged(catalog.journal / f"{uid}.jsonl", [whole[k] for k in order])
    assert [doc for _, doc in readable_documents(path)] == [doc for _, doc in emitted]
    [recovered] = catalog.recover()
    assert recovered.status == "written" and not path.exists()
    assert "out of order" in recovered.detail and "4 of its lines were there twice" in (
        recovered.detail
    )
    same(emitted, catalog.documents(uid))


def test_an_event_that_tiled_has_and_the_damaged_journal_not_is_not_taken_from_tiled(catalog):
    uid = "run-in-tiled"
    whole = lines_of(catalog.journal, documents_of(uid))
    path = damaged(catalog.journal / f"{uid}.jsonl", whole[:4])
    assert [one.status for one in catalog.recover()] == ["written"]
    damaged(path, [*whole[:3], JUNK[0], *whole[4:]])  # without event 2, with 3 and 4
    [recovered] = catalog.recover()
    assert recovered.status == "kept" and "Tiled holds more" in recovered.detail
    assert path.exists() and numbers(catalog, uid) == [1, 2]
    path.unlink()


def test_a_line_that_a_kill_left_unfinished_is_kept_beside_the_journals(catalog):
    uid = "run-unfinished"
    whole = lines_of(catalog.journal, documents_of(uid))
    path = damaged(catalog.journal / f"{uid}.jsonl", whole[:5], b"\n" + whole[5][:50])
    [recovered] = catalog.recover()
    aside = catalog.journal.with_name("journal-unfinished") / path.name
    assert recovered.status == "written" and str(aside) in recovered.detail
    assert aside.read_bytes() == whole[5][:50] + b"\n" and not path.exists()


def test_a_run_whose_start_cannot_be_read_is_said_in_one_line(catalog):
    whole = lines_of(catalog.journal, documents_of("run-headless"))
    path = damaged(catalog.journal / "run-headless.jsonl", [b"\x00", *whole[1:]])
    with pytest.raises(InputError, match="does not begin with a start document"):
        catalog.documents("run-headless")
    with pytest.raises(InputError, match="does not begin with a start document"):
        catalog.lineage("run-headless")
    assert "run-headless" not in [run.uid for run in catalog.runs()]
    [recovered] = catalog.recover()
    assert recovered.status == "kept" and "line 1: " in recovered.detail
    path.unlink()


def test_a_folder_among_the_journals_is_in_nobodys_way(catalog):
    folder = catalog.journal / "folder.jsonl"
    folder.mkdir()
    assert catalog.recover() == [] and "folder" not in [run.uid for run in catalog.runs()]
    folder.rmdir()


@pytest.mark.parametrize("how", ["garbled", *slowly("shortened")])
def test_a_journal_that_is_damaged_while_it_is_written_stays(tmp_path, how, monkeypatch, caplog):
    with connect(tmp_path / "runs") as catalog:
        writer = catalog.writer(retry=(0.01, 0.05))
        emitted = documents_of("run-alive")
        monkeypatch.setattr(writer, "_advance_all", lambda: None)  # it lags behind
        for document in emitted[:4]:
            writer(*document)
        path = catalog.journal / "run-alive.jsonl"
        data = path.read_bytes()
        ends = [k for k, byte in enumerate(data) if byte == ord("\n")]
        with open(path, "r+b") as file:
            if how == "garbled":  # the second event
                file.seek(ends[2] + 5)
                file.write(b"\x00\x00\x00")
            else:
                file.truncate(ends[2] + 5)
        monkeypatch.undo()
        for document in emitted[4:]:
            writer(*document)
        until(lambda: "run-alive" in writer.failed)
        assert "line 4: " in str(writer.failed["run-alive"])
        said = [r.getMessage() for r in caplog.records if "was shortened by" in r.getMessage()]
        assert len(said) == (how == "shortened")
        assert path.exists()
        assert numbers(catalog, "run-alive") == [1, 3, 4]


def test_a_run_that_is_journalled_again_loses_nothing_of_either(tmp_path):
    emitted = documents_of("run-again")
    with connect(tmp_path / "runs") as catalog:
        catalog.journal.joinpath("run-again.jsonl").touch()
        whole = lines_of(catalog.journal, emitted)
        damaged(catalog.journal / "run-again.jsonl", whole[:4])
        journal = RunJournal(catalog.journal, "run-again")  # held, so that the collector leaves it
        writer = catalog.writer(retry=QUICK_RETRY)
        assert journal.close()
        for document in emitted[:2] + emitted[4:]:  # without what was there before
            writer(*document)
        until(lambda: not writer._runs)
        assert writer.failed == {} and not list(catalog.journal.glob("*.jsonl"))
        assert numbers(catalog, "run-again") == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", [4, 7, *slowly(1, 2, 3, 5, 6, 8)])
def test_a_run_that_lost_a_document_is_resumed_or_refused_in_words(written, lost):
    tally = DocumentCounts()
    left = written[:lost] + written[lost + 1 : -3]
    left = [(name, doc) for name, doc in left if tally.judged(name, doc) in ("new", "again")]
    film = simulated_instrument(SyntheticSample((12, 10), seed=1, points=8), speed=math.inf)
    emitted: list[tuple[str, dict[str, Any]]] = []
    try:
        past = InterruptedRun.of([left])
    except InputError:
        assert lost in (1, 2)  # the survey
        return
    RunEngine({})(
        explore(
            CuriosityAgent(past.strategy, past.seed),
            [film.spectrometer],
            film.stage.x,
            film.stage.y,
            film.imager,
            past=past,
        ),
        lambda name, doc: emitted.append((name, doc)),
    )
    assert emitted[-1][1]["reason"] == "budget: 3 of 3 spectra measured"


# From here on with hypothesis.


@st.composite
def spoilt(draw: st.DrawFn, of: Callable[[], list[bytes]]) -> tuple[list[bytes], bytes, set[int]]:
    """Return lines, what comes after them, and which lines of the whole are there untouched."""
    whole = of()
    kinds = draw(st.lists(st.sampled_from(["lose", "copy", "swap", "junk", "bytes"]), max_size=6))
    lines: list[tuple[int | None, bytes]] = list(enumerate(whole))
    for kind in kinds:
        if not lines:
            break
        at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        if kind == "lose":
            del lines[at]
        elif kind == "copy":
            lines.insert(other, lines[at])
        elif kind == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == "junk":
            lines.insert(at, (None, draw(st.sampled_from(JUNK[:-1]))))
        else:
            line = bytearray(lines[at][1])
            for _ in range(draw(st.integers(1, 4))):
                if line:
                    line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255))
            lines[at] = None, bytes(line)
    cut = draw(st.one_of(st.just(0), st.integers(1, 60)))
    end = b"\n" if not cut else b"\n" + whole[-1][:cut]
    return [line for _, line in lines], end, {k for k, _ in lines if k is not None}


def untouched(whole: list[bytes], there: set[int]) -> list[dict[str, Any]]:
    """Return the events of which nothing that belongs to them is damaged, and their descriptors."""
    documents = [json.loads(line) for line in whole]
    known = {documents[k]["doc"]["uid"] for k in there if documents[k]["name"] == "descriptor"}
    return [
        doc["doc"]
        for doc in (documents[k] for k in sorted(there))
        if doc["name"] == "event" and doc["doc"]["descriptor"] in known
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_whatever_becomes_of_a_journal_it_is_read(tmp_path, written, data):
    uid = written[0][1]["uid"]
    whole = lines_of(tmp_path, written)
    lines, end, there = data.draw(spoilt(lambda: whole))
    path = damaged(tmp_path / f"{uid}.jsonl", lines, end)
    before = path.read_bytes()
    summary, found = summary_of_journal(path), readable_documents(path)
    assert summary is None or summary.points <= 4
    uids = {doc.get("uid") for name, doc in found if name == "event"}
    assert {doc["uid"] for doc in untouched(whole, there)} <= uids
    if found and found[0][0] == "start" and found[0][1] == json.loads(whole[0])["doc"]:
        with contextlib.suppress(InputError):  # its survey is lost, say
            assert InterruptedRun.of([found]).uid == uid
    assert path.read_bytes() == before


def check_recovered(catalog: Any, uid: str, data: st.DataObject) -> None:
    """Spoil a journal, recover it, and see where what was in it is."""
    whole = lines_of(catalog.journal, documents_of(uid))
    lines, end, there = data.draw(spoilt(lambda: whole))
    path = damaged(catalog.journal / f"{uid}.jsonl", lines, end)
    before = path.read_bytes()
    # As `take_in` judges them.
    unread = len(count_documents(iter_lines(path), storable=True).unread)
    found = {one.uid: one for one in catalog.recover()}[uid]
    catalog.runs()
    if found.status == "kept":
        assert path.read_bytes() == before and found.detail
        assert unread == 0 or "line " in found.detail
        path.unlink()
    else:
        assert unread == 0 and not path.exists()
        aside = catalog.journal.with_name("journal-unfinished") / path.name
        assert end == b"\n" or aside.read_bytes() == end[1:] + b"\n"
    if 0 in there and "Tiled" not in found.detail.split("line ")[0]:
        expected = {doc["seq_num"] for doc in untouched(whole, there)}
        if expected:
            assert expected <= set(numbers(catalog, uid))


def iter_lines(path: Path) -> Any:
    from curiosity_bluesky.catalog.journal_lines import lines

    return lines(path)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_whatever_becomes_of_a_journal_nothing_is_thrown_away(catalog, data):
    # Drawn, it would come again, and find what the example before left.
    check_recovered(catalog, f"run-{uuid.uuid4()}", data)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_becomes_of_many_journals_nothing_is_thrown_away(catalog, data):
    # Drawn, it would come again, and find what the example before left.
    check_recovered(catalog, f"run-{uuid.uuid4()}", data)


def test_the_backlog_never_counts_what_was_not_handed_over_yet(tmp_path, monkeypatch):
    with connect(tmp_path / "runs") as catalog:
        writer = catalog.writer(retry=QUICK_RETRY)
        append, seen = RunJournal.append, []

        def slow(journal: RunJournal, *document: Any) -> None:
            append(journal, *document)
            writer._wake.set()
            until(lambda: writer._runs["run-one"].position == journal.end)
            seen.append((writer.backlog, writer.status))

        monkeypatch.setattr(RunJournal, "append", slow)
        for document in documents_of("run-one")[:4]:
            writer(*document)
        assert seen == [(0, "")] * 4

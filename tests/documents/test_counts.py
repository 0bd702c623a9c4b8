"""The good spectra of a run are counted once, by the writer, and by a count that nothing breaks."""

from __future__ import annotations

import os
from typing import Any

import pytest
from uploads import documents_of

from curiosity_bluesky import connect
from curiosity_bluesky.catalog import summaries
from curiosity_bluesky.catalog.document_counts import COUNTED
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.summaries import _counted, summary_of_journal
from curiosity_bluesky.documents import PointCount

Documents = list[tuple[str, dict[str, Any]]]


def with_failures(uid: str) -> Documents:
    """Return the documents of a run of 4 spectra: one failed, and 3 were asked for at last."""
    documents = documents_of(uid)
    documents[0][1].update(num_points=9, curiosity_parameters={"budget": 9, "min_quality": 0.5})
    found = documents[:-1]
    found[1][1]["data_keys"] = {
        key: {"dtype": "number", "shape": [], "source": "sim"}
        for key in ("decision_id", "attempt", "s_quality")
    }
    for number, (_, event) in enumerate(found[2:]):
        event["data"] = {"decision_id": number, "attempt": 0, "s_quality": 1.0}
        event["timestamps"] = dict.fromkeys(event["data"], 1.0)
    for stream, data in (
        ("failures", {"decision_id": 1, "attempt": 0, "reason": "flat"}),
        ("steering", {"kind": "set", "arguments": '{"parameters": {"budget": 3}}'}),
    ):
        other = [dict(doc) for _, doc in documents_of(f"{uid}-{stream}", 1)[1:3]]
        dtype = {str: "string", int: "integer"}
        keys = {
            key: {"dtype": dtype[type(value)], "shape": [], "source": "sim"}
            for key, value in data.items()
        }
        other[0].update(run_start=uid, name=stream, data_keys=keys)
        other[1].update(data=data, timestamps=dict.fromkeys(data, 1.0))
        found += [("descriptor", other[0]), ("event", other[1])]
    counts = {"primary": 4, "failures": 1, "steering": 1}
    return [*found, ("stop", documents[-1][1] | {"num_events": counts})]


def requests_of(catalog: Any, ask: Any) -> int:
    """Return how many requests something makes."""
    http, seen = catalog.client.context.http_client, []
    hooks = http.event_hooks
    http.event_hooks = {**hooks, "request": [*hooks["request"], seen.append]}
    try:
        ask()
    finally:
        http.event_hooks = hooks
    return len(seen)


@pytest.mark.slow
def test_a_list_of_runs_asks_as_often_whatever_failed_in_them(tmp_path):
    with connect(tmp_path / "runs") as catalog:
        asked = []
        for uids in (["run-0"], ["run-1", "run-2"]):
            writer = catalog.writer(batch_size=1000)
            for uid in uids:
                for document in with_failures(uid):
                    writer(*document)
            writer.close()
            catalog.runs()
            asked.append(requests_of(catalog, catalog.runs))
        assert asked[0] == asked[1] > 0
        assert [(run.points, run.num_points) for run in catalog.runs()] == [(3, 3)] * 3
        run = catalog["run-2"]
        assert run.metadata[COUNTED] == {"points": 3, "num_points": 3}
        assert _counted(run) == (3, 3)  # as of a run that was stored before
        assert requests_of(catalog, lambda: catalog.status(run)) == 0


def test_an_interrupted_run_is_counted_when_it_is_taken_in(tmp_path, monkeypatch):
    forced: list[int] = []
    monkeypatch.setattr(os, "sync", lambda: forced.append(1))
    with connect(tmp_path / "runs") as catalog:
        journal = RunJournal(catalog.journal, "run-dead")
        for document in with_failures("run-dead")[:-1]:
            journal.append(*document)
        journal.close()
        before = summary_of_journal(journal.path)
        assert before is not None and (before.points, before.num_points) == (3, 3)
        [taken] = catalog.recover()
        assert taken.status == "written" and forced == [1]
        run = catalog["run-dead"]
        assert run.metadata[COUNTED] == {"points": 3, "num_points": 3}
        assert requests_of(catalog, lambda: catalog.status(run)) == 0
        assert catalog.runs() == [before]


def test_a_journal_is_read_once_one_line_at_a_time(tmp_path, monkeypatch):
    journal = RunJournal(tmp_path, "run-read")
    for document in with_failures("run-read"):
        journal.append(*document)
    journal.close()
    read, lines = [], summaries.lines
    monkeypatch.setattr(summaries, "lines", lambda path: read.append(path) or lines(path))
    found = summary_of_journal(journal.path)
    assert found is not None and found.points == 3 and read == [journal.path]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        ("steering", {"kind": "set", "arguments": "{garbled"}),
        ("steering", {"kind": "set", "arguments": "[1]"}),
        ("steering", {"kind": "set", "arguments": "{}"}),
        ("steering", {}),
        ("failures", {"decision_id": 0}),
        ("failures", {"decision_id": "A7", "attempt": 0}),
        ("failures", {}),
    ],
)
def test_what_cannot_be_understood_counts_for_nothing(stream, data):
    documents = with_failures("run-odd")
    for name, doc in documents:
        if name == "event" and doc["descriptor"] == f"run-odd-{stream}-d":
            doc["data"] = data
    count = PointCount()
    for document in documents:
        count(*document)
    assert (count.n, count.budget) == ((4, 3) if stream == "failures" else (3, 9))


@pytest.mark.parametrize("decision", ["A7", None, "7", 0.5, float("nan"), [1, 2]])
def test_events_of_another_plan_are_points_whatever_they_call_so(decision):
    documents = documents_of("run-other")
    del documents[1][1]["configuration"]  # event-model asks for none
    for _, event in documents[2:-1]:
        event["data"] = {"decision_id": decision}
    count = PointCount()
    for document in documents:
        count(*document)
    assert count.n == 4


def test_no_document_makes_the_count_raise():
    count = PointCount()
    for name in ("start", "descriptor", "event", "event_page", "stop", "resource", "else"):
        for doc in ({}, {"uid": []}, {"uid": "d", "name": "primary"}, {"descriptor": "d"}):
            count(name, doc)
    assert (count.n, count.budget) == (0, None)

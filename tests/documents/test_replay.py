"""One replay: an agent and a run that starts from another one read documents the same way."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

import pytest

from curiosity_bluesky import CuriosityAgent
from curiosity_bluesky.documents import PRIMARY, STEERING, prior_run_from, replay

STORED = sorted((Path(__file__).parents[1] / "data/stored-runs").glob("*.jsonl.gz"))


def documents_of(path):
    with gzip.open(path, "rt") as lines:
        written = [json.loads(line) for line in lines]
    return [(d["name"], d["doc"]) if isinstance(d, dict) else tuple(d) for d in written]


def events(documents, stream):
    named = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    return [
        doc["data"]
        for name, doc in documents
        if name == "event" and named[doc["descriptor"]] == stream
    ]


def seen(observations):
    return [(o.pixel, o.decision_id, o.repeat, o.quality) for o in observations]


def same_for_both(documents):
    explorer, run = CuriosityAgent.from_documents(documents).explorer, replay(documents)
    assert run is not None
    assert seen(run.observations) == seen(explorer.observations)
    assert [d.pixel for d in run.decisions] == [d.pixel for d in explorer.decisions]
    assert [d.pixel for d in run.pending] == [d.pixel for d in explorer.pending]
    assert run.n_good == explorer.n_observed == len(prior_run_from(documents))
    return run


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name.split(".")[0])
def test_the_agent_and_a_prior_run_read_the_same(path):
    assert same_for_both(documents_of(path)).n_good


def test_a_quality_that_was_asked_for_in_the_middle_of_a_run_counts_for_both():
    [path] = [path for path in STORED if path.name.startswith("steered")]
    documents = copy.deepcopy(documents_of(path))
    before = same_for_both(documents).n_good
    events(documents, PRIMARY)[0]["spectrometer_quality"] = 0.6
    [*_, last] = [act for act in events(documents, STEERING) if act["kind"] == "set"]
    arguments = json.loads(last["arguments"])
    arguments["parameters"]["min_quality"] = 0.9
    last["arguments"] = json.dumps(arguments)
    assert same_for_both(documents).n_good == before - 1


def test_documents_without_a_survey_are_no_run():
    [path] = [path for path in STORED if path.name.startswith("dose")]
    documents = [(name, doc) for name, doc in documents_of(path) if name in ("start", "stop")]
    assert replay(documents) is None

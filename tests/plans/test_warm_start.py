"""A run that starts from the most similar earlier one, through plan, documents and catalogue."""

import logging
import math
import shutil

import pytest
from bluesky import RunEngine
from support import events, facts, grouped

from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.catalog import connect
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import (
    WARM_ASKED,
    WARM_DISTANCE,
    WARM_GATE,
    WARM_REASON,
    WARM_SPECTRA,
    WARM_START,
    prior_run_from,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.similarity.descriptors import named
from curiosity_bluesky.similarity.index import Index
from sim_devices import SyntheticSample

QUICK = {"patch_size": 3, "n_seeds": 4, "refit_every": 2, "references": 50}
SOURCE = {"strategy": "random", "parameters": {"patch_size": 3}, "num_points": 12, "keep": True}
FILM = SyntheticSample((18, 18), seed=1, points=16)
LIKE = SyntheticSample((18, 18), seed=2, points=16)
NEW = SyntheticSample((18, 18), seed=3, points=16)
OTHER_AXIS = SyntheticSample((18, 18), seed=1, points=20)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A catalogue with three indexed runs: on a film, on one like it, along another axis."""
    where = tmp_path_factory.mktemp("warm") / "runs"
    with connect(where) as catalog:
        for film, seed in ((FILM, 0), (LIKE, 1), (OTHER_AXIS, 2)):
            measured(catalog, film, seed=seed, **SOURCE)
        Index(catalog, ["texture"]).update()
        yield catalog


def measured(catalog, film, *, num_points=7, keep=False, steering=None, watch=None, **kwargs):
    """Run the plan on a film; return its documents. They are kept in the catalogue if need be."""
    documents = []
    instrument = simulated_instrument(film, speed=math.inf)
    RE = RunEngine({})
    if keep:
        RE.subscribe(catalog.writer(batch_size=50))
    if "resume" not in kwargs:
        kwargs.setdefault("parameters", {} if "strategy" in kwargs else QUICK)

    def callback(name, doc):
        documents.append((name, doc))
        if watch is not None:
            watch(name, doc)

    stage = instrument.stage
    RE(
        curiosity_plan(
            [instrument.spectrometer],
            stage.x,
            stage.y,
            instrument.imager,
            num_points,
            **grouped(catalog=catalog.where, steering=steering or Steering(), **kwargs),
        ),
        callback,
    )
    catalog.flush()
    return documents


def start_of(documents):
    return documents[0][1]


def uid_of(catalog, **keys):
    return next(u for u, run in catalog.client.items() if "start" in run.metadata
                and all(run.start.get(k) == v for k, v in keys.items()))  # fmt: skip


@pytest.mark.slow
def test_the_most_similar_run_along_the_same_axis_is_found_and_said(runs):
    start = start_of(measured(runs, FILM, seed=5, warm_start="similar", warm_gate=1e6))
    # The very film, and not the one that was measured along another axis.
    assert start[WARM_START] == uid_of(runs, curiosity_seed=0)
    assert start[WARM_ASKED] == "similar" and start[WARM_SPECTRA] == 12
    assert start[WARM_GATE] == 1e6 and 0 <= start[WARM_DISTANCE] < 1
    assert "the most similar of" in start[WARM_REASON]
    assert "warm" not in str(sorted(start_of(measured(runs, FILM))))


@pytest.mark.slow
def test_a_run_that_is_too_far_away_is_not_taken(runs):
    documents = measured(runs, NEW, seed=6, warm_start="similar", warm_gate=0.0)
    start = start_of(documents)
    assert WARM_START not in start and start[WARM_GATE] == 0.0
    assert start[WARM_DISTANCE] > 0 and "beyond the gate of 0" in start[WARM_REASON]
    cold = measured(runs, NEW, seed=6)
    assert facts([documents], "decisions") == facts([cold], "decisions")


def test_a_run_by_its_uid_is_taken_whatever_its_distance(runs):
    uid = uid_of(runs, curiosity_seed=1)
    documents = measured(runs, FILM, seed=5, warm_start=uid[:8])
    start = start_of(documents)
    assert start[WARM_START] == uid and WARM_GATE not in start and WARM_DISTANCE not in start
    cold = measured(runs, FILM, seed=5)
    assert facts([documents], "decisions")[:4] == facts([cold], "decisions")[:4]  # the seeds
    assert facts([documents], "primary") != facts([cold], "primary")


def test_what_cannot_be_started_from_says_why_and_writes_nothing(runs):
    n = len(runs)
    other = uid_of(runs, curiosity_seed=2)
    with pytest.raises(InputError, match="20 points.*this one measures.*16 points.*same axes"):
        measured(runs, FILM, warm_start=other)
    with pytest.raises(InputError, match="no run 'nobody'"):
        measured(runs, FILM, warm_start="nobody")
    with pytest.raises(InputError, match="expected 'similar', or the uid"):
        measured(runs, FILM, warm_start="yes")
    with pytest.raises(InputError, match="theory cannot start from an earlier run"):
        measured(runs, FILM, warm_start="similar", strategy="theory")
    with pytest.raises(InputError, match="warm_gate is given without warm_start"):
        measured(runs, FILM, warm_gate=0.5)
    assert len(runs) == n


def test_the_first_run_of_all_starts_cold(tmp_path):
    with connect(tmp_path / "runs") as catalog:
        start = start_of(measured(catalog, FILM, warm_start="similar"))
        assert WARM_START not in start and "curiosity index" in start[WARM_REASON]


@pytest.mark.slow
def test_data_that_are_gone_are_a_reason_to_start_cold_and_other_axes_are_not_read(
    tmp_path, caplog
):
    where = tmp_path / "runs"
    with connect(where) as catalog:
        film = start_of(measured(catalog, FILM, seed=0, **SOURCE))["uid"]
        far = SyntheticSample((18, 18), seed=4, points=20)
        other = start_of(measured(catalog, far, seed=2, **SOURCE))["uid"]
        Index(catalog, ["texture"]).update()
        for uid in (film, other):
            shutil.rmtree(where / "data" / uid / "primary" / "spectrometer_response")
        with caplog.at_level(logging.INFO, logger="curiosity_bluesky"):
            start = start_of(measured(catalog, FILM, warm_start="similar", warm_gate=1e6))
        assert WARM_START not in start and "HTTPStatusError" in start[WARM_REASON]
        [read] = [line for line in caplog.messages if f"run {film} is passed over" in line]
        [unread] = [line for line in caplog.messages if f"run {other} is passed over" in line]
        assert "HTTPStatusError" in read and "20 points" in unread


def test_the_gate_is_that_of_the_texture_it_was_measured_with():
    assert named("texture").version == 1, "measure GATE anew with benchmarks/warm_start.py"


def interrupted(catalog, uid):
    """A warm run that was ended by hand after five spectra."""
    steering = Steering()

    def stop(name, doc):
        if name == "event" and "stage_x" in doc["data"] and doc["seq_num"] == 5:
            steering.stop("lunch")

    return measured(catalog, FILM, keep=True, steering=steering, watch=stop, seed=8, warm_start=uid)


@pytest.mark.slow
def test_a_warm_run_goes_on_as_it_would_have(runs):
    first = interrupted(runs, uid_of(runs, curiosity_seed=1))
    whole = measured(runs, FILM, seed=8, warm_start=uid_of(runs, curiosity_seed=1))
    assert len(events(first, "primary")) == 5
    second = measured(runs, FILM, resume=start_of(first)["uid"], num_points=None)
    assert facts([first, second], "decisions") == facts([whole], "decisions")
    assert facts([first, second], "primary") == facts([whole], "primary")
    assert start_of(second)[WARM_START] == start_of(first)[WARM_START]
    with pytest.raises(InputError, match="warm_start cannot be given with resume"):
        measured(runs, FILM, resume=start_of(first)["uid"], warm_start="similar")


def test_an_agent_needs_the_earlier_run_to_follow_a_warm_one(runs):
    uid = uid_of(runs, curiosity_seed=1)
    documents = measured(runs, FILM, seed=9, warm_start=uid)
    with pytest.raises(InputError, match=f"started from 12 spectra of run {uid}.*earlier="):
        CuriosityAgent.from_documents(documents)
    earlier = prior_run_from(runs.documents(uid))
    agent = CuriosityAgent.from_documents(documents, earlier=earlier)
    last = events(documents, "decisions")[-1]
    cut = next(k for k, (_, doc) in enumerate(documents) if doc.get("data") == last)
    agent = CuriosityAgent.from_documents(documents[:cut], earlier=earlier)
    [proposal] = agent.suggest()
    assert proposal.pixel == (last["row"], last["col"])
    assert proposal.acquisition == last["acquisition"]


@pytest.mark.slow
def test_a_warm_run_whose_source_was_deleted_says_so(runs):
    source = start_of(measured(runs, LIKE, seed=3, **SOURCE))["uid"]
    uid = start_of(interrupted(runs, source))["uid"]
    runs.client.delete_contents(source, recursive=True, external_only=False)
    with pytest.raises(InputError, match=f"run {uid} started from run {source}.*not have any"):
        measured(runs, FILM, resume=uid, num_points=None)

"""The agent learns from documents alone; the plan survives pauses and ends cleanly."""

import asyncio
import functools
import gc
import json
import logging
import math
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.run_engine import TransitionError
from bluesky.utils import RunEngineInterrupted
from support import (
    collected_run,
    each,
    events,
    few,
    grouped,
    measurable,
    normal,
    paused_run,
    whole_events,
)

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan, read
from curiosity_bluesky.agent import curiosity_agent as agent_module
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from sim_devices import Sample, SyntheticSample

POINTS = 9
PATHS = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
DECIDED = ("pixel", "reason", "predicted_error", "novelty", "uncertainty", "acquisition")


def devices(instrument):
    return [instrument.spectrometer], instrument.stage.x, instrument.stage.y, instrument.imager


def documents_of(name, seed=0, sample=SAMPLE, RE=None, callback=None):
    """Run the plan without waiting anywhere; return its documents."""
    documents = []
    plan = curiosity_plan(
        *devices(simulated_instrument(sample, speed=math.inf)),
        num_points=POINTS,
        strategy=name,
        seed=seed,
        options={"parameters": few(name), "maps_every": 3, "withhold": 0.2},
    )
    RE = RE or RunEngine({})
    RE(plan, [lambda *document: documents.append(document), *([callback] if callback else [])])
    return documents


@functools.cache
def undisturbed_documents_of(name):
    """Return the documents of one run for all who do not change them."""
    return documents_of(name)


@functools.cache
def documents_of_a_smaller_sample():
    return documents_of("vatsavai2025-latent", seed=4, sample=SyntheticSample((12, 11), 2, 24))


@functools.cache
def documents_of_other_pixels():
    return documents_of("random", seed=4)[1:]


def facts(proposal):
    """What has to be equal bit for bit; NaN equals NaN."""
    return [proposal.decision_id, *(repr(getattr(proposal, key)) for key in DECIDED)]


def decided(data):
    row, col = data["row"], data["col"]
    return [data["decision_id"], repr((row, col)), *(repr(data[key]) for key in DECIDED[1:])]


@pytest.fixture(scope="module", params=each(measurable()))
def run(request):
    """Documents of one run of each strategy."""
    return documents_of(request.param)


def before_decisions(documents):
    """Pairs of what was known before a decision and that decision."""
    stream = next(d["uid"] for n, d in documents if n == "descriptor" and d["name"] == "decisions")
    for i, (name, doc) in enumerate(documents):
        if name == "event" and doc["descriptor"] == stream:
            yield documents[:i], doc["data"]


def test_any_prefix_of_a_run_leads_to_the_decision_that_came_next(run):
    pairs = list(before_decisions(run))
    assert len(pairs) == POINTS
    for known, decision in pairs:
        [proposal] = CuriosityAgent.from_documents(known).suggest()
        assert facts(proposal) == decided(decision)


@pytest.mark.quick("random", "lcmd", "vatsavai2025-latent")
def test_the_withheld_pixels_of_the_record_stay_withheld(run):
    agent = CuriosityAgent.from_documents(run)
    masked = agent.explorer.survey.mask
    assert masked.any()
    proposals = agent.suggest(10_000)
    assert not any(masked[p.pixel] for p in proposals)
    assert len(proposals) + POINTS == agent.explorer.patches.allowed.sum()


def as_pages(documents):
    """The same run as a store gives it back: pages instead of events, as JSON."""
    for name, doc in documents:
        doc = json.loads(json.dumps(event_model.sanitize_doc(doc)))
        yield ("event_page", event_model.pack_event_page(doc)) if name == "event" else (name, doc)


def test_event_pages_do_as_well_as_events(run):
    *_, (known, decision) = before_decisions(run)
    [proposal] = CuriosityAgent.from_documents(as_pages(known)).suggest()
    assert facts(proposal) == decided(decision)


TWO_CHANNELS = Sample(
    "two",
    {"topography": SAMPLE.images["amplitude"], "amplitude": SAMPLE.images["amplitude"][::-1] ** 2},
    {"response": SAMPLE.spectra["response"], "phase": SAMPLE.spectra["response"][::-1] ** 2},
    *(SAMPLE.axis, SAMPLE.x, SAMPLE.y),
)
"""Its channels are not in alphabetical order, nor the short ones first."""


def as_jsonb(value):
    """What PostgreSQL makes of an object: the short keys first, then by the alphabet."""
    if isinstance(value, dict):
        return {key: as_jsonb(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    return [as_jsonb(item) for item in value] if isinstance(value, list) else value


def test_the_order_of_the_channels_survives_a_store_that_keeps_no_order():
    known = documents_of("vatsavai2025-latent", sample=TWO_CHANNELS)[:-1]
    there = [(name, as_jsonb(doc)) for name, doc in as_pages(known)]
    described = [d["data_keys"] for name, d in there if name == "descriptor"]
    assert any(list(keys)[-1] == "imager_topography" for keys in described)
    first, second = (CuriosityAgent.from_documents(docs) for docs in (known, there))
    for agent in (first, second):
        assert list(agent.explorer.survey.channels) == ["imager_topography", "imager_amplitude"]
    assert facts(first.suggest()[0]) == facts(second.suggest()[0])
    np.testing.assert_array_equal(
        first.explorer.predict().spectra, second.explorer.predict().spectra
    )


@pytest.mark.slow
def test_an_agent_subscribed_by_hand_knows_what_the_plans_own_knows():
    for name in measurable():
        agent = CuriosityAgent()
        documents = documents_of(name, callback=agent)
        assert agent.explorer.n_observed == POINTS
        told = CuriosityAgent.from_documents(documents)
        assert facts(agent.suggest()[0]) == facts(told.suggest()[0])


def test_a_second_run_makes_the_agent_start_afresh(run):
    agent = CuriosityAgent.from_documents(documents_of_a_smaller_sample())
    agent.suggest()
    *_, (known, decision) = before_decisions(run)
    for document in known:
        agent(*document)
    [proposal] = agent.suggest()
    assert facts(proposal) == decided(decision)


def test_documents_of_another_run_are_passed_over(run):
    other = documents_of_other_pixels()
    *_, (known, decision) = before_decisions(run)
    mixed = [known[0]]
    for i, document in enumerate(known[1:]):
        mixed += [other[i % len(other)], document]
    [proposal] = CuriosityAgent.from_documents(mixed).suggest()
    assert facts(proposal) == decided(decision)


def test_an_agent_without_a_survey_says_what_it_lacks(run):
    with pytest.raises(InputError, match="no survey yet"):
        CuriosityAgent("random", 0).suggest()
    start = {key: value for key, value in run[0][1].items() if "curiosity" not in key}
    with pytest.raises(InputError, match="not made by curiosity_plan"):
        CuriosityAgent.from_documents([("start", start), *run[1:]]).suggest()


@pytest.mark.parametrize("name", each(measurable()))
def test_the_agent_of_a_finished_run_can_still_be_asked(name):
    agent = CuriosityAgent(Strategy.named(name, **few(name, budget=5)), 0)
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    RunEngine({})(explore(agent, *devices(instrument)))
    assert agent.should_stop()[0]
    assert np.isfinite(agent.explorer.predict().spectra).any()


# ---- pauses


class Pauser:
    """Pauses the RunEngine at certain calls of some place in a run."""

    def __init__(self, RE, calls, defer):
        self.RE, self.calls, self.defer, self.n = RE, set(calls), defer, 0

    def __call__(self, *args, **kwargs):
        self.n += 1
        if self.n in self.calls:
            # Never from the RunEngine's own thread, which would wait for itself.
            thread = threading.Thread(target=self._pause)
            thread.start()
            thread.join(0.05)

    def _pause(self):
        with suppress(TransitionError):  # it pauses already
            self.RE.request_pause(self.defer)


def during_spectra(instrument, call):
    """Call something each time that a spectrum is under way."""
    clock = instrument.microscope.clock
    sleep = clock.sleep

    def noticed(seconds, stop=None):
        if seconds == instrument.microscope.spectrum_settings["spectrum_s"]:
            threading.Thread(target=call).start()
        return sleep(seconds, stop)

    clock.sleep = noticed


def run_with_pauses(name, place, defer):
    """Run the plan, paused and resumed again; return documents and number of pauses."""
    RE, documents, pauses = RunEngine({}), [], 0
    instrument = simulated_instrument(SAMPLE, speed=25)
    pauser = Pauser(RE, {1, 3, 6, 7, 11}, defer)
    agent = CuriosityAgent(Strategy.named(name, **few(name, budget=POINTS)), 0)
    if place == "training":
        agent.on_epoch = pauser
    elif place == "move":
        instrument.stage.x.subscribe(pauser, instrument.stage.x.SUB_START, run=False)
    elif place == "spectrum":
        during_spectra(instrument, pauser)
    elif place == "document":
        RE.subscribe(lambda *_: pauser())
    plan = explore(agent, *devices(instrument), **grouped(maps_every=3, withhold=0.2))
    with suppress(RunEngineInterrupted):
        RE(plan, lambda *document: documents.append(document))
    while RE.state == "paused":
        pauses += 1
        with suppress(RunEngineInterrupted):
            RE.resume()
    return documents, pauses


@pytest.mark.quick("training-at once", "spectrum-deferred", "document-at once", "move-deferred")
@pytest.mark.parametrize("defer", [False, True], ids=["at once", "deferred"])
@pytest.mark.parametrize("place", ["training", "move", "spectrum", "document"])
def test_a_paused_run_goes_on_as_if_nothing_had_been(place, defer):
    name = "vatsavai2025-latent"
    documents, pauses = run_with_pauses(name, place, defer)
    assert pauses >= 2
    undisturbed = undisturbed_documents_of(name)
    for stream in ("decisions", "primary"):
        assert [e["decision_id"] for e in events(documents, stream)] == list(range(POINTS))
    pairs = zip(events(documents, "decisions"), events(undisturbed, "decisions"), strict=True)
    assert all(decided(one) == decided(other) for one, other in pairs)
    pairs = zip(events(documents, "primary"), events(undisturbed, "primary"), strict=True)
    for one, other in pairs:
        for key in ("spectrometer_response", "spectrometer_response_predicted"):
            assert np.array_equal(one[key], other[key], equal_nan=True)
        assert one["stage_x"] == other["stage_x"]
    for stream in ("learning", "maps"):
        assert len(events(documents, stream)) == len(events(undisturbed, stream))
    assert documents[-1][1]["exit_status"] == "success"


def timeless(documents, stream):
    """Number of each event of a stream and what it says, but for how long and how often it took."""
    return [
        (event["seq_num"], normal({**event["data"], "seconds": 0, "remaining": 0, "doses": 0}))
        for event in whole_events(documents, stream)
    ]


@pytest.mark.slow
def test_a_pause_at_any_message_changes_nothing():
    def run(where):
        documents = []
        plan = curiosity_plan(
            *devices(simulated_instrument(SAMPLE, speed=math.inf)),
            num_points=3,
            strategy="random",
            options={"parameters": few("random"), "maps_every": 0},
        )
        RE = RunEngine({})
        n = paused_run(RE, plan, where, lambda *document: documents.append(document))
        return n, documents

    messages = []
    _, undisturbed = run(lambda i, msg: messages.append(msg.command))
    # From the imager's trigger, past the reads whose answer the plan uses, to the second point.
    first = messages.index("trigger")
    last = [i for i, command in enumerate(messages) if command == "checkpoint"][4]
    repeated = 0
    for place in range(first, last):
        pauses, documents = run(lambda i, msg, place=place: i == place)
        assert pauses == 1, messages[place]
        for stream in ("survey", "decisions", "primary"):
            there, here = (timeless(docs, stream) for docs in (documents, undisturbed))
            assert dict(there) == dict(here), messages[place]
            repeated += len(there) - len(here)
        known = CuriosityAgent.from_documents(documents)
        assert known.explorer.n_observed == 3
        assert documents[-1][1]["exit_status"] == "success"
    assert repeated  # some pause fell between an event and its checkpoint


class Slow:
    """A detector that answers in its own time, as those of ophyd-async do; paused meanwhile."""

    name, parent = "slow", None

    def __init__(self, pauser):
        self._pauser = pauser

    async def read(self):
        self._pauser()
        await asyncio.sleep(0.05)
        return {"slow": {"value": np.arange(4.0), "timestamp": 0.0}}

    async def describe(self):
        return {"slow": {"source": "test", "dtype": "array", "shape": [4]}}

    async def read_configuration(self):
        return {}

    describe_configuration = read_configuration


def test_a_pause_inside_a_read_changes_nothing():
    RE, documents = RunEngine({}), []
    _, x, y, imager = devices(simulated_instrument(SAMPLE, speed=math.inf))
    # Each point is read twice: for the plan, then for the event.
    pauser = Pauser(RE, {1, 5, 8}, defer=False)
    plan = curiosity_plan(
        [Slow(pauser)], x, y, imager, 4, strategy="random", options={"parameters": few("random")}
    )
    with suppress(RunEngineInterrupted):
        RE(plan, lambda *document: documents.append(document))
    pauses = 0
    while RE.state == "paused":
        pauses += 1
        with suppress(RunEngineInterrupted):
            RE.resume()
    assert pauses == 3
    points = events(documents, "primary")
    assert [point["decision_id"] for point in points] == [0, 1, 2, 3]
    assert all(np.array_equal(point["slow"], np.arange(4.0)) for point in points)
    assert documents[-1][1]["exit_status"] == "success"


def test_star_import_brings_what_a_profile_runs():
    names = {}
    exec("from curiosity_bluesky.plans import *", names)
    assert {name for name in names if not name.startswith("__")} == {"curiosity_plan"}


# ---- ends


def trainings():
    return [thread for thread in threading.enumerate() if thread.name.startswith("call ")]


@pytest.mark.parametrize("end", ["abort", "stop"])
@pytest.mark.parametrize("place", ["training", "spectrum"])
def test_a_run_given_up_leaves_nothing_running(place, end):
    RE, documents = RunEngine({}), []
    instrument = simulated_instrument(SAMPLE, speed=0.5 if place == "spectrum" else math.inf)
    parameters = few("vatsavai2025-latent", budget=POINTS, start_epochs=10**6)
    pauser = Pauser(RE, {3}, defer=False)
    agent = CuriosityAgent(Strategy.named("vatsavai2025-latent", **parameters), 0)
    if place == "training":
        agent.on_epoch = pauser
    else:
        instrument.microscope.scan = lambda: SAMPLE.images
        during_spectra(instrument, Pauser(RE, {1}, defer=False))
    with pytest.raises(RunEngineInterrupted):
        RE(explore(agent, *devices(instrument)), lambda *document: documents.append(document))
    assert RE.state == "paused"
    getattr(RE, end)()
    assert documents[-1][0] == "stop"
    assert documents[-1][1]["exit_status"] == {"abort": "abort", "stop": "success"}[end]
    for thread in trainings():
        thread.join(20)
    assert not trainings(), "a training goes on that nobody waits for"
    assert RE.state == "idle"
    assert not instrument.stage.x.moving and not instrument.stage.y.moving
    assert instrument.microscope.n_spectra == (4 if place == "training" else 0)
    instrument.microscope.move("x", 0.0)  # raises where a spectrum is being taken


def test_a_halted_run_leaves_no_training_behind():
    RE = RunEngine({})
    parameters = few("vatsavai2025-latent", budget=POINTS, start_epochs=10**6)
    agent = CuriosityAgent(Strategy.named("vatsavai2025-latent", **parameters), 0)
    agent.on_epoch = Pauser(RE, {3}, defer=False)
    with pytest.raises(RunEngineInterrupted):
        RE(explore(agent, *devices(simulated_instrument(SAMPLE, speed=math.inf))))
    assert trainings()
    RE.halt()
    gc.collect()  # a halted plan is closed when nobody holds it any more
    for thread in trainings():
        thread.join(20)
    assert not trainings()


@pytest.mark.slow
@pytest.mark.parametrize(
    "held",
    [
        pytest.param(True, id="agent held", marks=pytest.mark.slow),
        pytest.param(False, id="agent of the plan"),
    ],
)
def test_an_interpreter_that_ends_during_a_training_ends_cleanly(held):
    code = """
import math, sys, threading, time
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from quickly import few
from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

name = "vatsavai2025-latent"
instrument = simulated_instrument(SyntheticSample((16, 14), seed=1, points=16), speed=math.inf)
devices = [instrument.spectrometer], instrument.stage.x, instrument.stage.y, instrument.imager
RE = RunEngine({})
parameters = few(name, start_epochs=10**6)
if HELD:
    agent = CuriosityAgent(Strategy.named(name, **parameters, budget=9), 0)
    plan = explore(agent, *devices)
else:
    plan = curiosity_plan(*devices, 9, strategy=name, options={"parameters": parameters})

def pause():
    while not any(t.name.startswith("call ") and time.sleep(0.5) is None and t.is_alive()
                  for t in threading.enumerate()):
        time.sleep(0.01)
    RE.request_pause()

threading.Thread(target=pause, daemon=True).start()
try:
    RE(plan)
except RunEngineInterrupted:
    print("still training:", any(t.name.startswith("call ") for t in threading.enumerate()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("HELD", str(held))],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, os.getenv("PYTHONPATH", "")])},
    )
    assert "still training: True" in done.stdout, done.stderr
    assert done.returncode == 0, done.stderr  # torch aborts where its thread is cut off


def test_an_imager_whose_configuration_fails_once_costs_one_run(instrument):
    imager, failures = instrument.imager, [OSError("the controller does not answer")]
    read_configuration = imager.read_configuration

    def at_first():
        if failures:
            raise failures[0]
        return read_configuration()

    imager.read_configuration = at_first
    RE, documents = RunEngine({}), []

    def run():
        plan = curiosity_plan(
            *devices(instrument),
            num_points=3,
            strategy="random",
            options={"parameters": few("random")},
        )
        RE(plan, lambda *document: documents.append(document))

    with pytest.raises(OSError, match="the controller does not answer"):
        run()
    assert RE.state == "idle" and not documents
    failures.clear()
    run()
    assert documents[-1][1]["exit_status"] == "success"


def test_an_error_in_a_training_is_the_error_of_the_run(caplog):
    def on_epoch(model, epoch, epochs):
        raise ArithmeticError("nothing converges")

    documents = []
    agent = CuriosityAgent(
        Strategy.named("vatsavai2025-latent", **few("vatsavai2025-latent", budget=5)), 0
    )
    agent.on_epoch = on_epoch
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    with caplog.at_level(logging.ERROR, "asyncio"):
        with pytest.raises(ArithmeticError, match="nothing converges"):
            RunEngine({})(
                explore(agent, *devices(instrument)),
                lambda *document: documents.append(document),
            )
        gc.collect()
    assert documents[-1][1]["exit_status"] == "fail"
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def without_decided_by(documents):
    """Documents as versions before wrote them, without who decided."""
    for name, doc in documents:
        if name == "descriptor" and doc["name"] == "decisions":
            keys = {key: about for key, about in doc["data_keys"].items() if key != "decided_by"}
            object_keys = {"decision": [k for k in doc["object_keys"]["decision"] if k in keys]}
            doc = {**doc, "data_keys": keys, "object_keys": object_keys}
        if name == "event" and "decided_by" in doc["data"]:
            kept = {
                part: {k: v for k, v in doc[part].items() if k != "decided_by"}
                for part in ("data", "timestamps")
            }
            doc = {**doc, **kept}
        yield name, doc


def test_now_and_then_a_decision_gives_back_memory_that_nothing_uses(monkeypatch):
    agent, given, counts = CuriosityAgent.from_documents(documents_of("sobol")), [], []
    monkeypatch.setattr(agent_module, "TRIM_EVERY", 3)
    monkeypatch.setattr(agent_module, "return_free_memory", lambda: given.append(0))
    for _ in range(7):
        agent.decide(1)
        counts.append(len(given))
    assert counts == [0, 0, 1, 1, 1, 2, 2]


def test_a_run_of_an_older_version_does_not_say_who_decided(RE, instrument):
    _, documents = collected_run(RE, instrument)
    assert {e["decided_by"] for e in events(documents, "decisions")} == {"curious"}
    older = CuriosityAgent.from_documents(list(without_decided_by(documents)))
    newer = CuriosityAgent.from_documents(documents)
    assert {p.decided_by for p in older.explorer.decisions} == {""}
    assert older.suggest()[0].pixel == newer.suggest()[0].pixel


@pytest.mark.slow
def test_a_run_of_an_older_version_is_resumed_and_read_as_one(RE, instrument, tmp_path):
    where = str(tmp_path / "runs")
    with connect(where) as catalog:
        uid, documents = collected_run(RE, instrument, num_points=7)
        write = catalog.writer()
        for name, doc in without_decided_by(documents):
            write(name, doc)
        catalog.flush()
        assert "decided_by" not in read(catalog[uid])
        RE.subscribe(write)
        plan = curiosity_plan(
            *([instrument.spectrometer], instrument.stage.x, instrument.stage.y),
            *(instrument.imager, 9),
            resume=uid,
            options={"catalog": where},
        )
        RE(plan)
        points = read(catalog[-1])
    assert list(points["decided_by"].values) == [""] * 7 + ["curious"] * 2

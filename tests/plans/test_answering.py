"""While the explorer trains, the RunEngine answers, and whatever ends a run leaves it in order."""

import math
import os
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.suspenders import SuspendBoolHigh
from bluesky.utils import RunEngineInterrupted
from ophyd import Signal
from ophyd.device import Staged
from support import events, few, grouped, paused_run

from curiosity_bluesky import CuriosityAgent, Explorer, curiosity_plan
from curiosity_bluesky.catalog import connect
from curiosity_bluesky.demo import SimulatedInstrument, simulated_instrument
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Observation, Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.steering import Steering
from sim_devices import Clock, Faults, SimMicroscope, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
NAME = "vatsavai2025-latent"
POINTS = 7
SEEDS = 4
PATIENCE = 20.0
"""Seconds until a test gives up that waits for something that should have come at once."""


class Gate(Clock):
    """A virtual clock on which a spectrum lasts until it is let through, or broken off."""

    def __init__(self):
        super().__init__(math.inf)
        self.spectrum = threading.Event()
        """A spectrum is under way."""
        self.open = threading.Event()
        """Spectra may end."""
        self.open.set()

    def sleep(self, seconds, stop=None):
        if seconds == 0.5 and stop is not None:
            self.spectrum.set()
            while not self.open.is_set():
                if stop.wait(0.005):
                    return False
        return super().sleep(seconds, stop)


class Place:
    """A run that can be held in a training, or in a spectrum."""

    def __init__(self, where, *, lookahead=0, name=NAME):
        self.clock, self.where = Gate(), where
        microscope = SimMicroscope(SAMPLE, self.clock)
        self.instrument = SimulatedInstrument(
            microscope,
            AFMStage(microscope, name="stage"),
            Imager(microscope, name="imager"),
            Spectrometer(microscope, name="spectrometer"),
        )
        self.agent = CuriosityAgent(Strategy.named(name, **few(name, budget=POINTS)), 0)
        self.agent.on_epoch = self._on_epoch
        self.course = grouped(lookahead=lookahead, maps_every=3, timeout=PATIENCE)
        self.training = threading.Event()
        """The training that is held is under way."""
        self.trained = threading.Event()
        """It may go on."""
        self.documents = []
        self.RE = RunEngine({})
        if where == "spectrum":
            self.clock.open.clear()
        else:
            self.trained.clear()

    def _on_epoch(self, model, epoch, epochs):
        if self.where == "training" and self.measured >= SEEDS:
            self.training.set()
            assert self.trained.wait(PATIENCE)

    @property
    def measured(self):
        return self.instrument.microscope.n_spectra

    @property
    def devices(self):
        stage = self.instrument.stage
        return [self.instrument.spectrometer], stage.x, stage.y, self.instrument.imager

    def run(self, meanwhile):
        """Run the plan; once the place is reached, call `meanwhile` in another thread."""
        failed = []

        def wait():
            there = self.clock.spectrum if self.where == "spectrum" else self.training
            try:
                assert there.wait(PATIENCE), f"there never was a {self.where}"
                meanwhile()
            except BaseException as error:
                failed.append(error)
                self.go_on()

        thread = threading.Thread(target=wait)
        thread.start()
        with suppress(RunEngineInterrupted):
            self.RE(explore(self.agent, *self.devices, **self.course), self.collect)
        thread.join()
        assert not failed, failed

    def collect(self, name, doc):
        self.documents.append((name, doc))

    def go_on(self):
        """Hold it nowhere any more."""
        self.clock.open.set()
        self.trained.set()

    def run_through(self):
        """Run the plan to its end."""
        self.RE(explore(self.agent, *self.devices, **self.course), self.collect)

    def resume(self):
        self.go_on()
        with suppress(RunEngineInterrupted):
            self.RE.resume()

    def check_each_point_once(self):
        for stream in ("decisions", "primary"):
            numbers = [e["decision_id"] for e in events(self.documents, stream)]
            assert numbers == list(range(POINTS)), stream
        self.check_left_in_order("success")

    def check_left_in_order(self, exit_status):
        """A stop document, devices free, nothing that still measures or learns."""
        assert self.RE.state == "idle"
        assert [name for name, _ in self.documents].count("stop") == 1
        assert self.documents[-1][0] == "stop"
        assert self.documents[-1][1]["exit_status"] == exit_status
        instrument = self.instrument
        for device in (instrument.stage, instrument.imager, instrument.spectrometer):
            assert device._staged == Staged.no, device.name
        assert not working("spectrometer-", "imager-", "stage_")
        assert not instrument.stage.x.moving and not instrument.stage.y.moving
        self.go_on()
        assert not working("call ")

    def check_next_run(self):
        documents = []
        plan = curiosity_plan(
            *self.devices, 3, strategy="random", options={"parameters": few("random")}
        )
        self.RE(plan, lambda *document: documents.append(document))
        assert len(events(documents, "primary")) == 3
        assert documents[-1][1]["exit_status"] == "success"


def working(*names):
    """Threads of these names that do not come to an end by themselves."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(names)]
    for thread in threads:
        thread.join(PATIENCE)
    return [thread.name for thread in threads if thread.is_alive()]


WHERE = pytest.mark.parametrize("where", ["training", "spectrum"])
AHEAD = pytest.mark.parametrize("lookahead", [0, 1])


@pytest.mark.quick("stop-success-training-1", "abort-abort-spectrum-0", "halt-abort-training-0")
@AHEAD
@WHERE
@pytest.mark.parametrize(
    ("told", "exit_status"), [("stop", "success"), ("abort", "abort"), ("halt", "abort")]
)
def test_a_plan_under_way_ends_when_it_is_told_to(told, exit_status, where, lookahead):
    place = Place(where, lookahead=lookahead)
    place.run(lambda: getattr(place.RE, told)())
    assert place.measured == (SEEDS if where == "training" else 0) or lookahead
    place.check_left_in_order(exit_status)
    place.check_next_run()


@pytest.mark.quick("halt-abort-spectrum", "stop-success-training")
@WHERE
@pytest.mark.parametrize(
    ("told", "exit_status"), [("stop", "success"), ("abort", "abort"), ("halt", "abort")]
)
def test_a_paused_plan_that_looks_ahead_ends_when_it_is_told_to(told, exit_status, where):
    place = Place(where, lookahead=1)
    place.run(lambda: place.RE.request_pause())
    assert place.RE.state == "paused"
    assert not working("spectrometer-", "stage_")
    getattr(place.RE, told)()
    place.check_left_in_order(exit_status)
    place.check_next_run()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@WHERE
def test_ctrl_c_twice_pauses_at_once(where):
    place = Place(where)

    def twice():
        interrupt()
        # The RunEngine takes the second for a bouncing key if it comes within 0.1 s.
        time.sleep(0.2)
        interrupt()

    place.run(twice)
    assert place.RE.state == "paused"
    assert not place.trained.is_set()
    assert place.measured == (SEEDS if where == "training" else 0)
    assert not working("spectrometer-", "stage_")
    place.resume()
    place.check_each_point_once()
    place.check_next_run()


@WHERE
def test_ctrl_c_once_pauses_at_the_next_checkpoint(where):
    place = Place(where)

    def once():
        interrupt()
        while not place.RE.deferred_pause_requested:
            time.sleep(0.005)
        place.go_on()

    place.run(once)
    assert place.RE.state == "paused"
    # What was under way is finished and in the record.
    last = SEEDS if where == "training" else 1
    assert len(events(place.documents, "primary")) == place.measured == last
    place.resume()
    place.check_each_point_once()


@pytest.mark.quick("training-1", "spectrum-0")
@AHEAD
@WHERE
def test_a_suspender_holds_the_run_and_lets_it_go_on(where, lookahead):
    place = Place(where, lookahead=lookahead)
    shutter = Signal(name="shutter", value=0)
    place.RE.install_suspender(SuspendBoolHigh(shutter))
    commands, suspended = [], threading.Event()

    def noted(msg):
        commands.append(msg.command)
        if commands[-3:] == ["_start_suspender", "rewindable", "wait_for"]:
            suspended.set()

    def trip():
        shutter.put(1)
        assert suspended.wait(PATIENCE)
        assert where == "training" or not working("spectrometer-", "stage_")
        place.go_on()  # a training may end meanwhile, a spectrum was broken off
        shutter.put(0)

    place.RE.msg_hook = noted
    place.run(trip)
    begun = commands.index("_start_suspender")
    waited = ["_start_suspender", "rewindable", "wait_for", "_resume_from_suspender"]
    assert commands[begun : begun + 4] == waited  # nothing was done in between
    place.check_each_point_once()


# ---- looking ahead


class Meeting:
    """A run with lookahead in which each training waits for a spectrum under way, and back."""

    def __init__(self, lookahead, patience):
        self.place = place = Place("nowhere", lookahead=lookahead)
        self.met, self.decisions, self.spectra = 0, 0, 0
        self.barrier = threading.Barrier(2)
        self.patience = patience
        self.fresh = False
        self._decide, self._sleep = place.agent.decide, place.clock.sleep
        place.agent.decide = self.decide
        place.agent.on_epoch = self.on_epoch
        place.clock.sleep = self.sleep

    def decide(self, *args, **kwargs):
        # The decision after the seeds is the first to train on spectra.
        self.fresh = SEEDS <= self.decisions < POINTS
        self.decisions += 1
        return self._decide(*args, **kwargs)

    def on_epoch(self, model, epoch, epochs):
        if self.fresh:
            self.fresh = False
            self.meet()

    def sleep(self, seconds, stop=None):
        if seconds == 0.5:
            if SEEDS - 1 <= self.spectra < POINTS - 1:
                self.meet()
            self.spectra += 1
        return self._sleep(seconds, stop)

    def meet(self):
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(self.patience)
            self.met += 1


def test_the_next_decision_is_trained_while_the_spectrum_before_it_is_taken():
    ahead = Meeting(1, PATIENCE)
    ahead.place.run_through()
    assert ahead.met == 2 * (POINTS - SEEDS)
    ahead.place.check_each_point_once()


def test_without_lookahead_nothing_is_trained_while_a_spectrum_is_taken():
    one_by_one = Meeting(0, 0.01)
    one_by_one.place.run_through()
    assert one_by_one.met == 0


@pytest.mark.quick("curious-2", "vatsavai2025-latent-0")
@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize("name", ["curious", NAME])
def test_a_run_decides_as_an_explorer_driven_by_hand(name, lookahead):
    place = Place("nowhere", lookahead=lookahead, name=name)
    place.run_through()
    strategy = Strategy.named(name, **few(name, budget=POINTS))
    explorer = Explorer(place.agent.explorer.survey, strategy, 0)
    axis = SAMPLE.axis
    for decision, spectrum in zip(
        events(place.documents, "decisions"), events(place.documents, "primary"), strict=True
    ):
        [proposal] = explorer.propose(lookahead=lookahead)
        assert proposal.pixel == (decision["row"], decision["col"])
        for key in ("predicted_error", "novelty", "uncertainty", "acquisition"):
            assert repr(getattr(proposal, key)) == repr(decision[key])
        measured = np.asarray(spectrum["spectrometer_response"], float)
        explorer.observe(
            Observation(proposal.pixel, measured, decision_id=proposal.decision_id, axis=axis)
        )


def test_a_training_that_fails_while_a_spectrum_is_taken_costs_no_spectrum():
    place = Place("nowhere", lookahead=1)

    def on_epoch(model, epoch, epochs):
        if place.measured >= SEEDS - 1:
            raise ArithmeticError("nothing converges")

    place.agent.on_epoch = on_epoch
    with pytest.raises(ArithmeticError, match="nothing converges"):
        place.RE(explore(place.agent, *place.devices, **place.course), place.collect)
    numbers = [e["decision_id"] for e in events(place.documents, "primary")]
    assert numbers == [e["decision_id"] for e in events(place.documents, "decisions")]
    assert len(numbers) >= SEEDS
    place.check_left_in_order("fail")
    place.check_next_run()


def test_what_was_trained_for_a_decision_that_nobody_needs_is_in_the_record():
    steering, place = Steering(), Place("nowhere", lookahead=1)

    def callback(name, doc):
        place.collect(name, doc)
        if len(events(place.documents, "primary")) == SEEDS + 1 and not steering._waiting:
            steering.stop("enough")

    plan = explore(place.agent, *place.devices, **place.course, steering=steering)
    place.RE(plan, callback)
    versions = [e["model_version"] for e in events(place.documents, "learning")]
    # On three of the four seeds, on all of them for the decision of no use, on all for the maps.
    assert [version for version in versions if version] == [1, 1, 2]


# ---- what a pause repeats


def short_run(where=lambda i, msg: False, meanwhile=None, spoil=None):
    """Three points of a run, paused where it is said; what it left, and how often it paused."""
    documents, RE = [], RunEngine({})
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    stage = instrument.stage
    plan = curiosity_plan(
        *([instrument.spectrometer], stage.x, stage.y, instrument.imager, 3),
        strategy="random",
        options={
            "parameters": few("random"),
            "maps_every": 0,
            "retry_wait": 0.0,
            "timeout": 0.25 if spoil else PATIENCE,
        },
    )

    def callback(name, doc):
        documents.append((name, doc))
        if spoil and len(events(documents, "primary")) == 1:
            spoil.pop()(instrument.microscope.faults)

    between = None if meanwhile is None else lambda: meanwhile(instrument.microscope)
    pauses = paused_run(RE, plan, where, callback, meanwhile=between)
    return documents, pauses


def test_a_pause_after_something_was_late_is_no_failure_of_the_run():
    # Late again, when the pause has it repeated.
    def late():
        return [lambda faults: faults.next("timeout", 2)]

    commands = []
    short_run(lambda i, msg: commands.append(msg.command), spoil=late())
    first = commands.index("stop")
    for place in range(first - 2, first + 5):
        documents, pauses = short_run(lambda i, msg, place=place: i == place, spoil=late())
        assert pauses == 1
        assert documents[-1][1]["exit_status"] == "success", commands[place]
        assert CuriosityAgent.from_documents(documents).explorer.n_observed == 3


@pytest.mark.quick("stuck")
@pytest.mark.parametrize("fault", ["lost", "stuck"])
def test_a_pause_leaves_no_spectrum_of_another_place(fault):
    def moved_by_hand(microscope):
        microscope.move("x", 0.0 if microscope.position("x") > 0.13 else 0.26)
        microscope.faults.next(fault)  # when the RunEngine wants to go back there

    commands = []
    short_run(lambda i, msg: commands.append(msg.command))
    saved = [i for i, command in enumerate(commands) if command == "save"]
    first = commands.index("trigger", commands.index("set"))
    last = next(i for i in saved if i > first)
    for place in range(first, last):
        documents, pauses = short_run(lambda i, msg, place=place: i == place, moved_by_hand)
        assert pauses == 1
        assert documents[-1][1]["exit_status"] == "success", commands[place]
        wanted = {d["decision_id"]: d["x"] for d in events(documents, "decisions")}
        for event in events(documents, "primary"):
            assert event["stage_x"] == pytest.approx(wanted[event["decision_id"]], abs=1e-6)
        assert CuriosityAgent.from_documents(documents).explorer.n_observed == 3


# ---- what could go on for ever, or be taken for something else


def test_a_callback_that_fails_is_no_fault_of_the_instrument():
    place = Place("nowhere")

    def plot(name, doc):
        place.collect(name, doc)
        if doc.get("data", {}).get("attempt") is not None and len(doc["data"]) > 5:
            raise ZeroDivisionError("nothing to plot")

    with pytest.raises(ZeroDivisionError, match="nothing to plot"):
        place.RE(explore(place.agent, *place.devices, **place.course), plot)
    assert place.measured == 1
    assert not events(place.documents, "failures")


@AHEAD
def test_spectra_that_are_good_enough_no_more_do_not_keep_the_run_from_its_end(lookahead):
    steering, place = Steering(), Place("nowhere", lookahead=lookahead, name="random")

    def size(axis, spectrum):  # some number from 0 to 1, another at each pixel
        return np.ptp(spectrum["response"]) % 1

    spectrometer = place.instrument.spectrometer
    place.instrument.spectrometer = Spectrometer(
        spectrometer.driver, name="spectrometer", scalars={"quality": size}
    )

    def callback(name, doc):
        place.collect(name, doc)
        primary = events(place.documents, "primary")
        if len(primary) == 5 and not events(place.documents, "steering"):
            low = sorted(event["spectrometer_quality"] for event in primary)[1]
            steering.set(min_quality=float(low))  # one of them is good enough no more

    strategy = Strategy.named("random", **few("random", budget=POINTS, min_quality=0.0))
    agent = CuriosityAgent(strategy, 0)
    course = grouped(lookahead=lookahead, retries=1, retry_wait=0.0, max_failures=99)
    place.RE(explore(agent, *place.devices, **course, steering=steering), callback)
    assert place.documents[-1][1]["reason"].startswith("budget")
    good = [
        event
        for event in events(place.documents, "primary")
        if event["spectrometer_quality"] >= agent.explorer.strategy.min_quality
    ]
    assert len(good) == agent.explorer.n_observed == POINTS


@pytest.mark.quick("1-stop-success", "0-abort-abort")
@pytest.mark.parametrize(("told", "exit_status"), [("stop", "success"), ("abort", "abort")])
@AHEAD
def test_a_run_that_paused_by_itself_ends_when_it_is_told_to(told, exit_status, lookahead):
    place = Place("nowhere", lookahead=lookahead)
    place.instrument.microscope.faults = Faults(raises=1.0)
    course = grouped(lookahead=lookahead, retry_wait=0.0)
    with pytest.raises(RunEngineInterrupted):
        place.RE(explore(place.agent, *place.devices, **course), place.collect)
    assert place.RE.state == "paused"
    with suppress(RunEngineInterrupted):
        place.RE.resume()  # the instrument is as it was
    assert place.RE.state == "paused"
    getattr(place.RE, told)()
    place.check_left_in_order(exit_status)
    place.instrument.microscope.faults = Faults()
    place.check_next_run()


def test_what_was_asked_for_waits_until_there_is_a_run():
    steering, place = Steering(), Place("nowhere")
    steering.add(7, 8)
    with pytest.raises(InputError, match="choose a patch_size"):
        strategy = Strategy.named("random", patch_size=15, budget=POINTS)
        place.RE(explore(CuriosityAgent(strategy, 0), *place.devices, steering=steering))
    place.RE(explore(place.agent, *place.devices, steering=steering), place.collect)
    manual = [d for d in events(place.documents, "decisions") if d["reason"] == "manual"]
    assert [(d["row"], d["col"]) for d in manual] == [(7, 8)]


@pytest.mark.slow
def test_an_aborted_run_is_closed_in_tiled_and_a_dry_run_of_its_rest_asks_for_nothing(tmp_path):
    where, steering = str(tmp_path / "runs"), Steering()
    place = Place("training")
    with connect(where) as runs:
        place.RE.subscribe(runs.writer())
        place.run(lambda: place.RE.abort())
        place.check_left_in_order("abort")
        uid = place.documents[0][1]["uid"]
        assert runs[uid].metadata["stop"]["exit_status"] == "abort"
    plan = curiosity_plan(
        *place.devices,
        9,
        resume=uid,
        dry_run=True,
        options={"catalog": where, "steering": steering},
    )
    outline = RunEngine({}, call_returns_result=True)(plan).plan_result
    assert (outline.n_observed, outline.num_points) == (SEEDS, 9)
    assert steering.take() == []

"""Instruments fail; the run goes on, and the record says what happened."""

import math

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from ophyd import Device
from ophyd.sim import SynAxis
from ophyd.status import DeviceStatus
from support import events, few, grouped

from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from sim_devices import Faults, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
POINTS = 8


def run(instrument, RE=None, parameters_more=None, **settings):
    """Run the plan; return its documents."""
    documents = []
    plan = curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        **grouped(
            num_points=POINTS,
            parameters=few("curious", **(parameters_more or {})),
            **{"retry_wait": 0, "timeout": 20.0, **settings},
        ),
    )
    (RE or RunEngine({}))(plan, lambda *document: documents.append(document))
    return documents


def faulty(*kinds, times=1, **given):
    """Return an instrument on which the next measurements or moves after the survey fail."""
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    scan = instrument.microscope.scan

    def scan_and_break():
        image = scan()
        instrument.microscope.faults = faults = Faults(**given)
        for kind in kinds:
            faults.next(kind, times)
        return image

    instrument.microscope.scan = scan_and_break
    return instrument


@pytest.mark.quick("timeout*", "nan*", "raises*")
@pytest.mark.parametrize(
    ("kind", "said", "timeout"),
    [
        ("raises", "RuntimeError", 20.0),
        ("timeout", "spectrometer did not answer within 0.3 s", 0.3),
        ("nan", "quality 0 of the spectrum", 20.0),
        ("flat", "quality 0 of the spectrum", 20.0),
        ("saturated", "quality", 20.0),
        ("stuck", "um from its target", 20.0),
        ("lost", "ConnectionError", 20.0),
    ],
)
def test_what_fails_once_is_tried_again_and_recorded_with_its_reason(kind, said, timeout):
    instrument = faulty(kind, lost_calls=1)
    documents = run(instrument, timeout=timeout, retries=3)
    failures = events(documents, "failures")
    assert failures and all(said in f["reason"] for f in failures), failures
    assert not any(f["given_up"] or f["barred"] for f in failures)
    good = [p for p in events(documents, "primary") if p["spectrometer_quality"] >= 0.5]
    assert [p["decision_id"] for p in good] == list(range(POINTS))
    for point in good:
        row, col = next(
            (d["row"], d["col"])
            for d in events(documents, "decisions")
            if d["decision_id"] == point["decision_id"]
        )
        truth = SAMPLE.spectra["response"][row, col]
        np.testing.assert_array_equal(point["spectrometer_response"], truth)
    assert documents[-1][1]["exit_status"] == "success"


@pytest.mark.parametrize(("kind", "barred"), [("nan", True), ("raises", False)])
def test_what_fails_again_and_again_is_given_up(kind, barred):
    documents = run(faulty(kind, times=2))
    failures = events(documents, "failures")
    assert [f["given_up"] for f in failures] == [0, 1]
    assert [f["barred"] for f in failures] == [0, int(barred)]
    decisions = [(d["row"], d["col"]) for d in events(documents, "decisions")]
    assert len(decisions) == POINTS + 1
    assert (len(set(decisions)) == POINTS + 1) or not barred
    assert len(events(documents, "primary")) == POINTS + (2 if kind == "nan" else 0)


def test_bad_spectra_are_kept_in_the_record_and_out_of_the_learning():
    documents = run(faulty("flat", times=2))
    bad = [p for p in events(documents, "primary") if p["spectrometer_quality"] < 0.5]
    assert len(bad) == 2
    assert all(np.ptp(p["spectrometer_response"]) == 0 for p in bad)
    agent = CuriosityAgent.from_documents(documents)
    assert agent.explorer.n_observed == POINTS
    assert len(agent.explorer.observations) == POINTS + 2
    assert not agent.explorer.pending


def test_a_run_full_of_faults_comes_to_its_end_with_every_spectrum_right():
    given = dict.fromkeys(("raises", "nan", "saturated", "flat", "stuck", "lost"), 0.1)
    documents = run(faulty(**given, seed=4), retries=4, max_failures=50)
    assert documents[-1][1]["exit_status"] == "success"
    assert documents[-1][1]["reason"].startswith("budget")
    truth = {(r, c): SAMPLE.spectra["response"][r, c] for r, c in np.ndindex(*SAMPLE.shape)}
    decided = {d["decision_id"]: (d["row"], d["col"]) for d in events(documents, "decisions")}
    good = [p for p in events(documents, "primary") if p["spectrometer_quality"] >= 0.5]
    assert len(good) == POINTS
    for point in good:
        np.testing.assert_array_equal(
            point["spectrometer_response"], truth[decided[point["decision_id"]]]
        )
    assert {f["reason"][:4] for f in events(documents, "failures")} > {"qual"}


def test_after_failures_in_a_row_the_plan_pauses_and_resumes(caplog):
    RE = RunEngine({})
    instrument = faulty("raises", times=6)
    with pytest.raises(RunEngineInterrupted):
        run(instrument, RE)
    assert RE.state == "paused"
    [message] = [r.getMessage() for r in caplog.records if "in a row" in r.getMessage()]
    assert message.startswith("3 points failed in a row, the last one with: spectrometer: Runt")
    documents = []
    RE.subscribe(lambda *document: documents.append(document))
    RE.resume()
    assert documents[-1][1]["exit_status"] == "success"
    assert documents[-1][1]["num_events"]["primary"] == POINTS
    assert documents[-1][1]["num_events"]["failures"] == 6


def test_a_place_that_cannot_be_measured_does_not_hold_up_the_run():
    # The stage never reaches the first seed, however often it is sent there.
    first = next(iter(events(run(simulated_instrument(SAMPLE, speed=math.inf)), "decisions")))
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    move = instrument.microscope.move

    def stuck(axis, position):
        away = 0.02 if (axis, position) == ("x", first["x"]) else 0.0
        move(axis, position + away)

    instrument.microscope.move = stuck
    documents = run(instrument, retries=0, max_failures=3)
    assert documents[-1][1]["exit_status"] == "success"
    tried = [(d["row"], d["col"]) for d in events(documents, "decisions")]
    assert tried.count((first["row"], first["col"])) <= 2


def test_a_spectrum_without_a_number_is_never_learned_from():
    documents = run(faulty("nan", times=2), parameters_more={"min_quality": 0.0})
    assert documents[-1][1]["exit_status"] == "success"
    assert CuriosityAgent.from_documents(documents).explorer.n_observed == POINTS


def test_a_paused_run_that_is_stopped_keeps_everything():
    RE = RunEngine({})
    instrument = faulty("raises", times=100)
    documents = []
    RE.subscribe(lambda *document: documents.append(document))
    with pytest.raises(RunEngineInterrupted):
        run(instrument, RE, max_failures=2)
    RE.stop()
    assert documents[-1][1]["exit_status"] == "success"
    assert len(events(documents, "failures")) == 4
    assert instrument.spectrometer._staged.value != "yes"


class LateDevice(Device):
    """A detector whose status fails long after the plan gave it up."""

    def __init__(self, name):
        super().__init__("", name=name)
        self.statuses = []

    def trigger(self):
        status = DeviceStatus(self)
        if len(self.statuses) == 1:
            self.statuses[0].set_exception(RuntimeError("too late"))
        self.statuses.append(status)
        if len(self.statuses) > 1:
            status.set_finished()
        return status

    def read(self):
        return {self.name: {"value": np.arange(5.0), "timestamp": 0.0}}

    def describe(self):
        return {self.name: {"source": "test", "dtype": "array", "shape": [5]}}


def test_a_status_that_fails_after_it_was_given_up_does_no_harm():
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    late, documents = LateDevice("late"), []
    plan = curiosity_plan(
        [late],
        SynAxis(name="mx"),
        SynAxis(name="my"),
        instrument.imager,
        num_points=4,
        options={"parameters": few("curious"), "timeout": 2.0, "retry_wait": 0},
    )
    RunEngine({})(plan, lambda *document: documents.append(document))
    assert documents[-1][1]["exit_status"] == "success"
    [failure] = events(documents, "failures")
    assert failure["reason"] == "late did not answer within 2 s"


class Broken(SynAxis):
    """A motor that refuses to be set, at once."""

    def set(self, value):
        raise ConnectionError("the controller is gone")


def test_a_motor_that_raises_at_once_is_a_failure_like_any_other():
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    RE, documents = RunEngine({}), []
    plan = curiosity_plan(
        [instrument.spectrometer],
        Broken(name="mx"),
        SynAxis(name="my"),
        instrument.imager,
        num_points=4,
        strategy="random",
        options={"parameters": few("random"), "retry_wait": 0, "max_failures": 1},
    )
    with pytest.raises(RunEngineInterrupted):
        RE(plan, lambda *document: documents.append(document))
    RE.stop()
    assert {f["reason"] for f in events(documents, "failures")} == {
        "mx: ConnectionError: the controller is gone"
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("retries", -1), ("timeout", 0), ("max_failures", 0), ("lookahead", -1), ("retry_wait", -1.0)],
)
def test_settings_that_cannot_be_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}"):
        run(simulated_instrument(SAMPLE, speed=math.inf), **{name: value})

"""What tip and sample must not be put through is refused, or done, before anything moves."""

import math
import time

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from support import QUICK, events, few, grouped, paused_run

from curiosity_bluesky import connect, curiosity_plan, steer
from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import BEGUN
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import Steering
from sim_devices import Faults, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)


def plan(instrument, **settings):
    return curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        **grouped(**{"num_points": 8, "parameters": QUICK, "retry_wait": 0, **settings}),
    )


def run(instrument, RE=None, **settings):
    found = []
    (RE or RunEngine({}))(plan(instrument, **settings), lambda *document: found.append(document))
    return found


@pytest.fixture
def instrument():
    return simulated_instrument(SAMPLE, speed=math.inf)


# ---- bias


def test_too_much_bias_is_refused_before_anything_moves(instrument):
    with pytest.raises(InputError, match=r"spectrometer_bias goes to 10 V, and max_bias allows 9"):
        run(instrument, max_bias=9.0)
    assert instrument.microscope.n_scans == 0 and instrument.microscope.dragged_um == 0


def test_as_much_bias_as_allowed_is_applied(instrument):
    assert len(events(run(instrument, max_bias=10.0), "primary")) == 8


def test_a_limit_that_nobody_can_check_is_no_limit_and_refused(instrument):
    instrument.microscope.__class__ = type(
        "Unitless",
        (type(instrument.microscope),),
        {"spectrum_axis": property(lambda self: ("bias", "", self.sample.axis))},
    )
    with pytest.raises(InputError, match="holds nothing in V"):
        run(instrument, max_bias=10.0)
    with pytest.raises(InputError, match="max_bias is -1"):
        run(instrument, max_bias=-1.0)


def test_a_dry_run_refuses_what_the_run_would_refuse(instrument):
    with pytest.raises(InputError, match="max_bias allows 9"):
        run(instrument, max_bias=9.0, dry_run=True)
    instrument.stage.x.set_limits(0.1, 0.2)
    with pytest.raises(InputError, match="stage_x may not go"):
        run(instrument, dry_run=True)


@pytest.mark.slow
def test_a_run_that_is_resumed_keeps_its_limits(instrument, tmp_path):
    found, asked = [], []
    RE = RunEngine({})

    def enough(name, doc):
        found.append((name, doc))
        if len(events(found, "primary")) == 7 and not asked:
            asked.append(name)
            steer.stop("for today")

    settings = {"max_bias": 10.0, "max_per_area": [2, 0.0], "tip": instrument.stage.tip}
    with connect(str(tmp_path / "runs")) as runs:
        RE.subscribe(runs.writer())
        RE(plan(instrument, num_points=12, **settings), enough)
    uid = found[0][1]["uid"]
    again = {"resume": uid, "catalog": str(tmp_path / "runs"), "num_points": None}
    again |= {"parameters": None}
    with pytest.raises(InputError, match="lifted its tip .stage_tip."):
        run(instrument, **again)
    instrument.microscope.__class__ = type(
        "Stronger",
        (type(instrument.microscope),),
        {"spectrum_axis": property(lambda self: ("bias", "V", 2 * self.sample.axis))},
    )
    with pytest.raises(InputError, match="max_bias allows 10"):
        run(instrument, tip=instrument.stage.tip, **again)


# ---- soft limits


def test_soft_limits_are_checked_before_the_survey(instrument):
    instrument.stage.x.set_limits(0.1, 0.2)
    with pytest.raises(InputError, match=r"stage_x may not go"):
        run(instrument)
    assert instrument.microscope.n_scans == 0


# ---- dose


@pytest.mark.parametrize("batch", [1, 3])
def test_no_area_gets_more_spectra_than_allowed(instrument, batch):
    found = run(
        instrument,
        max_per_area=[1, 0.045],
        num_points=12,
        parameters={**QUICK, "batch": batch},
    )
    places = np.array([[e["stage_x"], e["stage_y"]] for e in events(found, "primary")])
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert len(places) == 12 and apart.min() > 0.045
    assert found[0][1]["curiosity_parameters"]["max_per_area"] == (1, 0.045)


def test_a_spectrum_that_failed_is_not_repeated_where_one_is_all_that_is_allowed(instrument):
    instrument.microscope.faults = Faults(nan=0.5, seed=1)
    settings = {"retries": 3, "num_points": 6, "max_failures": 99}  # given up at once, each counts
    found = run(instrument, max_per_area=[1, 0.0], **settings)
    tried = [(e["stage_x"], e["stage_y"]) for e in events(found, "primary")]
    assert instrument.microscope.faults.happened["nan"] > 0
    assert len(set(tried)) == len(tried), "one spectrum at a place, good or bad"
    assert instrument.microscope.n_spectra == len(tried)
    failures = [f for f in events(found, "failures") if f["reason"] != BEGUN]
    assert failures and all(f["given_up"] and f["barred"] for f in failures)


def test_a_point_by_hand_is_refused_as_well_and_the_record_says_why(instrument):
    steering = Steering()
    steering.add(8, 8)
    steering.add(8, 9)
    found = run(instrument, max_per_area=[1, 0.045], steering=steering)
    [failure] = [f for f in events(found, "failures") if f["reason"] != BEGUN]
    assert (failure["row"], failure["col"]) == (8, 9)
    assert failure["reason"].startswith("max_per_area: 1 spectrum within 0.045 um")
    assert len(events(found, "primary")) == 8


def test_an_attempt_is_on_record_before_it_gives_its_dose(instrument):
    found = run(instrument, max_per_area=[1, 0.0], num_points=6)
    begun = [f for f in events(found, "failures") if f["reason"] == BEGUN]
    tried = [e["decision_id"] for e in events(found, "primary")]
    assert [f["decision_id"] for f in begun] == tried and {f["doses"] for f in begun} == {1}
    uids = {d["uid"]: d["name"] for name, d in found if name == "descriptor"}
    order = [uids[d["descriptor"]] for name, d in found if name == "event"]
    assert [s for s in order if s in ("failures", "primary")] == ["failures", "primary"] * 6


def test_an_attempt_that_was_broken_off_is_not_repeated_where_one_is_allowed(instrument, tmp_path):
    """Killed in an attempt, nothing says whether the sample had its dose: it is taken as had."""
    whole, kept = run(instrument, max_per_area=[1, 0.0], num_points=6), []
    begun = 0
    for name, doc in whole:  # as far as a process came that was killed in its fourth attempt
        kept.append((name, doc))
        begun += name == "event" and doc["data"].get("reason") == BEGUN
        if begun == 4:
            break
    past = InterruptedRun.of([kept])
    agent = CuriosityAgent(past.strategy, past.seed)
    devices = [instrument.spectrometer], instrument.stage.x, instrument.stage.y
    rest = []
    course = grouped(retry_wait=0.0)
    plan = explore(agent, *devices, instrument.imager, past=past, **course)
    RunEngine({})(plan, lambda *document: rest.append(document))
    lost = events(kept, "failures")[-1]
    [refused] = [f for f in events(rest, "failures") if f["decision_id"] == lost["decision_id"]]
    assert refused["given_up"] and refused["reason"].startswith("max_per_area")
    measured = [(d["row"], d["col"]) for d in events(rest, "primary") if "row" in d]
    assert (lost["row"], lost["col"]) not in measured
    assert len(events(kept, "primary") + events(rest, "primary")) == 6


def test_a_pause_does_not_make_it_two_spectra(instrument):
    """The RunEngine would repeat what the pause interrupted; a second dose is refused."""
    found = []
    RE = RunEngine({})
    triggers = []

    def at_the_third_trigger(number, msg):
        if msg.command == "trigger" and "spectrometer" in msg.obj.name:
            triggers.append(number)
            return len(triggers) == 3
        return False

    settings = {"max_per_area": [1, 0.0], "strategy": "random", "parameters": few("random")}
    pauses = paused_run(
        RE, plan(instrument, **settings), at_the_third_trigger, lambda *d: found.append(d)
    )
    assert pauses == 1
    measured = [(e["stage_x"], e["stage_y"]) for e in events(found, "primary")]
    assert len(set(measured)) == len(measured) == 8
    # One dose for each pixel, also for the one that the pause hit and that is given up.
    assert instrument.microscope.n_spectra <= 9


# ---- lift


def test_the_tip_is_lifted_between_points_and_at_the_end(instrument):
    found = run(instrument, tip=instrument.stage.tip)
    assert len(events(found, "primary")) == 8
    assert instrument.microscope.dragged_um == 0
    assert instrument.microscope.lifted


def test_without_a_tip_it_is_dragged(instrument):
    run(instrument)
    assert instrument.microscope.dragged_um > 1 and not instrument.microscope.lifted


def test_the_tip_is_lifted_when_the_plan_fails(instrument):
    RE = RunEngine({})

    def fails(name, doc):
        if name == "event":
            raise ZeroDivisionError

    RE.subscribe(fails)
    with pytest.raises(ZeroDivisionError):
        run(instrument, RE, tip=instrument.stage.tip)
    assert instrument.microscope.lifted


def test_a_tip_that_does_not_lift_keeps_the_stage_from_moving(instrument):
    moved = []
    microscope = instrument.microscope

    def stuck():
        raise RuntimeError("the z piezo does not answer")

    move = microscope.move
    microscope.move = lambda axis, position: moved.append(axis) or move(axis, position)
    microscope.lift = stuck
    RE = RunEngine({})
    RE.pause_msg = ""
    found = []
    with pytest.raises(RunEngineInterrupted):
        RE(
            plan(instrument, tip=instrument.stage.tip, retries=0, max_failures=2),
            lambda *d: found.append(d),
        )
    RE.stop()
    assert not moved
    assert all("z piezo" in f["reason"] for f in events(found, "failures"))


def test_a_tip_that_does_not_lower_takes_no_survey(instrument):
    instrument.microscope.lifted = True

    def stuck():
        raise RuntimeError("no contact")

    instrument.microscope.lower = stuck
    with pytest.raises(RuntimeError, match="could not be lowered for the survey .*no contact"):
        run(instrument, tip=instrument.stage.tip)
    assert instrument.microscope.n_scans == 0


def test_a_pause_lifts_the_tip_and_a_lift_that_fails_then_moves_nothing(instrument):
    """What the RunEngine repeats after a pause, it repeats whatever became of the step before."""
    instrument.microscope.clock._speed = 20.0
    RE, found, lifted, dragged = RunEngine({}), [], [], []
    microscope, lift = instrument.microscope, instrument.microscope.lift
    triggers = []

    def at_the_third_trigger(number, msg):
        if msg.command == "trigger" and "spectrometer" in msg.obj.name:
            triggers.append(number)
            return len(triggers) == 3
        return False

    def broken():
        raise RuntimeError("the z piezo does not answer")

    def meanwhile():
        deadline = time.monotonic() + 5
        while not microscope.lifted and time.monotonic() < deadline:
            time.sleep(0.01)
        lifted.append(microscope.lifted)
        microscope.lower()
        microscope.move("x", 0.01)  # somebody moves the stage by hand
        dragged.append(microscope.dragged_um)
        microscope.lift = broken

    def mended(name, doc):
        if name == "event" and "reason" in doc["data"] and "given_up" in doc["data"]:
            dragged.append(microscope.dragged_um)
            microscope.lift = lift

    settings = {"tip": instrument.stage.tip, "strategy": "random", "parameters": few("random")}
    pauses = paused_run(
        RE, plan(instrument, **settings), at_the_third_trigger,
        lambda *d: found.append(d), mended, meanwhile=meanwhile,
    )  # fmt: skip
    assert pauses == 1 and lifted == [True]
    assert "z piezo" in events(found, "failures")[0]["reason"]
    assert dragged[0] > 0 and dragged[1] == dragged[0], "the plan dragged it"
    assert len(events(found, "primary")) == 8


def test_a_tip_is_up_or_down(instrument):
    with pytest.raises(InputError, match="'up' or 'down'"):
        instrument.stage.tip.set("sideways")

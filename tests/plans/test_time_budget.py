"""How long a run takes: told before, told in its course, and held to."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from bluesky import RunEngine
from support import QUICK, events, few, grouped

from curiosity_bluesky import curiosity_plan, documents
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Proposal, Survey
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.plans.time_budget import DeviceTimes, TimeEstimate
from sim_devices import Clock, SimMicroscope, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)


def instrument(speed=20.0, **times):
    microscope = SimMicroscope(SAMPLE, Clock(speed), **times)
    return SimpleNamespace(
        microscope=microscope,
        stage=AFMStage(microscope),
        imager=Imager(microscope),
        spectrometer=Spectrometer(microscope),
    )


def costs(devices, **more):
    return DeviceTimes.of(
        [devices.spectrometer], devices.stage.x, devices.stage.y, devices.imager, **more
    )


def run(devices, RE=None, **settings):
    found = []
    plan = curiosity_plan(
        [devices.spectrometer],
        devices.stage.x,
        devices.stage.y,
        devices.imager,
        **grouped(**{"parameters": few("random", n_seeds=3), "strategy": "random", **settings}),
    )
    (RE or RunEngine({}))(plan, lambda *document: found.append(document))
    return found


def test_what_devices_say_adds_up_to_what_the_microscope_spends():
    devices = instrument(math.inf, speed_um_per_s=0.7, settle_s=0.3, spectrum_s=2.0, lift_s=0.1)
    # The virtual clock costs nothing, so the devices are asked as if it were a real one.
    devices.microscope.clock._speed = 1.0
    said = costs(devices, tip=devices.stage.tip)
    places = np.array([[0.1, 0.2], [0.2, 0.1], [0.2, 0.28]])
    start = np.array([0.0, 0.0])
    expected, speed, dwell = said.points(places, start), said.speed, said.dwell
    devices.microscope.clock._speed = math.inf
    clock = devices.microscope.clock
    began, microscope = clock.now(), devices.microscope
    for x, y in places:
        microscope.lift()
        # One after the other on a virtual clock; both at once on a stage.
        before = clock.now()
        microscope.move("x", x)
        along_x = clock.now() - before
        before = clock.now()
        microscope.move("y", y)
        began += min(along_x, clock.now() - before)
        microscope.lower()
        microscope.acquire()
    assert expected == pytest.approx(clock.now() - began)
    assert said.survey == pytest.approx(16 * 0.1)
    assert speed == pytest.approx(0.7)
    assert dwell == pytest.approx(0.3 + 0.2 + 2.0)


def test_devices_that_do_not_say_make_it_unknown_and_not_zero():
    silent = SimpleNamespace(name="silent")
    unknown = DeviceTimes.of([silent], silent, silent, silent)
    survey = Survey(SAMPLE.images, SAMPLE.x, SAMPLE.y)
    assert unknown.speed is None and unknown.dwell is None and unknown.usual(survey) is None
    pace = TimeEstimate(unknown, survey)
    assert pace.ahead([], 10) is None
    pace.point(Proposal(0, (3, 3), 0.3, 0.3, "seed"))
    assert pace.ahead([], 10) == pytest.approx(10 * pace.seconds_per_point)


def test_a_batch_has_shorter_ways_and_so_a_shorter_estimate():
    devices, survey = instrument(1.0, speed_um_per_s=0.2), Survey(SAMPLE.images, SAMPLE.x, SAMPLE.y)
    one, ten = (costs(devices).usual(survey, batch) for batch in (1, 10))
    assert one is not None and ten is not None and ten < 0.8 * one


def test_the_record_says_how_long_the_run_goes_on_after_each_point():
    found = run(instrument(), num_points=8)
    remaining = [event["remaining"] for event in events(found, "primary")]
    assert len(remaining) == 8 and remaining[-1] == 0
    assert all(later > 0 for later in remaining[:-1])
    described = next(d for n, d in found if n == "descriptor" and d["name"] == "primary")
    assert described["data_keys"]["remaining"]["units"] == "s"


def test_a_time_budget_ends_the_run_in_time_with_a_reason():
    devices = instrument(1.0, spectrum_s=0.2, line_s=0.01, speed_um_per_s=50.0)
    found = run(devices, time_budget=3.0)
    start, stop = found[0][1], found[-1][1]
    assert stop["exit_status"] == "success" and stop["reason"].startswith("time: 3 s")
    assert start[documents.TIME_BUDGET] == 3.0
    # What it planned with, from what the devices say: 0.22 s a point and little travel.
    assert 8 <= start["num_points"] <= 13
    last = [d for n, d in found if n == "event"][-1]
    assert last["time"] - start["time"] < 3.5
    assert 1 <= len(events(found, "primary")) <= start["num_points"]


@pytest.mark.slow
def test_a_run_that_is_faster_than_it_was_thought_goes_on_as_long_as_there_is_time():
    devices = instrument(1.0, spectrum_s=0.02, line_s=0.0, settle_s=0.0, speed_um_per_s=50.0)
    # It says that it needs ten times as long as it does.
    type(devices.microscope).spectrum_seconds, honest = 0.5, SimMicroscope.spectrum_seconds
    try:
        found = run(devices, time_budget=3.0)
    finally:
        SimMicroscope.spectrum_seconds = honest
    assert found[0][1]["num_points"] <= 6
    assert len(events(found, "primary")) > found[0][1]["num_points"]
    assert [act["kind"] for act in events(found, "steering")][:1] == ["set"]


def test_a_budget_that_somebody_sets_is_not_outbid_by_the_clock():
    devices = instrument(1.0, spectrum_s=0.02, line_s=0.0, settle_s=0.0, speed_um_per_s=50.0)
    steering = Steering()
    found = []
    plan = curiosity_plan(
        [devices.spectrometer],
        devices.stage.x,
        devices.stage.y,
        devices.imager,
        time_budget=20.0,
        strategy="random",
        options={"parameters": few("random", n_seeds=3), "steering": steering},
    )

    def at_the_fourth(name, doc):
        found.append((name, doc))
        if name == "event" and len(events(found, "primary")) == 4 and not steering.waiting:
            steering.budget(7)

    RunEngine({})(plan, at_the_fourth)
    assert len(events(found, "primary")) == 7 and found[-1][1]["reason"].startswith("budget")


def test_points_and_time_together_whichever_comes_first():
    devices = instrument(1.0, spectrum_s=0.02, line_s=0.0, speed_um_per_s=50.0)
    found = run(devices, time_budget=60.0, num_points=5)
    assert found[-1][1]["reason"].startswith("budget") and len(events(found, "primary")) == 5


def test_no_time_for_a_single_point_leaves_a_survey_and_says_so():
    found = run(instrument(1.0, spectrum_s=30.0, line_s=0.0), time_budget=1.0, num_points=5)
    assert found[-1][1]["reason"].startswith("time") and not events(found, "primary")
    assert len(events(found, "survey")) == 1


def test_per_second_takes_its_rates_from_the_devices_and_records_them():
    rates = costs(instrument(1.0, speed_um_per_s=2.0))
    assert rates.dwell == pytest.approx(0.52) and rates.speed == pytest.approx(2.0)
    found = run(instrument(20.0, speed_um_per_s=2.0), num_points=6, per_second=True,
                strategy="curious", parameters=few("curious"))  # fmt: skip
    dwell, speed = found[0][1]["curiosity_parameters"]["per_second"]
    assert dwell == pytest.approx(0.52 / 20) and speed == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"time_budget": 0.0}, "time_budget is 0.0; expected seconds"),
        ({"time_budget": math.inf}, "expected seconds"),
        ({"num_points": 0}, "num_points is 0; expected a whole number, 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_moves(settings, said):
    devices = instrument(math.inf)
    with pytest.raises(InputError, match=said):
        run(devices, **settings)
    assert devices.microscope.n_scans == 0


def test_per_second_with_a_strategy_that_does_not_choose_by_a_value():
    with pytest.raises(InputError, match="per_second is given"):
        run(instrument(), per_second=True, strategy="random", parameters=few("random"))


def test_per_second_with_devices_that_do_not_say_how_long_things_take():
    devices = instrument()
    devices.spectrometer.driver = SimpleNamespace()
    with pytest.raises(InputError, match="devices do not say"):
        run(devices, per_second=True, strategy="curious", parameters=QUICK)


@pytest.mark.parametrize(
    ("every", "minutes", "expected"),
    [
        (0, 0.0, 0),
        (16, 0.0, 8),  # after 1, 3, 7, 15, 31, 47, 63, 79 of 80 points
        (0, 16.0, 8),  # a point takes a minute
        (16, 16.0, 8),  # both at once are one
        (16, 1e6, 8),
        (10**6, 16.0, 8),
        (16, 8.0, 13),  # after 1, 2, 4, 8, 16, 24 ... 80
        (1, 16.0, 80),
    ],
)
def test_points_or_minutes_what_comes_first_is_one_re_survey(every, minutes, expected):
    image = Survey({"a": np.zeros((4, 4))}, np.arange(4.0), np.arange(4.0), np.zeros((4, 4), bool))
    known = DeviceTimes(survey=0.0, spectrum=60.0, x=(0.0, 0.0), y=(0.0, 0.0))
    pace = TimeEstimate(known, image, every=every, minutes=minutes)
    # A hair more than a minute: both come at the same moment, and it has not to hang on rounding.
    assert pace._resurveys(80, 80 * 60.0001) == expected

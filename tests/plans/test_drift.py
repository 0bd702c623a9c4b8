"""A sample that drifts: the plan takes the survey anew, and the tip follows."""

import logging
import math
import threading
from dataclasses import asdict

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus, RunEngineInterrupted
from support import events, grouped, paused_run

from curiosity_bluesky import CuriosityAgent, documents
from curiosity_bluesky.catalog import connect
from curiosity_bluesky.demo.run import DemoSample
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import DriftCorrection, explore
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.views.report import show_run
from sim_devices import Clock, Sample, SimMicroscope, SyntheticSample, open_sample
from sim_devices.drift import Drift

FILM = SyntheticSample((64, 64), seed=1, points=16, extent_um=(3.0, 3.0))
SMALL = SyntheticSample((24, 20), seed=1, points=16)  # pixels of 0.02 um
DRIFT = (0.016, -0.012)
"""20 nm/min."""


class Tip:
    """A microscope whose sample drifts, with its devices, and what a run on it gave."""

    def __init__(self, sample=FILM, drift=DRIFT, speed=math.inf, driver=SimMicroscope, **options):
        options = {"spectrum_s": 55.0, "noise": 0.1, **options}
        self.microscope = driver(sample, Clock(speed), drift_um_per_min=drift, **options)
        self.stage = AFMStage(self.microscope, name="stage")
        self.imager = Imager(self.microscope, name="imager")
        self.spectrometer = Spectrometer(self.microscope, name="spectrometer")
        # On a virtual clock time passes in jumps, and only the microscope knows how far.
        self.clock = {"clock": self.microscope.clock.now} if math.isinf(speed) else {}
        self.documents = []

    def plan(self, strategy="random", points=60, past=None, batch=1, **course):
        known = {"budget": points, "patch_size": 3, "n_seeds": 4, "batch": batch}
        return explore(
            CuriosityAgent(Strategy.named(strategy, **known), 0),
            [self.spectrometer],
            self.stage.x,
            self.stage.y,
            self.imager,
            past=past,
            **grouped(**{"maps_every": 0, "retry_wait": 0, **self.clock, **course}),
            steering=Steering(),
        )

    def run(self, *args, callback=None, **kwargs):
        def collect(name, doc):
            self.documents.append((name, doc))
            if callback is not None:
                callback(name, doc)

        RunEngine({})(self.plan(*args, **kwargs), collect)
        return self

    def events(self, stream):
        return events(self.documents, stream)

    def misses(self):
        """How far from each pixel, as the survey showed it, its spectrum was taken: pixels."""
        survey = next(true for true in self.microscope.under_tip if true.what == "scan")
        spectra = [true for true in self.microscope.under_tip if true.what == "spectrum"]
        decided = {d["decision_id"]: d for d in self.events("decisions")}
        pixel = self.microscope.sample.x[1] - self.microscope.sample.x[0]
        missed = []
        for true, measured in zip(spectra, self.events("primary"), strict=True):
            wanted = decided[measured["decision_id"]]
            x = true.x - (true.drift_x - survey.drift_x) - wanted["x"]
            y = true.y - (true.drift_y - survey.drift_y) - wanted["y"]
            missed.append(math.hypot(x, y) / pixel)
        return np.array(missed)


# ---- points land where they were meant to


@pytest.mark.quick("synthetic")
@pytest.mark.parametrize("name", ["synthetic", "PTO_BEPS_3um"])
def test_an_hour_of_20_nm_a_minute(name):
    if name == "synthetic":
        sample = FILM
    else:
        pytest.importorskip("mexpsimu", reason="the recorded samples need mexpsimu")
        sample = open_sample(name)
    corrected = Tip(sample).run(resurvey_every=10)
    left_alone = Tip(sample).run()
    for tip in (corrected, left_alone):
        assert tip.microscope.clock.now() > 55 * 60
        assert len(tip.misses()) == 60
    print(name, "with", corrected.misses().max(), "without", np.median(left_alone.misses()))
    assert corrected.misses().max() < 1
    assert left_alone.misses().max() > 20 and np.median(left_alone.misses()) > 10
    assert all(event["trusted"] for event in corrected.events("drift"))
    assert not left_alone.events("drift")


class Settling(Drift):
    """A drift that comes to rest, as after a new sample, with a time constant of 15 minutes."""

    def at(self, seconds):
        x, y = super().at(900 * (1 - math.exp(-seconds / 900)))
        return x, y


@pytest.mark.slow
def test_a_drift_that_slows_down_is_looked_at_more_often():
    tip = Tip()
    tip.microscope._drift = Settling((0.064, -0.048))
    tip.run(resurvey_every=20)
    misses = tip.misses()
    # 1.7 pixels a minute at first: the first point cannot know. Over the hour 25 pixels.
    assert misses.max() < 1.2 and np.median(misses) < 0.3
    assert 8 < len(tip.events("drift")) < 20


def test_after_minutes_instead_of_points():
    tip = Tip().run(points=30, resurvey_minutes=10)
    assert tip.misses().max() < 1
    gaps = np.diff([0, *(event["seconds"] for event in tip.events("drift"))])
    assert gaps[0] < 100 and 9 * 60 < gaps.max() < 12 * 60 and len(gaps) < 10


@pytest.mark.slow
def test_on_the_clock_on_the_wall():
    tip = Tip(speed=100.0, spectrum_s=8.0).run(points=30, resurvey_every=5)
    last = tip.events("drift")[-1]
    assert np.hypot(last["drift_x"], last["drift_y"]) > 2 * FILM.x[1]
    assert tip.misses()[3:].max() < 1  # the first points cannot know
    # Seconds on the wall, and nobody told the plan that they pass 100 times faster there.
    assert last["rate_x"] == pytest.approx(100 * DRIFT[0] / 60, rel=0.2)


def test_decisions_stay_in_the_survey_and_the_stage_says_where_the_tip_went():
    tip = Tip().run(points=20, resurvey_every=5)
    decided = tip.events("decisions")[-1]
    [measured] = [e for e in tip.events("primary") if e["decision_id"] == decided["decision_id"]]
    assert decided["x"] == FILM.x[decided["col"]] and decided["y"] == FILM.y[decided["row"]]
    true, first = tip.microscope.under_tip[-2:], tip.microscope.under_tip[0]
    true = next(t for t in true if t.what == "spectrum")
    assert measured["stage_x"] - decided["x"] == pytest.approx(
        true.drift_x - first.drift_x, abs=FILM.x[1]
    )
    assert abs(measured["stage_x"] - decided["x"]) > 3 * FILM.x[1]


# ---- what is written


def test_the_stream():
    tip = Tip().run(points=12, resurvey_every=4)
    [described] = [d for n, d in tip.documents if n == "descriptor" and d["name"] == "drift"]
    keys = described["data_keys"]
    assert set(keys) == {*(key.name for key in documents.STREAMS["drift"].own), "imager_amplitude"}
    assert keys["drift_x"]["units"] == "um" and keys["rate_y"]["units"] == "um/s"
    assert keys["out_of_reach"]["dims"] == keys["imager_amplitude"]["dims"] == ["y", "x"]
    assert keys["imager_amplitude"]["dtype_numpy"] == "<f4"
    drift = tip.events("drift")
    assert [event["resurvey"] for event in drift] == [1, 2, 3, 4, 5]
    assert [event["n_decisions"] for event in drift] == [1, 2, 3, 5, 9]
    for event in drift:
        assert (event["drift_x"], event["drift_y"]) == pytest.approx(
            (DRIFT[0] * event["seconds"] / 60, DRIFT[1] * event["seconds"] / 60), abs=0.01
        )
        assert 0 <= event["residual"] < 0.1 and 0.5 < event["overlap"] <= 1
    images = [tip.events("survey")[0], *drift]
    assert len({event["imager_amplitude"].tobytes() for event in images}) == 6
    start = tip.documents[0][1]
    assert start["curiosity_resurvey_every"] == 4 and start["curiosity_resurvey_minutes"] == 0


def test_without_a_re_survey_nothing_is_new():
    tip = Tip(drift=(0.0, 0.0)).run(points=6)
    assert {d["name"] for n, d in tip.documents if n == "descriptor"} <= {
        *("survey", "decisions", "primary", "learning", "maps", "flags", "predictions")
    }
    assert tip.microscope.n_scans == 1 and tip.misses().max() == 0


@pytest.mark.slow  # it starts a server
def test_it_is_read_back_from_the_catalogue(tmp_path):
    with connect(str(tmp_path / "runs")) as runs:
        writer = runs.writer()
        tip = Tip(SMALL, drift=(0.004, 0.002)).run(points=6, resurvey_every=3, callback=writer)
        runs.flush()
        run = runs[tip.documents[0][1]["uid"]]
        drift = documents.read_stream(run, "drift")
        shown = show_run(runs, run.start["uid"])
    assert drift.sizes["event"] == len(tip.events("drift")) == 4
    np.testing.assert_allclose(drift["drift_x"], [e["drift_x"] for e in tip.events("drift")])
    assert drift["imager_amplitude"].dims == ("event", "y", "x")
    assert "4 re-surveys, 4 of them trusted" in dict(shown.rows())["drift"]


# ---- what drifts out of the area


FAST = {"drift": (0.06, 0.0), "spectrum_s": 10.0}
"""Half a pixel of `SMALL` with each spectrum."""


def proposed_out_of_reach(tip):
    """Pixels that were decided on while they were known to be out of reach."""
    wrong, out, streams = [], None, {}
    for name, doc in tip.documents:
        if name == "descriptor":
            streams[doc["uid"]] = doc["name"]
        elif name == "event" and streams[doc["descriptor"]] == "drift":
            out = doc["data"]["out_of_reach"]
        elif name == "event" and streams[doc["descriptor"]] == "decisions" and out is not None:
            pixel = doc["data"]["row"], doc["data"]["col"]
            wrong += [pixel] if out[pixel] else []
    return wrong


@pytest.mark.quick("0")
@pytest.mark.parametrize("lookahead", [0, 1])
def test_what_is_out_of_reach_is_not_proposed(lookahead):
    tip = Tip(SMALL, **FAST).run(points=28, resurvey_every=6, lookahead=lookahead)
    assert len(tip.events("primary")) == 28 and tip.misses().max() < 1
    assert tip.events("drift")[-1]["out_of_reach"].mean() > 0.5
    assert not proposed_out_of_reach(tip) and not tip.events("failures")


def test_what_drifts_out_before_its_turn_is_given_back(caplog):
    tip = Tip(SMALL, **FAST).run(points=24, batch=12, resurvey_every=6)
    assert tip.misses().max() < 1 and tip.events("failures")
    for failure in tip.events("failures"):
        assert failure["reason"].startswith("out of reach: drifted by (")
        assert failure["given_up"] and not failure["barred"]
    assert not proposed_out_of_reach(tip)
    assert any("given back" in record.message for record in caplog.records)
    assert tip.documents[-1][1]["reason"] == "budget: 24 of 24 spectra measured"


def test_the_run_ends_when_nothing_is_within_reach_any_more():
    tip = Tip(SMALL, **FAST).run("grid", points=200, resurvey_every=4)
    assert tip.documents[-1][1]["reason"] == "no pixel is left to measure within reach"
    assert len(tip.events("primary")) > 10 and tip.misses().max() < 1


@pytest.mark.quick("0-random", "1-curious")
@pytest.mark.parametrize("strategy", ["curious", "random", "grid"])
@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_replay_proposes_the_same(strategy, lookahead):
    tip = Tip(SMALL, **FAST).run(strategy, 16, resurvey_every=4, lookahead=lookahead)
    decided = {d["uid"] for n, d in tip.documents if n == "descriptor" and d["name"] == "decisions"}
    places = [
        k for k, (n, d) in enumerate(tip.documents) if n == "event" and d["descriptor"] in decided
    ]
    for k in places[1::3]:
        agent = CuriosityAgent.from_documents(tip.documents[:k])
        [proposal] = agent.decide(1, lookahead=lookahead).proposals
        data = tip.documents[k][1]["data"]
        assert proposal.decision_id == data["decision_id"]
        assert proposal.pixel == (data["row"], data["col"])


# ---- resume


@pytest.mark.quick("0.4")
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_resumed_run_knows_the_drift_and_looks_first(share):
    first = Tip().run(points=20, resurvey_every=5)
    cut = int(share * len(first.documents))
    whole, first.documents = first.documents, first.documents[:cut]
    past = InterruptedRun.of([first.documents])
    assert past.resurvey == (5, 0.0)
    known = first.events("drift")[-1]
    second = Tip()
    # The same microscope goes on drifting.
    second.microscope.clock.sleep(first.microscope.clock.now())
    every, minutes = past.resurvey
    second.run(points=20, past=past, resurvey_every=every, resurvey_minutes=minutes)
    streams = {d["uid"]: d["name"] for n, d in second.documents if n == "descriptor"}
    order = [streams[d["descriptor"]] for n, d in second.documents if n == "event"]
    assert order.index("drift") < order.index("primary")
    again = second.events("drift")[0]
    assert again["resurvey"] == known["resurvey"] + 1 and again["trusted"]
    scan = second.microscope.under_tip[0]
    assert again["drift_x"] == pytest.approx(scan.drift_x, abs=0.015)
    # Where the points of this run were, as the survey of the first run showed them.
    decided = {d["decision_id"]: d for t in (first, second) for d in t.events("decisions")}
    spectra = [true for true in second.microscope.under_tip if true.what == "spectrum"]
    began = next(t for t in first.microscope.under_tip if t.what == "scan")
    for true, measured in zip(spectra, second.events("primary"), strict=True):
        wanted = decided[measured["decision_id"]]
        assert abs(true.x - true.drift_x + began.drift_x - wanted["x"]) < FILM.x[1]
    agent = CuriosityAgent.from_documents([*first.documents, *second.documents])
    assert agent.explorer.n_observed == 20 and len(whole) > cut


def test_a_demo_knows_its_drift_when_it_is_resumed():
    setting = DemoSample(**asdict(DemoSample(sample="synthetic", drift=20.0)))
    with setting.instrument(0) as drifting, DemoSample(sample="synthetic").instrument(0) as still:
        assert np.hypot(*drifting.microscope._drift.at(60)) == pytest.approx(0.02)
        assert not still.microscope._drift


# ---- what fails


class Unwell(SimMicroscope):
    """A microscope whose scans, by their number, go wrong."""

    wrong: dict = {}
    scans = 0

    def scan(self):
        number, self.scans = self.scans, self.scans + 1
        image = super().scan()
        how = self.wrong.get(number, self.wrong.get("later") if number else None)
        if how == "raises":
            raise RuntimeError("the feedback oscillates")
        if how == "nan":
            return {
                name: np.where(channel > 20, np.nan, channel) for name, channel in image.items()
            }
        if how == "flat":
            return {name: np.ones_like(channel) for name, channel in image.items()}
        return image


def unwell(wrong, **course):
    tip = Tip(driver=type("Unwell", (Unwell,), {"wrong": wrong}))
    return tip.run(points=20, resurvey_every=5, **course)


def test_a_re_survey_that_fails_is_tried_again(caplog):
    tip = unwell({2: "raises"})
    assert [event["resurvey"] for event in tip.events("drift")][:3] == [1, 2, 3]
    assert tip.misses().max() < 1
    said = [r.message for r in caplog.records if "re-survey, attempt 1" in r.message]
    assert len(said) == 1 and "the feedback oscillates" in said[0]


@pytest.mark.quick("nan")
@pytest.mark.parametrize("how", ["nan", "flat"])
def test_an_image_that_shows_nothing_is_written_and_not_believed(how, caplog):
    tip = unwell({4: how})
    drift = tip.events("drift")
    assert [event["trusted"] for event in drift].count(0) == 1
    bad = drift[3]
    assert not bad["trusted"] and np.isnan(bad["residual"])
    assert (bad["drift_x"], bad["drift_y"]) == (bad["expected_x"], bad["expected_y"])
    assert any("re-survey 4 is not trusted" in r.message for r in caplog.records)
    assert tip.misses().max() < 1  # by the drift extrapolated


def test_without_any_re_survey_the_run_goes_on(caplog):
    tip = unwell({"later": "raises"})
    assert tip.documents[-1][1]["exit_status"] == "success" and len(tip.events("primary")) == 20
    assert not tip.events("drift") and tip.misses().max() > 5
    # What never works is not tried with each point: 8 times, with one more attempt each.
    assert len([r for r in caplog.records if "feedback oscillates" in r.message]) <= 2 * 8
    assert any("extrapolated" in record.message for record in caplog.records)


def test_a_survey_of_nothing_is_never_trusted_and_never_wrong(caplog):
    caplog.set_level(logging.ERROR)
    flat = Sample(
        "flat", {"a": np.zeros(FILM.shape)}, dict(FILM.spectra), FILM.axis, FILM.x, FILM.y
    )
    tip = Tip(flat, drift=(0.0, 0.0)).run(points=8, resurvey_every=3)
    assert tip.events("drift") and not any(e["trusted"] for e in tip.events("drift"))
    assert tip.misses().max() == 0


def test_a_pause_anywhere_in_a_re_survey_repeats_what_it_must():
    settings = {"points": 6, "resurvey_every": 2}
    tip, messages = Tip(SMALL, drift=(0.004, 0.002)), []
    RE = RunEngine({})
    RE.msg_hook = messages.append
    RE(tip.plan(**settings))
    scans = [k for k, msg in enumerate(messages) if getattr(msg.obj, "name", "") == "imager"]
    triggered = [k for k in scans if messages[k].command == "trigger"]
    ends = [k for k in scans if k > triggered[2] and messages[k].command == "read"]
    for place in range(triggered[2] - 1, ends[1] + 5, 3):
        tip = Tip(SMALL, drift=(0.004, 0.002))
        plan = tip.plan(**settings)
        n = paused_run(
            RunEngine({}), plan, lambda k, msg, place=place: k == place,
            lambda *document, tip=tip: tip.documents.append(document),
        )  # fmt: skip
        assert n == 1 and tip.documents[-1][1]["exit_status"] == "success"
        numbers = [event["resurvey"] for event in tip.events("drift")]
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
        for event in tip.events("drift"):
            assert (
                event["trusted"]
                and np.hypot(
                    event["drift_x"] - event["expected_x"], event["drift_y"] - event["expected_y"]
                )
                < 0.01
            )
        assert len({event["decision_id"] for event in tip.events("primary")}) == 6


@pytest.mark.slow
def test_one_that_fails_leaves_the_interval_as_it_is():
    good, bad = (
        Tip(driver=type("Unwell", (Unwell,), {"wrong": wrong})).run(
            points=30, resurvey_every=16, retries=0
        )
        for wrong in ({}, {3: "raises"})
    )
    # After 1, 2, 4, 8 and 16 points; the third fails, and the next comes after 4 again.
    assert [event["n_decisions"] for event in good.events("drift")] == [1, 3, 7, 15]
    assert [event["n_decisions"] for event in bad.events("drift")] == [1, 3, 11, 19]


HOURS = 12 * 3600.0


def interrupted(RE, plan, *callbacks):
    """Run a plan, or go on, until it pauses."""
    with pytest.raises(RunEngineInterrupted):
        RE(plan, list(callbacks)) if plan else RE.resume()
    assert RE.state == "paused"


def after_hours(wrong):
    """Return a run where 12 hours pass after 8 points, as in a pause; and what it runs on."""
    tip = Tip(driver=type("Unwell", (Unwell,), {"wrong": wrong}), drift=(1e-3, -1e-3))

    def collect(name, doc):
        tip.documents.append((name, doc))
        if name == "event" and "spectrometer_quality" in doc["data"] and doc["seq_num"] == 8:
            assert [event["n_decisions"] for event in tip.events("drift")] == [2, 7]
            tip.microscope.clock.sleep(HOURS)

    return tip, RunEngine({}), tip.plan(points=20, resurvey_every=40, retries=0), collect


def test_after_hours_there_is_a_re_survey():
    tip, RE, plan, collect = after_hours({})
    RE(plan, collect)
    third = tip.events("drift")[2]
    assert third["n_decisions"] == 8 and third["trusted"]  # and not after 17 only
    assert len(tip.events("primary")) == 20 and tip.misses().max() < 1


@pytest.mark.quick("raises")
@pytest.mark.parametrize("how", ["raises", "flat"])
def test_after_hours_nobody_measures_blindly(how, caplog):
    tip, RE, plan, collect = after_hours({3: how, 4: how})
    interrupted(RE, plan, collect)
    interrupted(RE, None)
    said = [r.message for r in caplog.records if "RE.resume() takes the survey" in r.message]
    assert len(said) == 2 and "been known for 7" in said[0]
    assert len(tip.events("primary")) == 8
    for event in tip.events("drift"):  # as it was known before
        assert event["out_of_reach"].mean() < 0.5
    RE.resume()
    assert tip.documents[-1][1]["exit_status"] == "success"
    assert len(tip.events("primary")) == 20 and tip.misses().max() < 1


def test_a_run_that_pauses_for_its_sample_can_be_stopped_and_keeps_everything():
    tip, RE, plan, collect = after_hours({3: "raises"})
    interrupted(RE, plan, collect)
    RE.stop()
    assert tip.documents[-1][1]["exit_status"] == "success"
    assert CuriosityAgent.from_documents(tip.documents).explorer.n_observed == 8


@pytest.mark.quick("nan")
@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_resumed_run_that_does_not_find_its_sample_pauses_and_looks_again(how, caplog):
    first = Tip().run(points=12, resurvey_every=4)
    documents = first.documents[: len(first.documents) * 2 // 3]
    again = Tip(driver=type("Unwell", (Unwell,), {"wrong": {1: how, 2: how}}))
    again.microscope.scans = 1  # the first survey was of the first run
    again.microscope.clock.sleep(first.microscope.clock.now())
    past = InterruptedRun.of([documents])
    plan = again.plan(points=12, past=past, resurvey_every=4, retries=0)
    RE = RunEngine({})
    interrupted(RE, plan, lambda *document: again.documents.append(document))
    interrupted(RE, None)
    assert not again.events("primary")
    assert sum("The plan pauses" in record.message for record in caplog.records) == 2
    RE.resume()
    assert again.documents[-1][1]["reason"] == "budget: 12 of 12 spectra measured"
    assert again.events("drift")[-1]["trusted"]


class Losing(AFMStage):
    """A stage whose `x` loses its connection, as an axis over EPICS does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        allowed, self.lost = self.x.check_value, False

        def check_value(position):
            if self.lost:
                raise ConnectionError("the Channel Access connection to SPM:x is lost")
            allowed(position)

        self.x.check_value = check_value


def test_a_lost_connection_is_a_failure_and_does_not_put_anything_out_of_reach(caplog):
    tip = Tip(SMALL, drift=(0.004, 0.0))
    tip.stage = Losing(tip.microscope, name="stage")
    RE = RunEngine({})

    def collect(name, doc):
        tip.documents.append((name, doc))
        if name == "event" and "spectrometer_quality" in doc["data"] and doc["seq_num"] == 4:
            tip.stage.lost = True

    interrupted(RE, tip.plan(points=10, resurvey_every=5), collect)
    failures = tip.events("failures")
    assert len(failures) == 6  # three points, each tried twice
    assert all("ConnectionError: the Channel Access" in failure["reason"] for failure in failures)
    last = [event for event in tip.events("drift") if event["n_decisions"] > 4]
    assert last and not any(event["out_of_reach"].all() for event in last)
    assert any("what is out of reach is not known" in record.message for record in caplog.records)
    tip.stage.lost = False
    RE.resume()
    assert tip.documents[-1][1]["reason"] == "budget: 10 of 10 spectra measured"
    assert tip.misses().max() < 1


def test_a_stage_that_is_lost_before_the_run_is_no_survey_out_of_reach():
    tip = Tip(SMALL)
    tip.stage = Losing(tip.microscope, name="stage")
    tip.stage.lost = True
    with pytest.raises(InputError, match="stage_x cannot be asked .*ConnectionError.*begin again"):
        tip.run(points=4)


# ---- slow images


class Slow(SimMicroscope):
    """A microscope whose images take so many seconds on the wall, and says how long they take."""

    takes, says = 1.5, 1.5

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.aborted = threading.Event()

    @property
    def scan_seconds(self):
        return self.says

    def scan(self):
        self.aborted.wait(self.takes)
        return super().scan()

    def abort(self):
        self.aborted.set()
        super().abort()


def test_images_that_take_longer_than_a_point_may_are_waited_for():
    tip = Tip(SMALL, drift=(0.0, 0.0), driver=Slow)
    tip.run(points=2, resurvey_every=1, timeout=1.0)  # moves and spectra take no time
    assert len(tip.events("drift")) == 2 and all(event["trusted"] for event in tip.events("drift"))


def test_a_first_survey_that_never_comes_back_is_ended():
    tip = Tip(SMALL, drift=(0.0, 0.0), driver=type("Slow", (Slow,), {"takes": 30.0, "says": 0.1}))
    with pytest.raises(InputError, match="imager took no survey within 0.3 s.*longer timeout"):
        tip.run(points=2, timeout=0.2)
    assert tip.microscope.aborted.is_set() and not tip.documents


def test_a_first_survey_that_fails_still_says_how():
    with pytest.raises(FailedStatus) as caught:
        unwell({0: "raises"})
    assert str(caught.value.__cause__) == "the feedback oscillates"
    assert "failed (RuntimeError: the feedback oscillates)" in str(caught.value)


@pytest.mark.parametrize("wrong", [{"resurvey_every": -1}, {"resurvey_minutes": math.nan}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*expected .*0 or more"):
        DriftCorrection(**wrong)

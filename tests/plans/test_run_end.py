"""Why a run ended, and how many spectra it has: said in one place, true everywhere."""

import logging
import math
import threading

import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from support import events, few, grouped

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan
from curiosity_bluesky.catalog.summaries import summary_of_journal
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import PointCount
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.utils.run_end import TROUBLE, EndKind, RunEnd
from curiosity_bluesky.views.run_figure import RunPicture
from sim_devices import Faults, SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)


@pytest.fixture
def instrument():
    return simulated_instrument(SAMPLE, speed=math.inf)


def plan(ins, n=8, course=None, **settings):
    agent = CuriosityAgent(Strategy.named("random", budget=n, **few("random")), 0)
    course = course or grouped(retries=0, retry_wait=0.0, max_failures=3)
    devices = [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager
    return explore(agent, *devices, **course, **settings)


def broken(ins):
    ins.microscope.faults = Faults(raises=1.0)
    return ins


@pytest.mark.parametrize("kind", [kind for kind in EndKind if kind is not EndKind.OPEN])
def test_each_end_is_read_back_from_its_stop_document(kind):
    status = {EndKind.ABORTED: "abort", EndKind.SIGTERM: "abort", EndKind.SIGHUP: "abort"}
    status |= {EndKind.ERROR: "fail"}
    end = RunEnd(kind, ": 3 of 4" if kind is EndKind.PIXELS else "3 of 4: words")
    reason = end.text if kind in (EndKind.ABORTED, EndKind.ERROR) else str(end)
    stop = {"exit_status": status.get(kind, "success"), "reason": reason}
    assert RunEnd.of(stop) == end and end.text in RunEnd.of(stop).words


def test_a_reason_of_a_strategy_is_not_taken_for_another():
    for words in ("converged", "budget: of my own", "no pixel is left to measure here"):
        end = RunEnd.read(str(RunEnd(EndKind.STRATEGY, words)))
        assert end.kind is EndKind.STRATEGY and words in end.text
    assert str(RunEnd(EndKind.STRATEGY, "converged: as it was stored before")).startswith(
        "converged"
    )


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        ("success", "budget: 60 of 60 spectra measured", EndKind.BUDGET),
        ("success", "time: 30 s leave no time for another point", EndKind.TIME),
        ("success", "manual: lunch", EndKind.MANUAL),
        ("success", "no pixel is left to measure", EndKind.PIXELS),
        ("success", "ended by hand: RE.stop()", EndKind.STOPPED),
        ("success", "", EndKind.DONE),
        ("abort", "ended by hand: RE.abort()", EndKind.ABORTED),
        ("abort", "", EndKind.ABORTED),
        ("fail", "budget: not the budget", EndKind.ERROR),
    ],
)
def test_stored_runs_of_older_versions_are_understood(status, reason, kind):
    end = RunEnd.of({"exit_status": status, "reason": reason})
    assert end.kind is kind and end.words


def test_a_run_without_a_stop_document_has_not_ended():
    assert RunEnd.of(None).kind is EndKind.OPEN and RunEnd.of(None).words == ""


def paused_at(n, RE, ins, found, **settings):
    """Run the plan and pause it after n spectra."""

    def pause(name, doc):
        found.append((name, doc))
        if doc.get("data", {}).get("decision_id") == n and "doses" in doc["data"]:
            threading.Thread(target=RE.request_pause).start()

    speed = simulated_instrument(SAMPLE, speed=20.0)  # so that there is something to interrupt
    with pytest.raises(RunEngineInterrupted):
        RE(plan(speed, n=100, **settings), pause)


@pytest.mark.parametrize(
    ("reason", "words"),
    [("cantilever broke", "aborted: cantilever broke"), ("", "no reason given")],
)
def test_the_reason_that_an_abort_was_given_is_kept(instrument, reason, words):
    RE, found = RunEngine({}), []
    paused_at(2, RE, instrument, found)
    RE.abort(reason)
    stop = found[-1][1]
    assert (stop["exit_status"], stop["reason"]) == ("abort", reason)
    assert words in RunEnd.of(stop).words


def test_a_stop_by_hand_says_so(instrument):
    RE, found = RunEngine({}), []
    paused_at(2, RE, instrument, found)
    RE.stop()
    assert RunEnd.of(found[-1][1]) == RunEnd(EndKind.STOPPED, "RE.stop()")


def test_a_run_that_paused_because_of_failures_says_so_when_it_is_stopped(instrument, caplog):
    RE, found = RunEngine({}), []
    with caplog.at_level(logging.ERROR, "curiosity_bluesky"), pytest.raises(RunEngineInterrupted):
        RE(plan(broken(instrument)), lambda *document: found.append(document))
    assert "RE.resume() goes on" in caplog.text
    RE.stop()
    end = RunEnd.of(found[-1][1])
    assert end.kind is EndKind.FAILURES and end.text.startswith("3 points failed in a row")


def test_a_run_that_went_on_after_such_a_pause_ends_as_it_ends(instrument):
    RE, found = RunEngine({}), []
    # With retries there are visits enough for three failed points and eight spectra.
    course = grouped(retries=1, retry_wait=0.0, max_failures=3)
    with pytest.raises(RunEngineInterrupted):
        RE(plan(broken(instrument), course=course), lambda *document: found.append(document))
    instrument.microscope.faults = Faults()
    RE.resume()
    assert RunEnd.of(found[-1][1]).kind is EndKind.BUDGET


def test_where_nobody_can_answer_the_run_ends_and_gives_no_advice_for_a_prompt(instrument, caplog):
    course = grouped(retries=0, retry_wait=0.0, max_failures=3, attended=False)
    found = []
    with caplog.at_level(logging.ERROR, "curiosity_bluesky"):
        RunEngine({})(plan(broken(instrument), course=course), lambda *d: found.append(d))
    end = RunEnd.of(found[-1][1])
    assert end.kind is EndKind.FAILURES and end.kind in TROUBLE
    assert "RE." not in caplog.text and "3 points failed in a row" in caplog.text


# ---- one count


def test_runs_figure_and_plan_count_alike(instrument, tmp_path):
    """Failed attempts count for none of them, and the budget is the one of the end."""
    instrument.microscope.faults = Faults(nan=0.4, seed=2)
    steering, picture, count, found = Steering(), RunPicture(), PointCount(), []
    steering.budget(7)
    RE = RunEngine({})
    with connect(tmp_path) as catalog:
        RE.subscribe(catalog.writer(batch_size=1000))
        for callback in (picture.__call__, count, lambda *d: found.append(d)):
            RE.subscribe(callback)
        course = grouped(retries=3, retry_wait=0.0, max_failures=100)
        RE(plan(instrument, n=20, course=course, steering=steering))
        assert found[-1][1]["reason"] == "budget: 7 of 7 spectra measured"
        assert len(events(found, "primary")) > 7  # some were useless
        assert (count.n, count.budget) == (picture.count.n, picture.count.budget) == (7, 7)
        catalog.flush()
        [run] = catalog.runs()
        assert (run.points, run.num_points) == (7, 7)


@pytest.mark.slow
def test_a_journal_is_counted_alike(instrument, tmp_path):
    instrument.microscope.faults = Faults(nan=0.4, seed=2)
    with connect(tmp_path) as catalog:
        writer = catalog.writer(batch_size=1000)
        lines = tmp_path / "copy.jsonl"

        def copy(name, doc):
            [path] = catalog.journal.glob("*.jsonl")
            lines.write_bytes(path.read_bytes())

        RE = RunEngine({})
        RE.subscribe(writer)
        RE.subscribe(copy)
        course = grouped(retries=3, retry_wait=0.0, max_failures=100)
        RE(plan(instrument, n=5, course=course))
    found = summary_of_journal(lines)
    assert found is not None and (found.points, found.num_points) == (5, 5)


def test_runs_of_other_plans_count_their_events():
    count = PointCount()
    count("start", {"uid": "a", "num_points": 3})
    count("descriptor", {"uid": "d", "name": "primary"})
    for number in (1, 2, 2):
        count("event", {"descriptor": "d", "seq_num": number, "data": {"det": 1.0}})
    assert (count.n, count.budget) == (2, 3)


def test_a_run_that_goes_on_is_counted_with_the_one_before():
    count = PointCount()
    for uid, decisions in (("a", (0, 1)), ("b", (2,))):
        earlier = {"curiosity_resumes": "a"} if uid == "b" else {}
        count("start", {"uid": uid, "num_points": 3, **earlier})
        count("descriptor", {"uid": "d" + uid, "name": "primary"})
        for number, decision in enumerate(decisions):
            data = {"decision_id": decision, "attempt": 0, "s": [1.0, 2.0]}
            count("event", {"descriptor": "d" + uid, "seq_num": number + 1, "data": data})
    assert count.n == 3
    count("start", {"uid": "c", "num_points": 5})
    assert (count.n, count.budget) == (0, 5)


def test_curiosity_plan_ends_alike(instrument):
    found = []
    devices = [instrument.spectrometer], instrument.stage.x, instrument.stage.y, instrument.imager
    RunEngine({})(
        curiosity_plan(
            *devices, num_points=5, strategy="random", options={"parameters": few("random")}
        ),
        lambda *document: found.append(document),
    )
    assert RunEnd.of(found[-1][1]) == RunEnd(EndKind.BUDGET, "5 of 5 spectra measured")

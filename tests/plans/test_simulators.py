"""The plan under what only looks at its messages: it ends, and shows what is known."""

import math

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from async_support import with_async
from bluesky import Msg, RunEngine
from bluesky.simulators import (
    RunEngineSimulator,
    check_limits,
    plot_raster_path,
    print_summary,
    summarize_plan,
)
from bluesky.utils import RunEngineInterrupted
from support import QUICK, events, grouped

from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore, stubs
from curiosity_bluesky.plans.dry_run import DryRunReport
from sim_devices import SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)


def the_plan(ins, **settings):
    devices = [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager
    return curiosity_plan(*devices, **grouped(num_points=8, parameters=QUICK, **settings))


def explored(ins):
    agent = CuriosityAgent(Strategy.named("random", budget=8, **QUICK), 0)
    return explore(agent, [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager)


@pytest.fixture
def instrument():
    return simulated_instrument(SAMPLE, speed=math.inf)


@pytest.fixture
def looked(instrument):
    """An instrument whose imager holds a survey."""
    instrument.imager.trigger().wait(10)
    return instrument


SIMULATORS = {
    "list": list,
    "summarize_plan": summarize_plan,
    "print_summary": print_summary,
    "check_limits": lambda plan: (RunEngine({}), check_limits(plan)),
    "RunEngineSimulator": lambda plan: RunEngineSimulator().simulate_plan(plan),
}


def moves(messages):
    """Return where the motors are sent to, each pair."""
    to = [msg.args[0] for msg in messages if msg.command == "set"]
    return list(zip(to[::2], to[1::2], strict=True))


@pytest.mark.parametrize("make", [the_plan, explored])
@pytest.mark.parametrize("name", SIMULATORS)
def test_a_plan_whose_imager_holds_a_survey_is_simulated(looked, name, make):
    scans = looked.microscope.n_scans
    SIMULATORS[name](make(looked))
    assert looked.microscope.n_scans == scans  # nothing was measured


@pytest.mark.parametrize("make", [the_plan, explored])
@pytest.mark.parametrize("name", SIMULATORS)
def test_a_plan_without_a_survey_says_what_to_do_instead(instrument, name, make):
    with pytest.raises(InputError, match="imager holds no survey .*dry_run=True"):
        SIMULATORS[name](make(instrument))


def test_the_simulated_points_are_the_seeds_of_the_run(looked):
    simulated = moves(the_plan(looked))
    found = []
    RunEngine({})(the_plan(looked), lambda *document: found.append(document))
    seeds = [(d["x"], d["y"]) for d in events(found, "decisions") if d["reason"] == "seed"]
    assert len(seeds) == QUICK["n_seeds"] and simulated == seeds


def test_the_summary_shows_survey_and_points(looked, capsys):
    summarize_plan(the_plan(looked))
    said = capsys.readouterr().out.splitlines()
    assert "Open Run" in said[0] and "Close Run" in said[-1]
    assert said.count("  Read ['imager']") == 1
    assert sum("spectrometer" in line for line in said) == QUICK["n_seeds"]


def test_the_path_can_be_plotted(looked):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    path = plot_raster_path(the_plan(looked), "stage_x", "stage_y", ax=pyplot.figure().subplots())
    assert len(path["path"].get_xdata()) >= QUICK["n_seeds"]
    pyplot.close("all")


def test_limits_are_checked(looked):
    looked.stage.x.set_limits(0.0, float(SAMPLE.x[3]))
    with pytest.raises(InputError, match="where stage_x may not go"):
        SIMULATORS["check_limits"](the_plan(looked))


def test_the_tip_is_lifted_in_a_simulation_too(looked):
    tip = simulated_instrument(SAMPLE, speed=math.inf).stage.x
    sets = [m.args[0] for m in the_plan(looked, tip=tip) if m.command == "set" and m.obj is tip]
    assert sets == ["down", *["up", "down"] * QUICK["n_seeds"], "up"]


def test_a_dry_run_is_shown_without_a_run_engine(looked, capsys):
    simulator = RunEngineSimulator()
    simulator.simulate_plan(the_plan(looked, dry_run=True))
    assert isinstance(simulator.return_value, DryRunReport)
    assert "6 pixels (row,col)" in capsys.readouterr().out


def test_bad_input_is_refused_in_a_simulation(looked):
    with pytest.raises(InputError, match="no_such"):
        list(the_plan(looked, strategy="no_such"))
    with pytest.raises(InputError, match="max_bias allows 1 V"):
        list(the_plan(looked, max_bias=1.0))


def test_devices_of_ophyd_async_are_simulated(looked):
    RE = RunEngine({})
    instrument = with_async(RE, looked, "stage", "spectrometer")
    assert len(moves(the_plan(instrument))) == QUICK["n_seeds"]
    check_limits(the_plan(instrument))  # in the event loop of the devices


def test_a_simulator_that_gives_none_for_what_is_read_ends(looked):
    """Parts of the plan that others use: they go by what is read."""
    for part in (stubs.take_survey, stubs.last_survey, stubs.image_of):
        with pytest.raises(InputError, match=r"cannot be simulated .* dry_run=True"):
            list(part(looked.imager))


def test_preprocessors_and_repetition_leave_the_plan_as_it_is(looked):
    seen = []

    def watched(msg):
        seen.append(msg.command)
        return None, None

    found = []
    plan = bps.repeat(lambda: bpp.plan_mutator(the_plan(looked), watched), 2)
    RunEngine({})(plan, lambda *document: found.append(document))
    assert [name for name, _ in found].count("stop") == 2
    assert len(events(found, "primary")) == 16 and "RE_class" in seen
    plan = bps.repeat(lambda: bpp.plan_mutator(the_plan(looked), watched), 2)
    assert len(moves(list(plan))) == 2 * QUICK["n_seeds"]


def test_a_pause_at_the_question_is_no_simulation(looked):
    """The RunEngine answers also where it pauses just then, and repeats the messages."""
    RE = RunEngine({})
    found, asked = [], []

    def paused(plan):
        def look(msg):
            if msg.command == "RE_class" and not asked:
                asked.append(msg)
                return bpp.pchain(bpp.single_gen(msg), bps.pause()), None
            return None, None

        return bpp.plan_mutator(plan, look)

    def checkpointed():
        yield Msg("checkpoint")
        yield from paused(the_plan(looked))

    with pytest.raises(RunEngineInterrupted):
        RE(checkpointed(), lambda *document: found.append(document))
    RE.resume()
    assert asked and len(events(found, "primary")) == 8

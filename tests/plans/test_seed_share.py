"""Seeds are at most a third of the spectra, unless their number is given."""

from __future__ import annotations

import math

import pytest
from bluesky import RunEngine

from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.benchmark.arms import arms_from
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.demo.settings import DemoOptions, DemoSample
from curiosity_bluesky.learning import Strategy, limit_seeds, seeds_within
from curiosity_bluesky.plans import explore
from sim_devices import SyntheticSample

SMALL = {"patch_size": 3}


@pytest.fixture
def devices():
    one = simulated_instrument(SyntheticSample((12, 12), points=8), speed=math.inf)
    return [one.spectrometer], one.stage.x, one.stage.y, one.imager


def start_of(RE, plan):
    found = []
    RE(plan, lambda name, doc: found.append(doc) if name == "start" else None)
    return found[0]["curiosity_parameters"]["n_seeds"]


def test_the_number():
    assert [seeds_within(points) for points in (None, 1, 2, 3, 20, 89, 90, 400)] == [
        *(30, 1, 1, 1, 6, 29, 30, 30)
    ]
    one = Strategy.named("random", budget=20)
    assert limit_seeds(one, ()).n_seeds == 6 and limit_seeds(one, ["n_seeds"]) is one


def test_the_run_records_the_number_that_it_used(devices):
    RE, random = RunEngine({}), {"strategy": "random"}

    def planned(n, **parameters):
        return curiosity_plan(*devices, n, **random, options={"parameters": SMALL | parameters})

    assert start_of(RE, planned(9)) == 3
    assert start_of(RE, planned(9, n_seeds=5)) == 5
    assert start_of(RE, explore(CuriosityAgent(), *devices, 9, **random, seed=0,
                                options={"parameters": SMALL})) == 3  # fmt: skip
    own = Strategy.named("random", **SMALL, budget=9)
    assert start_of(RE, explore(CuriosityAgent(own, 0), *devices)) == 30


@pytest.mark.parametrize("given", [{}, {"n_seeds": 30}])
def test_a_time_budget_leaves_time_to_explore(given):
    one = simulated_instrument(SyntheticSample((12, 12), points=8), speed=20.0)
    devices = [one.spectrometer], one.stage.x, one.stage.y, one.imager
    options = {"parameters": SMALL | given}
    RE = RunEngine({}, call_returns_result=True)
    RE([*_survey(one.imager)])
    outline = RE(
        curiosity_plan(*devices, strategy="random", time_budget=1.0, options=options, dry_run=True)
    ).plan_result
    assert 3 < outline.num_points < 90
    assert outline.n_seeds == (30 if given else seeds_within(outline.num_points))


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_seeds(devices, tmp_path):
    with connect(tmp_path / "runs") as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        options = {"parameters": SMALL}
        [uid] = RE(curiosity_plan(*devices, 9, strategy="random", options=options))
        catalog.flush()
        more = {"catalog": str(tmp_path / "runs")}
        assert start_of(RE, curiosity_plan(*devices, 12, resume=uid, options=more)) == 3


def test_the_demo_and_the_benchmark_go_by_the_same_number():
    chosen = DemoOptions(strategy="random", points=20, parameters=SMALL).check(
        DemoSample(sample="synthetic")
    )
    assert chosen.n_seeds == 6
    assert {arm.strategy.n_seeds for arm in arms_from(["random", "lcmd"], points=20)} == {6}
    assert {arm.strategy.n_seeds for arm in arms_from(["random"], points=20, n_seeds=9)} == {9}


def _survey(imager):
    from bluesky import Msg

    return [Msg("stage", imager), Msg("trigger", imager, group="s"), Msg("wait", None, group="s")]

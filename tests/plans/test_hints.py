"""What is said before a run begins: of the rim that it leaves out, and of runs of seeds alone."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from bluesky import RunEngine
from support import collected_run

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

RIM = "is never proposed"
SEEDS = "points are seeds"


def said(caplog: pytest.LogCaptureFixture, about: str) -> list[tuple[int, str]]:
    return [(r.levelno, r.message) for r in caplog.records if about in r.message]


@pytest.fixture
def instrument():
    return simulated_instrument(SyntheticSample((12, 10), seed=1, points=8), speed=math.inf)


def test_a_run_says_once_what_it_leaves_out(instrument, caplog):
    parameters = {"patch_size": 5, "n_seeds": 9, "rim": "omit"}
    collected_run(RunEngine({}), instrument, num_points=6, strategy="random", parameters=parameters)
    # 8 x 6 of 12 x 10 pixels have a patch of 5.
    ((level, rim),) = said(caplog, RIM)
    assert level == logging.WARNING
    assert rim.startswith("60% of the map, 12 x 10 pixels,") and "no patch of 5 x 5" in rim
    assert "options={'parameters': {'rim': 'reflect'}} (command: --set rim=reflect)" in rim
    ((level, seeds),) = said(caplog, SEEDS)
    assert level == logging.WARNING and seeds.startswith("all 6 points are seeds")
    assert "n_seeds is 9" in seeds and "more than 9 points (num_points; command: --points)" in seeds
    assert "options={'parameters': {'n_seeds': 2}} (command: --set n_seeds=2)" in seeds


def test_a_dry_run_says_it_too(instrument, caplog, capsys):
    stage = instrument.stage
    instrument.imager.trigger().wait(20)
    parameters = {"patch_size": 5, "n_seeds": 6, "rim": "omit"}
    plan = curiosity_plan(
        [instrument.spectrometer],
        stage.x,
        stage.y,
        instrument.imager,
        num_points=6,
        dry_run=True,
        options={"parameters": parameters},
    )
    RunEngine({})(plan)
    assert len(said(caplog, RIM)) == len(said(caplog, SEEDS)) == 1


def test_a_small_rim_is_no_warning_and_one_point_more_is_explored(instrument, caplog):
    caplog.set_level(logging.INFO, "curiosity_bluesky")
    sample = SyntheticSample((40, 40), seed=1, points=8)
    collected_run(
        RunEngine({}), simulated_instrument(sample, speed=math.inf), num_points=4,
        strategy="random", parameters={"patch_size": 5, "n_seeds": 3, "rim": "omit"},
    )  # fmt: skip
    ((level, rim),) = said(caplog, RIM)
    assert level == logging.INFO and rim.startswith(f"{100 * (1 - 36**2 / 40**2):.0f}%")
    assert not said(caplog, SEEDS)


@pytest.mark.parametrize("more", [{"patch_size": 1, "rim": "omit"}, {"patch_size": 5}])
def test_where_every_pixel_can_be_proposed_nothing_is_said(instrument, caplog, more):
    caplog.set_level(logging.INFO, "curiosity_bluesky")
    _, documents = collected_run(
        RunEngine({}), instrument, num_points=4, strategy="random",
        parameters={"n_seeds": 3, **more},
    )  # fmt: skip
    assert not said(caplog, RIM) and not said(caplog, SEEDS)
    reasons = [doc["data"]["reason"] for name, doc in documents
               if name == "event" and "reason" in doc["data"] and "row" in doc["data"]]  # fmt: skip
    assert np.unique(reasons).tolist() != ["seed"]

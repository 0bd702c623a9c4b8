"""What looking ahead saves in time, and what it costs in information.

``python benchmarks/lookahead.py --json lookahead.json`` runs the plan in real time, 50 points of
1 s each with decisions of 0.8 s, with and without lookahead; then it drives the explorer itself
on a recorded sample, once for each lookahead and seed, with the same seed pixels for all.
``--quick`` takes fewer points and seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine

sys.path.insert(0, str(Path(__file__).parent))
from machine import about
from slow import SlowSleeping

from curiosity_bluesky import CuriosityAgent
from curiosity_bluesky.benchmark.statistics import compare
from curiosity_bluesky.benchmark.trial import common_area, shared_seeds
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.learning import (
    Explorer,
    Observation,
    Scorer,
    Strategy,
    Survey,
    withheld_pixels,
)
from curiosity_bluesky.plans import explore
from sim_devices import Clock, SimMicroscope, SyntheticSample, open_sample

SPECTRUM_S, DECISION_S = 1.0, 0.8
SAMPLE, STRATEGY = "PTO_BEPS_1d3um", "curious"


def wall_seconds(lookahead: int, points: int) -> float:
    """Take a run of the plan in real time; the image and the way to the first point excluded."""
    sample = SyntheticSample((16, 14), seed=1, points=16)
    microscope = SimMicroscope(sample, Clock(1.0), line_s=0.0, spectrum_s=SPECTRUM_S)
    stage = AFMStage(microscope, name="stage")
    devices = [Spectrometer(microscope, name="spectrometer")], stage.x, stage.y
    strategy = SlowSleeping(decision_s=DECISION_S, n_seeds=1, patch_size=3, budget=points)
    agent = CuriosityAgent(strategy, 0)
    options = {"lookahead": lookahead, "maps_every": 0}
    times: list[float] = []

    def callback(name: str, doc: Any) -> None:
        if name in ("start", "stop"):
            times.append(time.perf_counter())

    imager = Imager(microscope, name="imager")
    RunEngine({})(explore(agent, *devices, imager, options=options), callback)
    if microscope.n_spectra != points:
        raise RuntimeError(f"{microscope.n_spectra} spectra were measured instead of {points}")
    return times[1] - times[0]


def test_nmse(lookahead: int, seed: int, sample: Any, at: list[int]) -> list[float]:
    """Explore the recorded sample; the test error after so many spectra."""
    [channel] = sample.spectra
    truth = np.asarray(sample.spectra[channel], float)
    withheld = withheld_pixels(sample.shape, 0.2)
    area = common_area(sample.shape, 9) & ~sample.mask
    survey = Survey(dict(sample.images), sample.x, sample.y, withheld | ~area)
    strategy = Strategy.named(STRATEGY, budget=max(at), rim="omit")
    explorer = Explorer(survey, strategy, seed)
    scorer = Scorer(truth, withheld, area)
    decisions = shared_seeds(survey, strategy.n_seeds, seed)
    for decision in decisions:
        explorer.record(decision)
    while True:
        for decision in decisions:
            spectrum = truth[decision.pixel]
            number = decision.decision_id
            explorer.observe(
                Observation(decision.pixel, spectrum, decision_id=number, axis=sample.axis)
            )
        if explorer.n_observed in at:
            scorer(explorer)
        if explorer.n_observed == max(at):
            return [score.test_nmse for score in scorer.scores]
        decisions = explorer.propose(lookahead=lookahead)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 points, 3 seeds")
    parser.add_argument("--seeds", type=int, default=8, help="seeds of the recorded sample")
    parser.add_argument("--at", type=int, nargs="+", default=[60], help="spectra to compare at")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    points, seeds = (10, 3) if given.quick else (50, given.seeds)
    at = sorted(given.at)
    if at[0] < (seeds_of_run := Strategy.named(STRATEGY).n_seeds):
        parser.error(f"--at {at[0]} is given; expected {seeds_of_run} or more: so many are seeds")
    found: dict[str, Any] = {"machine": about(), "points": points}
    print(f"{points} points, {SPECTRUM_S} s a spectrum, {DECISION_S} s a decision")
    found["wall_s"] = {}
    for lookahead in (0, 1):
        seconds = found["wall_s"][lookahead] = wall_seconds(lookahead, points)
        print(f"  lookahead {lookahead}: {seconds:6.1f} s", flush=True)
    sample = open_sample(SAMPLE)
    scores = {
        lookahead: np.array([test_nmse(lookahead, seed, sample, at) for seed in range(seeds)])
        for lookahead in (0, 1, 3)
    }
    found["information"] = {
        "sample": SAMPLE,
        "strategy": STRATEGY,
        "seeds": list(range(seeds)),
        "test_nmse": {lookahead: values.tolist() for lookahead, values in scores.items()},
        "difference": [],
    }
    print(f"{STRATEGY} on {SAMPLE}, {seeds} shared seeds: test nMSE, and against lookahead 0")
    for k, n in enumerate(at):
        print(f"  at {n} spectra, lookahead 0: {scores[0][:, k].mean():.4f}")
        for lookahead in (1, 3):
            one = compare(scores[lookahead][:, k], scores[0][:, k])
            print(
                f"  at {n} spectra, lookahead {lookahead}: {scores[lookahead][:, k].mean():.4f}, "
                f"difference {one.difference:+.4f} (95 % {one.low:+.4f} to {one.high:+.4f})"
            )
            found["information"]["difference"].append(
                {
                    "spectra": n,
                    "lookahead": lookahead,
                    "mean": one.difference,
                    "low": one.low,
                    "high": one.high,
                }
            )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Whether a run takes as long as it is said to, and what choosing by the clock is worth.

``python benchmarks/clock.py --json clock.json`` runs the plan on the simulated microscope at
several speeds of tip and spectrum, and compares the estimate before the run, and the remaining
time that it records in its course, with the time that it took. Then it drives the explorer itself
on a recorded sample with a slow tip, choosing by the acquisition and by the acquisition per
second, and compares the test error after the same simulated time. ``--quick`` does less of both.
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
from curiosity_bluesky.learning.scan_path import travel
from curiosity_bluesky.plans import curiosity_plan
from sim_devices import Clock, SimMicroscope, open_sample

SAMPLE = "PTO_BEPS_3um"
CLOCK = 4.0
MICROSCOPES: dict[str, dict[str, float]] = {
    "slow spectra": {"spectrum_s": 4.0, "speed_um_per_s": 5.0},
    "slow tip": {"spectrum_s": 0.5, "speed_um_per_s": 0.5, "settle_s": 0.2},
}
DWELL_S, SPEED = 0.5, 0.5
"""Of the comparison: a spectrum as long as 0.25 um of way."""


def timed(times: dict[str, float], points: int, **settings: Any) -> dict[str, Any]:
    """Run the plan; return what was said before and in its course, and what it took (s)."""
    microscope = SimMicroscope(open_sample(SAMPLE), Clock(CLOCK), line_s=0.05, **times)
    stage, imager = AFMStage(microscope), Imager(microscope)
    spectrometer = Spectrometer(microscope, name="spectrometer")
    found: list[tuple[float, str, Any]] = []

    def plan(**more: Any) -> Any:
        return curiosity_plan(
            [spectrometer],
            stage.x,
            stage.y,
            imager,
            num_points=points,
            **settings,
            **more,
        )

    outlines: list[Any] = []

    def outlined() -> Any:
        outlines.append((yield from plan(dry_run=True)))

    # A dry run plans on what the imager holds: one image first.
    imager.trigger().wait()
    RunEngine({})(outlined())
    began = time.perf_counter()
    RunEngine({})(plan(), lambda name, doc: found.append((time.perf_counter(), name, doc)))
    took = time.perf_counter() - began
    at = [
        (when, doc["data"]["remaining"])
        for when, name, doc in found
        if name == "event" and "remaining" in doc["data"]
    ]
    last = at[-1][0]
    ratios = [float(said / (last - when)) for when, said in at[:-1]]
    quarters = [ratios[int(share * len(at))] for share in (0.25, 0.5, 0.75)]
    return {
        "before_s": outlines[0].seconds["all"] * CLOCK,
        "took_s": took * CLOCK,
        "before_over_took": outlines[0].seconds["all"] / took,
        "remaining_over_took": quarters,
    }


def error_by_time(seed: int, sample: Any, per_second: bool, at_s: list[float]) -> list[float]:
    """Explore a recorded sample; the test error after so many simulated seconds."""
    [channel] = sample.spectra
    truth = np.asarray(sample.spectra[channel], float)
    withheld = withheld_pixels(sample.shape, 0.2)
    area = common_area(sample.shape, 9) & ~sample.mask
    survey = Survey(dict(sample.images), sample.x, sample.y, withheld | ~area)
    rates = {"per_second": (DWELL_S, SPEED)} if per_second else {}
    strategy = Strategy.named("curious", budget=400, **rates)
    explorer, scorer = Explorer(survey, strategy, seed), Scorer(truth, withheld, area)
    decisions = shared_seeds(survey, strategy.n_seeds, seed)
    for decision in decisions:
        explorer.record(decision)
    spent, place, errors, left = 0.0, None, [], list(at_s)
    while left:
        for decision in decisions:
            here = np.array(survey.position(decision.pixel))
            spent += DWELL_S + (0.0 if place is None else travel(here[None], place)[0] / SPEED)
            place = here
            number = decision.decision_id
            spectrum = truth[decision.pixel]
            explorer.observe(
                Observation(decision.pixel, spectrum, decision_id=number, axis=sample.axis)
            )
        while left and spent >= left[0]:
            left.pop(0)
            scorer(explorer)
            errors.append(scorer.scores[-1].test_nmse)
        if left:
            decisions = explorer.propose()
    return errors


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and seeds")
    parser.add_argument("--seeds", type=int, default=8, help="seeds of the recorded sample")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    points, seeds = (20, 2) if given.quick else (60, given.seeds)
    found: dict[str, Any] = {"machine": about(), "points": points, "runs": {}}
    print(f"{points} points on {SAMPLE}, clock {CLOCK:g} times real time; simulated seconds")
    for name, times in MICROSCOPES.items():
        for batch in (1, 10):
            one = timed(times, points, parameters={"batch": batch, "n_seeds": points // 3})
            found["runs"][f"{name}, batch {batch}"] = one
            quarters = ", ".join(f"{ratio:.2f}" for ratio in one["remaining_over_took"])
            print(
                f"  {name}, batch {batch:2}: said {one['before_s']:.0f} s, took "
                f"{one['took_s']:.0f} s, ratio {one['before_over_took']:.2f}; "
                f"remaining over true after 1/4, 1/2, 3/4: {quarters}",
                flush=True,
            )
    sample = open_sample(SAMPLE)
    at_s = [120.0, 180.0] if given.quick else [150.0, 200.0, 300.0]
    errors = {
        per_second: np.array(
            [error_by_time(seed, sample, per_second, at_s) for seed in range(seeds)]
        )
        for per_second in (False, True)
    }
    found["per_second"] = {"sample": SAMPLE, "dwell_s": DWELL_S, "um_per_s": SPEED, "at": []}
    print(f"curious on {SAMPLE}, {DWELL_S} s a spectrum, {SPEED} um/s, {seeds} shared seeds")
    for k, seconds in enumerate(at_s):
        plain, timed_ = errors[False][:, k], errors[True][:, k]
        one = compare(timed_, plain)
        print(
            f"  after {seconds:.0f} s: test nMSE {plain.mean():.4f}, per second "
            f"{timed_.mean():.4f}, difference {one.difference:+.4f} "
            f"(95 % {one.low:+.4f} to {one.high:+.4f})"
        )
        found["per_second"]["at"].append(
            {"seconds": seconds, "plain": plain.tolist(), "per_second": timed_.tolist(),
             "difference": one.difference, "low": one.low, "high": one.high}
        )  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

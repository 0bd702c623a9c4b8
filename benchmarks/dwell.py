"""Instrument time with short spectra, beside that with full ones, on recordings of several cycles.

``python benchmarks/dwell.py --out dwell.json [--seeds 20] [--overhead 0.5]`` explores recordings
with `curious` and full spectra, 100 of them; then with ``dwell="auto"``, one cycle everywhere, and
random pixels, full or with one cycle. A visit costs `overhead` cycles beside its own. For each it
prints the share of the time of the 100 full spectra at which the mean test nMSE over the seeds,
against the full spectra, is as low as theirs. What is done is kept in the file, and not done again.
With ``--report`` it prints what the file has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.benchmark.trial import common_area
from curiosity_bluesky.learning import (
    Explorer,
    Observation,
    Scorer,
    Strategy,
    Survey,
    withheld_pixels,
)
from sim_devices import open_sample

SAMPLES = ("PTO_BEPS_1d3um", "PTO_BEPS_3um", "PTO_BEPS_1d7um")
POINTS, EVERY = 100, 5
ARMS: dict[str, tuple[str, str | float]] = {
    "full": ("curious", "full"),
    "auto": ("curious", "auto"),
    "one": ("curious", 1.0),
    "random full": ("random", "full"),
    "random one": ("random", 1.0),
}
LEAST = {3: 0.7, 8: 0.4}
"""Share of the time of the full spectra to go on for, by the cycles of a recording."""


def explored(
    sample: str, strategy: str, dwell: str | float, seed: int, overhead: float, share: float
) -> list[list[float]]:
    """Explore a recording; return rows of time (cycles), spectra, test nMSE and hidden nMSE."""
    recorded = open_sample(sample)
    cycles = recorded.cycles
    truth = np.concatenate(list(recorded.spectra.values()), axis=2).astype(float)
    withheld = withheld_pixels(truth.shape[:2], 0.2)
    area = common_area(truth.shape[:2], 9)
    images = {name: image for name, image in recorded.images.items() if name != "image2"}
    survey = Survey(images, recorded.x, recorded.y, withheld | ~area)
    chosen = Strategy.named(
        strategy,
        rim="omit",
        dwell=dwell,
        dwell_seconds=[[float(k), float(k)] for k in range(1, cycles + 1)],
        visit_cost=(overhead, 1e12),
    )
    explorer, scorer = Explorer(survey, chosen, seed), Scorer(truth, withheld, area)
    time, rows, end = 0.0, [], share * POINTS * (cycles + overhead) + 1e-9
    while True:
        [proposal] = explorer.propose()
        assert proposal.dwell is not None
        if time + overhead + proposal.dwell > end:
            return rows
        spectrum: NDArray = truth[proposal.pixel].copy()
        spectrum[round(len(spectrum) * proposal.dwell / cycles) :] = np.nan
        number, setting = proposal.decision_id, proposal.dwell
        explorer.observe(Observation(proposal.pixel, spectrum, decision_id=number, dwell=setting))
        time += overhead + proposal.dwell
        n = explorer.n_observed
        if n >= chosen.n_seeds and n % EVERY == 0:
            scorer(explorer)
            score = scorer.scores[-1]
            rows.append([time, n, score.test_nmse, score.hidden_nmse])


def mean_curve(runs: list[list[list[float]]], times: NDArray) -> NDArray:
    """Return the mean test nMSE at some times; infinite before the first score of any run."""
    curves = []
    for rows in runs:
        at, score = np.array(rows)[:, 0], np.array(rows)[:, 2]
        curves.append(np.interp(times, at, score, left=np.inf))
    return np.mean(curves, axis=0)


def report(done: dict[str, Any], overhead: float) -> None:
    """Print, for each recording and arm, the share of the time that it needs."""
    for sample in SAMPLES:
        total = POINTS * (open_sample(sample).cycles + overhead)
        seeds = {
            arm: {int(key.split("/")[2]): rows for key, rows in done.items()
                  if key.startswith(f"{sample}/{arm}/") and key.endswith(f"/{overhead:g}")}
            for arm in ARMS
        }  # fmt: skip
        if not seeds["full"]:
            continue
        shared = set.intersection(*(set(found) for found in seeds.values() if found))
        target = np.mean([seeds["full"][seed][-1][2] for seed in shared])
        print(f"{sample}: test nMSE {target:.3f} after {POINTS} full spectra, {len(shared)} seeds")
        for arm, found in seeds.items():
            if not found:
                continue
            times = np.linspace(0, max(rows[-1][0] for rows in found.values()), 2000)
            curve = mean_curve([found[seed] for seed in shared], times)
            reached = times[curve <= target]
            words = f"{reached[0] / total:.0%}" if len(reached) else "not reached"
            print(f"  {arm:12} {words:>12}  (at its end {curve[-1]:.3f})")


def main() -> None:
    """Explore what is not in the file yet, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dwell.json"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--overhead", type=float, default=0.5)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    done = json.loads(given.out.read_text()) if given.out.exists() else {}
    for seed in range(0 if given.report else given.seeds):
        for sample in SAMPLES:
            for arm in given.arms.split(","):
                key = f"{sample}/{arm}/{seed}/{given.overhead:g}"
                if key in done:
                    continue
                share = 1.0 if "full" in arm else LEAST[open_sample(sample).cycles]
                done[key] = explored(sample, *ARMS[arm], seed, given.overhead, share)
                given.out.write_text(json.dumps(done))
                print(key, f"{done[key][-1][2]:.3f}", flush=True)
    report(done, given.overhead)


if __name__ == "__main__":
    main()

"""How many spectra a run needs that starts from an earlier one, and whether it matters which.

``python benchmarks/warm_start.py --json warm.json`` cuts recorded and generated maps into tiles.
Each tile is an earlier run (100 spectra, chosen by ``curious``) and, for some of them, the new run:
cold, and from each of the other tiles whose spectra have the same axis. No pixel of the tile under
test is in any earlier run. From these runs follow the arms: the most similar earlier run (by the
texture distance of the images), a random one (the mean over all), and the best there is, which
nobody knows beforehand. ``--quick`` does one tile of each kind.

The error is the test nMSE: on a fifth of the tile's pixels that nobody may measure. Runs that are
in the JSON file already are not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

from curiosity_bluesky.learning import (
    Explorer,
    Observation,
    PriorRun,
    Scorer,
    Strategy,
    Survey,
    withheld_pixels,
)
from curiosity_bluesky.similarity.descriptors import named
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.prior_run_search import BY
from sim_devices import SyntheticSample, open_sample

POINTS = 100
WITHHOLD = 0.2
SCORED = (10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
SHOWN = (10, 20, 30, 50, 100)
SEEDS = {10: 2, 30: 1}
"""How often each run is done, by the number of its seed points."""
TESTED = {
    "PTO_BEPS_1d3um": (0, 3),
    "PTO_BEPS_3um": (0, 3),
    "PTO_BEPS_1d7um": (0, 3),
    "film, fine": (0,),
    "film, plain": (0,),
    "film, coarse": (0,),
}
"""Which tiles are the new run."""
KINDS = {
    "PTO, 192 points": ("PTO_BEPS_1d3um", "PTO_BEPS_3um"),
    "PTO, 256 points": ("PTO_BEPS_1d7um",),
    "films": ("film, fine", "film, plain", "film, coarse"),
}
"""Maps whose spectra have the same axis."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of a map: its image, and the spectra everywhere."""

    kind: str
    map: str
    number: int
    survey: Survey
    spectra: NDArray

    @property
    def name(self) -> str:
        return f"{self.map} #{self.number}"


def tiles_of(kind: str, name: str) -> list[Tile]:
    """Cut a recorded map into quarters, or generate three films."""
    if name.startswith("film"):
        return [_film(kind, name, number) for number in range(3)]
    sample = open_sample(name)
    rows, cols = (size // 2 for size in sample.shape)
    found = []
    for number in range(4):
        i, j = divmod(number, 2)
        part = slice(i * rows, (i + 1) * rows), slice(j * cols, (j + 1) * cols)
        images = {key: image[part] for key, image in sample.images.items()}
        survey = Survey(images, sample.x[part[1]], sample.y[part[0]])
        found.append(Tile(kind, name, number, survey, sample.target()[part]))
    return found


def _film(kind: str, name: str, number: int) -> Tile:
    """Generate a film of 40 x 40 pixels whose domains are small, as usual, or large."""
    factor = {"film, fine": 0.5, "film, plain": 1.0, "film, coarse": 2.0}[name]
    side = round(40 / factor)
    sample = SyntheticSample((side, side), seed=100 + number)
    image, spectra = sample.images["amplitude"].astype(float), sample.target()
    if factor < 1:
        image = image.reshape(40, 2, 40, 2).mean(axis=(1, 3))
        spectra = spectra.reshape(40, 2, 40, 2, -1).mean(axis=(1, 3))
    if factor > 1:
        image = np.asarray(zoom(image, 2, order=1))
        spectra = np.asarray(zoom(spectra, (2, 2, 1), order=1))
    axis = np.arange(40) * 0.02
    return Tile(kind, name, number, Survey({"amplitude": image}, axis, axis), spectra)


def explored(
    tile: Tile, seed: int, n_seeds: int, earlier: PriorRun | None, withhold: float = WITHHOLD
) -> tuple[Explorer, list[tuple[int, float]]]:
    """Explore a tile to the end; return the explorer and the test nMSE on the way."""
    withheld = withheld_pixels(tile.survey.shape, withhold)
    survey = Survey(tile.survey.channels, tile.survey.x, tile.survey.y, withheld)
    strategy = Strategy.named("curious", budget=POINTS, n_seeds=n_seeds, rim="omit")
    explorer = Explorer(survey, strategy, seed, earlier=earlier)
    scorer = Scorer(tile.spectra, withheld)
    while not explorer.should_stop()[0]:
        if withhold and explorer.n_observed in SCORED:
            scorer(explorer)
        for proposal in explorer.propose():
            spectrum = tile.spectra[proposal.pixel]
            observation = Observation(proposal.pixel, spectrum, decision_id=proposal.decision_id)
            explorer.observe(observation)
    if withhold:
        scorer(explorer)
    return explorer, [(s.n_observed, s.test_nmse) for s in scorer.scores]


def earlier_run(tile: Tile) -> PriorRun:
    """Explore a tile as an earlier run, which may measure all of it."""
    explorer, _ = explored(tile, 1000, 30, None, withhold=0.0)
    pixels = np.array([o.pixel for o in explorer.observations])
    spectra = np.array([o.spectrum for o in explorer.observations])
    return PriorRun(tile.name, tile.survey, pixels, spectra)


def all_runs(tiles: list[Tile], known: list[dict[str, Any]], quick: bool, keep: Any) -> None:
    """Do the runs that are not known yet."""
    done = {(r["tile"], r["source"], r["n_seeds"], r["seed"]) for r in known}
    records: dict[str, PriorRun] = {}
    tested = [t for t in tiles if t.number in TESTED[t.map][: 1 if quick else None]]
    plan = [(seed, n_seeds, tile) for n_seeds, seeds in SEEDS.items()
            for seed in range(1 if quick else seeds) for tile in tested]  # fmt: skip
    for k, (seed, n_seeds, tile) in enumerate(sorted(plan, key=lambda p: p[:2])):
        others = [t for t in tiles if t.kind == tile.kind and t is not tile]
        for other in [None, *others]:
            source = None if other is None else other.name
            if (tile.name, source, n_seeds, seed) in done:
                continue
            if other is not None and other.name not in records:
                records[other.name] = earlier_run(other)
            earlier = None if other is None else records[other.name]
            _, scores = explored(tile, seed, n_seeds, earlier)
            known.append({
                "kind": tile.kind, "tile": tile.name, "source": source, "n_seeds": n_seeds,
                "seed": seed, "scores": scores,
            })  # fmt: skip
        keep()
        print(f"{k + 1} of {len(plan)}: {tile.name}", file=sys.stderr, flush=True)


def distances(tiles: list[Tile]) -> dict[str, dict[str, float]]:
    """Return how far tiles of one kind are from each other, by the texture of their images."""
    describe = named(BY)
    vectors = {}
    for tile in tiles:
        step = float(np.diff(tile.survey.y).mean()), float(np.diff(tile.survey.x).mean())
        images = [Image.checked(image, step) for image in tile.survey.channels.values()]
        vectors[tile.name] = [describe(image) for image in images]
    apart: dict[str, dict[str, float]] = {}
    for a in tiles:
        for b in tiles:
            if a.kind == b.kind and a is not b:
                pairs = zip(vectors[a.name], vectors[b.name], strict=True)
                norms = [np.linalg.norm(u - v) for u, v in pairs]
                apart.setdefault(a.name, {})[b.name] = float(np.mean(norms))
    return apart


def error_at(n: int, scores: list[tuple[int, float]]) -> float:
    """Return the error after `n` spectra."""
    return next(error for scored, error in scores if scored == n)


def needed(scores: list[tuple[int, float]], target: float) -> float:
    """Return after how many spectra an error is reached for the first time; at most 100."""
    for (before, high), (n, low) in pairwise(scores):
        if high <= target:
            return before
        if low <= target:
            return before + (n - before) * (high - target) / (high - low)
    return POINTS


@dataclass(frozen=True)
class Case:
    """One tile with one seed: its cold run, and those from each earlier one."""

    kind: str
    tile: str
    cold: list[tuple[int, float]]
    warm: dict[str, list[tuple[int, float]]]
    apart: dict[str, float]

    def arms(self, value: Callable[[list[tuple[int, float]]], float], gate: float) -> NDArray:
        """Return what a run comes to: cold, similar, similar within the gate, random, best."""
        found = {source: value(scores) for source, scores in self.warm.items()}
        nearest = min(found, key=lambda source: self.apart[source])
        cold = value(self.cold)
        gated = found[nearest] if self.apart[nearest] <= gate else cold
        return np.array(
            [cold, found[nearest], gated, np.mean(list(found.values())), min(found.values())]
        )


def cases_of(runs: list[dict[str, Any]], apart: dict, n_seeds: int) -> list[Case]:
    """Put together what belongs to one tile and seed; what is not complete is left out."""
    grouped: dict[tuple[str, int], dict[str | None, dict[str, Any]]] = {}
    for run in runs:
        if run["n_seeds"] == n_seeds and run["seed"] < SEEDS[n_seeds]:
            grouped.setdefault((run["tile"], run["seed"]), {})[run["source"]] = run
    cases = []
    for (tile, _), found in grouped.items():
        sources = {str(s): r["scores"] for s, r in found.items() if s is not None}
        if None in found and sources.keys() == apart[tile].keys():
            cold = found[None]
            cases.append(Case(cold["kind"], tile, cold["scores"], sources, apart[tile]))
    return cases


def interval(values: NDArray) -> list[float]:
    """Return mean and 95 % bootstrap interval over the cases."""
    drawn = np.random.default_rng(0).integers(len(values), size=(4000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return [float(values.mean()), float(low), float(high)]


def summary(cases: list[Case], gate: float, n_seeds: int) -> dict[str, Any]:
    """Return errors and spectra needed by arm, and how similar compares with both controls."""
    errors = {}
    for n in (n for n in SHOWN if n >= n_seeds):
        table = np.array([c.arms(partial(error_at, n), gate) for c in cases])
        logs = np.log(table)
        errors[n] = {
            "nMSE": table.mean(axis=0).tolist(),
            "similar / cold": np.exp(interval(logs[:, 1] - logs[:, 0])).tolist(),
            "similar / random": np.exp(interval(logs[:, 1] - logs[:, 3])).tolist(),
        }
    spent = {}
    for n in (n for n in (30, 50, 100) if n > n_seeds):
        table = []
        for case in cases:
            target = error_at(n, case.cold)
            table.append(case.arms(lambda s, target=target: needed(s, target), gate))
        table = np.array(table)
        spent[n] = {
            "spectra": table.mean(axis=0).tolist(),
            "fewer than cold": interval(table[:, 0] - table[:, 1]),
            "fewer than random": interval(table[:, 3] - table[:, 1]),
        }
    return {"cases": len(cases), "errors": errors, "needed": spent}


def printed(name: str, found: dict[str, Any]) -> None:
    """Print a summary as a table."""
    print(f"\n{name} ({found['cases']} tiles x seeds)")
    print("  n     cold  similar  gated  random   best   similar/cold       similar/random")
    for n, row in found["errors"].items():
        arms = "".join(f"{value:8.3f}" for value in row["nMSE"])
        print(f"  {n:3}{arms}   {_said(row['similar / cold'])}  {_said(row['similar / random'])}")
    print("  spectra needed for the error that the cold run has at n; fewer than cold, than random")
    for n, row in found["needed"].items():
        arms = "".join(f"{value:8.1f}" for value in row["spectra"])
        fewer = _said(row["fewer than cold"], 1), _said(row["fewer than random"], 1)
        print(f"  {n:3}{arms}   {fewer[0]}  {fewer[1]}")


def _said(interval: list[float], digits: int = 2) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in interval)
    return f"{middle} ({low} to {high})"


def main() -> None:
    """Do the runs, and print what they come to."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", type=Path, default=Path("warm.json"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--as-far-as-it-got", action="store_true", help="do no further runs")
    given = parser.parse_args()
    known = json.loads(given.json.read_text()) if given.json.exists() else {}
    runs, before = known.get("runs", []), known.get("cpu_seconds", 0)
    tiles = [t for kind, maps in KINDS.items() for name in maps for t in tiles_of(kind, name)]
    started = time.process_time()

    def keep(**more: Any) -> None:
        spent = round(before + time.process_time() - started)
        given.json.write_text(json.dumps(about() | {"cpu_seconds": spent, "runs": runs, **more}))

    if not given.as_far_as_it_got:
        all_runs(tiles, runs, given.quick, keep)
    apart = distances(tiles)
    maps = {tile.name: tile.map for tile in tiles}
    alike = [d for a, row in apart.items() for b, d in row.items() if maps[a] == maps[b]]
    other = [d for a, row in apart.items() for b, d in row.items() if maps[a] != maps[b]]
    gate = float(np.quantile(alike, 0.95))
    print(f"distance of two tiles of one map: median {np.median(alike):.3g}, 95 % below {gate:.3g}")
    print(f"of two maps: median {np.median(other):.3g}, from {min(other):.3g}")
    found = {}
    for n_seeds in SEEDS:
        cases = cases_of(runs, apart, n_seeds)
        for kind in [*KINDS, "all"]:
            some = [case for case in cases if kind in (case.kind, "all")]
            if some:
                name = f"{kind}, {n_seeds} seed points"
                found[name] = summary(some, gate, n_seeds)
                printed(name, found[name])
    keep(gate=gate, distances=apart, summary=found)


if __name__ == "__main__":
    main()

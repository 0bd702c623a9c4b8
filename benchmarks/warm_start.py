"""Does a run need fewer spectra if it starts from an earlier one, and does it matter from which?

``python benchmarks/warm_start.py --json warm.json`` cuts recorded and generated maps into tiles.
Each tile is an earlier run (100 spectra, chosen by ``curious``) and, for some of them, the new run:
cold, and from each of the other tiles whose spectra have the same axis. No pixel of the tile under
test is in any earlier run. From these runs follow the arms: the most similar earlier run (by the
texture distance of the images), a random one (the mean over all), and the best there is, which
nobody knows beforehand. ``--quick`` does one tile of each kind.

The error is the test nMSE: on a fifth of the tile's pixels that nobody may measure. Runs that are in
the JSON file already are not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

from curiosity_bluesky.learning import (
    Earlier,
    Explorer,
    Observation,
    Scorer,
    Strategy,
    Survey,
    withheld_pixels,
)
from sim_devices import SyntheticSample, open_sample

POINTS = 100
WITHHOLD = 0.2
SCORED = (10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
SHOWN = (10, 20, 30, 50, 100)
SEEDS = {10: 3, 30: 2}
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
        image, spectra = zoom(image, 2, order=1), zoom(spectra, (2, 2, 1), order=1)
    axis = np.arange(40) * 0.02
    return Tile(kind, name, number, Survey({"amplitude": image}, axis, axis), spectra)


def explored(
    tile: Tile, seed: int, n_seeds: int, earlier: Earlier | None, withhold: float = WITHHOLD
) -> tuple[Explorer, list[tuple[int, float]]]:
    """Explore a tile to the end; return the explorer and the test nMSE on the way."""
    withheld = withheld_pixels(tile.survey.shape, withhold)
    survey = Survey(tile.survey.channels, tile.survey.x, tile.survey.y, withheld)
    strategy = Strategy.named("curious", budget=POINTS, n_seeds=n_seeds)
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


def earlier_run(tile: Tile) -> Earlier:
    """Explore a tile as an earlier run, which may measure all of it."""
    explorer, _ = explored(tile, 1000, 30, None, withhold=0.0)
    pixels = np.array([o.pixel for o in explorer.observations])
    spectra = np.array([o.spectrum for o in explorer.observations])
    return Earlier(tile.name, tile.survey, pixels, spectra)


def all_runs(tiles: list[Tile], known: list[dict[str, Any]], quick: bool, keep: Any) -> None:
    """Do the runs that are not known yet."""
    done = {(r["tile"], r["source"], r["n_seeds"], r["seed"]) for r in known}
    records: dict[str, Earlier] = {}
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
            explorer, scores = explored(tile, seed, n_seeds, earlier)
            known.append({
                "kind": tile.kind, "tile": tile.name, "source": source, "n_seeds": n_seeds,
                "seed": seed, "scores": scores,
            })  # fmt: skip
        keep()
        print(f"{k + 1} of {len(plan)}: {tile.name}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, default=Path("warm.json"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    runs = json.loads(given.json.read_text())["runs"] if given.json.exists() else []
    tiles = [t for kind, maps in KINDS.items() for name in maps for t in tiles_of(kind, name)]
    started = time.process_time()

    def keep(**more: Any) -> None:
        spent = round(time.process_time() - started)
        given.json.write_text(json.dumps(about() | {"cpu_seconds": spent, "runs": runs, **more}))

    all_runs(tiles, runs, given.quick, keep)


if __name__ == "__main__":
    main()

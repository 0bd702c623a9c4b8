"""How well the rim of the survey is predicted, where patches are completed by reflection.

``python benchmarks/rim.py --json rim.json`` explores films with ``curious`` and compares the mean
squared error of the rim, the pixels without a whole patch, with that of the ring of the same width
just inside it. Each film is cut out of a larger one: what lies beyond its border is no reflection.
``--recorded`` does the same with pieces of recorded samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from sim_devices import SyntheticSample, open_sample


def films(side: int, seeds: int) -> Iterator[tuple[str, dict[str, NDArray], NDArray]]:
    """Yield name, images and noiseless spectra of pieces of synthetic films."""
    for seed in range(seeds):
        film = SyntheticSample((side + 16, side + 16), seed=seed, points=32)
        piece = np.s_[8 : side + 8, 8 : side + 8]
        images = {name: image[piece] for name, image in film.images.items()}
        yield f"film {seed}", images, film.noiseless[piece]


def recorded(name: str, side: int, seeds: int) -> Iterator[tuple[str, dict[str, NDArray], NDArray]]:
    """Yield name, images and spectra of pieces of a recorded sample, drawn at random."""
    sample = open_sample(name)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        row, col = (int(rng.integers(0, n - side + 1)) for n in sample.shape)
        piece = np.s_[row : row + side, col : col + side]
        images = {key: image[piece] for key, image in sample.images.items()}
        yield f"{name} {seed}", images, sample.target()[piece]


def errors(
    images: dict[str, NDArray], spectra: NDArray, strategy: Strategy, seed: int
) -> tuple[float, float]:
    """Explore to the end of the budget; mean squared error of the rim and of the ring inside."""
    explorer = Explorer(Survey(images), strategy, seed)
    noise = np.random.default_rng([seed, 1])
    scale = 0.05 * spectra.std()
    while not explorer.should_stop()[0]:
        for decision in explorer.propose(strategy.batch):
            clean = spectra[decision.pixel]
            measured = clean + scale * noise.standard_normal(len(clean))
            number = decision.decision_id
            explorer.observe(Observation(decision.pixel, measured, decision_id=number))
    squared = ((explorer.predict().spectra - spectra) ** 2).mean(axis=2)
    rows, cols = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in squared.shape)
    depth, width = np.minimum(rows[:, None], cols), strategy.patch_size // 2
    inside = (depth >= width) & (depth < 2 * width)
    return float(squared[depth < width].mean()), float(squared[inside].mean())


def main() -> None:
    """Print, and write, the ratio for every film and for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30, help="pixels down and across")
    parser.add_argument("--seeds", type=int, default=10, help="films")
    parser.add_argument("--points", type=int, default=60, help="spectra in a run")
    parser.add_argument("--patch-size", type=int, default=9)
    parser.add_argument("--recorded", nargs="*", default=[], metavar="SAMPLE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    strategy = Strategy.named(
        "curious", patch_size=arguments.patch_size, budget=arguments.points, n_seeds=30
    )
    side, seeds = arguments.side, arguments.seeds
    kinds = {"films": films(side, seeds)}
    kinds |= {name: recorded(name, side, seeds) for name in arguments.recorded}
    out = {"about": about(), "side": side, "strategy": json.loads(strategy.to_json()), "ratios": {}}
    for kind, pieces in kinds.items():
        started = time.process_time()
        found = []
        for seed, (name, images, spectra) in enumerate(pieces):
            found.append(errors(images, spectra, strategy, seed))
            print(f"{name}: {found[-1][0] / found[-1][1]:.2f}", flush=True)
        rim, inside = np.array(found).T
        each = rim / inside
        out["ratios"][kind] = {
            "of_all": round(float(rim.sum() / inside.sum()), 3),
            "median": round(float(np.median(each)), 3),
            "each": each.round(3).tolist(),
        }
        print(f"{kind}: {out['ratios'][kind]}, {time.process_time() - started:.0f} s of CPU")
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

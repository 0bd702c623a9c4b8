"""Make the weights of the descriptor `texture`.

``python benchmarks/texture_weights.py`` draws structures with seed 7, looks at each several times,
and writes ``curiosity_bluesky/similarity/weights/texture.npz``. Nothing recorded is used. Half
of the structures are seen at places that do not overlap, at magnifications of 0.7 to 1.4; the
other half as scans that are cropped, rotated, re-scaled and made noisy. It is single-threaded and
takes some ten minutes; ``--views FILE`` keeps what was seen, or uses it if it is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from synthetic.augmentation import (
    Reacquisition,
    ViewSettings,
    random_structure,
    reacquire,
)

from curiosity_bluesky.similarity.descriptors.metric import Metric
from curiosity_bluesky.similarity.descriptors.texture import SIZE, WEIGHTS, blocks
from curiosity_bluesky.similarity.image import Image

SEED = 7
RIDGE = 0.3
SCANS = {
    "domains": 30, "wallpaper": 15, "rough": 25, "grains": 15, "particles": 15, "mixed": 40,
}  # fmt: skip
PLACES = {"domains": 75, "wallpaper": 36, "rough": 10, "grains": 10, "particles": 10}
VIEWS = 4, 3
APART = ViewSettings(128, scales=(0.7, 1.4), noise=(0.02, 0.25))
WHOLE = ViewSettings(256, noise=(0.0, 0.2), turned=False)


def seen(seed: int) -> tuple[NDArray, NDArray]:
    """Return the blocks of all views, and which structure each shows."""
    rng = np.random.default_rng(seed)
    todo = [(kind, True) for kind, n in SCANS.items() for _ in range(n)]
    todo += [(kind, False) for kind, n in PLACES.items() for _ in range(n)]
    raw, structures = [], []
    for n, which in enumerate(rng.permutation(len(todo))):
        kind, cropped = todo[which]
        structure = random_structure(kind, rng)
        if cropped:
            whole = structure.view(0, rng, WHOLE)
            views = [whole, *(reacquire(whole, rng, Reacquisition()) for _ in range(VIEWS[0] - 1))]
        else:
            views = [structure.view(place, rng, APART) for place in range(VIEWS[1])]
        raw += [blocks(Image.checked(view)).raw for view in views]
        structures += [n] * len(views)
    return np.array(raw), np.array(structures)


def main() -> None:
    """Draw, look, learn and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--views", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    if arguments.views and arguments.views.exists():
        with np.load(arguments.views) as file:
            raw, structures = file["raw"], file["structures"]
    else:
        raw, structures = seen(arguments.seed)
        if arguments.views:
            np.savez(arguments.views, raw=raw, structures=structures)
    Metric.learned(raw, structures, SIZE, RIDGE).save(arguments.out)
    print(f"{arguments.out}: {raw.shape[1]} numbers to {SIZE}, from {len(raw)} views")


if __name__ == "__main__":
    main()

"""What the learned descriptor knows: groups by name, a structure at another place, a turned image.

``python benchmarks/learned.py --real spm_images.npz --json learned.json``; ``--quick`` takes fewer
images, ``--weights FILE`` others than those that come with the package. Generated images come from
seeds that no training has seen; ``--real`` names recorded scans, which are taken again as in
``benchmarks/retrieval.py``. The descriptor ``texture`` and raw pixels are beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate
from skimage.transform import resize

sys.path.insert(0, str(Path(__file__).parent))
from machine import about
from retrieval import recorded
from synthetic.augmentation import (
    Reacquisition,
    ViewSettings,
    random_structure,
    reacquire,
)
from synthetic.wallpaper import Degradation, random_image

from curiosity_bluesky.similarity.descriptors import named
from curiosity_bluesky.similarity.descriptors.learned import NAMES, Learned
from curiosity_bluesky.similarity.image import Image

SEED = 20_000
PIXEL = 0.01
STRUCTURE = 64  # numbers that do not go by the scale, of both descriptors
RAW = "raw pixels, 64 x 64"
SPOILINGS = {
    "noise 0.15": Degradation(),
    "noise 0.5, shear 3 %, line noise 0.2": Degradation(0.5, 0.03, 0.2),
}
Describe = Callable[[Image], NDArray]


def naming(descriptor: Learned, each: int, spoiling: Degradation) -> dict[str, Any]:
    """Name images of all groups, and textures; return how often that was right."""
    found = np.zeros((len(NAMES), len(NAMES)), int)
    third, sure = 0, []
    for n, name in enumerate(NAMES):
        rng = np.random.default_rng([SEED, n])
        for _ in range(each):
            values = random_image(None if name == "none" else name, rng, 128, spoiling)
            chances = descriptor.names(Image.checked(values))
            order = sorted(chances, key=lambda known: -chances[known])
            found[n, NAMES.index(order[0])] += 1
            third += name in order[:3]
            sure.append((chances[order[0]], order[0] == name))
    right = np.diag(found)
    periodic = found[:-1]
    return {
        "images": int(found.sum()),
        "right": round(float(right.sum() / found.sum()), 3),
        "groups right": round(float(right[:-1].sum() / periodic.sum()), 3),
        "among three": round(third / int(found.sum()), 3),
        "periodic or not": round(float((periodic[:, :-1].sum() + right[-1]) / found.sum()), 3),
        "mean confidence": round(float(np.mean([s for s, _ in sure])), 3),
        "of each": {name: round(float(right[n] / each), 2) for n, name in enumerate(NAMES)},
        "mistakes": sorted(
            (
                (int(found[i, j]), NAMES[i], NAMES[j])
                for i in range(len(NAMES))
                for j in range(len(NAMES))
                if i != j and found[i, j]
            ),
            reverse=True,
        )[:8],
    }


def retrieval(describe: dict[str, Describe], each: int) -> dict[str, dict[str, float]]:
    """Look for the other view of a structure among all; return how often it came first."""
    views: list[list[NDArray]] = [[], []]
    how = ViewSettings()
    for k, kind in enumerate(("domains", "wallpaper")):
        for n in range(each):
            rng = np.random.default_rng([SEED, k, n])
            structure = random_structure(kind, rng, how.side)
            for place in range(2):
                views[place].append(structure.view(place, rng, how))
    found: dict[str, list[NDArray]] = {}
    for name, function in describe.items():
        sides = [
            np.array([function(Image.checked(v, (PIXEL, PIXEL))) for v in one]) for one in views
        ]
        found[name] = sides
        if name != RAW:
            found[f"{name}, scale not known"] = [side[:, :STRUCTURE] for side in sides]
    out: dict[str, dict[str, float]] = {}
    for name, sides in found.items():
        away = np.linalg.norm(sides[0][:, None] - sides[1][None], axis=2)
        partner = np.diag(away)
        # Each view looks for its partner among those of the other place.
        ranks = [np.sum(one < partner[:, None], axis=1) for one in (away, away.T)]
        first, fifth = np.array(ranks) == 0, np.array(ranks) < 5
        one = np.reshape(first, (2, 2, each)).mean((0, 2))
        out[name] = {
            "domains": round(float(one[0]), 3),
            "wallpapers": round(float(one[1]), 3),
            "all": round(float(np.mean(first)), 3),
            "among five": round(float(np.mean(fifth)), 3),
        }
    return out


def again(describe: dict[str, Describe], path: Path, times: int) -> dict[str, dict[str, float]]:
    """Look for recorded scans that were taken again; return how often that found them first."""
    scans = recorded(path)
    rng = np.random.default_rng(SEED)
    wanted = [
        Image.checked(
            reacquire(image.values, rng, Reacquisition(), image.period), period=image.period
        )
        for _ in range(times)
        for image, _, _ in scans
    ]
    right = np.tile(np.arange(len(scans)), times)
    out = {}
    for name, function in describe.items():
        known = np.array([function(image) for image, _, _ in scans])
        away = np.array([np.linalg.norm(known - function(image), axis=1) for image in wanted])
        first = away.argmin(axis=1)
        same = [scans[a][1] == scans[b][1] for a, b in zip(first, right, strict=True)]
        rank = np.sum(away < away[np.arange(len(right)), right][:, None], axis=1)
        out[name] = {
            "itself": round(float(np.mean(first == right)), 3),
            "itself or another channel of it": round(float(np.mean(same)), 3),
            "among five": round(float(np.mean(rank < 5)), 3),
        }
    return out


def raw(image: Image) -> NDArray:
    """Return the pixels of an image as a vector, of mean 0 and standard deviation 1."""
    small = resize(image.values, (64, 64), anti_aliasing=True).ravel()
    return (small - small.mean()) / small.std()


def turned(descriptor: Learned, count: int) -> dict[str, float]:
    """Return how far turning an image takes it, and how far others are away."""
    rng = np.random.default_rng([SEED, 7])
    moved, places = [], []
    for n in range(count):
        name = NAMES[n % len(NAMES)]
        large = random_image(None if name == "none" else name, rng, 192)
        middle = slice(32, 160)
        place = descriptor(Image.checked(large[middle, middle]))
        other = rotate(large, rng.uniform(0, 360), reshape=False, mode="reflect")
        moved.append(np.linalg.norm(descriptor(Image.checked(other[middle, middle])) - place))
        places.append(place)
    apart = np.linalg.norm(np.array(places)[:, None] - np.array(places)[None], axis=2)
    apart = apart[np.triu_indices(count, 1)]
    return {
        "turned, median": round(float(np.median(moved)), 3),
        "turned, 95 %": round(float(np.quantile(moved, 0.95)), 3),
        "others, median": round(float(np.median(apart)), 3),
        "others, 5 %": round(float(np.quantile(apart, 0.05)), 3),
    }


def cost(descriptor: Learned) -> dict[str, float]:
    """Return how long an image takes, ms of CPU, on one thread."""
    rng = np.random.default_rng(0)
    image = Image.checked(random_image(None, rng, 256), (PIXEL, PIXEL))
    descriptor(image)
    times = []
    for _ in range(60):
        began = time.process_time()
        descriptor(image)
        times.append(1e3 * (time.process_time() - began))
    return {"median ms": round(float(np.median(times)), 1), "least ms": round(min(times), 1)}


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--real", type=Path, help="recorded scans, as spm_images.npz")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    descriptor = Learned(arguments.weights)
    each = 5 if arguments.quick else 30
    out: dict[str, Any] = {"about": about(), "cost": cost(descriptor)}
    print("an image of 256 x 256:", out["cost"])
    out["naming"] = {
        name: naming(descriptor, each, spoiling) for name, spoiling in SPOILINGS.items()
    }
    print(f"chance: {1 / len(NAMES):.3f}")
    for name, row in out["naming"].items():
        print(name, json.dumps(row))
    describe: dict[str, Describe] = {"learned": descriptor, "texture": named("texture"), RAW: raw}
    out["retrieval"] = retrieval(describe, 20 if arguments.quick else 100)
    for name, row in out["retrieval"].items():
        print(name, row)
    if arguments.real:
        out["again"] = again(describe, arguments.real, 1 if arguments.quick else 2)
        for name, row in out["again"].items():
            print("taken again:", name, row)
    out["turned"] = turned(descriptor, 36 if arguments.quick else 180)
    print("turned by any angle:", out["turned"])
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

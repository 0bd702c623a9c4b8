"""How often the nearest image is the right one, by each descriptor.

``python benchmarks/retrieval.py --real spm_images.npz --json retrieval.json``:

- *Other places*: 200 structures (100 domain textures, 100 wallpapers) with two views of 128 x 128
  pixels each that do not overlap, rotated freely, mirrored, with gain, offset, gamma (0.7 to 1.4)
  and sign of their own, and noise 0.15. Each view looks for its partner among the 200 others.
- *Retaken* (with ``--real``): each of the recorded scans is rotated freely, mirrored, cropped to
  60 to 80 % of its area (less where that does not fit once rotated), re-scaled by 0.7 to 1.4, made
  noisy (0.1 to 0.2), and looks for itself among all. *Strict*: the very same image. *Lenient*:
  or the other direction of the same scan line (forward and backward, the two tones of
  dual-frequency tracking). *Scan*: any channel of the same scan. *Verified*: the nearest 24 by
  texture are compared by keypoints, as `curiosity similar` does.
- *Cost*: CPU time of one image of 256 x 256.

The seeds are others than those that the weights were made from (``benchmarks/texture_weights.py``)
and that anything was chosen by. ``--quick`` takes fewer.
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
from numpy.typing import NDArray
from scipy.stats import t as student
from skimage.transform import resize

sys.path.insert(0, str(Path(__file__).parent))
from machine import about
from synthetic.augmentation import (
    Reacquisition,
    ViewSettings,
    random_structure,
    reacquire,
)

from curiosity_bluesky.similarity.descriptors import named
from curiosity_bluesky.similarity.descriptors.texture import (
    FeatureBlocks,
    Texture,
    blocks,
    without_scale,
)
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.keypoints import SHORTLIST, SURE, agreeing, keypoints
from curiosity_bluesky.similarity.preprocess import preprocess

SEED = 70_000
PIXELS = "raw pixels"
ALL = "all, not learned"
TEXTURE = "texture"
VERIFIED = "texture, verified"


def looked_at(image: Image) -> dict[str, NDArray]:
    """Return the vectors of an image by which it is looked for."""
    found: FeatureBlocks = blocks(image)
    field = preprocess(image).values
    pixels: Any = resize(np.abs(field) if np.iscomplexobj(field) else field, (64, 64))
    texture = named(TEXTURE)
    assert isinstance(texture, Texture)
    return {
        PIXELS: pixels.ravel(),
        **found.parts,
        "spectrum, correlation, histogram": np.concatenate(
            [part for name, part in found.parts.items() if name != "scattering"]
        ),
        ALL: found.raw,
        TEXTURE: texture.metric(found.raw),
    }


def ranks(wanted: NDArray, known: NDArray, right: NDArray, learned: bool) -> NDArray[np.int64]:
    """Return how many of the known are nearer than the right one, for each that is wanted."""
    if not learned:  # each number counts as much as it varies
        spread = known.std(axis=0) + 1e-9
        wanted, known = wanted / spread, known / spread
    squares = (known**2).sum(axis=1)[None, :] - 2 * wanted @ known.T
    own = squares[np.arange(len(wanted)), right]
    return (squares < own[:, None]).sum(axis=1)


def interval(values: list[float]) -> dict[str, float]:
    """Return a mean with half the width of its 95 % interval."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "half_width": round(half, 4)}


def other_places(seed: int, each: int) -> dict[str, dict[str, float]]:
    """Return hit rates of one repeat, by descriptor."""
    rng, how = np.random.default_rng(seed), ViewSettings()
    kinds = np.repeat(["domains", "wallpaper"], each)
    views: list[list[dict[str, NDArray]]] = [[], []]
    for kind in kinds:
        structure = random_structure(str(kind), rng)
        for place in (0, 1):
            views[place].append(looked_at(Image.checked(structure.view(place, rng, how))))
    out = {}
    for name in views[0][0]:
        one, other = (np.array([view[name] for view in side]) for side in views)
        right = np.arange(len(kinds))
        found = np.array(
            [ranks(*pair, right, name == TEXTURE) for pair in ((one, other), (other, one))]
        )
        out[name] = {
            "top1": float(np.mean(found < 1)),
            "top5": float(np.mean(found < 5)),
            "domains": float(np.mean(found[:, kinds == "domains"] < 1)),
            "wallpapers": float(np.mean(found[:, kinds == "wallpaper"] < 1)),
        }
    return out


def recorded(path: Path) -> list[tuple[Image, str, str]]:
    """Return recorded scans with their scan and signal.

    The channels of a `PiFMReader` scan are files of their own. Phases in degrees are circular.
    """
    out = []
    with np.load(path, allow_pickle=False) as file:
        for n, about_it in enumerate(json.loads(str(file["meta"]))):
            low, high, channel = about_it["lo"], about_it["hi"], about_it["channel"]
            values = low + file[f"image_{n:03d}"] / 255.0 * (high - low)
            circular = "Phase" in channel and 40 < high - low <= 360 and low >= -180
            scan = about_it["path"].split(":")[0]
            signal = channel.split("|")[-1]
            for direction in ("Fwd", "Bwd", "1", "2"):
                signal = signal.replace(direction, "")
            out.append((Image.checked(values, period=360.0 if circular else None), scan, signal))
    return out


def retaken_scans(path: Path, seed: int, times: int) -> dict[str, dict[str, float]]:
    """Return hit rates of recorded scans that are taken again, by descriptor."""
    rng, scans = np.random.default_rng(seed), recorded(path)
    known = [looked_at(image) for image, _, _ in scans]
    again = []
    for _ in range(times):
        for image, _, _ in scans:
            values = reacquire(image.values, rng, Reacquisition(), image.period)
            again.append(Image.checked(values, period=image.period))
    wanted = [looked_at(image) for image in again]
    out = {}
    right = np.tile(np.arange(len(scans)), times)
    for name in known[0]:
        one, other = (np.array([view[name] for view in side]) for side in (wanted, known))
        spread = np.ones(one.shape[1]) if name == TEXTURE else other.std(axis=0) + 1e-9
        squares = ((other / spread) ** 2).sum(axis=1) - 2 * (one / spread) @ (other / spread).T
        first = squares.argmin(axis=1)
        pairs = [(scans[a], scans[b]) for a, b in zip(first, right, strict=True)]
        out[name] = {
            "strict": float(np.mean(first == right)),
            "lenient": float(np.mean([a[1:] == b[1:] for a, b in pairs])),
            "scan": float(np.mean([a[1] == b[1] for a, b in pairs])),
            "top5": float(np.mean(ranks(one, other, right, name == TEXTURE) < 5)),
        }
    out[VERIFIED] = verified(scans, known, wanted, right, again)
    return out


def verified(
    scans: list[tuple[Image, str, str]],
    known: list[dict[str, NDArray]],
    wanted: list[dict[str, NDArray]],
    right: NDArray,
    again: list[Image],
) -> dict[str, float]:
    """Return hit rates when the nearest by texture are compared by their keypoints."""
    one, other = (without_scale(np.array([view[TEXTURE] for view in s])) for s in (wanted, known))
    points = [keypoints(image) for image, _, _ in scans]
    first, falsely = [], 0
    for vector, image, own in zip(one, again, right, strict=True):
        near = np.linalg.norm(other - vector, axis=1).argsort()[:SHORTLIST]
        found = keypoints(image)
        agree = np.array([agreeing(found, points[n]) for n in near])
        falsely += sum(scans[n][1] != scans[own][1] for n in near[agree >= SURE])
        first.append(near[np.argsort(-np.where(agree >= SURE, agree, 0), kind="stable")[0]])
    pairs = [(scans[a], scans[b]) for a, b in zip(first, right, strict=True)]
    return {
        "strict": float(np.mean(first == right)),
        "lenient": float(np.mean([a[1:] == b[1:] for a, b in pairs])),
        "scan": float(np.mean([a[1] == b[1] for a, b in pairs])),
        "of other scans that agree, each": falsely / len(right),
    }


def places_twice(path: Path) -> dict[str, Any]:
    """Compare all pairs of different files by their keypoints: which show the same place."""
    scans = recorded(path)
    points = [keypoints(image) for image, _, _ in scans]
    pairs = [(a, b) for b in range(len(scans)) for a in range(b) if scans[a][1] != scans[b][1]]
    counts = np.array([agreeing(points[a], points[b]) for a, b in pairs])
    same = [
        (*(scans[n][1].split("/")[-1] for n in pair), *(scans[n][2] for n in pair), int(count))
        for pair, count in zip(pairs, counts, strict=True)
        if count >= SURE
    ]
    below = counts[counts < SURE]
    return {
        "pairs": len(pairs),
        "median_of_the_others": float(np.median(below)),
        "most_of_the_others": int(below.max()),
        "same_place": same,
    }


def cost(call: Callable[[Image], Any], times: int) -> float:
    """Return the median CPU time of an image of 256 x 256, ms."""
    rng = np.random.default_rng(0)
    image = Image.checked(random_structure("domains", rng).view(0, rng, ViewSettings(256)))
    taken = []
    for _ in range(times):
        start = time.process_time()
        call(image)
        taken.append(time.process_time() - start)
    return round(1e3 * float(np.median(taken[1:])), 2)


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--real", type=Path, help="recorded scans, as spm_images.npz")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    each, repeats = (25, 2) if arguments.quick else (100, arguments.repeats)
    out: dict[str, Any] = {"about": about(), "seed": arguments.seed, "repeats": repeats}

    runs = [other_places(arguments.seed + n, each) for n in range(repeats)]
    out["other_places"] = {
        name: {key: interval([run[name][key] for run in runs]) for key in runs[0][name]}
        for name in runs[0]
    }
    print(f"other places, {2 * each} structures, {repeats} repeats: top-1 (95 % interval)")
    for name, row in out["other_places"].items():
        cells = (f"{key} {v['mean']:.3f} ± {v['half_width']:.3f}" for key, v in row.items())
        print(f"  {name:34s}", ", ".join(cells))

    if arguments.real:
        times = 1 if arguments.quick else 2
        out["retaken"] = retaken_scans(arguments.real, arguments.seed, times)
        print(f"recorded scans taken again, {times} times each")
        for name, row in out["retaken"].items():
            print(f"  {name:34s}", ", ".join(f"{key} {value:.3f}" for key, value in row.items()))

        out["pairs"] = places_twice(arguments.real)
        for key, value in out["pairs"].items():
            print(f"  {key}:", *(value if isinstance(value, list) else [value]), sep="\n    ")

    texture = named(TEXTURE)
    out["ms_per_image"] = cost(texture, 5 if arguments.quick else 30)
    print(f"texture: {out['ms_per_image']} ms of CPU for 256 x 256; {texture.size} numbers")
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

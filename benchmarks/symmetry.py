"""How often the wallpaper group is named right, how honest its probability is, what it costs.

``python benchmarks/symmetry.py --json symmetry.json`` judges 17 x 20 fresh images of 128 pixels
at noise 0.15, the same at noise 0.5 with a shear of 3 % and line noise, images that are nearly of
a higher group, and what has no group; all together give the calibration. ``--quick`` takes a
quarter. ``--scans FILE.npz`` adds recorded scans (arrays named image_*), ``--figures DIR`` draws
the calibration and the 17 groups.

Seeds are (2026, setting, class, n): training (``train_symmetry.py``) has drawn from others.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from machine import about
from synthetic.aperiodic import KINDS, aperiodic
from synthetic.pattern import FALSE
from synthetic.wallpaper import (
    Degradation,
    degrade,
    random_pattern,
    random_shape,
)

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.symmetry import CLASSES, Symmetry, classify
from curiosity_bluesky.similarity.symmetry.groups import GROUPS

# What the instrument does, and how nearly an image may be of a higher group.
SETTINGS = {
    "noise 0.15": (Degradation(0.15), FALSE),
    "noise 0.5, shear 3 %, lines 0.2": (Degradation(0.5, 0.03, 0.2), FALSE),
    "noise 0.5, shear 3 %, lines 0.3": (Degradation(0.5, 0.03, 0.3), FALSE),
    "pseudosymmetric to 0.95, noise 0.15": (Degradation(0.15), 0.95),
    "pseudosymmetric to 0.95, noise 0.5, shear 3 %, lines 0.3": (Degradation(0.5, 0.03, 0.3), 0.95),
}


def judged(
    group: str, seed: Sequence[int], spoiling: Degradation, side: int = 128, limit: float = FALSE
) -> np.ndarray:
    """Return an image; its shear is what is asked for, one way or the other, not up to that."""
    rng = np.random.default_rng(seed)
    shape = random_shape(rng)
    pattern = random_pattern(group, rng, side, shape=shape, limit=limit)
    shear = spoiling.shear * float(rng.choice((-1.0, 1.0)))
    clean = pattern.drawn(side, rng.uniform(0, side, 2).tolist(), shear)
    return degrade(shape(clean), rng, spoiling)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, right / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return round(float(middle - half), 4), round(float(middle + half), 4)


def told(found: Sequence[tuple[str, Symmetry]]) -> dict[str, Any]:
    """Return the figures of what was called what."""
    right = sum(name == symmetry.group for name, symmetry in found)
    three = sum(
        name in sorted(s.probabilities, key=lambda c: -s.probabilities[c])[:3] for name, s in found
    )
    wrong = Counter(f"{name} -> {s.group}" for name, s in found if name != s.group)
    return {
        "images": len(found),
        "right": round(right / len(found), 4),
        "interval": wilson(right, len(found)),
        "top3": round(three / len(found), 4),
        "mean_probability": round(float(np.mean([s.probability for _, s in found])), 4),
        "right_by_group": {
            group: f"{sum(s.group == group for name, s in found if name == group)} of "
            f"{sum(name == group for name, _ in found)}"
            for group in GROUPS
        },
        "wrong": dict(wrong.most_common()),
    }


def calibration(found: Sequence[tuple[str, Symmetry]], bins: int = 10) -> dict[str, Any]:
    """Return the reliability diagram and the expected calibration error, in equal bins."""
    p = np.array([s.probability for _, s in found])
    right = np.array([name == s.group for name, s in found], float)
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = [
        {
            "n": int((which == b).sum()),
            "probability": round(float(p[which == b].mean()), 4),
            "right": round(float(right[which == b].mean()), 4),
        }
        for b in range(bins)
        if (which == b).any()
    ]
    ece = sum(r["n"] * abs(r["probability"] - r["right"]) for r in rows) / len(p)
    return {"images": len(p), "ece": round(ece, 4), "bins": rows}


def milliseconds(side: int, times: int = 34) -> dict[str, float]:
    """Return CPU and wall time of an image."""
    images = [
        Image.checked(judged(GROUPS[n % 17], (2026, 90, n), Degradation(0.15), side))
        for n in range(times)
    ]
    classify(images[0])
    cpu, wall = time.process_time(), time.perf_counter()
    for image in images:
        classify(image)
    return {
        "cpu_ms": round(1e3 * (time.process_time() - cpu) / times, 1),
        "wall_ms": round(1e3 * (time.perf_counter() - wall) / times, 1),
    }


def scans(path: Path) -> list[dict[str, Any]]:
    """Return what recorded scans are called."""
    rows = []
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"])) if "meta" in file.files else []
        names = sorted(name for name in file.files if name.startswith("image_"))
        for n, name in enumerate(names):
            found = classify(Image.checked(file[name]))
            about_it = meta[n] if n < len(meta) else {}
            rows.append(
                {
                    "name": name,
                    "path": about_it.get("path", ""),
                    "channel": about_it.get("channel", ""),
                    "group": found.group,
                    "probability": round(found.probability, 3),
                    "periodicity": round(found.periodicity, 3),
                }
            )
    return rows


def drawn(figures: Path, curves: dict[str, Any]) -> None:
    """Draw the calibration, and an image of each group."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
    ax.plot([0, 1], [0, 1], color="0.7", lw=1)
    for name, curve in curves.items():
        x = [row["probability"] for row in curve["bins"]]
        y = np.array([row["right"] for row in curve["bins"]])
        span = np.array([wilson(round(r["right"] * r["n"]), r["n"]) for r in curve["bins"]]).T
        error = np.abs(span - y)
        label = f"{name} (ECE {curve['ece']:.3f}, n {curve['images']})"
        ax.errorbar(x, y, error, fmt="o-", ms=4, lw=1, capsize=2, label=label)
        for row in curve["bins"]:
            ax.annotate(
                str(row["n"]),
                (row["probability"], row["right"]),
                (4, -9),
                textcoords="offset points",
                fontsize=6,
            )
    ax.set(xlabel="probability that was given", ylabel="share that was right")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    ax.legend(fontsize=7, loc="lower right")
    fig.savefig(figures / "symmetry-calibration.png", dpi=110)
    fig, axes = plt.subplots(3, 6, figsize=(9, 4.9), layout="constrained")
    for ax, name in zip(axes.flat, CLASSES, strict=True):
        if name == "none":
            image = aperiodic("texture", np.random.default_rng((2026, 80, 17)))
        else:
            image = judged(name, (2026, 80, GROUPS.index(name)), Degradation(0.15))
        ax.imshow(image, cmap="gray", interpolation="nearest")
        ax.set_title(name, fontsize=9)
        ax.axis("off")
    fig.savefig(figures / "symmetry-groups.png", dpi=72)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    part = 4 if arguments.quick else 1
    out: dict[str, Any] = {"about": about(), "judged": {}, "none": {}, "calibration": {}}
    pooled: dict[str, list[Any]] = {"as judged": [], "nearly of a higher group": []}
    for s, (setting, (spoiling, limit)) in enumerate(SETTINGS.items()):
        found = [
            (group, classify(Image.checked(judged(group, (2026, s, g, n), spoiling, 128, limit))))
            for g, group in enumerate(GROUPS)
            for n in range(20 // part)
        ]
        out["judged"][setting] = told(found)
        none = [
            (
                kind,
                classify(
                    Image.checked(aperiodic(kind, np.random.default_rng(seed), 128, spoiling))
                ),
            )
            for k, kind in enumerate(KINDS)
            for n in range(20 // part)
            for seed in [(2026, 10 + s, k, n)]
        ]
        named = Counter(kind for kind, symmetry in none if symmetry.group == "none")
        asked = Counter(kind for kind, _ in none)
        out["none"][setting] = {kind: f"{named[kind]} of {asked[kind]}" for kind in KINDS}
        both = found + [("none", symmetry) for _, symmetry in none]
        pooled["as judged" if limit == FALSE else "nearly of a higher group"] += both
        out["calibration"][setting] = calibration(both)
        row = out["judged"][setting]
        print(
            f"{setting}: {row['right']:.1%} right of {row['images']} (95 %: "
            f"{row['interval'][0]:.1%} to {row['interval'][1]:.1%}), among the first three "
            f"{row['top3']:.1%}; wrong: {row['wrong']}"
        )
        print(f"  called none: {out['none'][setting]}")
        print(f"  calibration error {out['calibration'][setting]['ece']:.4f}")
    out["calibration"] |= {name: calibration(found) for name, found in pooled.items()}
    for side in (128, 256):
        out[f"ms_{side}"] = milliseconds(side)
        print(f"{side} x {side}: {out[f'ms_{side}']}")
    if arguments.scans:
        out["scans"] = scans(arguments.scans)
        periodic = [row for row in out["scans"] if row["group"] != "none"]
        print(f"{len(periodic)} of {len(out['scans'])} scans are called periodic")
        for row in periodic:
            print("  ", *row.values())
    if arguments.figures:
        drawn(arguments.figures, {name: out["calibration"][name] for name in pooled})
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

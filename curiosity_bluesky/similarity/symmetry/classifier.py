"""Classifier of wallpaper groups, or none, with calibrated probabilities.

The scores of all groups (`scores`) go through a small network that was trained on images of the
generator: ``benchmarks/train_symmetry.py``; its card and figures are in docs/symmetry.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.symmetry.groups import GROUPS
from curiosity_bluesky.similarity.symmetry.scores import (
    TOLERATED,
    SymmetryEvidence,
    symmetry_evidence,
)

CLASSES: tuple[str, ...] = (*GROUPS, "none")
"""What an image can be called."""

VERSION = 1
"""Of the classifier: raised with every change of what comes out, new weights included."""

WEIGHTS = Path(__file__).parents[1] / "weights" / "symmetry.npz"
"""Of the network: plain arrays of float32."""


@dataclass(frozen=True)
class Symmetry:
    """Wallpaper group of an image.

    Parameters
    ----------
    group
        One of `GROUPS`, or ``none``: no two independent periods.
    probability
        That this is right, calibrated on images of the generator.
    probabilities
        Of each of the 17 groups and of ``none``; they sum to 1.
    cell
        Primitive lattice vectors as columns, (2, 2), rows x and y, pixels of the image; None if
        the group is ``none``.
    cell_um
        The same in micrometres; None if the size of a pixel is not known.
    periodicity
        Mean autocorrelation at the lattice points of the best lattice, relative to no lag: 1 for
        a perfect repetition at any noise, about 0 for a texture.
    """

    group: str
    probability: float
    probabilities: dict[str, float]
    cell: NDArray[np.float64] | None
    cell_um: NDArray[np.float64] | None
    periodicity: float


@cache
def _weights() -> dict[str, NDArray[np.float64]]:
    with np.load(WEIGHTS, allow_pickle=False) as file:
        return {name: file[name].astype(float) for name in file.files}


def _probabilities(features: NDArray) -> NDArray[np.float64]:
    w = _weights()
    hidden = np.maximum((features - w["mean"]) / w["scale"] @ w["w1"] + w["b1"], 0)
    logits = hidden @ w["w2"] + w["b2"]
    p = np.exp(logits - logits.max())
    return p / p.sum()


def classify(image: Image) -> Symmetry:
    """Classify an image by its wallpaper group.

    Parameters
    ----------
    image
        At least two and a half cells along each side; cells of at least 8 pixels (16 pixels in
        an image of 256 and more, which is taken at half the resolution and less).
    """
    return _named(symmetry_evidence(image), image.um_per_pixel)


def _named(found: SymmetryEvidence, um_per_pixel: tuple[float, float] | None) -> Symmetry:
    p = _probabilities(found.features)
    best = int(np.argmax(p))
    cell = None if CLASSES[best] == "none" else found.cell
    cell_um = None
    if cell is not None and um_per_pixel is not None:
        cell_um = cell * np.array(um_per_pixel[::-1])[:, None]
    return Symmetry(
        CLASSES[best],
        float(p[best]),
        dict(zip(CLASSES, p.tolist(), strict=True)),
        cell,
        cell_um,
        found.periodicity,
    )


class SymmetryScores:
    """The 18 probabilities and the 16 scores as a descriptor, (34,).

    The probabilities enter by their square roots, whose distance is Hellinger's. The scores keep
    apart what has one name, and near what was only just called otherwise; each counts by how
    periodic the image is, and by how far its lattice is from the group's.
    """

    name = "symmetry"
    version = VERSION
    size = len(CLASSES) + len(GROUPS) - 1

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (34,).

        Parameters
        ----------
        image
            Any.
        """
        found = symmetry_evidence(image)
        score, _, strain = found.scores.T
        scores = score * np.clip(1 - strain / TOLERATED, 0, 1) * np.clip(found.periodicity, 0, 1)
        roots = np.sqrt(_probabilities(found.features))
        return np.concatenate([roots, scores]).astype(np.float32)


def labels_of(vectors: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Read ``symmetry`` and ``symmetry_probability`` of each image off its vector.

    Parameters
    ----------
    vectors
        Of `SymmetryScores`, (images, 34); one of NaN has no label.
    """
    roots = np.asarray(vectors)[:, : len(CLASSES)]
    known: NDArray[np.bool_] = np.all(np.isfinite(roots), axis=1)
    best = np.argmax(np.where(known[:, None], roots, 0), axis=1)
    return [
        {"symmetry": CLASSES[k], "symmetry_probability": round(float(roots[n, k]) ** 2, 4)}
        if known[n]
        else {}
        for n, k in enumerate(best)
    ]

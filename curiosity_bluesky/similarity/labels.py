"""What is said of an image beside its vectors: the symmetry, when there is somebody to name it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.image import Image

_MODULE = "curiosity_bluesky.similarity.symmetry"


class SymmetryLabel:
    """The descriptor ``symmetry``, and the wallpaper group that can be read off its vectors.

    A vector begins with the square roots of the probabilities of all classes.
    """

    name = "symmetry"

    def __init__(self) -> None:
        self._scores = import_module(_MODULE).SymmetryScores()
        self._classes: tuple[str, ...] = import_module(_MODULE).CLASSES

    @property
    def version(self) -> int:
        """Of the classifier."""
        return int(self._scores.version)

    @property
    def size(self) -> int:
        """Length of its vectors."""
        return int(self._scores.size)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (size,)."""
        return self._scores(image)

    def labels(self, vectors: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Return ``symmetry`` and ``symmetry_probability`` of each image.

        Parameters
        ----------
        vectors
            (images, size); one of NaN has no label.
        """
        roots = np.asarray(vectors)[:, : len(self._classes)]
        known: NDArray[np.bool_] = np.all(np.isfinite(roots), axis=1)
        best = np.argmax(np.where(known[:, None], roots, 0), axis=1)
        return [
            {
                "symmetry": self._classes[k],
                "symmetry_probability": round(float(roots[n, k]) ** 2, 4),
            }
            if known[n]
            else {}
            for n, k in enumerate(best)
        ]


@cache
def labellers() -> tuple[SymmetryLabel, ...]:
    """Return those that there are."""
    return (SymmetryLabel(),) if find_spec(_MODULE) else ()

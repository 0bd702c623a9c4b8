"""What is said of an image beside its vectors, when there is somebody to say it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.wallpaper import GROUPS

_MODULE = "curiosity_bluesky.similarity.symmetry"
NONE = "none"
"""What has no periodic symmetry."""


class Labeller(Protocol):
    """Turns an image into a few numbers, and these into labels; for the index a descriptor."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    def __call__(self, image: Image) -> NDArray[np.float32]: ...  # noqa: D102

    def labels(self, numbers: NDArray[np.float32]) -> dict[str, Any]:
        """Return what an entry shows; nothing of NaN."""
        ...


class SymmetryLabel:
    """The wallpaper group: its place in `GROUPS`, -1 for none, and the probability."""

    name, size = "symmetry", 2

    @property
    def version(self) -> int:
        """Of the classifier."""
        return int(getattr(import_module(_MODULE), "VERSION", 1))

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return group and probability, (2,)."""
        found = import_module(_MODULE).classify(image)
        group = GROUPS.index(found.group) if found.group in GROUPS else -1
        return np.array([group, found.probability], np.float32)

    def labels(self, numbers: NDArray[np.float32]) -> dict[str, Any]:
        """Return ``symmetry`` and ``symmetry_probability``."""
        if not np.isfinite(numbers).all():
            return {}
        group = int(numbers[0])
        return {
            "symmetry": GROUPS[group] if group >= 0 else NONE,
            "symmetry_probability": round(float(numbers[1]), 4),
        }


@cache
def labellers() -> tuple[Labeller, ...]:
    """Return those that there are."""
    return (SymmetryLabel(),) if find_spec(_MODULE) else ()

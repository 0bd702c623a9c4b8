"""Wallpaper groups of images."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.similarity.symmetry.classifier import CLASSES as CLASSES
    from curiosity_bluesky.similarity.symmetry.classifier import Symmetry as Symmetry
    from curiosity_bluesky.similarity.symmetry.classifier import SymmetryScores as SymmetryScores
    from curiosity_bluesky.similarity.symmetry.classifier import classify as classify
    from curiosity_bluesky.similarity.symmetry.classifier import labels_of as labels_of

_MODULES = {
    "CLASSES": "classifier",
    "Symmetry": "classifier",
    "SymmetryScores": "classifier",
    "classify": "classifier",
    "labels_of": "classifier",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

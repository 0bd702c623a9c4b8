"""Linear map after which Euclidean distance separates structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

_LIMIT = 3.0


@dataclass(frozen=True)
class Metric:
    """Linear map that is learned from pairs of views of the same structure.

    Parameters
    ----------
    mean, spread
        Of each number over all views, (raw,).
    projection
        How numbers are weighed and combined, (raw, size).
    typical
        Median squared distance of two structures there.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    projection: NDArray[np.float32]
    typical: float

    def __call__(self, raw: NDArray) -> NDArray[np.float32]:
        """Return what is compared, (..., size)."""
        scaled = _limited((raw - self.mean) / self.spread)
        return (scaled @ self.projection).astype(np.float32)

    @classmethod
    def learned(cls, raw: NDArray, structure: NDArray, size: int, ridge: float) -> Metric:
        """Return the linear discriminant of views that show the same structure.

        Directions come from the generalised eigenproblem of the scatter between structures and
        that within (R. A. Fisher, Ann. Eugenics 7, 179 (1936)); the latter with a ridge, since
        it is known from few. Each is scaled so that views of one structure scatter by 1,
        and by the square root of its share b / (1 + b) of scatter between, so that directions
        that tell little weigh little.

        Parameters
        ----------
        raw
            (views, raw).
        structure
            Which structure each view shows, (views,).
        size
            Directions that are kept.
        ridge
            Relative to the mean scatter within.
        """
        mean, spread = raw.mean(axis=0), raw.std(axis=0) + 1e-6
        scaled = _limited((raw - mean) / spread)
        _, which, times = np.unique(structure, return_inverse=True, return_counts=True)
        centres = np.zeros((len(times), raw.shape[1]))
        np.add.at(centres, which, scaled)
        centres /= times[:, None]
        inner = scaled - centres[which]
        within = inner.T @ inner / (len(raw) - len(times))
        between = np.cov(centres.T) - within / np.mean(times)
        within += ridge * np.trace(within) / len(within) * np.eye(len(within))
        values, vectors = eigh(between, within)
        best = np.argsort(values)[::-1][:size]
        gain = np.maximum(values[best], 0)
        projection = vectors[:, best] * np.sqrt(gain / (1 + gain))
        known = centres @ projection
        squares = np.sum((known[:, None] - known[None]) ** 2, axis=-1)
        typical = float(np.median(squares[np.triu_indices(len(known), 1)]))
        mean, spread, projection = (c.astype(np.float32) for c in (mean, spread, projection))
        return cls(mean, spread, projection, typical)

    def save(self, path: Path) -> None:
        """Write it to a file."""
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Metric:
        """Read it from a file."""
        with np.load(path, allow_pickle=False) as file:
            constants = {name: file[name] for name in ("mean", "spread", "projection")}
            return cls(**constants, typical=float(file["typical"]))


def _limited(scaled: NDArray) -> NDArray:
    """Limit outliers."""
    return _LIMIT * np.tanh(scaled / _LIMIT)

"""Maps of what is expected: one number a pixel from predicted spectra, and its expected error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Property = Callable[[NDArray, NDArray], tuple[str, NDArray]]
"""A property of spectra: ``property(spectra, axis)`` with ``(rows, cols, points)`` and
``(points,)`` returns its name with the unit, and ``(rows, cols)``."""

FEW = 2000
"""Pixels, evenly spread, from which the principal component is found."""


@dataclass(frozen=True, eq=False)
class ExpectedMaps:
    """Maps of what a model expects.

    Parameters
    ----------
    values, label
        ``(rows, cols)``, NaN where nothing is expected; what they are, with their unit.
    error, error_label
        Standard deviation of a measured spectrum about the expected one, root mean square over
        its points, ``(rows, cols)``; None where the model does not know it.
    n_observed
        Spectra that were known.
    """

    values: NDArray
    label: str
    error: NDArray | None
    error_label: str
    n_observed: int


def expected_maps(
    spectra: NDArray,
    deviation: NDArray | None,
    n_observed: int,
    *,
    axis: NDArray,
    channels: Sequence[tuple[int, str]] = (),
    measure: Property | None = None,
) -> ExpectedMaps:
    """Make maps of predicted spectra: a property, or their first principal component.

    Parameters
    ----------
    spectra, deviation
        ``(rows, cols, points)``, the channels one behind the other; NaN where nothing is expected.
    n_observed
        Spectra that were known.
    axis
        Along which the first channel lies.
    channels
        Number of points and unit of each channel. Several channels are divided by their standard
        deviations, since their units differ.
    measure
        A property of the first channel.
    """
    first = channels[0][0] if channels else spectra.shape[-1]
    unit = channels[0][1] if len(channels) == 1 else ""
    unit = unit or ("scaled" if len(channels) > 1 else "as recorded")
    some = _some_of(spectra)
    scale = np.ones(spectra.shape[-1])
    if len(channels) > 1 and len(some):
        start = 0
        for size, _ in channels:
            spread = float(np.nanstd(some[:, start : start + size]))
            scale[start : start + size] = spread if spread > 0 else 1.0
            start += size
    if measure is not None:
        label, values = measure(spectra[..., :first], axis)
    else:
        values, share = _first_component(spectra, some, scale)
        label = f"first principal component ({unit})\n{100 * share:.0f} % of the variance"
    error = None
    if deviation is not None and np.isfinite(deviation).any():
        error = np.array([_root_mean_square(row / scale) for row in deviation])
    return ExpectedMaps(values, label, error, f"standard deviation ({unit})", n_observed)


def _some_of(spectra: NDArray) -> NDArray:
    """Return some of the spectra that are there, ``(n, points)``."""
    flat = spectra.reshape(-1, spectra.shape[-1])
    known = np.flatnonzero(np.isfinite(flat).any(axis=1))
    return flat[known[:: max(1, len(known) // FEW)]].astype(float)


def _first_component(spectra: NDArray, some: NDArray, scale: NDArray) -> tuple[NDArray, float]:
    """Return the first principal component of every pixel, and its share of the variance.

    It is the root mean square over the points of what it adds to the mean spectrum, positive
    where the point that it changes most is increased.
    """
    points = np.isfinite(some).all(axis=0)  # a point that was never recorded has no prediction
    if not len(some) or not points.any():
        return np.full(spectra.shape[:2], np.nan), np.nan
    kept = some[:, points] / scale[points]
    mean = kept.mean(axis=0)
    _, sizes, axes = np.linalg.svd(kept - mean, full_matrices=False)
    total = float((sizes**2).sum())
    component = axes[0] * np.sign(axes[0][np.abs(axes[0]).argmax()]) / np.sqrt(len(mean))
    # Row by row: a large area need not be there twice.
    values = [(row[:, points] / scale[points] - mean) @ component for row in spectra]
    return np.array(values, float), float(sizes[0] ** 2) / total if total > 0 else 0.0


def _root_mean_square(row: NDArray) -> NDArray:
    known = np.isfinite(row)
    squares = np.where(known, row, 0.0) ** 2
    with np.errstate(invalid="ignore"):  # where nothing is expected
        return np.sqrt(squares.sum(axis=-1) / known.sum(axis=-1))

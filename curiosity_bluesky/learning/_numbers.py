"""Means and scales of arrays that predictors, error models and acquisitions share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_square(difference: NDArray) -> NDArray:
    """Mean of the squares over the recorded points, ``(n, points)`` to ``(n,)``."""
    return np.nanmean(difference**2, axis=1)


def zero_to_one(values: NDArray) -> NDArray:
    """Scale to 0 ... 1; all zeros where all are the same."""
    width = float(np.ptp(values))
    return (values - values.min()) / width if width > 0 else np.zeros_like(values, dtype=float)


def over_mean(values: NDArray) -> NDArray:
    """Divide by the mean; all zeros where the mean is not positive."""
    mean = float(np.mean(values))
    return values / mean if mean > 0 else np.zeros_like(values, dtype=float)

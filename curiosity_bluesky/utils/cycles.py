"""Cycles of an axis, such as those of a bias that goes up and down several times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cycles_of(axis: NDArray) -> int:
    """Count the equal cycles that an axis consists of: 1 where it does not repeat.

    Parameters
    ----------
    axis
        ``(points,)``, for PFM the bias; a loop that goes up and down once is one cycle.
    """
    points, tolerance = len(axis), 1e-6 * float(np.ptp(axis))
    for period in range(2, points // 2 + 1):
        repeats = points % period == 0
        if repeats and np.abs(axis[period:] - axis[:-period]).max() <= tolerance:
            return points // period
    return 1

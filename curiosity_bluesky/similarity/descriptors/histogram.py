"""Histogram of a field, invariant to contrast and sign."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from curiosity_bluesky.similarity.preprocess import along_one_axis

_EDGE, _BIN, _BINS = 5.0, 0.05, 201  # standard deviations, from -5 to 5
_LEVELS = slice(104, 168, 4)  # 0.2 to 3.2 of them
_BLUR = 4.0  # of the fine levels
_SMOOTHING = (0.0, 1.0, 2.0)


def histogram_block(values: NDArray) -> NDArray[np.float64]:
    """Return shares of the area that do not depend on gain, offset and sign.

    The even part of the distribution is how much of the area is further from the mean than so many
    standard deviations, and the same for the inverted image. The odd part, how much
    more of that is above than below, changes its sign with it, and is taken with the sign that
    makes its sum positive. Of a circular channel: along the axis on which it varies most.
    Smoothed a little too, so that noise does not hide two levels.

    Parameters
    ----------
    values
        (rows, cols), real or complex, mean 0 and mean square 1.
    """
    values = along_one_axis(values)
    out = []
    for width in _SMOOTHING:
        smooth = gaussian_filter(values, width, mode="nearest") if width else values
        scaled = (smooth - smooth.mean()) / max(float(smooth.std()), 1e-9)
        bins = np.clip(np.floor((scaled + _EDGE) / _BIN).astype(np.int32), -1, _BINS - 1) + 1
        below = np.cumsum(np.bincount(bins.ravel(), minlength=_BINS + 1))[:-1] / bins.size
        # Blurred: two sharp levels must not jump from one side of a limit to the other.
        below = gaussian_filter1d(below, _BLUR, mode="nearest")
        above = 1 - below[_LEVELS]
        under = below[::-1][_LEVELS]
        even, odd = above + under, above - under
        out += [even, odd * (1.0 if odd.sum() >= 0 else -1.0)]
    return np.concatenate(out)

"""The histogram of a field, whatever its contrast and its sign."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_LEVELS = (np.arange(16) + 0.5) / 32
_SMOOTHING = (0.0, 1.0, 2.0)

SIZE = len(_SMOOTHING) * (16 + 16)
"""Length of the block."""


def histogram_block(values: NDArray) -> NDArray[np.float64]:
    """Return quantiles that do not depend on gain, offset and sign.

    The even part of the distribution, half the distance of opposite quantiles, is the same
    for the inverted image. The odd part changes its sign with it, and is taken with the sign that
    makes its mean positive. Of a circular channel: along the axis on which it varies most and
    across it. Smoothed a little too, so that noise does not hide two levels.

    Parameters
    ----------
    values
        (rows, cols), real or complex, mean 0 and mean square 1.
    """
    if np.iscomplexobj(values):
        # The second moment turns by twice the offset of the phase.
        axis = np.exp(-0.5j * np.angle(np.mean(values**2)))
        values = (values * axis).real
    out = []
    for width in _SMOOTHING:
        smooth = gaussian_filter(values, width, mode="nearest") if width else values
        ranked = np.sort((smooth - smooth.mean()) / max(float(smooth.std()), 1e-9), axis=None)
        below = (_LEVELS * smooth.size).astype(int)
        low, high = ranked[below], ranked[-1 - below]
        even, odd = (high - low) / 2, (high + low) / 2
        out += [even, odd * (1.0 if odd.sum() >= 0 else -1.0)]
    return np.concatenate(out)

r"""Theory: a hysteresis loop fitted to each spectrum.

.. math:: y(V) = a_0 + a_1 V + A \tanh\frac{V - V_\pm}{w}

on the way up with the coercive bias :math:`V_+`, on the way down with :math:`V_-`: the usual
empirical form of a loop (a smooth step for each branch and a linear background; compare
Jesse, Baddorf and Kalinin, Appl. Phys. Lett. 88, 062908 (2006), who use arc tangents).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = (-0.7, -0.35, 0.0, 0.35, 0.7)
STARTS = [np.array([up, down, -1.8]) for up in GRID for down in GRID]
"""Coercive biases in units of the largest bias, and the logarithm of the width."""
PARAMETERS = ("offset", "slope", "amplitude", "coercive_up", "coercive_down", "log_width")


def rising_branch(bias: NDArray) -> NDArray[np.bool_]:
    """Return where the bias of a waveform ``(points,)`` rises, ``(points,)``."""
    step = np.diff(bias, prepend=bias[:1])
    # A pause goes on as before; the first step counts for the first point.
    moving = np.flatnonzero(step)
    if not len(moving):
        return np.ones(len(bias), bool)
    last = np.maximum.accumulate(np.where(step != 0, np.arange(len(bias)), -1))
    return step[np.where(last < 0, moving[0], last)] > 0


def loops(bias: NDArray, parameters: NDArray) -> NDArray:
    """Return the loops of some parameters, ``(n, points)``.

    Parameters
    ----------
    bias
        ``(points,)`` V.
    parameters
        ``(n, 6)`` in the order of `PARAMETERS`: offset and amplitude in the units of the
        spectra, slope in these per V, coercive biases in V, logarithm of the width in V.
    """
    offset, slope, amplitude, up, down, width = (column[:, None] for column in parameters.T)
    coercive = np.where(rising_branch(bias), up, down)
    return offset + slope * bias + amplitude * np.tanh((bias - coercive) / np.exp(width))


def fit_loop(bias: NDArray, spectrum: NDArray) -> NDArray:
    """Fit a loop to a spectrum by least squares.

    Offset, slope and amplitude are found by linear regression inside the search for the
    others (variable projection, Golub and Pereyra 1973), which begins at the best of a grid.

    Parameters
    ----------
    bias, spectrum
        ``(points,)``; NaN where nothing was recorded.

    Returns
    -------
    NDArray
        ``(6,)``, see `PARAMETERS`.
    """
    from scipy.optimize import least_squares

    known = np.isfinite(spectrum)
    upwards, reach = rising_branch(bias)[known], float(np.abs(bias).max()) or 1.0
    volts, measured = bias[known] / reach, spectrum[known]
    size = float(np.abs(measured).max()) or 1.0

    def linear(shape: NDArray) -> tuple[NDArray, NDArray]:
        up, down, width = shape
        step = np.tanh((volts - np.where(upwards, up, down)) / np.exp(width))
        design = np.stack([np.ones_like(volts), volts, step], axis=1)
        found = np.linalg.lstsq(design, measured / size, rcond=1e-9)[0]
        return found, design @ found - measured / size

    start = min(STARTS, key=lambda shape: float((linear(shape)[1] ** 2).sum()))
    # Wider steps, or such beyond the largest bias, could not be told from the background.
    found = least_squares(
        lambda shape: linear(shape)[1], start,
        bounds=([-1.0, -1.0, -4.0], [1.0, 1.0, -1.0]), max_nfev=40,
    ).x  # fmt: skip
    up, down, width = found
    offset, slope, amplitude = linear(found)[0]
    scaled = [offset * size, slope * size / reach, amplitude * size]
    return np.array([*scaled, up * reach, down * reach, width + np.log(reach)])

"""A plain model of the hysteresis loop that a biased tip measures on a ferroelectric."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError


def bias_cycle(points: int, max_bias: float) -> NDArray[np.float64]:
    """One triangular cycle 0, +max, -max and back towards 0, one value a point.

    The cycle ends one step before 0, so that cycles can be put one after the other. The
    two extremes are reached exactly if `points` is a multiple of four.

    Parameters
    ----------
    points
        Number of values.
    max_bias
        Largest bias, V.

    Returns
    -------
    bias
        (points,), V.
    """
    phase = np.arange(points) / points
    return np.interp(phase, [0.0, 0.25, 0.75, 1.0], [0.0, max_bias, -max_bias, 0.0])


def switching_loop(
    bias: ArrayLike,
    coercive_positive: ArrayLike,
    coercive_negative: ArrayLike,
    saturation: ArrayLike,
    *,
    imprint: ArrayLike = 0.0,
    nucleation_width: ArrayLike = 1.0,
    nucleation_step: ArrayLike = 0.0,
    nucleation_lead: ArrayLike = 1.5,
    initial: ArrayLike = -1.0,
    offset: ArrayLike = 0.0,
    slope: ArrayLike = 0.0,
) -> NDArray[np.float64]:
    r"""Response along a bias waveform, with its history.

    The normalised polarisation p follows two limiting branches,

    .. math::

        U(V) &= (1 - f) \tanh\frac{V - V_+ - V_i}{w}
                + f \tanh\frac{V - V_+ - V_i + l}{w / 4} \\
        D(V) &= (1 - f) \tanh\frac{V - V_- - V_i}{w}
                + f \tanh\frac{V - V_- - V_i - l}{w / 4} \\
        p_k &= \min(\max(p_{k-1}, U(V_k)), D(V_k)), \qquad
        R_k = s\,p_k + b + m\,V_k

    so it stays where it is until a branch takes it along (the generalised play operator
    of hysteresis theory). The part f switches early, by the lead l, and abruptly: the
    nucleation step before the domain grows.

    All parameters but `bias` broadcast against each other; their common shape is `...`.

    Parameters
    ----------
    bias
        (points,), V, in the order of time.
    coercive_positive, coercive_negative
        V\ :sub:`+` and V\ :sub:`-`: where p crosses zero going up and down, without
        imprint, V. The positive one is the larger.
    saturation
        s: response when switched completely, in the units of the response.
    imprint
        V\ :sub:`i`: shift of the whole loop along the bias, V.
    nucleation_width
        w: width of the switching, V; > 0.
    nucleation_step
        f: part that switches at nucleation already, 0 to 1.
    nucleation_lead
        l: by how much nucleation precedes the coercive bias, V.
    initial
        p before the first point, -1 to 1.
    offset, slope
        b and m: response without polarisation, and its change per V (the electrostatic
        contribution).

    Returns
    -------
    response
        (..., points), float64.

    Raises
    ------
    InputError
        If a width is not positive or the coercive biases are in the wrong order.
    """
    if np.any(np.asarray(nucleation_width) <= 0):
        raise InputError(
            f"nucleation_width is as low as {np.min(nucleation_width):g} V; expected a "
            "positive width: give a small positive one for an abrupt loop."
        )
    if np.any(np.asarray(coercive_positive) < np.asarray(coercive_negative)):
        raise InputError(
            "coercive_positive is below coercive_negative; expected the order of a hysteresis "
            "loop: exchange them."
        )
    plus, minus, s, shift, w, f, lead, p, b, m = np.broadcast_arrays(
        *(
            np.asarray(a, dtype=np.float64)
            for a in (
                coercive_positive,
                coercive_negative,
                saturation,
                imprint,
                nucleation_width,
                nucleation_step,
                nucleation_lead,
                initial,
                offset,
                slope,
            )
        )
    )
    volts = np.asarray(bias, dtype=np.float64)
    response = np.empty((*s.shape, volts.size))
    for k, volt in enumerate(volts):
        rising, falling = volt - plus - shift, volt - minus - shift
        up = (1 - f) * np.tanh(rising / w) + f * np.tanh(4 * (rising + lead) / w)
        down = (1 - f) * np.tanh(falling / w) + f * np.tanh(4 * (falling - lead) / w)
        p = np.minimum(np.maximum(p, up), down)
        response[..., k] = s * p + b + m * volt
    return response

r"""Parameters of hysteresis loops.

The names and definitions are those of switching spectroscopy (Jesse, Lee and Kalinin, Rev. Sci.
Instrum. 77, 073702 (2006); Jesse, Baddorf and Kalinin, Appl. Phys. Lett. 88, 062908 (2006)).
Positive polarisation is what positive bias leaves behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError

NEAR_THE_END = 0.8
"""Fraction of the largest bias above which a loop counts as saturated."""
SURE = 4.0
"""Minimum opening of a loop that switches, standard deviations of its noise."""


@dataclass(frozen=True)
class LoopFields:
    r"""Parameters of a loop; NaN where there is none.

    On the rising branch the bias goes from its least to its largest value, on the falling one
    back. P is in the units of the loop, V in those of the bias; :math:`P_s^\pm` is the mean P where
    the bias is beyond 0.8 of its largest and of its least value.

    Parameters
    ----------
    coercive_positive, coercive_negative
        :math:`V^+` and :math:`V^-`: where the rising and the falling branch cross the middle of
        the loop (or the level that was asked for), V. NaN if the loop does not switch, or a
        branch does not cross.
    imprint
        :math:`(V^+ + V^-)/2`, V.
    remanence_positive, remanence_negative
        :math:`P_0^+` and :math:`P_0^-`: P at V = 0 on the falling branch (after positive bias)
        and on the rising one.
    switchable
        :math:`P_s^+ - P_s^-`.
    middle
        :math:`(P_s^+ + P_s^-)/2`, the vertical offset of the loop.
    area
        :math:`A = \oint P\,dV = \int (P_\mathrm{falling} - P_\mathrm{rising})\,dV`, the
        work of switching, in units of P times V; negative for a loop that runs the
        other way round.
    switches
        1 if the loop is open: if the area is larger than four times what
        the noise would give it, and 0 if not. The noise is the median of the second
        differences along the loop.
    """

    coercive_positive: float = np.nan
    coercive_negative: float = np.nan
    imprint: float = np.nan
    remanence_positive: float = np.nan
    remanence_negative: float = np.nan
    switchable: float = np.nan
    middle: float = np.nan
    area: float = np.nan
    switches: float = 0.0


def units_of(bias: str, polarisation: str) -> dict[str, str]:
    """Return the units of each number of `LoopFields`, of those of bias and polarisation."""
    area = f"{polarisation} {bias}".strip()
    units = {field.name: bias for field in fields(LoopFields)[:3]}
    units |= {field.name: polarisation for field in fields(LoopFields)[3:7]}
    return units | {"area": area, "switches": ""}


def rising_branch(bias: ArrayLike) -> NDArray[np.bool_]:
    """Say at which points of a waveform ``(points,)`` the bias comes from below.

    A pause goes on as before. The waveform is taken for closed: its first point follows the
    last one.
    """
    volts = np.asarray(bias, float)
    step = volts - np.roll(volts, 1)
    moving = np.flatnonzero(step)
    if not len(moving):
        return np.ones(len(volts), bool)
    last = np.maximum.accumulate(np.where(step != 0, np.arange(len(step)), -1))
    return step[np.where(last < 0, moving[-1], last)] > 0


def loop_fields(bias: ArrayLike, loop: ArrayLike, *, level: float | None = None) -> LoopFields:
    """Read the numbers off a loop, as `loop_field_arrays` does of many.

    Parameters
    ----------
    bias
        ``(points,)``, closed cycles in the order of time, V.
    loop
        ``(points,)``; points that are NaN are left out.
    level
        P at which the coercive biases are taken: None for the middle of the loop, 0 for its
        zeros.

    Returns
    -------
    LoopFields
        All NaN if fewer than eight points are numbers or one branch is missing.

    Raises
    ------
    InputError
        If the two do not belong together.
    """
    if np.ndim(loop) != 1:
        raise InputError(
            f"bias has shape {np.shape(bias)} and loop {np.shape(loop)}; expected two of "
            "(points,): give one loop, the mean over the cycles, with the bias of one cycle"
        )
    found = loop_field_arrays(bias, loop, level=level)
    return LoopFields(**{name: float(values) for name, values in found.items()})


def loop_field_arrays(
    bias: ArrayLike, loops: ArrayLike, *, level: float | None = None
) -> dict[str, NDArray]:
    r"""Read the numbers off many loops along one bias.

    A branch crosses a level where the sum of P less that level along it, in the order of the
    bias, is least: of several crossings that noise makes, this one has most of the
    branch on its right side. Between its two points P is taken for linear, and so it is
    for the remanence.

    The level is the middle of the loop, since a loop that is shifted along P (by
    electrostatics, or a part of the polarisation that does not switch) has coercive biases even
    where it does not cross zero. (In the recordings of mexpsimu a third of the loops and more
    do not have two zeros.)

    Where the bias repeats, the numbers are those of the mean over its cycles.

    Parameters
    ----------
    bias
        ``(points,)``, closed cycles in the order of time, V.
    loops
        ``(..., points)``; points that are NaN are left out.
    level
        As for `loop_fields`.

    Returns
    -------
    dict of str to NDArray
        The fields of `LoopFields`, ``(...)`` each.

    Raises
    ------
    InputError
        If the two do not belong together.
    """
    volts, given = np.asarray(bias, float), np.asarray(loops, float)
    if volts.ndim != 1 or volts.shape != given.shape[-1:]:
        raise InputError(
            f"bias has shape {volts.shape} and loop {given.shape}; expected two of (points,): give "
            "one loop, the mean over the cycles, with the bias of one cycle"
        )
    period = _period(volts)
    volts, p = volts[:period], _mean_of_cycles(given, period).reshape(-1, period)
    rising = rising_branch(np.where(np.isfinite(volts), volts, 0.0))
    out = {field.name: np.full(len(p), field.default) for field in fields(LoopFields)}
    for known, which in _alike(np.isfinite(p) & np.isfinite(volts)):
        for name, values in _read(volts[known], p[which][:, known], rising[known], level).items():
            out[name][which] = values
    return {name: values.reshape(given.shape[:-1]) for name, values in out.items()}


def loop_widths(found: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return half the width of loops, and half their opening at zero bias.

    Parameters
    ----------
    found
        As `loop_field_arrays` returns them.

    Returns
    -------
    dict of str to NDArray
        ``coercive_bias`` and ``remanence``.
    """
    return {
        "coercive_bias": (found["coercive_positive"] - found["coercive_negative"]) / 2,
        "remanence": (found["remanence_positive"] - found["remanence_negative"]) / 2,
    }


def _period(volts: NDArray) -> int:
    """Return the points after which a waveform repeats: all of them where it does not."""
    n = len(volts)
    apart = 1e-6 * np.ptp(volts) if n else 0.0
    for period in range(8, n // 2 + 1):
        if n % period == 0 and (abs(volts[period:] - volts[:-period]) <= apart).all():
            return period
    return n


def _mean_of_cycles(given: NDArray, period: int) -> NDArray:
    """Return the mean over the cycles, ``(..., period)``, of the points that are numbers."""
    if period == given.shape[-1]:
        return given
    cycles = given.reshape(*given.shape[:-1], -1, period)
    known = np.isfinite(cycles)
    with np.errstate(invalid="ignore"):  # a point that is in no cycle has no mean
        return np.where(known, cycles, 0.0).sum(axis=-2) / known.sum(axis=-2)


def _alike(known: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.intp]]]:
    """Yield each pattern of points that are numbers, with the loops that have it."""
    if len(known) and (known == known[0]).all():
        yield known[0], np.arange(len(known))
        return
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        yield pattern, np.flatnonzero(which.ravel() == k)


def _read(
    volts: NDArray, p: NDArray, rising: NDArray[np.bool_], level: float | None
) -> dict[str, NDArray | float]:
    """Read the numbers off loops without gaps, ``(loops, points)``; none where that is no loop."""
    if len(volts) < 8 or np.ptp(volts) == 0 or min(rising.sum(), (~rising).sum()) < 3:
        return {}
    # The extremes belong to both branches.
    turns = np.isin(np.arange(len(volts)), [volts.argmin(), volts.argmax()])
    up, down = _branch(volts, p, rising | turns), _branch(volts, p, ~rising | turns)
    upper, lower = volts >= NEAR_THE_END * volts.max(), volts <= NEAR_THE_END * volts.min()
    high = low = np.full(len(p), np.nan)
    if volts.max() > 0 > volts.min():
        high, low = p[:, upper].mean(axis=1), p[:, lower].mean(axis=1)
    levels = (high + low) / 2.0 if level is None else np.full(len(p), level)
    # Closed trapezoids: each point counts with half the bias between its neighbours.
    weights = (np.roll(volts, 1) - np.roll(volts, -1)) / 2.0
    area = p @ weights
    noise = SURE * _noise(p) * float(np.sqrt(weights @ weights))
    switches = area > noise + 1e-6 * np.ptp(volts) * np.ptp(p, axis=1)
    rise, fall = (np.where(switches, _crossing(*branch, levels), np.nan) for branch in (up, down))
    return {
        "coercive_positive": rise,
        "coercive_negative": fall,
        "imprint": (rise + fall) / 2.0,
        "remanence_positive": _at_zero(*down),
        "remanence_negative": _at_zero(*up),
        "switchable": high - low,
        "middle": (high + low) / 2.0,
        "area": area,
        "switches": switches.astype(float),
    }


def _branch(volts: NDArray, p: NDArray, which: NDArray) -> tuple[NDArray, NDArray]:
    """Bias, increasing, and P of one branch; points at one bias count as their mean."""
    order = np.flatnonzero(which)[np.argsort(volts[which], kind="stable")]
    bias, first, number = np.unique(volts[order], return_index=True, return_counts=True)
    return bias, np.add.reduceat(p[:, order], first, axis=1) / number


def _crossing(bias: NDArray, p: NDArray, level: NDArray) -> NDArray:
    """Bias at which P rises above a level; NaN if it does not."""
    p = p - level[:, None]
    last = np.cumsum(p, axis=1).argmin(axis=1)
    inside = np.minimum(last, len(bias) - 2)
    each = np.arange(len(p))
    before, after = p[each, inside], p[each, inside + 1]
    crosses = (last == inside) & (before < 0)
    share = np.divide(-before, after - before, out=np.full(len(p), np.nan), where=crosses)
    return bias[inside] + share * (bias[inside + 1] - bias[inside])


def _at_zero(bias: NDArray, p: NDArray) -> NDArray:
    """P at zero bias, linear between two points; NaN if the bias does not reach it."""
    if not bias[0] <= 0 <= bias[-1]:
        return np.full(len(p), np.nan)
    after = min(max(int(np.searchsorted(bias, 0.0)), 1), len(bias) - 1)
    share = -bias[after - 1] / (bias[after] - bias[after - 1])
    return p[:, after - 1] + share * (p[:, after] - p[:, after - 1])


def _noise(p: NDArray) -> NDArray:
    """Estimate the noise from the second differences, whose median a few jumps hardly move."""
    second = np.roll(p, 1, axis=1) - 2.0 * p + np.roll(p, -1, axis=1)
    return np.median(np.abs(second), axis=1) / 0.6745 / np.sqrt(6.0)

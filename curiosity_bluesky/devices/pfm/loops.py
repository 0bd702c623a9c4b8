r"""Parameters of hysteresis loops.

The names and definitions are those of switching spectroscopy (Jesse, Lee and Kalinin, Rev. Sci.
Instrum. 77, 073702 (2006); Jesse, Baddorf and Kalinin, Appl. Phys. Lett. 88, 062908 (2006)).
Positive polarisation is what positive bias leaves behind.
"""

from __future__ import annotations

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
    r"""Read the numbers off a loop.

    A branch crosses a level where the sum of P less that level along it, in the order of the
    bias, is least: of several crossings that noise makes, this one has most of the
    branch on its right side. Between its two points P is taken for linear, and so it is
    for the remanence.

    The level is the middle of the loop, since a loop that is shifted along P (by
    electrostatics, or a part of the polarisation that does not switch) has coercive biases even
    where it does not cross zero. (In the recordings of mexpsimu a third of the loops and more
    do not have two zeros.)

    Parameters
    ----------
    bias
        ``(points,)``, one closed cycle in the order of time, V.
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
    volts, p = np.asarray(bias, float), np.asarray(loop, float)
    if volts.ndim != 1 or volts.shape != p.shape:
        raise InputError(
            f"bias has shape {volts.shape} and loop {p.shape}; expected two of (points,): give one "
            "loop, the mean over the cycles, with the bias of one cycle"
        )
    known = np.isfinite(p) & np.isfinite(volts)
    rising = rising_branch(np.where(np.isfinite(volts), volts, 0.0))[known]
    volts, p = volts[known], p[known]
    if len(p) < 8 or np.ptp(volts) == 0 or min(rising.sum(), (~rising).sum()) < 3:
        return LoopFields()
    # The extremes belong to both branches.
    turns = np.isin(np.arange(len(p)), [volts.argmin(), volts.argmax()])
    up, down = _branch(volts, p, rising | turns), _branch(volts, p, ~rising | turns)
    upper, lower = volts >= NEAR_THE_END * volts.max(), volts <= NEAR_THE_END * volts.min()
    bipolar = volts.max() > 0 > volts.min()
    high, low = (float(p[part].mean()) if bipolar else np.nan for part in (upper, lower))
    level = (high + low) / 2.0 if level is None else level
    # Closed trapezoids: each point counts with half the bias between its neighbours.
    weights = (np.roll(volts, 1) - np.roll(volts, -1)) / 2.0
    area = float(weights @ p)
    noise = SURE * _noise(p) * float(np.sqrt(weights @ weights))
    switches = area > noise + 1e-6 * np.ptp(volts) * np.ptp(p)
    crossings = [_crossing(*branch, level) if switches else np.nan for branch in (up, down)]
    return LoopFields(
        coercive_positive=crossings[0],
        coercive_negative=crossings[1],
        imprint=sum(crossings) / 2.0,
        remanence_positive=_at_zero(*down),
        remanence_negative=_at_zero(*up),
        switchable=high - low,
        middle=(high + low) / 2.0,
        area=area,
        switches=float(switches),
    )


def _branch(volts: NDArray, p: NDArray, which: NDArray) -> tuple[NDArray, NDArray]:
    """Bias, increasing, and P of one branch; points at one bias count as their mean."""
    bias, number = np.unique(volts[which], return_inverse=True)
    return bias, np.bincount(number, p[which]) / np.bincount(number)


def _crossing(bias: NDArray, p: NDArray, level: float) -> float:
    """Bias at which P rises above a level; NaN if it does not."""
    p = p - level
    last = int(np.cumsum(p).argmin())
    if last == len(p) - 1 or not p[last] < 0:
        return np.nan
    share = -p[last] / (p[last + 1] - p[last])
    return float(bias[last] + share * (bias[last + 1] - bias[last]))


def _at_zero(bias: NDArray, p: NDArray) -> float:
    return float(np.interp(0.0, bias, p, left=np.nan, right=np.nan))


def _noise(p: NDArray) -> float:
    """Estimate the noise from the second differences, whose median a few jumps hardly move."""
    second = np.roll(p, 1) - 2.0 * p + np.roll(p, -1)
    return float(np.median(np.abs(second)) / 0.6745 / np.sqrt(6.0))

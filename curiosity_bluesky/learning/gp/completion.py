"""Completion of short spectra: what the cycles that were not measured would have shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.records import TrainingData

PENALTIES = np.logspace(-4, 4, 17)
"""Ridge penalties that are tried, in units of the mean eigenvalue."""
CHANNELS = 8
"""Most channels that are looked for, one behind the other."""
FEWEST = 3
"""Full spectra that a completion is learned from at least."""


@dataclass(frozen=True)
class Cycles:
    """Points of the cycles in a spectrum, of several channels one behind the other.

    Parameters
    ----------
    period
        Points of a cycle.
    cycles
        Cycles of a full spectrum.
    """

    period: int
    cycles: int

    @staticmethod
    def found(recorded: NDArray[np.bool_], dwell: float, full: float) -> Cycles | None:
        """Find them in what short spectra recorded; None where they recorded all there is.

        Parameters
        ----------
        recorded
            ``(points,)``, True where any short spectrum of that setting holds a number.
        dwell, full
            Settings of these spectra, and of a full one.
        """
        points = len(recorded)
        for channels in range(1, CHANNELS + 1):
            if points % (channels * int(full)):
                continue
            cycles = Cycles(points // (channels * int(full)), int(full))
            if not (recorded & ~cycles.recorded(points, dwell)).any():
                return cycles
        return None

    def recorded(self, points: int, dwell: float) -> NDArray[np.bool_]:
        """Return where a spectrum of so many cycles holds numbers, ``(points,)``."""
        return np.arange(points) % (self.period * self.cycles) < dwell * self.period

    def last(self, points: int, dwell: float) -> NDArray[np.intp]:
        """Return the point of the same phase in the last cycle, for each missing one."""
        at = np.arange(points)
        channel, within = np.divmod(at, self.period * self.cycles)
        last = channel * self.period * self.cycles
        last += (int(dwell) - 1) * self.period + within % self.period
        return last[~self.recorded(points, dwell)]


@dataclass(frozen=True, eq=False)
class Completion:
    r"""Ridge regression of what a short spectrum lacks on what it has.

    What is missing is at first the last value of the same phase: the last cycle is repeated. The
    regression learns, from spectra that were measured in full, by what the later cycles differ
    from that: their mean difference, shrunk as far as it may be chance (James and Stein 1961), and
    as much of what depends on the spectrum as lowers the leave-one-out error (Hoerl and Kennard
    1970; in closed form as in Rifkin and Lippert 2007).

    Parameters
    ----------
    has
        ``(points,)``, True where the short spectrum was recorded.
    last
        ``(missing,)`` point of the same phase in the last cycle that was recorded.
    centre
        ``(points,)`` mean of the full spectra; of the missing points that of the difference.
    slopes
        ``(recorded, missing)``.
    errors
        ``(n, points)`` leave-one-out errors of the full spectra, 0 where it was recorded.
    """

    has: NDArray[np.bool_]
    last: NDArray[np.intp]
    centre: NDArray
    slopes: NDArray
    errors: NDArray

    @staticmethod
    def of(full: NDArray, has: NDArray[np.bool_], last: NDArray[np.intp]) -> Completion:
        """Learn from full spectra.

        Parameters
        ----------
        full
            ``(n, points)``; of fewer than `FEWEST` nothing is learned, and cycles are repeated.
        has, last
            As for the class.
        """
        if len(full) < FEWEST:  # nothing is known of the later cycles
            return Completion(
                has,
                last,
                np.zeros(len(has)),
                np.zeros((has.sum(), len(last))),
                np.zeros(full.shape),
            )
        known, difference = full[:, has], full[:, ~has] - full[:, last]
        centre = np.empty(full.shape[1])
        centre[has], mean = known.mean(axis=0), difference.mean(axis=0)
        known, missing = known - centre[has], difference - mean
        n = len(full)
        chance = float((missing**2).sum() / (n - 1) / n)
        shrunk = max(0.0, 1 - chance / max(float((mean**2).sum()), 1e-300))
        centre[~has] = shrunk * mean
        eigenvalues, vectors = np.linalg.eigh(known @ known.T)
        eigenvalues = np.maximum(eigenvalues, 0.0)
        rotated = vectors.T @ missing
        # The mean difference alone, shrunk, of the other spectra.
        mean_of_others = (n * mean - difference) / (n - 1)
        best = difference - shrunk * mean_of_others
        slopes = np.zeros((int(has.sum()), missing.shape[1]))
        for penalty in PENALTIES * max(float(eigenvalues.mean()), 1e-300):
            kept = eigenvalues / (eigenvalues + penalty)
            leverage = 1 / n + (vectors**2) @ kept
            left = (missing - vectors @ (kept[:, None] * rotated)) / (1 - leverage)[:, None]
            left += (1 - shrunk) * mean_of_others
            if (left**2).sum() < (best**2).sum():
                best = left
                slopes = known.T @ (vectors @ (rotated / (eigenvalues + penalty)[:, None]))
        errors = np.zeros(full.shape)
        errors[:, ~has] = best
        return Completion(has, last, centre, slopes, errors)

    def __call__(self, spectra: NDArray) -> NDArray:
        """Return short spectra as full ones, ``(n, points)``; what was recorded stays."""
        known = spectra[:, self.has]
        # A point that failed in this spectrum alone counts as usual.
        deviation = np.nan_to_num(known - self.centre[self.has])
        completed = spectra.copy()
        completed[:, ~self.has] = (
            spectra[:, self.last] + self.centre[~self.has] + deviation @ self.slopes
        )
        return completed


class ShortSpectra:
    """Spectra of all dwell settings as full ones, and how far each setting is to be trusted.

    Parameters
    ----------
    dwells
        Dwell settings of the detector, ascending, the last one that of a full spectrum.

    Attributes
    ----------
    dwell : (n,)
        Setting of each observation that was completed last.
    """

    def __init__(self, dwells: Sequence[float]) -> None:
        self.dwells = np.array(dwells, float)
        self.dwell: NDArray = np.empty(0)
        self._completions: dict[float, Completion] = {}
        self._cycles: Cycles | None = None
        self._errors: dict[float, float] = {}

    def complete(self, observed: TrainingData) -> NDArray:
        """Return the spectra, the short ones with what they lack, ``(n, points)``.

        Where nothing was ever recorded there is nothing. If every setting records the whole axis,
        they are as they were measured.
        """
        spectra, full = observed.spectra, self.dwells[-1]
        self.dwell = np.full(len(spectra), full)
        if observed.dwell is not None:
            self.dwell = np.where(np.isfinite(observed.dwell), observed.dwell, full)
        short = self.dwell < full
        self._completions, self._cycles = {}, None
        if not short.any():
            return spectra
        points, longest = spectra.shape[1], float(self.dwell[short].max())
        recorded: NDArray[np.bool_] = np.any(np.isfinite(spectra[self.dwell == longest]), axis=0)
        self._cycles = Cycles.found(recorded, longest, full)
        if self._cycles is None:
            return spectra
        known = spectra[~short]
        seen = np.isfinite(known)
        sums = np.where(seen, known, 0.0).sum(axis=0)
        known = np.where(seen, known, sums / np.maximum(seen.sum(axis=0), 1))
        completed = spectra.copy()
        for dwell in self.dwells[:-1]:
            has = self._cycles.recorded(points, dwell)
            learned = Completion.of(known, has, self._cycles.last(points, dwell))
            rows = np.flatnonzero(self.dwell == dwell)
            completed[rows] = learned(spectra[rows])
            self._completions[float(dwell)] = learned
        if len(known):
            completed[np.ix_(short, ~seen.any(axis=0))] = np.nan
        return completed

    def learn_errors(self, axes: NDArray) -> None:
        """Learn how wrong completion is, along the principal axes ``(outputs, points)``."""
        self._errors = {
            dwell: float(((learned.errors @ axes.T) ** 2).sum(axis=1).mean())
            for dwell, learned in self._completions.items()
            if len(learned.errors)
        }

    def noise(self, dwells: NDArray, unit: float) -> tuple[NDArray, NDArray]:
        """Noise of spectra of some settings.

        That of a full spectrum and, as far as it lacks cycles, the mean squared leave-one-out error
        of completion; else that of a full spectrum, averaged over the shorter time.

        Parameters
        ----------
        dwells
            ``(n,)``.
        unit
            Squared output that a variance of 1 stands for, summed over the outputs.

        Returns
        -------
        times, more
            ``(n,)`` each: how many times the noise of a full spectrum, and how much more.
        """
        if self._cycles is None:
            return self.dwells[-1] / dwells, np.zeros(len(dwells))
        errors = np.array([self._errors.get(float(dwell), 0.0) for dwell in dwells])
        return np.ones(len(dwells)), errors / unit

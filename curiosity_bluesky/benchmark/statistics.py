"""Statistics of trials: curves with bands, savings, paired tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Frame = Any
"""A pandas DataFrame: its annotations are too wide for a type checker."""

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Curves:
    """One figure of merit of one arm, along the run.

    Parameters
    ----------
    n
        ``(steps,)`` numbers of spectra.
    seeds
        ``(seeds,)``.
    values
        ``(seeds, steps)``.
    """

    n: NDArray
    seeds: NDArray
    values: NDArray

    @property
    def mean(self) -> NDArray:
        """Mean over the seeds, ``(steps,)``."""
        return self.values.mean(axis=0)

    def band(self) -> tuple[NDArray, NDArray]:
        """95 % bootstrap interval of the mean over the seeds (percentiles), ``(steps,)`` each."""
        means = self.values[_resampled(len(self.seeds))].mean(axis=1)
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(means, [tail, 100 - tail], axis=0)
        return low, high

    def at(self, n: int) -> NDArray:
        """Values after `n` spectra, ``(seeds,)``."""
        return self.values[:, int(np.flatnonzero(self.n == n)[0])]

    def common(self, other: Curves) -> tuple[Curves, Curves]:
        """Return both on the seeds and steps that they share."""
        seeds = np.intersect1d(self.seeds, other.seeds)
        n = np.intersect1d(self.n, other.n)
        return self._cut(seeds, n), other._cut(seeds, n)

    def _cut(self, seeds: NDArray, n: NDArray) -> Curves:
        rows, columns = np.isin(self.seeds, seeds), np.isin(self.n, n)
        return Curves(n, seeds, self.values[rows][:, columns])


def curves(table: Frame, metric: str) -> dict[str, Curves]:
    """Return the curves of all arms in a table of one sample and protocol.

    Trials that are not complete (a campaign that is not done) do not count.
    """
    found = {}
    for arm, rows in table.groupby("arm", sort=False):
        wide = rows.pivot(index="seed", columns="n_observed", values=metric).dropna()
        if len(wide):
            found[str(arm)] = Curves(
                wide.columns.to_numpy(), wide.index.to_numpy(), wide.to_numpy(float)
            )
    return found


@dataclass(frozen=True)
class Saving:
    """How many measurements the reference needs for what the arm has after `n`, divided by n.

    Parameters
    ----------
    value, low, high
        The saving and its 95 % bootstrap interval over the seeds. Infinite where the reference
        does not get there within the budget, 0 where it is there before its first score.
    least, most
        What could be seen at all: the first and the last score, divided by n.
    """

    value: float
    low: float
    high: float
    least: float
    most: float

    def __str__(self) -> str:
        value, low, high = map(self._words, (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"

    def _words(self, value: float) -> str:
        if value == 0:
            return f"< {self.least:.2f}"
        return f"> {self.most:.2f}" if value == np.inf else f"{value:.2f}"


def saving(arm: Curves, reference: Curves, n: int) -> Saving | None:
    """Compare two arms by the number of measurements; None where `n` was not scored in both.

    The reference's mean curve is made monotone (what was once known is not counted as lost)
    and interpolated linearly; LEARNING's saving(n).
    """
    arm, reference = arm.common(reference)
    if n not in arm.n or len(arm.n) < 2 or not len(arm.seeds):
        return None
    step = int(np.flatnonzero(arm.n == n)[0])
    draws = _resampled(len(arm.seeds))
    targets = arm.values[draws].mean(axis=1)[:, step]
    means = reference.values[draws].mean(axis=1)
    resampled = [_needed(t, reference.n, m) / n for t, m in zip(targets, means, strict=True)]
    # No interpolation between a number and infinity.
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail], method="nearest")
    return Saving(
        _needed(arm.mean[step], reference.n, reference.mean) / n,
        float(low),
        float(high),
        float(reference.n[0] / n),
        float(reference.n[-1] / n),
    )


def _needed(target: float, n: NDArray, mean: NDArray) -> float:
    falling = np.minimum.accumulate(mean)
    if falling[-1] > target:
        return float(np.inf)
    k = int(np.argmax(falling <= target))
    if k == 0:
        return float(n[0]) if falling[0] == target else 0.0
    share = (falling[k - 1] - target) / (falling[k - 1] - falling[k])
    return float(n[k - 1] + share * (n[k] - n[k - 1]))


@dataclass(frozen=True)
class Comparison:
    """Two arms after the same number of spectra, seed by seed.

    Parameters
    ----------
    difference, low, high
        Mean of arm less reference, and its 95 % bootstrap interval.
    ranks
        Sign of the signed ranks: -1 where the arm is mostly smaller.
    p
        Of a two-sided Wilcoxon signed-rank test; 1 where there is no difference at all.
    seeds
        Pairs.
    """

    difference: float
    low: float
    high: float
    ranks: int
    p: float
    seeds: int

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no different``.

        A difference has to show in the ranks (p below 0.05) and in the mean alike: a few runs
        that go astray can turn the mean against all the others.
        """
        if self.p >= 0.05 or np.sign(self.difference) != self.ranks:
            return "no different"
        return "better" if self.ranks < 0 else "worse"


def compare(arm: NDArray, reference: NDArray) -> Comparison:
    """Compare paired values, smaller is better, ``(seeds,)`` each."""
    difference = arm - reference
    means = difference[_resampled(len(difference))].mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    test: Any = stats.wilcoxon(difference) if difference.any() else None
    p = 1.0 if test is None else float(test.pvalue)
    ranks = np.sign(np.sum(np.sign(difference) * stats.rankdata(np.abs(difference))))
    return Comparison(
        float(difference.mean()), float(low), float(high), int(ranks), p, len(difference)
    )


def mean_with_interval(values: NDArray) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval, of ``(seeds,)``."""
    means = values[_resampled(len(values))].mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(values.mean()), float(low), float(high)


def _resampled(n: int) -> NDArray[np.intp]:
    return np.random.default_rng(0).integers(n, size=(RESAMPLES, n))

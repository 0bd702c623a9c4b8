"""Scores of the predictions, where the truth is known.

Every score compares the predicted spectra with the true ones at the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.explorer import Explorer


def withheld_pixels(shape: tuple[int, int], fraction: float) -> NDArray[np.bool_]:
    """Draw the pixels that are never offered to a strategy, so that they can test it.

    They depend on the shape and the fraction alone: all strategies and seeds are tested
    on the same pixels.

    Parameters
    ----------
    shape
        ``(rows, cols)`` of the survey.
    fraction
        Share of the pixels, from 0 to less than 1.

    Returns
    -------
    NDArray
        ``(rows, cols)``, True for a withheld pixel.

    Raises
    ------
    InputError
        If the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"withhold is {fraction}; expected a share from 0 to less than 1")
    return np.random.default_rng(20).random(shape) < fraction


@dataclass(frozen=True)
class Score:
    """Score of the predictions after `n_observed` spectra.

    Parameters
    ----------
    n_observed
        Spectra measured.
    test_nmse
        Mean squared error over the withheld pixels, divided by the mean squared deviation
        of all candidates' spectra from their mean: 1 is the mean spectrum, 0 perfect. NaN
        where none were withheld.
    hidden_nmse
        The same over all pixels not measured yet, the withheld ones included.
    published_score
        Sum over all candidates, measured or not, of the mean squared error: what the
        published notebooks print (in the units of the spectra, squared).
    worst_ten
        Mean of the ten largest mean squared errors among all candidates, in the same units
        (the paper's Fig. 7).
    """

    n_observed: int
    test_nmse: float
    hidden_nmse: float
    published_score: float
    worst_ten: float


class Scorer:
    """Keeps the scores along a run; call it with the explorer after every measurement.

    Parameters
    ----------
    truth
        ``(rows, cols, points)``, the spectra everywhere.
    withheld
        ``(rows, cols)``, True for the pixels that test what was learned.
    area
        ``(rows, cols)``, True for the pixels that count; default all candidates. It makes
        strategies with patches of different sizes comparable.
    """

    def __init__(
        self,
        truth: NDArray,
        withheld: NDArray[np.bool_],
        area: NDArray[np.bool_] | None = None,
    ) -> None:
        self._truth = np.asarray(truth, dtype=float)
        self._withheld = withheld
        self._area = np.ones(withheld.shape, bool) if area is None else area
        self.scores: list[Score] = []
        self.errors: NDArray = np.full(withheld.shape, np.nan)
        """``(rows, cols)``: mean squared error of the last scored prediction."""

    def __call__(self, explorer: Explorer) -> None:
        """Score the explorer's present prediction, once for each number of spectra."""
        n = explorer.n_observed
        if n < min(explorer.strategy.n_seeds, explorer.budget):
            return  # nothing is trained before the seeds are in
        if self.scores and self.scores[-1].n_observed == n:
            return
        patches = explorer.patches
        counts = patches.flatten(self._area)
        truth = patches.flatten(self._truth)
        predicted = patches.flatten(explorer.predict().spectra)
        difference = predicted - truth
        known = np.isfinite(difference).any(axis=1)  # some pixels may have no spectrum
        squared = np.full(len(patches), np.nan)
        squared[known] = np.nanmean(difference[known] ** 2, axis=1)
        self.errors = patches.unflatten(squared)
        deviation = mean_deviation(truth[counts])
        hidden = np.ones(len(patches), bool)
        for observation in explorer.observations:
            if (index := patches.index(observation.pixel)) is not None:
                hidden[index] = False
        self.scores.append(
            Score(
                n_observed=n,
                test_nmse=_relative(squared[patches.flatten(self._withheld) & counts], deviation),
                hidden_nmse=_relative(squared[hidden & counts], deviation),
                published_score=float(np.nansum(squared[counts])),
                worst_ten=float(np.mean(np.sort(squared[counts & known])[-10:])),
            )
        )

    def summary(self) -> dict[str, float | None]:
        """Return the last scores and the smallest published one; None for what is not known."""
        names = ("test_nmse", "hidden_nmse", "published_score")
        if not self.scores:
            return dict.fromkeys(names)
        last = {name: getattr(self.scores[-1], name) for name in names}
        last["published_score"] = min(score.published_score for score in self.scores)
        return {name: value if np.isfinite(value) else None for name, value in last.items()}


def mean_deviation(spectra: NDArray) -> float:
    """Mean squared deviation of spectra ``(n, points)`` from their mean spectrum."""
    return float(np.nanmean((spectra - np.nanmean(spectra, axis=0)) ** 2))


def _relative(squared: NDArray, deviation: float) -> float:
    return float(np.nanmean(squared) / deviation) if squared.size and deviation > 0 else np.nan

"""``oracle``: what choosing could be worth at most, roughly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning._numbers import mean_square
from curiosity_bluesky.learning.acquisition import Best
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.records import Scores, TrainingData
from curiosity_bluesky.learning.seeding import RandomSeeding
from curiosity_bluesky.learning.strategies._baseline import GaussianProcessStrategy


@dataclass(frozen=True, kw_only=True)
class Oracle(GaussianProcessStrategy):
    """The true error, smoothed, times the variance of the Gaussian process.

    An upper reference for a benchmark, where the truth is known; it cannot measure anything.
    Sharp, it runs after noise; smoothed, it knows where a region is still badly predicted.

    Parameters
    ----------
    smoothing
        Standard deviation of the Gaussian that smooths the true error, in pixels; 0 for
        none.
    """

    name: ClassVar[str] = "oracle"
    needs_truth: ClassVar[bool] = True

    smoothing: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect("0 or more", "smoothing", within=lambda value: value >= 0)

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        if patches.truth is None:
            raise InputError(
                f"the strategy {self.name!r} goes by the true spectra, which are not known during "
                "a measurement; use it in `curiosity benchmark`"
            )
        predictor = self.gp(patches, on_epoch)
        return ModelLearner(
            patches,
            seeding=RandomSeeding(),
            predictor=predictor,
            curiosity=TrueError(predictor, patches, patches.truth, self.smoothing),
            choice=Best(),
            n_seeds=self.n_seeds,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class TrueError:
    """The error at every candidate, known, times the variance."""

    predictor: GaussianProcessPredictor
    patches: Patches
    truth: NDArray
    smoothing: float

    def start(self, observed: TrainingData) -> float:
        """Nothing is trained."""
        return np.nan

    update = start

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate."""
        from scipy.ndimage import gaussian_filter

        difference = self.predictor.predict() - self.patches.flatten(self.truth)
        # A pixel without a spectrum has no error, and nothing to be learned from.
        difference[~np.isfinite(difference)] = np.nan
        known = np.isfinite(difference).any(axis=1)
        error = np.zeros(len(difference))
        error[known] = mean_square(difference[known])
        image = error.reshape(self.patches.grid)
        error = gaussian_filter(image, self.smoothing, mode="nearest").ravel()
        variance = self.predictor.posterior.variance
        return Scores(error * variance, error, uncertainty=np.sqrt(variance))

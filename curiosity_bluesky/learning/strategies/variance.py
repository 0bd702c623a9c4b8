"""``variance``: where the Gaussian process knows least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from curiosity_bluesky.learning.acquisition import Best
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.records import Scores, TrainingData
from curiosity_bluesky.learning.seeding import RandomSeeding
from curiosity_bluesky.learning.strategies._baseline import GaussianProcessStrategy


@dataclass(frozen=True, kw_only=True)
class Variance(GaussianProcessStrategy):
    """The largest posterior variance of the Gaussian process (Seo et al. 2000, ALM).

    The variance knows the hyper-parameters, found from the spectra, and where was measured,
    but not what was measured.
    """

    name: ClassVar[str] = "variance"

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        predictor = self.gp(patches, on_epoch)
        return ModelLearner(
            patches,
            seeding=RandomSeeding(),
            predictor=predictor,
            curiosity=PosteriorVariance(predictor),
            choice=Best(),
            n_seeds=self.n_seeds,
            seed=seed,
        )


@dataclass(frozen=True)
class PosteriorVariance:
    """The variance as the map that is maximised."""

    follows: ClassVar[bool] = True

    predictor: GaussianProcessPredictor

    def start(self, observed: TrainingData) -> float:
        """Nothing is trained."""
        return np.nan

    update = start

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate."""
        variance = self.predictor.posterior.variance
        return Scores(acquisition=variance, uncertainty=np.sqrt(variance))

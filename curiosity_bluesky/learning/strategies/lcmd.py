"""``lcmd``: largest cluster, maximum distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.records import Reason, Scores, TrainingData
from curiosity_bluesky.learning.seeding import RandomSeeding
from curiosity_bluesky.learning.strategies._baseline import GaussianProcessStrategy


@dataclass(frozen=True, kw_only=True)
class LCMD(GaussianProcessStrategy):
    """The pixel farthest from its centre in the cluster with the largest sum of squares.

    LCMD-TP of D. Holzmüller et al., JMLR 24 (2023) 1-81, section 4.3.6, with the kernel of
    the Gaussian process: every pixel belongs to the nearest measured one, where near is
    meant in the kernel's feature space.
    """

    name: ClassVar[str] = "lcmd"

    @property
    def cost_aware(self) -> bool:
        """Whether it can choose by time: a cluster has no acquisition."""
        return False

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        predictor = self.gp(patches, on_epoch)
        rule = LargestCluster(predictor)
        return ModelLearner(
            patches,
            seeding=RandomSeeding(),
            predictor=predictor,
            curiosity=rule,
            choice=rule,
            n_seeds=self.n_seeds,
            seed=seed,
        )


class LargestCluster:
    """Curiosity and choice at once: each chosen pixel is the centre of a cluster of its own.

    Parameters
    ----------
    predictor
        Whose kernel says what is near.
    """

    follows: ClassVar[bool] = True

    def __init__(self, predictor: GaussianProcessPredictor) -> None:
        self._predictor = predictor
        self._pending: NDArray[np.intp] = np.array([], dtype=np.intp)

    def start(self, observed: TrainingData) -> float:
        """Nothing is trained."""
        return np.nan

    update = start

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate by the squared distance from its centre."""
        self._distances = self._squared_distances(observed.indices)
        return Scores(acquisition=self._distances.min(axis=1))

    def _squared_distances(self, centres: NDArray[np.intp]) -> NDArray:
        """In feature space, ``(candidates, centres)``: k(x, x) + k(y, y) - 2 k(x, y)."""
        posterior, inputs = self._predictor.posterior, self._predictor.inputs
        own = posterior.kernel.variance(inputs, np.arange(len(inputs)))
        return np.maximum(
            own[:, None] + own[centres] - 2 * posterior.prior_covariance(centres), 0.0
        )

    def set_pending(self, pending: NDArray[np.intp]) -> None:
        """Take what is decided on and not measured yet as a centre too."""
        self._pending = pending

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, with the reason ``curious``."""
        left = available.copy()
        distances = np.hstack([self._distances, self._squared_distances(self._pending)])
        chosen: list[tuple[int, Reason]] = []
        while len(chosen) < n and left.any():
            nearest, own = distances.argmin(axis=1), distances.min(axis=1)
            sizes = np.bincount(nearest[left], own[left], minlength=distances.shape[1])
            inside = left & (nearest == int(np.argmax(sizes)))
            # All that is left may lie on its centres (a constant image): any of them then.
            index = int(np.argmax(np.where(inside if inside.any() else left, own, -1.0)))
            left[index] = False
            chosen.append((index, "curious"))
            added = self._squared_distances(np.array([index], dtype=np.intp))
            distances = np.concatenate([distances, added], axis=1)
        return chosen

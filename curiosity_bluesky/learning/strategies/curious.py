"""``curious``: where the next spectrum makes the whole map less wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from curiosity_bluesky.learning.gp.expected_error_reduction import ExpectedErrorReduction, Weights
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.seeding import RandomSeeding, RepresentativeSeeding
from curiosity_bluesky.learning.strategies._baseline import GaussianProcessStrategy
from curiosity_bluesky.learning.strategies._design import plan_points


@dataclass(frozen=True, kw_only=True)
class Curious(GaussianProcessStrategy):
    """The default: a Gaussian process, its out-of-sample errors, and what they teach.

    Each decision takes the pixel whose spectrum is expected to lower the error of the whole
    map most (`ExpectedErrorReduction`). docs/curious.md has the mathematics and its sources.

    Parameters
    ----------
    seeding
        ``representative`` of all structures and all of the area, or ``random``.
    weights
        What the error at a place counts: ``learnable``, as far as neighbours help to predict
        it; ``error``, all of it; ``none``, all places alike.
    target_error
        Stop when the error over the whole area is expected to be less than this share of the
        variance of the spectra; None to go on.
    least_gain
        Stop when the next spectrum is expected to lower that error, as far as it can be
        learned, by less than this share; None to go on.
    references
        Pixels that stand for the whole area.
    pool
        Most pixels to choose from, and to have maps of; they are drawn at random from a larger
        area.
    """

    name: ClassVar[str] = "curious"

    seeding: Literal["representative", "random"] = "representative"
    weights: Weights = "learnable"
    target_error: float | None = None
    least_gain: float | None = None
    references: int = 400
    pool: int = 16384

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect("1 or more", "references", "pool", within=lambda v: v >= 1)
        self._expect(
            "more than 0", "target_error", "least_gain", within=lambda v: v is None or v > 0
        )

    @property
    def dwell_aware(self) -> bool:
        """Whether it can choose how long to measure."""
        return True

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        return self._learner(patches, self.gp(patches, on_epoch), ExpectedErrorReduction, seed)

    def _learner(
        self,
        patches: Patches,
        predictor: GaussianProcessPredictor,
        curiosity: type[ExpectedErrorReduction],
        seed: int,
    ) -> Learner:
        from scipy.stats import qmc  # which takes long to import

        pool = np.arange(len(patches))
        if len(patches) > self.pool:
            rng = np.random.default_rng([seed, self.pool])
            pool = np.sort(rng.permutation(np.flatnonzero(patches.allowed))[: self.pool])
        even = qmc.Halton(2, rng=np.random.default_rng([seed, 0])).random(self.references)
        rule = curiosity(
            predictor,
            patches,
            pool,
            plan_points(patches, even).order,
            self.weights,
            self.target_error,
            self.least_gain,
            self.dwell_seconds if self.dwell == "auto" and self.dwell_seconds else (),
        )
        representative = RepresentativeSeeding(predictor.inputs, pool)
        return ModelLearner(
            patches,
            seeding=RandomSeeding() if self.seeding == "random" else representative,
            predictor=predictor,
            curiosity=rule,
            choice=rule,
            # Asked only if there is something to be asked: it would train for nothing.
            stopping=rule if self.target_error or self.least_gain else None,
            n_seeds=self.n_seeds,
            seed=seed,
        )

"""``random``: the baseline, with the same predictor as the published strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from curiosity_bluesky.learning.acquisition import AnyPixel
from curiosity_bluesky.learning.learner import CuriousLearner
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Learner
from curiosity_bluesky.learning.seeding import RandomSeeding
from curiosity_bluesky.learning.strategies._im2spec import Im2SpecStrategy
from curiosity_bluesky.learning.strategy import register


@register
@dataclass(frozen=True, kw_only=True)
class Random(Im2SpecStrategy):
    """Distinct random pixels from the first to the last.

    The predictor is that of ``vatsavai2025-latent``, so that the two differ in the choice
    of the pixels alone. It is trained when somebody asks for a prediction; choosing costs
    nothing.
    """

    name: ClassVar[str] = "random"

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        return CuriousLearner(
            patches,
            seeding=RandomSeeding(),
            predictor=self._predictor(patches, seed, on_epoch),
            choice=AnyPixel(),
            n_seeds=self.n_seeds,
            budget=budget,
            seed=seed,
        )

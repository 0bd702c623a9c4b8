"""``random``: what curiosity has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from curiosity_bluesky.learning.acquisition import RandomPixel
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice
from curiosity_bluesky.learning.strategies._baseline import Baseline


@dataclass(frozen=True, kw_only=True)
class Random(Baseline):
    """Distinct random pixels from the first to the last.

    With ``predictor="im2spec"`` it differs from ``vatsavai2025-latent`` in the choice of the
    pixels alone.
    """

    name: ClassVar[str] = "random"

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        return RandomPixel()

"""``sobol``: a sequence that fills the area evenly at every length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice
from curiosity_bluesky.learning.strategies._baseline import Baseline
from curiosity_bluesky.learning.strategies._design import plan_points


@dataclass(frozen=True, kw_only=True)
class Sobol(Baseline):
    """A scrambled Sobol sequence over the area (Owen 1998; `scipy.stats.qmc.Sobol`).

    Each point goes to the nearest pixel that may be measured and was not taken by a point
    before it.
    """

    name: ClassVar[str] = "sobol"

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        from scipy.stats import qmc  # which takes long to import

        sequence = qmc.Sobol(2, scramble=True, rng=seed)
        points = sequence.random_base2(max(1, math.ceil(math.log2(budget))))
        return plan_points(patches, points)

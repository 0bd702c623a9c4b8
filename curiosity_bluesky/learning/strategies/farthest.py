"""``farthest``: always the pixel that is least like any measured one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice
from curiosity_bluesky.learning.records import Reason
from curiosity_bluesky.learning.strategies._baseline import Baseline


@dataclass(frozen=True, kw_only=True)
class Farthest(Baseline):
    """The pixel farthest from its nearest measured one (Gonzalez 1985).

    Parameters
    ----------
    space
        What far means: ``position``, or ``patch``, all pixels of a patch counting alike.
    """

    name: ClassVar[str] = "farthest"

    space: Literal["position", "patch"] = "position"

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        inputs = KernelInputs(patches)
        points = inputs.position
        if self.space == "patch":
            kernel = Kernel.start(inputs.channels, window=False)
            points = kernel.features(inputs, np.arange(len(inputs)))
        return FarthestPoint(points, patches.allowed)


@dataclass(frozen=True, eq=False)
class FarthestPoint:
    """Greedy farthest point sampling; a pixel that was decided on counts as measured.

    Parameters
    ----------
    points
        ``(candidates, dimensions)``.
    allowed
        ``(candidates,)``: those that are not allowed are not available and not measured.
    """

    points: NDArray
    allowed: NDArray[np.bool_]

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, with the reason ``design``."""
        from scipy.spatial.distance import cdist

        left = np.flatnonzero(available)
        taken = np.flatnonzero(self.allowed & ~available)
        nearest = cdist(self.points[left], self.points[taken]).min(axis=1, initial=np.inf)
        chosen: list[tuple[int, Reason]] = []
        while len(chosen) < min(n, len(left)):
            # The very first one has nothing to be far from.
            first = not len(taken) and not chosen
            k = int(rng.integers(len(left)) if first else np.argmax(nearest))
            chosen.append((int(left[k]), "design"))
            nearest = np.minimum(nearest, cdist(self.points[left], self.points[[left[k]]])[:, 0])
            nearest[k] = -1.0
        return chosen

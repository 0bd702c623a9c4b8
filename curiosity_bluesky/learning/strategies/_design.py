"""Designs: where to measure is planned before the first spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.records import Reason


@dataclass(frozen=True, eq=False)
class PlannedPoints:
    """The next candidates of a plan; random ones when it is at its end.

    Parameters
    ----------
    order
        ``(n,)`` distinct candidates, in the order to measure them.
    """

    order: NDArray[np.intp]

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, with the reason ``design``."""
        ahead = self.order[available[self.order]][:n]
        rest = rng.permutation(np.setdiff1d(np.flatnonzero(available), self.order))
        chosen: list[tuple[int, Reason]] = [(int(index), "design") for index in ahead]
        return chosen + [(int(index), "random") for index in rest[: n - len(chosen)]]


def extent(patches: Patches) -> tuple[int, int]:
    """Rows and columns of the area that holds the allowed candidates."""
    row, col = np.divmod(np.flatnonzero(patches.allowed), patches.grid[1])
    return int(np.ptp(row)) + 1, int(np.ptp(col)) + 1


def plan_points(patches: Patches, places: NDArray) -> PlannedPoints:
    """Visit places in their order, each by the nearest allowed candidate that is still free.

    Parameters
    ----------
    patches
        The candidates.
    places
        ``(n, 2)``, 0 to 1 down and across the area that holds the allowed candidates.
    """
    from scipy.spatial import KDTree

    allowed = np.flatnonzero(patches.allowed)
    pixels = np.stack(np.divmod(allowed, patches.grid[1]), axis=1)
    tree = KDTree(pixels)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    places = low - 0.5 + places * (high - low + 1)
    order: list[int] = []
    taken: set[int] = set()
    for place in places[: len(allowed)]:
        k = 8
        while True:  # the nearest few are mostly enough; ask for more where they are taken
            _, nearest = tree.query(place, k=min(k, len(allowed)))
            free = [i for i in np.atleast_1d(nearest).tolist() if i not in taken]
            if free:
                break
            k *= 8
        taken.add(free[0])
        order.append(int(allowed[free[0]]))
    return PlannedPoints(np.array(order, dtype=np.intp))

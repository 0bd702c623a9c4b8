"""``grid``: what everybody does without thinking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice
from curiosity_bluesky.learning.strategies._baseline import Baseline
from curiosity_bluesky.learning.strategies._design import planned
from curiosity_bluesky.learning.strategy import register


@register
@dataclass(frozen=True, kw_only=True)
class Grid(Baseline):
    """A regular grid with one node for each point of the budget, coarse to fine.

    A grid says something only when it is complete, so its nodes are visited far apart ones
    first. A node that may not be measured moves to the nearest pixel that may. When all nodes
    are measured, random pixels follow.
    """

    name: ClassVar[str] = "grid"

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        return planned(patches, _coarse_to_fine(_nodes(patches.grid, budget)))


def _nodes(grid: tuple[int, int], budget: int) -> NDArray:
    """Rows and columns of the coarsest regular grid with at least `budget` nodes."""
    down, across = grid
    rows = max(1, min(down, round(math.sqrt(budget * down / across))))
    cols = min(across, math.ceil(budget / rows))
    rows = min(down, math.ceil(budget / cols))
    row, col = (
        (np.arange(count) + 0.5) * size / count - 0.5
        for count, size in ((rows, down), (cols, across))
    )
    return np.stack(np.meshgrid(row, col, indexing="ij"), axis=-1).reshape(-1, 2)


def _coarse_to_fine(nodes: NDArray) -> NDArray:
    order = [0]
    distance = cdist(nodes, nodes)
    nearest = distance[0].copy()
    for _ in range(len(nodes) - 1):
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, distance[order[-1]])
    return nodes[order]

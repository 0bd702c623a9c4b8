"""``grid``: what everybody does without thinking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice
from curiosity_bluesky.learning.strategies._baseline import Baseline
from curiosity_bluesky.learning.strategies._design import extent, plan_points


@dataclass(frozen=True, kw_only=True)
class Grid(Baseline):
    """A regular grid with one node for each point of the budget, coarse to fine.

    The seed shifts the grid as a whole. A grid says something only when it is complete, so its
    nodes are visited far apart ones first. A node that may not be measured moves to the
    nearest pixel that may. When all nodes are measured, random pixels follow.
    """

    name: ClassVar[str] = "grid"

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        size = extent(patches)
        nodes = _nodes(size, budget, seed)
        return plan_points(patches, nodes[_coarse_to_fine(nodes * size)])


def _nodes(size: tuple[int, int], budget: int, seed: int) -> NDArray:
    """Places of the coarsest regular grid with at least `budget` nodes, 0 to 1 each way."""
    down, across = size
    rows = max(1, min(down, round(math.sqrt(budget * down / across))))
    cols = min(across, math.ceil(budget / rows))
    rows = min(down, math.ceil(budget / cols))
    # Anywhere in its cell, the same in all: a grid that fits the pattern of the sample by
    # chance does so for one seed only.
    start = np.random.default_rng(seed).random(2)
    row, col = ((np.arange(n) + s) / n for n, s in zip((rows, cols), start, strict=True))
    return np.stack(np.meshgrid(row, col, indexing="ij"), axis=-1).reshape(-1, 2)


def _coarse_to_fine(nodes: NDArray) -> list[int]:
    from scipy.spatial.distance import cdist

    order = [0]
    distance = cdist(nodes, nodes)
    nearest = distance[0].copy()
    for _ in range(len(nodes) - 1):
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, distance[order[-1]])
    return order

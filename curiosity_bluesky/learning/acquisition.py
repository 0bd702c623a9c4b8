"""What is maximised, and how the next pixels are picked from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from curiosity_bluesky.learning.error_models import over_mean
from curiosity_bluesky.learning.protocols import Terms
from curiosity_bluesky.learning.records import Reason


def harmonic_distance(points: NDArray, measured: NDArray) -> NDArray:
    r"""Harmonic mean of the Euclidean distances to every measured point.

    .. math:: E_j = \Big(\frac{1}{n} \sum_{i=1}^{n} d_{ij}^{-1}\Big)^{-1}

    (Vatsavai et al. 2025, second workflow.) Zero where a measured point lies.

    Parameters
    ----------
    points
        ``(candidates, dimensions)``.
    measured
        ``(n, dimensions)``.

    Returns
    -------
    NDArray
        ``(candidates,)``.
    """
    distances = cdist(points, measured)
    with np.errstate(divide="ignore"):
        return 1.0 / np.mean(1.0 / distances, axis=1)


@dataclass(frozen=True)
class ErrorAndNovelty:
    r"""Predicted error and novelty, the one gaining on the other as points come in.

    .. math:: A_j = (1 - w) C_j + w E_j, \qquad w = e^{-\lambda n / P}

    with the predicted error C and the novelty E each divided by its mean, n points
    measured and the budget P (Vatsavai et al. 2025, second workflow; the paper's formula
    leaves P out, its code has it).

    Parameters
    ----------
    rate
        The paper's lambda.
    """

    rate: float = 2.0

    def __call__(self, terms: Terms) -> tuple[NDArray, float]:
        """Return the map ``(candidates,)`` and the weight w."""
        weight = float(np.exp(-self.rate * terms.n_observed / terms.budget))
        values = (1 - weight) * over_mean(terms.error) + weight * over_mean(terms.novelty)
        return values, weight


@dataclass(frozen=True)
class OneOfTheBest:
    """Mostly one of the best pixels, sometimes any (Vatsavai et al. 2025, published code).

    Parameters
    ----------
    best
        How many of the best available pixels one is drawn from.
    random_share
        Probability of any available pixel instead.
    """

    best: int = 10
    random_share: float = 0.1

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, each with the reason."""
        left = np.flatnonzero(available)
        # A stable sort, so that equal values do not depend on the sorting algorithm.
        ranked = list(left[np.argsort(-values[left], kind="stable")])
        chosen: list[tuple[int, Reason]] = []
        while ranked and len(chosen) < n:
            if rng.random() < self.random_share:
                chosen.append((int(ranked.pop(rng.integers(len(ranked)))), "random"))
            else:
                chosen.append(
                    (int(ranked.pop(rng.integers(min(self.best, len(ranked))))), "curious")
                )
        return chosen


class AnyPixel:
    """Any available pixel: what curiosity has to beat."""

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, each with the reason ``random``."""
        chosen = rng.permutation(np.flatnonzero(available))[:n]
        return [(int(index), "random") for index in chosen]

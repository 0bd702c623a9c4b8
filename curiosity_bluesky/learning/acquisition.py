"""Acquisition functions, and the choice of pixels by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning._numbers import over_mean, zero_to_one
from curiosity_bluesky.learning.protocols import AcquisitionTerms
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
    from scipy.spatial.distance import cdist

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

    def __call__(self, terms: AcquisitionTerms) -> tuple[NDArray, float]:
        """Return the map ``(candidates,)`` and the weight w."""
        weight = float(np.exp(-self.rate * terms.n_observed / terms.budget))
        values = (1 - weight) * over_mean(terms.error) + weight * over_mean(terms.novelty)
        return values, weight


@dataclass(frozen=True)
class ErrorNoveltyAndSpread:
    r"""As `ErrorAndNovelty`, with the predictor's own uncertainty as a third term.

    .. math:: A_j = C_j (1 + 2 e^{-\lambda} - e^{-\lambda n / P} - e^{-\lambda (P - n) / P})
        + E_j e^{-\lambda n / P} + U_j e^{-\lambda (P - n) / P}

    C, E and U each divided by their mean (Vatsavai et al. 2025, published code for the
    variant with Monte-Carlo dropout; it does not divide U). Early novelty counts, late
    uncertainty.

    Parameters
    ----------
    rate
        The paper's lambda.
    """

    rate: float = 2.0

    def __call__(self, terms: AcquisitionTerms) -> tuple[NDArray, float]:
        """Return the map ``(candidates,)`` and the weight of the novelty."""
        assert terms.uncertainty is not None
        early = float(np.exp(-self.rate * terms.n_observed / terms.budget))
        late = float(np.exp(-self.rate * (terms.budget - terms.n_observed) / terms.budget))
        values = (
            over_mean(terms.error) * (1 + 2 * np.exp(-self.rate) - early - late)
            + over_mean(terms.novelty) * early
            + over_mean(terms.uncertainty) * late
        )
        return values, early


@dataclass(frozen=True)
class BetaCuriosity:
    r"""From conservative to curious by one number.

    .. math:: A_j = 1 - e^{-\lambda |L_j - (1 - \beta)|}

    with the predicted error L scaled to 0 ... 1 over the candidates (Vatsavai et al. 2025,
    first workflow): beta = 1 looks for large errors, 0 for small ones. Lambda changes the
    map, not the order of the candidates in it.

    Parameters
    ----------
    beta
        0 to 1.
    rate
        The paper's lambda.
    """

    beta: float = 1.0
    rate: float = 0.1

    def __call__(self, terms: AcquisitionTerms) -> tuple[NDArray, float]:
        """Return the map ``(candidates,)``; novelty has no weight in it."""
        distance = np.abs(zero_to_one(terms.error) - (1 - self.beta))
        return 1 - np.exp(-self.rate * distance), 0.0


class AcquisitionChoice:
    """A choice that goes by the acquisition, or by the acquisition per second."""

    _seconds: NDArray | None = None

    def set_cost(self, seconds: NDArray | None) -> None:
        """Divide the acquisition by these, ``(candidates,)``, in the next choice; None: do not."""
        self._seconds = seconds

    def _worth(self, values: NDArray) -> NDArray:
        return values if self._seconds is None else values / self._seconds


@dataclass
class TopKRandom(AcquisitionChoice):
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
        ranked = list(left[np.argsort(-self._worth(values)[left], kind="stable")])
        chosen: list[tuple[int, Reason]] = []
        while ranked and len(chosen) < n:
            if rng.random() < self.random_share:
                chosen.append((int(ranked.pop(rng.integers(len(ranked)))), "random"))
            else:
                chosen.append(
                    (int(ranked.pop(rng.integers(min(self.best, len(ranked))))), "curious")
                )
        return chosen


class Best(AcquisitionChoice):
    """The candidates with the largest values."""

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, each with the reason ``curious``."""
        left = np.flatnonzero(available)
        ranked = left[np.argsort(-self._worth(values)[left], kind="stable")]
        return [(int(i), "curious") for i in ranked[:n]]


class RandomPixel:
    """Any available pixel: what curiosity has to beat."""

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, each with the reason ``random``."""
        chosen = rng.permutation(np.flatnonzero(available))[:n]
        return [(int(index), "random") for index in chosen]

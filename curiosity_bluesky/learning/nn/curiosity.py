"""The published curiosity: where the predictor is expected to be wrong, and what is new."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import NDArray

from curiosity_bluesky.learning.acquisition import harmonic_distance
from curiosity_bluesky.learning.protocols import (
    Acquisition,
    AcquisitionTerms,
    ErrorModel,
    LatentPredictor,
)
from curiosity_bluesky.learning.records import Scores, TrainingData


class LearnedError:
    """An error model, the novelty in the latent space, and an acquisition that weighs them.

    Parameters
    ----------
    predictor
        Whose errors are learned, and in whose latent space novelty is measured.
    error_model
        Learns the errors of the measured spectra.
    acquisition
        Weighs the terms.
    budget
        Spectra in the whole run, the P of the acquisition.
    spread
        The predictor's uncertainty at every candidate after `n` observations,
        ``(candidates,)``. Default: the error model's own uncertainty.
    """

    def __init__(
        self,
        predictor: LatentPredictor,
        error_model: ErrorModel,
        acquisition: Acquisition,
        budget: int,
        spread: Callable[[int], NDArray] | None = None,
    ) -> None:
        self._predictor = predictor
        self._error_model = error_model
        self._acquisition = acquisition
        self._budget = budget
        self._spread = spread

    def start(self, observed: TrainingData) -> float:
        """Teach a new error model the errors of the observations; return its loss."""
        return self._error_model.start(observed.indices, self._predictor.errors(observed))

    def update(self, observed: TrainingData) -> float:
        """Teach the error model the errors as they are now; return its loss."""
        return self._error_model.update(observed.indices, self._predictor.errors(observed))

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate."""
        error, uncertainty = self._error_model.predict()
        if self._spread is not None:
            uncertainty = self._spread(len(observed))
        latent = self._predictor.latent()
        novelty = harmonic_distance(latent, latent[observed.indices])
        terms = AcquisitionTerms(error, novelty, uncertainty, len(observed), self._budget)
        values, weight = self._acquisition(terms)
        return Scores(values, error, novelty, uncertainty, weight)

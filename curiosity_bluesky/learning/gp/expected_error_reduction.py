"""Expected reduction of the error over the whole map by the next spectrum: ``curious``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.acquisition import AcquisitionChoice, RandomPixel
from curiosity_bluesky.learning.gp.anomalies import find_anomalies
from curiosity_bluesky.learning.gp.calibration import ErrorInflation, NeighbourErrors
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.gp.variance_reduction import VarianceReduction
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.records import Anomaly, Reason, Scores, TrainingData

Weights = Literal["learnable", "error", "none"]
LEAST = 0.05
"""Least weight of a place, where nothing can be learned."""


class ExpectedErrorReduction(AcquisitionChoice):
    r"""Expected drop of the error over the whole area: curiosity and choice at once.

    .. math:: A_j = \frac{1}{R} \sum_{i=1}^{R} w_i \frac{c_{ij}^2}{v_j + s}, \qquad
        w_i = \sigma^2 e_i \min(1, \max(0.05, l_i))

    with the posterior covariance c between reference i and candidate j, the variance v, the
    noise s and the scale :math:`\sigma^2` of the Gaussian process (ALC, see `VarianceReduction`),
    the inflation e of its out-of-sample errors (`ErrorInflation`) and their learnable share l
    (`NeighbourErrors.learnable`).

    Parameters
    ----------
    predictor
        The Gaussian process.
    patches
        The candidates.
    pool
        Candidates to choose from.
    references
        Candidates that stand for the area.
    weights
        ``learnable`` as above; ``error`` without l; ``none``: all references alike.
    target_error, least_gain
        When to stop: at an expected error over the area of less than this share of the
        variance of the spectra; at an expected drop of it by less than this share. None: never.
    dwell_seconds
        Dwell settings to choose from, with the seconds of a spectrum. The choice then takes the
        pixel and the setting of the largest drop per second, with the noise of a spectrum of that
        setting in place of s. Empty: there is nothing to choose.
    """

    follows: ClassVar[bool] = True

    def __init__(
        self,
        predictor: GaussianProcessPredictor,
        patches: Patches,
        pool: NDArray[np.intp],
        references: NDArray[np.intp],
        weights: Weights = "learnable",
        target_error: float | None = None,
        least_gain: float | None = None,
        dwell_seconds: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._predictor = predictor
        self._patches = patches
        self._pool = pool
        self._pending: NDArray[np.intp] = np.array([], dtype=np.intp)
        self._references = references
        self._kind: Weights = weights
        self._target_error = target_error
        self._least_gain = least_gain
        self._dwell_seconds = tuple(dwell_seconds)
        self._dwells: dict[int, float] = {}

    def start(self, observed: TrainingData) -> float:
        """Learn the errors from the start; return the loss of the error model."""
        posterior = self._predictor.posterior
        # The one before goes first: each is most of the memory that learning takes.
        vars(self).pop("_reduction", None)
        self._reduction = VarianceReduction(posterior, self._pool, self._references)
        return self._learn_errors(None)

    def update(self, observed: TrainingData) -> float:
        """Learn the errors as they are now; return the loss of the error model."""
        known, posterior = self._reduction.posterior, self._predictor.posterior
        n = len(known.indices)
        if (
            posterior.kernel is not known.kernel
            or len(posterior.indices) != n + 1
            or not np.array_equal(posterior.noise[:n], known.noise)
        ):
            return self.start(observed)
        self._reduction.grow(posterior)
        return self._learn_errors(self.inflation.share)

    def _learn_errors(self, share: float | None) -> float:
        posterior = self._predictor.posterior
        scale = self._predictor.scale * self._predictor.points
        self.neighbours = NeighbourErrors.of(posterior, self._predictor.scores, scale)
        self.inflation = ErrorInflation.of(posterior, self.neighbours.with_, share)
        return self.inflation.loss

    def _weights(self, correlated: NDArray) -> NDArray:
        if self._kind == "none":
            return np.ones(len(self._references))
        weights = self.inflation.factor(correlated)
        if self._kind == "learnable":
            place = self._predictor.inputs.position[self._references]
            weights = weights * np.clip(self.neighbours.learnable(place), LEAST, 1.0)
        return weights

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate; NaN outside the pool.

        The acquisition is the expected drop of the mean squared error over the area, the
        error that of a new spectrum, both in the units of the spectra squared.
        """
        reduction, scale = self._reduction, self._predictor.scale
        in_pool, at_references = reduction.weighted_correlations(self.inflation.weights)
        self._reference_weights = self._weights(at_references) * scale / len(self._references)
        expected = self._expected(at_references, reduction.reference_variance)
        self.expected_error = float(expected.mean())
        acquisition = reduction.total(self._reference_weights)
        ahead = self._patches.allowed[self._pool] & ~np.isin(self._pool, observed.indices)
        self.expected_gain = float(
            acquisition[ahead].max(initial=0.0) / max(self.expected_error, 1e-300)
        )
        error = self._expected(in_pool, reduction.variance)
        return Scores(
            self._everywhere(acquisition),
            self._everywhere(error),
            uncertainty=self._everywhere(np.sqrt(reduction.variance * scale)),
        )

    def _expected(self, correlated: NDArray, variance: NDArray) -> NDArray:
        """Return the mean squared error that a spectrum is expected to show, ``(places,)``."""
        noisy = variance + self._reduction.posterior.kernel.noise
        modelled = self.inflation.factor(correlated) * noisy * self._predictor.scale
        return modelled + self._predictor.left_over

    def stop_reason(self, observed: TrainingData) -> str | None:
        """Return why no further spectrum is worth its time; None if one is."""
        # By the seeds alone the Gaussian process may think too well of itself.
        if self._predictor.searches < 2:
            return None
        # The spectra that were measured are not typical of the area: curiosity chose them.
        predicted = self._predictor.predict(self._references)
        spread = predicted[:, np.isfinite(predicted[0])].var(axis=0).mean()
        relative = self.expected_error / max(float(spread) + self.expected_error, 1e-300)
        if self._target_error is not None and relative < self._target_error:
            return (
                f"target: an error of {relative:.3g} of the variance is expected over the area, "
                f"{self._target_error:g} is enough"
            )
        if self._least_gain is not None and self.expected_gain < self._least_gain:
            return (
                f"gain: the next spectrum is expected to lower the error by "
                f"{self.expected_gain:.2%}, less than {self._least_gain:.2%}"
            )
        return None

    def flags(self, observed: TrainingData) -> list[Anomaly]:
        """Return the regions that structure does not explain, the most striking first."""
        known = self._predictor
        return find_anomalies(known.posterior, known.scores, self.neighbours, self._patches)

    def _everywhere(self, values: NDArray) -> NDArray:
        out = np.full(len(self._patches), np.nan)
        out[self._pool] = values
        return out

    def set_pending(self, pending: NDArray[np.intp]) -> None:
        """Count these candidates as measured, whatever their spectra, in the next choice."""
        self._pending = pending

    def _worth_in_pool(self, total: NDArray, reduction: VarianceReduction) -> NDArray:
        """Return what each candidate is worth, with its best dwell setting, ``(settings, pool)``.

        Without settings in a row.
        """
        visit = 0.0 if self._seconds is None else self._seconds[self._pool]
        if not self._dwell_seconds:
            return total[None] if self._seconds is None else total[None] / visit
        settings, seconds = np.array(self._dwell_seconds).T
        noise = reduction.posterior.kernel.noise
        scale = self._predictor.noise_scale(settings)
        drop = total * (reduction.variance + noise)
        gain = drop / (reduction.variance + noise * scale[:, None])
        return gain / np.maximum(visit + seconds[:, None], 1e-9)

    def dwell(self, index: int) -> float | None:
        """Return the dwell setting for a candidate of the last choice; None where it has none."""
        return self._dwells.get(index)

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, each with the reason ``curious``.

        What is under way, and each that is chosen, counts as measured for the next.
        """
        left = available[self._pool].copy()
        reduction = self._reduction
        for index in self._pending:
            reduction = reduction.fantasize(int(index))
        pending = len(self._pending) > 0
        total = reduction.total(self._reference_weights) if pending else values[self._pool]
        chosen: list[tuple[int, Reason]] = []
        while len(chosen) < n and left.any():
            worth = np.where(left, self._worth_in_pool(total, reduction), -np.inf)
            setting, k = np.unravel_index(np.argmax(worth), worth.shape)
            chosen.append((int(self._pool[k]), "curious"))
            if self._dwell_seconds:
                self._dwells[int(self._pool[k])] = self._dwell_seconds[setting][0]
            left[k] = False
            if len(chosen) < n:
                reduction = reduction.fantasize(int(self._pool[k]))
                total = reduction.total(self._reference_weights)
        if len(chosen) == n:
            return chosen
        rest = available.copy()
        rest[self._pool] = False
        return chosen + RandomPixel()(values, rest, n - len(chosen), rng)

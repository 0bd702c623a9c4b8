"""``theory``: where a physical model of the loop fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning._numbers import mean_square
from curiosity_bluesky.learning.gp.calibration import ErrorInflation, NeighbourErrors
from curiosity_bluesky.learning.gp.expected_error_reduction import ExpectedErrorReduction
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.loop_fit import PARAMETERS, fit_loop, loops, rising_branch
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.records import Training, TrainingData
from curiosity_bluesky.learning.strategies.curious import Curious
from curiosity_bluesky.learning.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Theory(Curious):
    """Theory in place of the network: a hysteresis loop is fitted to each spectrum.

    "The convolutional neural networks may be replaced with theoretical models, in which case
    the curiosity algorithm would actively sample spectra for which the theory fails" (Vatsavai
    et al. 2025, conclusions). Here the fitted loop is the theory (`loop_fit`), a Gaussian
    process carries its parameters over to where nothing was measured, and each decision takes
    the pixel that tells most about the parameters where the misfit is expected to be large.
    It needs a bias axis; spectra of the plan have one.
    """

    name: ClassVar[str] = "theory"

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        predictor = self.gp(patches, on_epoch, FittedLoops)
        return self._learner(patches, predictor, ExpectedMisfit, seed)

    @property
    def supports_warm_start(self) -> bool:
        """Not: what it interpolates are parameters of loops."""
        return False

    def random_baseline(self) -> Strategy | None:
        """There is none: random pixels come without a theory."""
        return None


class FittedLoops(GaussianProcessPredictor):
    """Loops whose parameters are interpolated by a Gaussian process.

    The parameters, each divided by its spread, are the "spectra" of the Gaussian process.
    """

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        self._fitted = np.zeros((0, len(PARAMETERS)))
        return super().start(observed)

    def update(self, observed: TrainingData) -> Training:
        """Fit what is new, and learn from all parameters."""
        if observed.axis is None:
            raise InputError(
                "the strategy 'theory' fits a loop along the bias, and the spectra came without "
                "an axis or have several channels; give Observation(..., axis=...), or a "
                "detector with one channel and its axis in the configuration"
            )
        self._bias = observed.axis
        if len(np.unique(rising_branch(self._bias))) < 2:
            raise InputError(
                f"the strategy 'theory' fits a hysteresis loop, and the axis only goes from "
                f"{self._bias[0]:g} to {self._bias[-1]:g}; expected a bias that goes up and down"
            )
        new = [fit_loop(self._bias, s) for s in observed.spectra[len(self._fitted) :]]
        self._fitted = np.array([*self._fitted, *new])
        spread = self._fitted.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        scaled = self._fitted / self._spread
        # A loop that is fitted to fewer cycles has noisier parameters, and no gaps.
        parameters = TrainingData(observed.indices, scaled, dwell=observed.dwell)
        training = super().update(parameters)
        self.misfit = mean_square(loops(self._bias, self._fitted) - observed.spectra)
        return training

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Loops of some candidates (default all), ``(candidates, points)``."""
        return loops(self._bias, self._parameters(indices))

    def _parameters(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        parameters = super().predict(indices) * self._spread
        return self._within(parameters)

    def _within(self, parameters: NDArray) -> NDArray:
        # No further than what was fitted: a loop far outside of it is no loop any more.
        return np.clip(parameters, self._fitted.min(axis=0), self._fitted.max(axis=0))

    def deviation(self) -> NDArray:
        """Return the standard deviation of measured spectra, ``(candidates, points)``.

        By what the loop changes where each parameter is one standard deviation larger, and the
        mean misfit of the loops.
        """
        parameters, widths = self._parameters(), super().deviation() * self._spread
        expected = loops(self._bias, parameters)
        squares = np.full(expected.shape, self.misfit.mean())
        for k in range(parameters.shape[1]):
            larger = parameters.copy()
            larger[:, k] += widths[:, k]
            squares += (loops(self._bias, larger) - expected) ** 2
        return np.sqrt(squares)

    def draws(self, n: int, rng: Generator, indices: NDArray[np.intp]) -> NDArray:
        """Draws of measured spectra of some candidates, ``(n, candidates, points)``.

        Loops of drawn parameters, with the mean misfit of the loops at each point.
        """
        drawn = self._parameters(indices) + self._drawn(n, rng, indices) * self._spread
        expected = loops(self._bias, self._within(drawn).reshape(-1, len(PARAMETERS)))
        noise = rng.standard_normal((*drawn.shape[:2], len(self._bias)))
        return expected.reshape(noise.shape) + np.sqrt(self.misfit.mean()) * noise


class ExpectedMisfit(ExpectedErrorReduction):
    """The drop of the parameters' variance, weighed by the misfit that is expected.

    The error map is the misfit in the units of the spectra squared, the uncertainty that of
    the parameters, each in units of its spread.
    """

    def _learn_errors(self, share: float | None) -> float:
        predictor = self._predictor
        assert isinstance(predictor, FittedLoops)
        scale = predictor.scale * predictor.points
        self.neighbours = NeighbourErrors.of(predictor.posterior, predictor.scores, scale)
        ones = np.ones(len(predictor.misfit))
        self.inflation = ErrorInflation.of(predictor.posterior, predictor.misfit, share, ones)
        return self.inflation.loss

    def _weights(self, correlated: NDArray) -> NDArray:
        return self.inflation.factor(correlated)

    def _expected(self, correlated: NDArray, variance: NDArray) -> NDArray:
        """Return the misfit that is expected, ``(places,)``."""
        return self.inflation.factor(correlated)

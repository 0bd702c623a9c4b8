"""The parts of a strategy: small classes with one job each, checked by their shape.

Candidates are numbered as in `~curiosity_bluesky.learning.patches.Patches`; arrays over
all of them have shape ``(candidates,)``. A part draws random numbers only from the
generator that it is given, so that a replay makes the same choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning.records import Anomaly, Reason, Scores, Training, TrainingData

EpochHook = Callable[[str, int, int], None]
"""Called as ``hook(model, epoch, epochs)`` after every epoch; it may raise to end it."""


class Features(Protocol):
    """Turns every patch into a few numbers, learned from the survey alone."""

    def values(self) -> NDArray:
        """Features of every candidate, ``(candidates, features)``."""
        ...

    def trainings(self) -> Sequence[Training]:
        """Return what was trained to get them, for the record."""
        ...


class Seeding(Protocol):
    """Chooses the pixels that are measured before anything is known."""

    def choose(self, allowed: NDArray[np.bool_], n: int, rng: Generator) -> NDArray[np.intp]:
        """Return `n` distinct allowed candidates, in the order to measure them."""
        ...


class Predictor(Protocol):
    """Learns the spectrum of a patch."""

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        ...

    def update(self, observed: TrainingData) -> Training:
        """Learn on, from these observations, of which the last one is new."""
        ...

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        ...


@runtime_checkable
class Probabilistic(Protocol):
    """A predictor that knows how far a spectrum may be from what it predicts."""

    def deviation(self) -> NDArray:
        """Return the standard deviation of measured spectra, ``(candidates, points)``.

        In the units of the spectra, noise included.
        """
        ...


@runtime_checkable
class Drawing(Protocol):
    """A predictor that draws spectra from its posterior."""

    def draws(self, n: int, rng: Generator, indices: NDArray[np.intp]) -> NDArray:
        """Return draws of measured spectra of some candidates, ``(n, candidates, points)``.

        Noise included, as in `Probabilistic.deviation`. Correlated along a spectrum; those of two
        candidates are independent.
        """
        ...


@runtime_checkable
class PeriodicRefit(Protocol):
    """A predictor that now and then learns from all spectra, whatever it knew before."""

    @property
    def next_refit(self) -> int:
        """Number of spectra at which it does so next."""
        ...


@runtime_checkable
class LatentPredictor(Predictor, Protocol):
    """A predictor that curiosity can ask how wrong it is and what looks alike to it."""

    def errors(self, observed: TrainingData) -> NDArray:
        """Return its error at each of these observations, ``(n,)``."""
        ...

    def latent(self) -> NDArray:
        """Every candidate in the model's latent space, ``(candidates, latent)``."""
        ...


class Curiosity(Protocol):
    """Says what each candidate would teach, from what the predictor knows."""

    def start(self, observed: TrainingData) -> float:
        """Learn, after the predictor's first training; return the loss, NaN for none."""
        ...

    def update(self, observed: TrainingData) -> float:
        """Learn on, after the predictor's update; return the loss, NaN for none."""
        ...

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate; asked once for each state of the model."""
        ...


class ErrorModel(Protocol):
    """Learns how wrong the predictor is, from the features of a patch."""

    def start(self, indices: NDArray[np.intp], errors: NDArray) -> float:
        """Forget everything and learn from these errors ``(n,)``; return the loss."""
        ...

    def update(self, indices: NDArray[np.intp], errors: NDArray) -> float:
        """Learn on, from these errors; return the loss."""
        ...

    def predict(self) -> tuple[NDArray, NDArray | None]:
        """Return the expected error of every candidate and its uncertainty, if known."""
        ...


@dataclass(frozen=True, eq=False)
class AcquisitionTerms:
    """Terms that an acquisition may weigh, ``(candidates,)`` each."""

    error: NDArray
    novelty: NDArray
    uncertainty: NDArray | None
    n_observed: int
    budget: int


class Acquisition(Protocol):
    """Weighs the terms into the map that is maximised."""

    def __call__(self, terms: AcquisitionTerms) -> tuple[NDArray, float]:
        """Return the map and the share of the novelty in it."""
        ...


class Choice(Protocol):
    """Picks the next candidates from the map."""

    def __call__(
        self, values: NDArray, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return `n` distinct available candidates, each with the reason."""
        ...


@runtime_checkable
class Stopping(Protocol):
    """A learner, or a part of one, that can tell when to stop."""

    def stop_reason(self, observed: TrainingData) -> str | None:
        """Return why no further spectrum is worth its time; None if one is."""
        ...


@runtime_checkable
class Flagging(Protocol):
    """A learner, or its curiosity, that can tell where structure does not explain the spectra."""

    def flags(self, observed: TrainingData) -> list[Anomaly]:
        """Return the regions worth a closer look, the most striking first."""
        ...


@runtime_checkable
class PendingAware(Protocol):
    """A learner, or its choice, that takes pending measurements into account."""

    def set_pending(self, pending: NDArray[np.intp]) -> None:
        """Count these candidates as measured, whatever their spectra, in the next choice."""
        ...


@runtime_checkable
class CostAware(Protocol):
    """A learner, or its choice, that weighs what a candidate teaches against what it costs."""

    def set_cost(self, seconds: NDArray | None) -> None:
        """Divide the acquisition by these, ``(candidates,)``, in the next choice; None: do not."""
        ...


@runtime_checkable
class DwellAware(Protocol):
    """A learner, or its choice, that chooses how long to measure."""

    def dwell(self, index: int) -> float | None:
        """Return the dwell setting for a candidate of the last choice; None where it has none."""
        ...


class Learner(Protocol):
    """A strategy at work on one survey: what the explorer drives."""

    def seeds(self, n: int) -> NDArray[np.intp]:
        """Return the first candidates to measure, at most `n`."""
        ...

    def score(self, observed: TrainingData) -> Scores | None:
        """Learn what is new and score every candidate; None if the choice is blind."""
        ...

    def choose(
        self, scores: Scores | None, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return the next candidates with their reasons."""
        ...

    def predict(self, observed: TrainingData, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Learn what is new; spectra of some candidates (default all), ``(candidates, points)``."""
        ...

    @property
    def model_version(self) -> int:
        """Number of trainings so far."""
        ...

    def take_trainings(self) -> list[Training]:
        """Trainings since the last call."""
        ...


@runtime_checkable
class ProbabilisticLearner(Learner, Protocol):
    """A learner that may know how far spectra are from what it predicts."""

    def deviation(self, observed: TrainingData) -> NDArray | None:
        """Learn what is new; standard deviation of spectra, ``(candidates, points)``, if known."""
        ...

    def latent(self, observed: TrainingData) -> NDArray | None:
        """Learn what is new; candidates in the latent space, ``(candidates, latent)``, if any."""
        ...


@runtime_checkable
class DrawingLearner(Learner, Protocol):
    """A learner that may draw spectra from what it knows."""

    def draws(
        self, observed: TrainingData, n: int, rng: Generator, indices: NDArray[np.intp]
    ) -> NDArray | None:
        """Learn what is new; draws of some candidates, ``(n, candidates, points)``, if it can."""
        ...

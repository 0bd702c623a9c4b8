"""Learner of a strategy: its parts, driven in the right order."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.acquisition import RandomPixel
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import (
    Choice,
    CostAware,
    Curiosity,
    Drawing,
    DwellAware,
    Features,
    Flagging,
    LatentPredictor,
    PendingAware,
    PeriodicRefit,
    Predictor,
    Probabilistic,
    Seeding,
    Stopping,
)
from curiosity_bluesky.learning.records import Anomaly, Reason, Scores, Training, TrainingData


class ModelLearner:
    """Seeding, predictor, curiosity and choice as one learner.

    What it knows is a function of the *sequence* of observations: a first training on as
    many as there are seeds, then one update for each further observation. If the sequence
    grows, only the new ones are learned; if its beginning changes (a late spectrum moved
    in, a run replayed in another order), everything is learned again from the start. So the
    same observations give the same model, however they came.

    Parameters
    ----------
    patches
        The patches of the survey.
    predictor, choice
        The parts.
    n_seeds
        Observations in the first training.
    seeding
        Default: the choice itself picks the seeds, blindly.
    curiosity
        What the choice goes by; without it the choice is blind, and nothing is trained until
        a prediction is asked for.
    features
        The features that were trained on the survey, for the record.
    stopping
        Says when to stop; default: never.
    seed
        Seed of the seeding.
    """

    def __init__(
        self,
        patches: Patches,
        *,
        predictor: Predictor,
        choice: Choice,
        n_seeds: int,
        seeding: Seeding | None = None,
        curiosity: Curiosity | None = None,
        features: Features | None = None,
        stopping: Stopping | None = None,
        seed: int = 0,
    ) -> None:
        self._patches = patches
        self._seeding = seeding
        self._predictor = predictor
        self._choice = choice
        self._n_seeds = n_seeds
        self._curiosity = curiosity
        self._features = features
        self._stopping = stopping
        self._seed = seed
        self._learned: TrainingData | None = None
        self._version = 0
        self._scores: Scores | None = None
        self._trainings: list[Training] = []

    @property
    def model_version(self) -> int:
        """Number of trainings so far."""
        return self._version

    def take_trainings(self) -> list[Training]:
        """Trainings since the last call."""
        taken, self._trainings = self._trainings, []
        return taken

    def seeds(self, n: int) -> NDArray[np.intp]:
        """Return the first candidates to measure, at most `n`."""
        rng = np.random.default_rng(self._seed)
        if self._features is not None:
            self._features.values()
            self._trainings += self._features.trainings()
        allowed = self._patches.allowed
        if self._seeding is not None:
            return self._seeding.choose(allowed, n, rng)
        chosen = self._choice(np.zeros(len(allowed)), allowed, n, rng)
        return np.array([index for index, _ in chosen], dtype=np.intp)

    def _learn(self, observed: TrainingData) -> None:
        first = min(self._n_seeds, len(observed))
        known = self._learned
        if known is None or len(known) < first or not observed.starts_with(known):
            start = observed.first(first)
            self._version = 0
            self._learned = None  # should the training be broken off, nothing is known
            self._note(self._predictor.start(start), start, start_over=True)
            known = start
        while len(known) < len(observed):
            n = self._next(len(known), len(observed))
            now = observed.first(n)
            # How well it was predicted is not known of what is passed over.
            held_out = self._error_on_last(now) if n == len(known) + 1 else np.nan
            self._learned = None
            self._version += n - len(known) - 1
            self._note(self._predictor.update(now), now, held_out_error=held_out)
            known = now

    def _next(self, known: int, there: int) -> int:
        """Return the number of spectra to learn next, as many as the model may leap to.

        What is learned in between would be forgotten there. So a run of thousands of points is
        replayed in minutes, to the same model.
        """
        predictor, curiosity = self._predictor, self._curiosity
        follows = getattr(curiosity, "follows", curiosity is None)
        if follows and isinstance(predictor, PeriodicRefit):
            refit = predictor.next_refit
            if known < refit <= there:
                return refit
        return known + 1

    def _note(
        self,
        training: Training,
        observed: TrainingData,
        held_out_error: float = np.nan,
        start_over: bool = False,
    ) -> None:
        loss = np.nan
        if self._curiosity is not None:
            teach = self._curiosity.start if start_over else self._curiosity.update
            loss = teach(observed)
        self._version += 1
        self._learned = observed
        self._scores = None
        self._trainings.append(
            dataclasses.replace(
                training,
                model_version=self._version,
                held_out_error=held_out_error,
                error_model_loss=loss,
            )
        )

    def _error_on_last(self, observed: TrainingData) -> float:
        """Error on the newest spectrum, in units of the spread of the earlier ones."""
        earlier, newest = observed.spectra[:-1], observed.spectra[-1]
        # Points that were never recorded say nothing; nanmean would warn of them.
        earlier = earlier[:, np.isfinite(earlier).any(axis=0)]
        deviation = np.nanmean((earlier - np.nanmean(earlier, axis=0)) ** 2)
        predicted = self._predictor.predict(observed.indices[-1:])[0]
        error = np.nanmean((predicted - newest) ** 2)
        return float(error / deviation) if deviation > 0 else np.nan

    def score(self, observed: TrainingData) -> Scores | None:
        """Learn what is new and score every candidate; None if the choice is blind."""
        if self._curiosity is None:
            return None
        self._learn(observed)
        if self._scores is None:
            self._scores = self._curiosity.scores(observed)
        return self._scores

    def choose(
        self, scores: Scores | None, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[tuple[int, Reason]]:
        """Return the next candidates with their reasons."""
        nothing = np.zeros(len(available))
        if self._curiosity is None:
            return self._choice(nothing, available, n, rng)
        if scores is None:  # there is no curiosity before there is a model
            return RandomPixel()(nothing, available, n, rng)
        return self._choice(scores.acquisition, available, n, rng)

    def set_pending(self, pending: NDArray[np.intp]) -> None:
        """Count these candidates as measured, whatever their spectra, in the next choice."""
        if isinstance(self._choice, PendingAware):
            self._choice.set_pending(pending)

    def set_cost(self, seconds: NDArray | None) -> None:
        """Divide the acquisition by these, ``(candidates,)``, in the next choice.

        Raises
        ------
        InputError
            If the choice does not go by the acquisition.
        """
        if self._curiosity is None or not isinstance(self._choice, CostAware):
            raise InputError(
                "per_second is given, but this strategy does not choose by an acquisition that "
                "could be divided by the time; leave it out, or take the strategy 'curious'"
            )
        self._choice.set_cost(seconds)

    def dwell(self, index: int) -> float | None:
        """Return the dwell setting for a candidate of the last choice; None where it has none."""
        return self._choice.dwell(index) if isinstance(self._choice, DwellAware) else None

    def stop_reason(self, observed: TrainingData) -> str | None:
        """Reason why no further spectrum is worth its time; None if one is, or it is not known."""
        if self._stopping is None or len(observed) < self._n_seeds:
            return None
        self.score(observed)
        return self._stopping.stop_reason(observed)

    def flags(self, observed: TrainingData) -> list[Anomaly]:
        """Return the regions that structure does not explain, if the curiosity knows any."""
        if not isinstance(self._curiosity, Flagging) or len(observed) < self._n_seeds:
            return []
        self.score(observed)
        return self._curiosity.flags(observed)

    def predict(self, observed: TrainingData, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Learn what is new and return spectra of some candidates, ``(candidates, points)``."""
        self._learn(observed)
        return self._predictor.predict(indices)

    def deviation(self, observed: TrainingData) -> NDArray | None:
        """Learn what is new; standard deviation of spectra, ``(candidates, points)``.

        None where the predictor does not know it.
        """
        self._learn(observed)
        predictor = self._predictor
        return predictor.deviation() if isinstance(predictor, Probabilistic) else None

    def latent(self, observed: TrainingData) -> NDArray | None:
        """Learn what is new; every candidate in the latent space, ``(candidates, latent)``.

        None where the predictor has none.
        """
        self._learn(observed)
        predictor = self._predictor
        return predictor.latent() if isinstance(predictor, LatentPredictor) else None

    def draws(
        self, observed: TrainingData, n: int, rng: Generator, indices: NDArray[np.intp]
    ) -> NDArray | None:
        """Learn what is new; draws of some candidates, ``(n, candidates, points)``.

        None where the predictor has no posterior.
        """
        self._learn(observed)
        predictor = self._predictor
        return predictor.draws(n, rng, indices) if isinstance(predictor, Drawing) else None

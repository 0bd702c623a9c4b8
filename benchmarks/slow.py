"""Strategies that are slow on purpose, for measuring what does not wait for them.

Imported, they are registered as ``slow-sleeping``, ``slow-python`` and ``slow-numpy``: random
pixels after a training that takes ``decision_s`` in the way that the name says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning import Scores, Strategy, Training, register
from curiosity_bluesky.learning.acquisition import RandomPixel
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import TrainingData

__all__ = ["KINDS", "SlowNumpy", "SlowPython", "SlowSleeping"]

KINDS = ("sleeping", "python", "numpy")
"""How time can be spent: free of the interpreter's lock, holding it, or in and out of it."""


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _python(seconds: float) -> None:
    end, x = time.perf_counter() + seconds, 1
    while time.perf_counter() < end:
        for _ in range(1000):
            x = (1103515245 * x + 12345) % 2**31


_MATRIX = np.random.default_rng(0).normal(size=(300, 300)) / 300


def _numpy(seconds: float) -> None:
    end, product = time.perf_counter() + seconds, _MATRIX
    while time.perf_counter() < end:
        product = np.tanh(product @ _MATRIX)


class SlowLearner:
    """Learns nothing, slowly: once for every new number of spectra, in steps as of epochs."""

    def __init__(
        self,
        patches: Patches,
        spend: Callable[[float], None],
        decision_s: float,
        steps: int,
        on_epoch: EpochHook,
    ) -> None:
        self._patches = patches
        self._spend = spend
        self._decision_s = decision_s
        self._steps = steps
        self._on_epoch = on_epoch
        self._known: int | None = None
        self._version = 0
        self._trainings: list[Training] = []

    @property
    def model_version(self) -> int:
        """How many trainings the model has behind it."""
        return self._version

    def take_trainings(self) -> list[Training]:
        """Trainings since the last call."""
        taken, self._trainings = self._trainings, []
        return taken

    def seeds(self, n: int) -> NDArray[np.intp]:
        """Return the first candidates to measure."""
        allowed = np.flatnonzero(self._patches.allowed)
        return np.random.default_rng(0).permutation(allowed)[:n]

    def score(self, observed: TrainingData) -> Scores | None:
        """Spend the time."""
        if self._known == len(observed):
            return None
        started = time.perf_counter()
        for step in range(self._steps):
            self._spend(self._decision_s / self._steps)
            self._on_epoch("slow", step + 1, self._steps)
        self._known = len(observed)
        self._version += 1
        self._trainings.append(
            Training(
                model="slow",
                architecture="none",
                epochs=self._steps,
                loss=0.0,
                seconds=time.perf_counter() - started,
                n_observed=len(observed),
                model_version=self._version,
            )
        )
        return None

    def choose(
        self, scores: Scores | None, available: NDArray[np.bool_], n: int, rng: Generator
    ) -> list[Any]:
        """Return any pixels."""
        return RandomPixel()(np.zeros(len(available)), available, n, rng)

    def predict(self, observed: TrainingData, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Return the mean spectrum."""
        n = len(self._patches) if indices is None else len(indices)
        return np.repeat(observed.spectra.mean(axis=0)[None], n, axis=0)


@dataclass(frozen=True, kw_only=True)
class _Slow(Strategy):
    decision_s: float = 0.8
    """Seconds that each decision takes after the seeds."""
    steps: int = 16
    """In how many steps; a training can be broken off between two."""

    spend: ClassVar[Callable[[float], None]]

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> SlowLearner:
        """Return the learner."""
        return SlowLearner(patches, type(self).spend, self.decision_s, self.steps, on_epoch)


@register
@dataclass(frozen=True, kw_only=True)
class SlowSleeping(_Slow):
    """Sleeps, as one who waits for a remote computer."""

    name: ClassVar[str] = "slow-sleeping"
    spend = staticmethod(_sleep)


@register
@dataclass(frozen=True, kw_only=True)
class SlowPython(_Slow):
    """Computes in pure Python, holding the interpreter's lock as such code does."""

    name: ClassVar[str] = "slow-python"
    spend = staticmethod(_python)


@register
@dataclass(frozen=True, kw_only=True)
class SlowNumpy(_Slow):
    """Computes with numpy, which lets the lock go within its operations."""

    name: ClassVar[str] = "slow-numpy"
    spend = staticmethod(_numpy)

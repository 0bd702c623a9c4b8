"""Network predictor: one network, trained a little further with each spectrum."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.nn import layers
from curiosity_bluesky.learning.nn.training import train
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import Training, TrainingData
from curiosity_bluesky.utils.wording import did_you_mean


@dataclass(frozen=True)
class SpectrumScaler:
    """Scaling of spectra to -1 ... 1 for a network, and back.

    Parameters
    ----------
    offset, factor
        The value that becomes 0, and the distance from it that becomes 1.
    """

    offset: float
    factor: float

    @classmethod
    def of(cls, spectra: NDArray, limits: tuple[float, float] | None) -> Self:
        """Scale by the limits, default by the extremes of these spectra."""
        low, high = map(float, limits or (np.nanmin(spectra), np.nanmax(spectra)))
        return cls((low + high) / 2, (high - low) / 2 if high > low else 1.0)

    def __call__(self, spectra: NDArray) -> tuple[Tensor, Tensor]:
        """Return the scaled spectra, 0 in the gaps, and where they were recorded."""
        scaled = layers.tensor((spectra - self.offset) / self.factor)
        recorded = torch.isfinite(scaled)
        return torch.where(recorded, scaled, 0.0), recorded

    def back(self, scaled: Tensor) -> NDArray:
        """Return scaled spectra in their own units."""
        return scaled.double().cpu().numpy() * self.factor + self.offset


def squared_error(predicted: Tensor, wanted: Tensor, recorded: Tensor) -> Tensor:
    """Mean squared error; gaps carry no weight."""
    return (((predicted - wanted) ** 2) * recorded).sum() / recorded.sum()


class NetworkOptions(TypedDict):
    """Parameters of a `NetworkPredictor`."""

    latent: int
    start_epochs: int
    update_epochs: int
    seed: int
    limits: tuple[float, float] | None
    on_epoch: EpochHook


class NetworkPredictor(ABC):
    """One network between patches and spectra, trained a little further after every measurement.

    AdamW with learning rate 1e-3 on the full batch.

    Parameters
    ----------
    images
        Every candidate's patch, ``(candidates, channels, size, size)``.
    latent
        Size of the network's latent space.
    start_epochs, update_epochs
        Epochs of the first and of every later training.
    seed
        Seed of the weights and of the dropout.
    limits
        Values of the spectra that become -1 and 1. Default: the extremes of the spectra of
        the first training. (The published code takes those of the whole recording, which
        are not known during a run.)
    on_epoch
        Called after each epoch.

    Raises
    ------
    InputError
        If there is no such option.
    """

    model: ClassVar[str]
    """Name of the network in the record of trainings."""

    def __init__(self, images: NDArray, **options: Unpack[NetworkOptions]) -> None:
        for name in options:
            if name not in (known := sorted(NetworkOptions.__annotations__)):
                raise InputError(
                    f"there is no option {name!r} of a network; there are {', '.join(known)}."
                    f"{did_you_mean(name, known)}"
                )
        self._images = layers.tensor(images)
        self._limits = options["limits"]
        self._latent_size = options["latent"]
        self._start_epochs = options["start_epochs"]
        self._update_epochs = options["update_epochs"]
        self._seed = options["seed"]
        self._on_epoch = options["on_epoch"]

    @property
    @abstractmethod
    def _architecture(self) -> str:
        """Architecture of the network, in words."""

    @abstractmethod
    def _make(self, channels: int, size: int, points: int) -> nn.Module:
        """Make the network, untrained."""

    @abstractmethod
    def _loss(self, observed: TrainingData) -> Callable[[], Tensor]:
        """Return what computes the loss of the network on all of these observations."""

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        _, channels, size, _ = self._images.shape
        points = observed.spectra.shape[1]
        self._network = layers.build(lambda: self._make(channels, size, points), self._seed)
        self._optimiser = torch.optim.AdamW(self._network.parameters(), lr=1e-3)
        self._scale = SpectrumScaler.of(observed.spectra, self._limits)
        return self._train(observed, self._start_epochs)

    def update(self, observed: TrainingData) -> Training:
        """Learn on from all observations."""
        return self._train(observed, self._update_epochs)

    def _train(self, observed: TrainingData, epochs: int) -> Training:
        started = time.perf_counter()
        loss = self._loss(observed)
        losses = train(
            self._network,
            self._optimiser,
            lambda _: loss(),
            epochs,
            model=self.model,
            on_epoch=self._on_epoch,
        )
        return Training(
            model=self.model,
            architecture=self._architecture,
            epochs=epochs,
            loss=losses[-1],
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

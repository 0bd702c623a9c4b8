"""Im2spec predictor: from a patch to the spectrum that would be measured there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curiosity_bluesky.learning._numbers import mean_square
from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.architectures import Encoder
from curiosity_bluesky.learning.nn.training import train
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import Training, TrainingData


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


class Im2SpecPredictor:
    """One Im2spec network, trained a little further after every measurement.

    Second workflow of the paper: AdamW with learning rate 1e-3, full batch, 150 epochs on
    the seeds and 2 epochs after each measurement, mean squared error. Spectra are scaled
    to -1 ... 1: how fast the network learns depends on it.

    Parameters
    ----------
    images
        Every candidate's patch, ``(candidates, channels, size, size)``.
    latent, encoder
        Size of the latent space; what the encoder is made of.
    start_epochs, update_epochs
        Epochs of the first and of every later training.
    seed
        Seed of weights and dropout.
    limits
        Values of the spectra that become -1 and 1. Default: the extremes of the spectra of
        the first training. (The published code takes those of the whole recording, which
        are not known during a run.)
    on_epoch
        Called after each epoch.
    """

    def __init__(
        self,
        images: NDArray,
        *,
        latent: int,
        encoder: Encoder,
        start_epochs: int,
        update_epochs: int,
        seed: int,
        limits: tuple[float, float] | None,
        on_epoch: EpochHook,
    ) -> None:
        self._images = layers.tensor(images)
        self._limits = limits
        self._latent_size = latent
        self._encoder = encoder
        self._start_epochs = start_epochs
        self._update_epochs = update_epochs
        self._seed = seed
        self._on_epoch = on_epoch
        self._latent: Tensor | None = None

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        _, channels, size, _ = self._images.shape
        points = observed.spectra.shape[1]
        network = layers.build(
            lambda: architectures.Im2Spec(channels, size, points, self._latent_size, self._encoder),
            self._seed,
        )
        self._network = network
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        self._scale = SpectrumScaler.of(observed.spectra, self._limits)
        return self._train(observed, self._start_epochs)

    def update(self, observed: TrainingData) -> Training:
        """Learn on from all observations."""
        return self._train(observed, self._update_epochs)

    def _train(self, observed: TrainingData, epochs: int) -> Training:
        started = time.perf_counter()
        self._latent = None
        x = self._images[torch.as_tensor(observed.indices)]
        y, recorded = self._scale(observed.spectra)
        losses = train(
            self._network,
            self._optimiser,
            lambda _: squared_error(self._network(x), y, recorded),
            epochs,
            model="im2spec",
            on_epoch=self._on_epoch,
        )
        return Training(
            model="im2spec",
            architecture=f"{self._encoder}, latent {self._latent_size}",
            epochs=epochs,
            loss=losses[-1],
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    def _encode_all(self) -> Tensor:
        # One pass over all patches a training: it is most of the time that a decision takes.
        if self._latent is None:
            self._latent = layers.in_batches(self._network.encode, self._images)
        return self._latent

    def latent(self) -> NDArray:
        """Every candidate in the latent space, ``(candidates, latent)``."""
        return self._encode_all().double().cpu().numpy()

    def errors(self, observed: TrainingData) -> NDArray:
        """Mean squared error of each observation under the present model, ``(n,)``."""
        return mean_square(self.predict(observed.indices) - observed.spectra)

    def spread(self, n_observed: int, passes: int) -> NDArray:
        """Uncertainty by Monte-Carlo dropout, ``(candidates,)`` (Gal and Ghahramani 2016).

        Standard deviation of the predicted spectra over the passes, mean over their points.
        Batch normalisation keeps its statistics: only the dropout is at work.
        """
        # The draws belong to this state of the model: looking at a map may not change later ones.
        draws = torch.Generator().manual_seed((self._seed * 1_000_003 + n_observed) % 2**63)
        total = squares = torch.zeros(())
        for spectra in layers.with_dropout(self._network, self._images, passes, draws):
            total = total + spectra.double()  # in double: the spread is small beside the values
            squares = squares + spectra.double() ** 2
        variance = (squares / passes - (total / passes) ** 2).clamp(min=0)
        return variance.sqrt().mean(dim=1).cpu().numpy() * self._scale.factor

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        # Some candidates are encoded by themselves even where all are known already: in other
        # company the last bits differ, and a replay may not depend on whether a map was looked at.
        with torch.inference_mode():
            if indices is None:
                latent = self._encode_all()
            else:
                latent = self._network.encode(self._images[torch.as_tensor(indices)])
            scaled = self._network.decoder(latent)
        return self._scale.back(scaled)

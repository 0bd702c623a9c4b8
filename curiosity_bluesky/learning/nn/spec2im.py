"""The inverse problem: from a spectrum to the patch that it was measured in."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor, SpectrumScaler
from curiosity_bluesky.learning.nn.training import train
from curiosity_bluesky.learning.protocols import EpochHook, Features
from curiosity_bluesky.learning.records import Training, TrainingData


class Spec2ImPredictor:
    """Spec2im, and beside it an Im2spec that says what spectra are expected.

    Curiosity is about the first: its errors are those of the patch, and its latent space is
    that of the features, since a candidate has no spectrum yet. The second learns from the
    same spectra and is asked for predictions only.

    Parameters
    ----------
    images
        Every candidate's patch, ``(candidates, channels, size, size)``.
    forward
        Predicts spectra.
    features
        Of every candidate's patch.
    latent
        Size of Spec2im's latent space.
    start_epochs, update_epochs
        Epochs of the first and of every later training.
    seed
        Seed of the weights.
    limits
        Values of the spectra that become -1 and 1; default the extremes of the first ones.
    on_epoch
        Called after each epoch.
    """

    def __init__(
        self,
        images: NDArray,
        forward: Im2SpecPredictor,
        features: Features,
        *,
        latent: int,
        start_epochs: int,
        update_epochs: int,
        seed: int,
        limits: tuple[float, float] | None,
        on_epoch: EpochHook,
    ) -> None:
        self._images = layers.tensor(images)
        self._forward = forward
        self._features = features
        self._latent = latent
        self._start_epochs = start_epochs
        self._update_epochs = update_epochs
        self._seed = seed
        self._limits = limits
        self._on_epoch = on_epoch

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        self._forward.start(observed)
        _, channels, size, _ = self._images.shape
        points = observed.spectra.shape[1]
        self._network = layers.build(
            lambda: architectures.Spec2Im(channels, size, points, self._latent), self._seed
        )
        self._optimiser = torch.optim.AdamW(self._network.parameters(), lr=1e-3)
        self._scale = SpectrumScaler.of(observed.spectra, self._limits)
        return self._train(observed, self._start_epochs)

    def update(self, observed: TrainingData) -> Training:
        """Learn on from all observations."""
        self._forward.update(observed)
        return self._train(observed, self._update_epochs)

    def _train(self, observed: TrainingData, epochs: int) -> Training:
        started = time.perf_counter()
        x, _ = self._scale(observed.spectra)
        y = self._images[torch.as_tensor(observed.indices)]
        losses = train(
            self._network,
            self._optimiser,
            lambda _: F.mse_loss(self._network(x), y),
            epochs,
            model="spec2im",
            on_epoch=self._on_epoch,
        )
        return Training(
            model="spec2im",
            architecture=f"4 convolutions, latent {self._latent}",
            epochs=epochs,
            loss=losses[-1],
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    def errors(self, observed: TrainingData) -> NDArray:
        """Mean squared error of each reconstructed patch, ``(n,)``."""
        x, _ = self._scale(observed.spectra)
        with torch.inference_mode():
            difference = self._network(x) - self._images[torch.as_tensor(observed.indices)]
        return (difference**2).mean(dim=(1, 2, 3)).double().cpu().numpy()

    def latent(self) -> NDArray:
        """Features of every candidate's patch, ``(candidates, features)``."""
        return self._features.values()

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``, by Im2spec."""
        return self._forward.predict(indices)

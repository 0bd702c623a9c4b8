"""Predictors: from a patch to the spectrum that would be measured there."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curiosity_bluesky.learning import networks
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.records import Observed, Training


class Im2SpecPredictor:
    """One Im2spec network, trained a little further after every measurement.

    Second workflow of the paper: AdamW with learning rate 1e-3, full batch, 150 epochs on
    the seeds and 2 epochs after each measurement, mean squared error. Spectra are scaled
    to -1 ... 1: how fast the network learns depends on it.

    Parameters
    ----------
    images
        Every candidate's patch, ``(candidates, channels, size, size)``.
    latent, dropout
        Size of the latent space; dropout probability in the encoder.
    start_epochs, update_epochs
        Epochs of the first and of every later training.
    seed
        Seed of weights and dropout.
    limits
        Values of the spectra that become -1 and 1. Default: the extremes of the spectra of
        the first training. (The published code takes those of the whole recording, which
        nobody knows during a run.)
    on_epoch
        Called after each epoch.
    """

    def __init__(
        self,
        images: NDArray,
        *,
        latent: int,
        dropout: float,
        start_epochs: int,
        update_epochs: int,
        seed: int,
        limits: tuple[float, float] | None,
        on_epoch: EpochHook,
    ) -> None:
        self._images = networks.tensor(images)
        self._limits = limits
        self._latent_size = latent
        self._dropout = dropout
        self._start_epochs = start_epochs
        self._update_epochs = update_epochs
        self._seed = seed
        self._on_epoch = on_epoch
        self._latent: Tensor | None = None

    def start(self, observed: Observed) -> Training:
        """Forget everything and learn from these observations."""
        _, channels, size, _ = self._images.shape
        points = observed.spectra.shape[1]
        network = networks.build(
            lambda: networks.Im2Spec(channels, size, points, self._latent_size, self._dropout),
            self._seed,
        )
        assert isinstance(network, networks.Im2Spec)
        self._network = network
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        extremes = (np.nanmin(observed.spectra), np.nanmax(observed.spectra))
        low, high = map(float, self._limits or extremes)
        self._offset = (low + high) / 2
        self._scale = (high - low) / 2 if high > low else 1.0
        return self._train(observed, self._start_epochs)

    def update(self, observed: Observed) -> Training:
        """Learn on from all observations."""
        return self._train(observed, self._update_epochs)

    def _train(self, observed: Observed, epochs: int) -> Training:
        started = time.perf_counter()
        self._latent = None
        x = self._images[torch.as_tensor(observed.indices)]
        y = networks.tensor((observed.spectra - self._offset) / self._scale)
        recorded = torch.isfinite(y)
        y = torch.where(recorded, y, 0.0)
        self._network.train()
        loss = torch.tensor(np.nan)
        for epoch in range(epochs):
            self._optimiser.zero_grad()
            # NaN gaps carry no weight.
            loss = (((self._network(x) - y) ** 2) * recorded).sum() / recorded.sum()
            loss.backward()
            self._optimiser.step()
            self._on_epoch("im2spec", epoch + 1, epochs)
        self._network.eval()
        return Training(
            model="im2spec",
            architecture=(
                f"3 x {networks.FILTERS} convolutions, dropout {self._dropout}, "
                f"latent {self._latent_size}, 6 dense layers"
            ),
            epochs=epochs,
            loss=float(loss.detach()),
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    def _encode(self) -> Tensor:
        # One pass over all patches a training: it is most of the time that a decision takes.
        if self._latent is None:
            self._latent = networks.in_batches(self._network.encode, self._images)
        return self._latent

    def latent(self) -> NDArray:
        """Every candidate in the latent space, ``(candidates, latent)``."""
        return self._encode().double().cpu().numpy()

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        with torch.inference_mode():
            if indices is None or self._latent is not None:
                latent = self._encode()
                latent = latent if indices is None else latent[torch.as_tensor(indices)]
            else:
                latent = self._network.encode(self._images[torch.as_tensor(indices)])
            scaled = self._network.decoder(latent)
        return scaled.double().cpu().numpy() * self._scale + self._offset

"""Features of a patch, learned from the survey alone: the autoencoder of the paper."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.training import train
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import Training

REMEMBERED = 8
"""Trained latent spaces that a process keeps."""
_TRAINED: dict[tuple, tuple[NDArray, Training]] = {}


class AutoencoderFeatures:
    """Latent space of an autoencoder trained on all patches of the survey.

    Second workflow of the paper: Adam, learning rate 1e-3, batches of 64, 30 epochs.

    Parameters
    ----------
    images
        The patches to encode, ``(candidates, channels, size, size)``.
    latent
        Size of the latent space.
    epochs
        Passes over all patches.
    seed
        Seed of the weights and of the order of the batches.
    on_epoch
        Called after each epoch.
    """

    def __init__(
        self, images: NDArray, latent: int, epochs: int, seed: int, on_epoch: EpochHook
    ) -> None:
        self._images = images
        self._latent = latent
        self._epochs = epochs
        self._seed = seed
        self._on_epoch = on_epoch

    @cached_property
    def _trained(self) -> tuple[NDArray, Training]:
        # The same patches and seed give the same numbers: a campaign of many runs on one
        # survey trains once in each process.
        content = hashlib.sha256(np.ascontiguousarray(self._images).tobytes()).hexdigest()
        key = (content, self._images.shape, self._latent, self._epochs, self._seed)
        if key not in _TRAINED:
            while len(_TRAINED) >= REMEMBERED:
                _TRAINED.pop(next(iter(_TRAINED)))
            _TRAINED[key] = self._train()
        return _TRAINED[key]

    def _train(self) -> tuple[NDArray, Training]:
        started = time.perf_counter()
        images = layers.tensor(self._images)
        _, channels, size, _ = images.shape
        network = layers.build(
            lambda: architectures.Autoencoder(channels, size, self._latent), self._seed
        )
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        order = torch.Generator().manual_seed(self._seed)
        losses = train(
            network,
            optimiser,
            lambda batch: F.mse_loss(network(images[batch]), images[batch]),
            self._epochs,
            model="autoencoder",
            on_epoch=self._on_epoch,
            batches=lambda: layers.shuffled(len(images), 64, order),
        )
        latent = layers.in_batches(network.encode, images).cpu().numpy().astype(float)
        training = Training(
            model="autoencoder",
            architecture=f"3 x {architectures.FILTERS} convolutions, latent {self._latent}",
            epochs=self._epochs,
            loss=losses[-1],
            seconds=time.perf_counter() - started,
        )
        return latent, training

    def values(self) -> NDArray:
        """Latent coordinates of every candidate, ``(candidates, latent)``."""
        return self._trained[0]

    def trainings(self) -> Sequence[Training]:
        """Return the one training."""
        return [self._trained[1]]

"""Error models: how wrong the predictor is where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from curiosity_bluesky.learning._numbers import over_mean, zero_to_one
from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.training import train
from curiosity_bluesky.learning.protocols import Features


class ErrorNetwork:
    """A small network from the features of a patch to the predictor's error there.

    Second workflow of the paper: 3-128-1, dropout 0.1, Adam with learning rate 1e-2, 60
    epochs at the start and 20 after each measurement, full batch. The target is the error
    divided by its mean over the measured points, which changes slowly while the errors
    themselves fall.

    Parameters
    ----------
    features
        Where each candidate lies in the feature space.
    start_epochs, update_epochs
        Epochs of the first and of every later training.
    seed
        Seed of weights and dropout.
    """

    def __init__(
        self, features: Features, start_epochs: int, update_epochs: int, seed: int
    ) -> None:
        self._source = features
        self._start_epochs = start_epochs
        self._update_epochs = update_epochs
        self._seed = seed

    def start(self, indices: NDArray[np.intp], errors: NDArray) -> float:
        """Forget everything and learn from these errors ``(n,)``; return the loss."""
        self._features = layers.tensor(self._source.values())
        width = self._features.shape[1]
        network = layers.build(lambda: architectures.ErrorNet(width), self._seed)
        self._network = network
        self._optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
        return self._train(indices, errors, self._start_epochs)

    def update(self, indices: NDArray[np.intp], errors: NDArray) -> float:
        """Learn on, from these errors ``(n,)``; return the loss."""
        return self._train(indices, errors, self._update_epochs)

    def _train(self, indices: NDArray[np.intp], errors: NDArray, epochs: int) -> float:
        x = self._features[torch.as_tensor(indices)]
        y = layers.tensor(over_mean(errors))
        network = self._network
        return train(network, self._optimiser, lambda _: F.mse_loss(network(x), y), epochs)[-1]

    def predict(self) -> tuple[NDArray, NDArray]:
        """Mean and standard deviation over dropout, ``(candidates,)`` each, never negative."""
        with torch.inference_mode():
            mean, spread = self._network.moments(self._features)
        return mean.clamp(min=0).double().cpu().numpy(), spread.double().cpu().numpy()


class LatentErrorDecoder:
    """A decoder from the predictor's frozen latent space to its error.

    First workflow of the paper: d-32-16-8-1 on the encoder of the best network, whose
    weights stay as they are; Adam with learning rate 1e-3, 100 epochs, full batch. The target
    is the error scaled to 0 ... 1 over the measured points. The latent space changes with
    every training of the predictor, so each training starts from new weights.

    Parameters
    ----------
    latent
        Gives every candidate's place in the latent space, ``(candidates, latent)``.
    epochs
        Of each training.
    seed
        Seed of the weights.
    """

    def __init__(self, latent: Callable[[], NDArray], epochs: int, seed: int) -> None:
        self._latent = latent
        self._epochs = epochs
        self._seed = seed

    def start(self, indices: NDArray[np.intp], errors: NDArray) -> float:
        """Learn from these errors ``(n,)`` alone; return the loss."""
        latent = layers.tensor(self._latent())
        network = layers.build(lambda: architectures.ErrorDecoder(latent.shape[1]), self._seed)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        x, y = latent[torch.as_tensor(indices)], layers.tensor(zero_to_one(errors))
        losses = train(network, optimiser, lambda _: F.mse_loss(network(x), y), self._epochs)
        with torch.inference_mode():
            self._predicted = network(latent).double().cpu().numpy()
        return losses[-1]

    update = start

    def predict(self) -> tuple[NDArray, None]:
        """Return the expected error of every candidate, ``(candidates,)``."""
        return self._predicted, None

"""Im2spec predictor: from a patch to the spectrum that would be measured there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curiosity_bluesky.learning._numbers import mean_square
from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.architectures import Encoder
from curiosity_bluesky.learning.nn.network_predictor import (
    NetworkOptions,
    NetworkPredictor,
    squared_error,
)
from curiosity_bluesky.learning.records import TrainingData


class Im2SpecPredictor(NetworkPredictor):
    """One Im2spec network, trained a little further after every measurement.

    Second workflow of the paper: AdamW with learning rate 1e-3, full batch, 150 epochs on
    the seeds and 2 epochs after each measurement, mean squared error. Spectra are scaled
    to -1 ... 1: how fast the network learns depends on it.

    Parameters
    ----------
    images
        Every candidate's patch, ``(candidates, channels, size, size)``.
    encoder
        What the encoder is made of.
    **options
        See `NetworkPredictor`.
    """

    model = "im2spec"
    _network: architectures.Im2Spec

    def __init__(
        self, images: NDArray, *, encoder: Encoder, **options: Unpack[NetworkOptions]
    ) -> None:
        super().__init__(images, **options)
        self._encoder = encoder
        self._latent: Tensor | None = None

    @property
    def _architecture(self) -> str:
        return f"{self._encoder}, latent {self._latent_size}"

    def _make(self, channels: int, size: int, points: int) -> architectures.Im2Spec:
        return architectures.Im2Spec(channels, size, points, self._latent_size, self._encoder)

    def _loss(self, observed: TrainingData) -> Callable[[], Tensor]:
        self._latent = None
        x = self._images[torch.as_tensor(observed.indices)]
        y, recorded = self._scale(observed.spectra)
        return lambda: squared_error(self._network(x), y, recorded)

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

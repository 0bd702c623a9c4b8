"""The inverse problem: from a spectrum to the patch that it was measured in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from curiosity_bluesky.learning.nn import architectures
from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor
from curiosity_bluesky.learning.nn.network_predictor import NetworkOptions, NetworkPredictor
from curiosity_bluesky.learning.protocols import Features
from curiosity_bluesky.learning.records import Training, TrainingData


class Spec2ImPredictor(NetworkPredictor):
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
    **options
        See `NetworkPredictor`.
    """

    model = "spec2im"

    def __init__(
        self,
        images: NDArray,
        forward: Im2SpecPredictor,
        features: Features,
        **options: Unpack[NetworkOptions],
    ) -> None:
        super().__init__(images, **options)
        self._forward = forward
        self._features = features

    @property
    def _architecture(self) -> str:
        return f"4 convolutions, latent {self._latent_size}"

    def _make(self, channels: int, size: int, points: int) -> architectures.Spec2Im:
        return architectures.Spec2Im(channels, size, points, self._latent_size)

    def _loss(self, observed: TrainingData) -> Callable[[], Tensor]:
        x, _ = self._scale(observed.spectra)
        y = self._images[torch.as_tensor(observed.indices)]
        return lambda: F.mse_loss(self._network(x), y)

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        self._forward.start(observed)
        return super().start(observed)

    def update(self, observed: TrainingData) -> Training:
        """Learn on from all observations."""
        self._forward.update(observed)
        return super().update(observed)

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

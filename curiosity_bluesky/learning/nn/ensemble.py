"""The ensemble of Im2spec networks of the paper's first workflow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import update_bn

from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.architectures import Encoder
from curiosity_bluesky.learning.nn.network_predictor import SpectrumScaler, squared_error
from curiosity_bluesky.learning.nn.training import train
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import Training, TrainingData

AVERAGED = 50
"""Last epochs of a training over which weights and validation loss are averaged."""
HOLD_BACK_EVERY = 5
"""Every fifth spectrum validates: 20 %, as in the published code."""


class EnsemblePredictor:
    """Several Im2spec networks, of which the best one predicts.

    First workflow of the paper: Adam with learning rate 1e-3 and weight decay 1e-6 on 80 %
    of the spectra; weights averaged over the last 50 epochs of the second half (stochastic
    weight averaging, Izmailov et al., UAI 2018); the network with the smallest mean validation
    loss over the last 50 epochs is the best. All
    of them are trained at first and later with a probability at each iteration, else only
    the best. A training goes on from the weights before.

    Parameters
    ----------
    images
        Every candidate's patch, ``(candidates, channels, size, size)``.
    encoders
        One for each network.
    latent, filters
        Size of the latent space; filters of each convolution.
    epochs, patience
        Most epochs of a training; epochs of its second half without a smaller validation loss
        after which it ends earlier.
    batches
        Portions that the training spectra are shown in.
    retrain_share
        Probability that an iteration trains all networks.
    batch
        Spectra in one iteration.
    seed
        Seed of all random choices.
    limits
        Values of the spectra that become -1 and 1; default the extremes of the first ones.
    on_epoch
        Called after each epoch.
    """

    def __init__(
        self,
        images: NDArray,
        encoders: Sequence[Encoder],
        *,
        latent: int,
        filters: int,
        epochs: int,
        patience: int,
        batches: int,
        retrain_share: float,
        batch: int,
        seed: int,
        limits: tuple[float, float] | None,
        on_epoch: EpochHook,
    ) -> None:
        self._images = layers.tensor(images)
        self._encoders = encoders
        self._latent_size = latent
        self._filters = filters
        self._epochs = epochs
        self._patience = patience
        self._batches = batches
        self._retrain_share = retrain_share
        self._batch = batch
        self._seed = seed
        self._limits = limits
        self._on_epoch = on_epoch
        self._best = 0
        self._latent: Tensor | None = None

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and train all networks on these observations."""
        _, channels, size, _ = self._images.shape
        points = observed.spectra.shape[1]
        self._networks = [
            layers.build(
                lambda e=encoder: architectures.Im2Spec(
                    channels, size, points, self._latent_size, e, self._filters
                ),
                (self._seed * 10 + k) % 2**63,
            )
            for k, encoder in enumerate(self._encoders)
        ]
        self._first = len(observed)
        self._scale = SpectrumScaler.of(observed.spectra, self._limits)
        self._validation = np.full(len(self._networks), np.inf)
        return self._train(observed, range(len(self._networks)))

    def update(self, observed: TrainingData) -> Training:
        """Train the best network further, now and then all; nothing within a batch."""
        n = len(observed)
        if (n - self._first) % self._batch:
            return self._training(observed, 0, np.nan, 0.0)
        all_of_them = np.random.default_rng([self._seed, n, 2]).random() < self._retrain_share
        return self._train(observed, range(len(self._networks)) if all_of_them else [self._best])

    def _train(self, observed: TrainingData, which: Sequence[int]) -> Training:
        started = time.perf_counter()
        rng = np.random.default_rng([self._seed, len(observed), 1])
        # Always the same ones validate, so that no training has ever seen them.
        validating = np.arange(len(observed)) % HOLD_BACK_EVERY == HOLD_BACK_EVERY - 1
        patches = self._images[torch.as_tensor(observed.indices)]
        spectra, recorded = self._scale(observed.spectra)
        rows = {
            "validation": np.flatnonzero(validating),
            "training": np.flatnonzero(~validating),
        }
        sets = {
            name: [part[torch.as_tensor(chosen)] for part in (patches, spectra, recorded)]
            for name, chosen in rows.items()
        }
        losses = np.full(len(self._networks), np.nan)
        epochs = 0
        for k in which:
            losses[k], self._validation[k], done = self._train_one(k, sets, rng)
            epochs = max(epochs, done)
        self._best = int(np.argmin(self._validation))
        self._latent = None  # the best one was trained, or another one is the best now
        seconds = time.perf_counter() - started
        return self._training(observed, epochs, float(np.nanmin(losses)), seconds)

    def _train_one(
        self, k: int, sets: dict[str, list[Tensor]], rng: np.random.Generator
    ) -> tuple[float, float, int]:
        """Train one network; return its loss, validation loss and number of epochs."""
        network = self._networks[k]
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-6)
        # The weights of the last epochs that were really run: a training may end early.
        weights: deque[dict[str, Tensor]] = deque(maxlen=AVERAGED)
        images, wanted, recorded = sets["training"]
        # A handful of spectra is trained on without validation.
        judge = sets["validation" if len(sets["validation"][0]) else "training"]
        validation: list[float] = []
        best, since = np.inf, 0

        def parts() -> list[Tensor]:
            some = np.array_split(rng.permutation(len(images)), min(self._batches, len(images)))
            return [torch.as_tensor(part) for part in some]

        def validate(epoch: int) -> bool:
            nonlocal best, since
            with torch.inference_mode():
                validation.append(float(squared_error(network(judge[0]), *judge[1:])))
            if epoch < self._epochs // 2:
                return False
            weights.append({name: p.detach().clone() for name, p in network.named_parameters()})
            since = 0 if validation[-1] < best else since + 1
            best = min(best, validation[-1])
            return since >= self._patience

        losses = train(
            network,
            optimiser,
            lambda part: squared_error(network(images[part]), wanted[part], recorded[part]),
            self._epochs,
            model=self._encoders[k].name,
            on_epoch=self._on_epoch,
            batches=parts,
            after_epoch=validate,
        )
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(torch.stack([each[name] for each in weights]).mean(dim=0))
        update_bn([images], network)
        network.eval()
        return losses[-1], float(np.mean(validation[-AVERAGED:])), len(losses)

    def _training(
        self, observed: TrainingData, epochs: int, loss: float, seconds: float
    ) -> Training:
        encoder = self._encoders[self._best]
        return Training(
            model=encoder.name,
            architecture=f"best of {len(self._encoders)}: {encoder}, latent {self._latent_size}",
            epochs=epochs,
            loss=loss,
            seconds=seconds,
            n_observed=len(observed),
        )

    def latent(self) -> NDArray:
        """Every candidate in the best network's latent space, ``(candidates, latent)``."""
        return self._encode_all().double().cpu().numpy()

    def _encode_all(self) -> Tensor:
        if self._latent is None:
            self._latent = layers.in_batches(self._networks[self._best].encode, self._images)
        return self._latent

    def errors(self, observed: TrainingData) -> NDArray:
        """Mean absolute error of each observation under the best network, ``(n,)``."""
        difference = self.predict(observed.indices) - observed.spectra
        return np.nanmean(np.abs(difference), axis=1)

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        network = self._networks[self._best]
        with torch.inference_mode():
            # By themselves, as `Im2SpecPredictor` does, for the sake of the last bits.
            if indices is None:
                latent = self._encode_all()
            else:
                latent = network.encode(self._images[torch.as_tensor(indices)])
            return self._scale.back(network.decoder(latent))

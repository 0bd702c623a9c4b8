"""``vatsavai2025-ensemble``: the first workflow of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from curiosity_bluesky.learning.acquisition import Best, BetaCuriosity, RandomPixel
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches, Rim
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.seeding import RandomSeeding
from curiosity_bluesky.learning.strategies._im2spec import LimitsStrategy
from curiosity_bluesky.learning.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Vatsavai2025Ensemble(LimitsStrategy):
    """Five Im2spec networks, the best of which predicts, and an error model on its encoder.

    A. Vatsavai et al., Digital Discovery (2025), doi:10.1039/d5dd00119f, first workflow and
    Table 1. What the paper says, what its code does and what this does is compared in
    ``docs/vatsavai2025-ensemble.md``. The published number of seeds is a fifth of all
    pixels, its budget 300 more.

    Parameters
    ----------
    beta
        1 is curious, 0 conservative.
    rate
        The paper's lambda. It changes the map of the acquisition, not the order in it.
    latent, filters
        Of each network.
    epochs, patience, batches
        A training: most epochs, epochs without a smaller validation loss (in its second
        half) that end it, portions of the training spectra.
    error_epochs
        The error model.
    retrain_share
        Probability that an iteration trains all five networks, not the best alone.
    random
        Take random pixels instead: the first workflow's baseline.
    """

    name: ClassVar[str] = "vatsavai2025-ensemble"

    patch_size: int = 16
    rim: Rim = "omit"
    beta: float = 1.0
    rate: float = 0.1
    latent: int = 3
    filters: int = 128
    epochs: int = 200
    patience: int = 10
    batches: int = 16
    error_epochs: int = 100
    retrain_share: float = 0.1
    random: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("latent", "filters", "epochs", "patience", "batches", "error_epochs")
        self._expect("1 or more", *names, within=lambda value: value >= 1)
        self._expect("0 to 1", "beta", "retrain_share", within=lambda value: 0 <= value <= 1)
        self._expect("more than 0", "rate", within=lambda value: value > 0)

    @property
    def cost_aware(self) -> bool:
        """Whether it can choose by time: random pixels cannot."""
        return not self.random

    def random_baseline(self) -> Strategy:
        """Random pixels with the same ensemble."""
        # What only the error model and the acquisition read does not make another twin.
        plain = type(self)()
        return self.replace(
            random=True, beta=plain.beta, rate=plain.rate, error_epochs=plain.error_epochs
        )

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        from curiosity_bluesky.learning.nn.architectures import TABLE_1
        from curiosity_bluesky.learning.nn.curiosity import LearnedError
        from curiosity_bluesky.learning.nn.ensemble import EnsemblePredictor
        from curiosity_bluesky.learning.nn.error_models import LatentErrorDecoder

        predictor = EnsemblePredictor(
            patches.images(self.image_limits),
            TABLE_1,
            latent=self.latent,
            filters=self.filters,
            epochs=self.epochs,
            patience=self.patience,
            batches=self.batches,
            retrain_share=self.retrain_share,
            batch=self.batch,
            seed=seed,
            limits=self.spectrum_limits,
            on_epoch=on_epoch,
        )
        errors = LatentErrorDecoder(predictor.latent, self.error_epochs, seed)
        acquisition = BetaCuriosity(self.beta, self.rate)
        curiosity = LearnedError(predictor, errors, acquisition, budget)
        return ModelLearner(
            patches,
            seeding=RandomSeeding(),
            predictor=predictor,
            curiosity=None if self.random else curiosity,
            choice=RandomPixel() if self.random else Best(),
            n_seeds=self.n_seeds,
            seed=seed,
        )

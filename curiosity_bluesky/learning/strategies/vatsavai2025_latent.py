"""``vatsavai2025-latent``: the second workflow of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from curiosity_bluesky.learning.acquisition import ErrorAndNovelty, OneOfTheBest
from curiosity_bluesky.learning.error_models import ErrorNetwork
from curiosity_bluesky.learning.features import AutoencoderFeatures
from curiosity_bluesky.learning.learner import CuriousLearner
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Learner
from curiosity_bluesky.learning.seeding import KMeansSeeding, RandomSeeding
from curiosity_bluesky.learning.strategies._im2spec import Im2SpecStrategy
from curiosity_bluesky.learning.strategy import register


@register
@dataclass(frozen=True, kw_only=True)
class Vatsavai2025Latent(Im2SpecStrategy):
    """Im2spec with an error model in an autoencoder's latent space.

    A. Vatsavai et al., Digital Discovery (2025), doi:10.1039/d5dd00119f, second workflow,
    with the published hyper-parameters. What the paper says, what its code does and what
    this does is compared in ``docs/vatsavai2025-latent.md``.

    Parameters
    ----------
    autoencoder_latent, autoencoder_epochs
        The autoencoder that sees all patches.
    error_start_epochs, error_update_epochs
        The error model.
    rate
        The paper's lambda: how fast novelty gives way to predicted error.
    best, random_share
        The choice: one of so many best pixels, with this probability any pixel instead.
    seeding
        ``kmeans`` as the paper says, ``random`` as its code does.
    """

    name: ClassVar[str] = "vatsavai2025-latent"

    autoencoder_latent: int = 3
    autoencoder_epochs: int = 30
    error_start_epochs: int = 60
    error_update_epochs: int = 20
    rate: float = 2.0
    best: int = 10
    random_share: float = 0.1
    seeding: Literal["kmeans", "random"] = "kmeans"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("autoencoder_latent", "autoencoder_epochs", "best")
        names += ("error_start_epochs", "error_update_epochs")
        self._expect("1 or more", *names, within=lambda value: value >= 1)
        self._expect("0 or more", "rate", within=lambda value: value >= 0)
        self._expect("0 to 1", "random_share", within=lambda value: 0 <= value <= 1)

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        features = AutoencoderFeatures(
            patches.images(self.image_limits),
            self.autoencoder_latent,
            self.autoencoder_epochs,
            seed,
            on_epoch,
        )
        return CuriousLearner(
            patches,
            features=features,
            seeding=KMeansSeeding(features) if self.seeding == "kmeans" else RandomSeeding(),
            predictor=self._predictor(patches, seed, on_epoch),
            error_model=ErrorNetwork(
                features, self.error_start_epochs, self.error_update_epochs, seed
            ),
            acquisition=ErrorAndNovelty(self.rate),
            choice=OneOfTheBest(self.best, self.random_share),
            n_seeds=self.n_seeds,
            budget=budget,
            seed=seed,
        )

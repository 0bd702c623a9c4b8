"""``vatsavai2025-latent``: the second workflow of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from curiosity_bluesky.learning.acquisition import ErrorAndNovelty, TopKRandom
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches, Rim
from curiosity_bluesky.learning.protocols import EpochHook, Features, LatentPredictor, Learner
from curiosity_bluesky.learning.seeding import KMeansSeeding, RandomSeeding
from curiosity_bluesky.learning.strategies._im2spec import Im2SpecStrategy
from curiosity_bluesky.learning.strategies.random import Random
from curiosity_bluesky.learning.strategy import Strategy

if TYPE_CHECKING:
    from curiosity_bluesky.learning.nn.curiosity import LearnedError
    from curiosity_bluesky.learning.nn.error_models import ErrorNetwork


@dataclass(frozen=True, kw_only=True)
class Vatsavai2025Latent(Im2SpecStrategy):
    """Im2spec with an error model in an autoencoder's latent space.

    A. Vatsavai et al., Digital Discovery (2025), doi:10.1039/d5dd00119f, second workflow,
    with the published hyper-parameters. What the paper says, what its code does and what
    this does is compared in ``docs/vatsavai2025-latent.md``.

    Parameters
    ----------
    autoencoder_latent, autoencoder_epochs, autoencoder_seed
        The autoencoder that sees all patches. Its seed is that of the run by default; the
        published trials share one autoencoder, as those with a given seed do.
    error_start_epochs, error_update_epochs
        The error model.
    rate
        The paper's lambda: how fast novelty gives way to predicted error.
    best, random_share
        The choice: number of best pixels that one is drawn from; probability of any pixel
        instead.
    seeding
        ``kmeans`` as the paper says, ``random`` as its code does.
    """

    name: ClassVar[str] = "vatsavai2025-latent"

    rim: Rim = "omit"
    autoencoder_latent: int = 3
    autoencoder_epochs: int = 30
    autoencoder_seed: int | None = None
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
        self._expect(
            "0 or more", "autoencoder_seed", within=lambda value: value is None or value >= 0
        )
        self._expect("0 to 1", "random_share", within=lambda value: 0 <= value <= 1)

    def random_baseline(self) -> Strategy:
        """Random pixels with the same Im2spec."""
        return self.as_kind(Random, predictor="im2spec")

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        from curiosity_bluesky.learning.nn.autoencoder import AutoencoderFeatures

        features = AutoencoderFeatures(
            patches.images(self.image_limits),
            self.autoencoder_latent,
            self.autoencoder_epochs,
            seed if self.autoencoder_seed is None else self.autoencoder_seed,
            on_epoch,
        )
        predictor, curiosity = self._curious(patches, features, budget, seed, on_epoch)
        return ModelLearner(
            patches,
            features=features,
            seeding=KMeansSeeding(features) if self.seeding == "kmeans" else RandomSeeding(),
            predictor=predictor,
            curiosity=curiosity,
            choice=TopKRandom(self.best, self.random_share),
            n_seeds=self.n_seeds,
            seed=seed,
        )

    def _curious(
        self, patches: Patches, features: Features, budget: int, seed: int, on_epoch: EpochHook
    ) -> tuple[LatentPredictor, LearnedError]:
        from curiosity_bluesky.learning.nn.curiosity import LearnedError

        predictor = self._im2spec(patches, seed, on_epoch)
        errors = self._error_model(features, seed)
        return predictor, LearnedError(predictor, errors, ErrorAndNovelty(self.rate), budget)

    def _error_model(self, features: Features, seed: int) -> ErrorNetwork:
        from curiosity_bluesky.learning.nn.error_models import ErrorNetwork

        return ErrorNetwork(features, self.error_start_epochs, self.error_update_epochs, seed)

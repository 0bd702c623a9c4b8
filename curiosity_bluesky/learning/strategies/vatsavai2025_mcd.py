"""``vatsavai2025-mcd``: the second workflow with Monte-Carlo dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curiosity_bluesky.learning.acquisition import ErrorNoveltyAndSpread
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Features, LatentPredictor
from curiosity_bluesky.learning.strategies.vatsavai2025_latent import Vatsavai2025Latent

if TYPE_CHECKING:
    from curiosity_bluesky.learning.nn.curiosity import LearnedError


@dataclass(frozen=True, kw_only=True)
class Vatsavai2025MCD(Vatsavai2025Latent):
    """As ``vatsavai2025-latent``, with Im2spec's own uncertainty as a third term.

    The variant of the paper's Fig. 7. Compared with text and published code in
    ``docs/vatsavai2025-mcd.md``.

    Parameters
    ----------
    passes
        Passes through Im2spec with dropout at work, over all patches, for each decision.
    """

    name: ClassVar[str] = "vatsavai2025-mcd"

    passes: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect("2 or more", "passes", within=lambda value: value >= 2)

    def _curious(
        self, patches: Patches, features: Features, budget: int, seed: int, on_epoch: EpochHook
    ) -> tuple[LatentPredictor, LearnedError]:
        from curiosity_bluesky.learning.nn.curiosity import LearnedError

        predictor = self._im2spec(patches, seed, on_epoch)
        return predictor, LearnedError(
            predictor,
            self._error_model(features, seed),
            ErrorNoveltyAndSpread(self.rate),
            budget,
            spread=lambda n: predictor.spread(n, self.passes),
        )

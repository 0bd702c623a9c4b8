"""``vatsavai2025-spec2im``: curious about the inverse problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curiosity_bluesky.learning.acquisition import ErrorAndNovelty
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Features, LatentPredictor
from curiosity_bluesky.learning.strategies.vatsavai2025_latent import Vatsavai2025Latent

if TYPE_CHECKING:
    from curiosity_bluesky.learning.nn.curiosity import LearnedError


@dataclass(frozen=True, kw_only=True)
class Vatsavai2025Spec2Im(Vatsavai2025Latent):
    """As ``vatsavai2025-latent``, but curious about which spectra do not tell their structure.

    Spec2im reconstructs the patch from the spectrum; its error is what the error model
    learns. An Im2spec beside it, trained on the same spectra, makes the predictions.
    Compared with the paper in ``docs/vatsavai2025-spec2im.md``.
    """

    name: ClassVar[str] = "vatsavai2025-spec2im"

    def _curious(
        self, patches: Patches, features: Features, budget: int, seed: int, on_epoch: EpochHook
    ) -> tuple[LatentPredictor, LearnedError]:
        from curiosity_bluesky.learning.nn.curiosity import LearnedError
        from curiosity_bluesky.learning.nn.spec2im import Spec2ImPredictor

        predictor = Spec2ImPredictor(
            patches.images(self.image_limits),
            self._im2spec(patches, seed, on_epoch),
            features,
            latent=self.latent,
            start_epochs=self.start_epochs,
            update_epochs=self.update_epochs,
            seed=seed,
            limits=self.spectrum_limits,
            on_epoch=on_epoch,
        )
        errors = self._error_model(features, seed)
        return predictor, LearnedError(predictor, errors, ErrorAndNovelty(self.rate), budget)

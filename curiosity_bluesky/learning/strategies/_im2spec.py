"""What the strategies with one Im2spec network share."""

from __future__ import annotations

from dataclasses import dataclass

from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.predictors import Im2SpecPredictor
from curiosity_bluesky.learning.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Im2SpecStrategy(Strategy):
    """A strategy whose predictor is the Im2spec network of the paper's second workflow.

    Parameters
    ----------
    latent, dropout
        Size of its latent space; dropout probability in the encoder.
    start_epochs, update_epochs
        Epochs on the seeds and after each further spectrum.
    image_limits, spectrum_limits
        Values that become -1 and 1 for the networks. Default: the extremes of the survey,
        and of the seeds' spectra. The published code took those of the whole recording:
        give them to reproduce its figures.
    """

    latent: int = 2
    dropout: float = 0.5
    start_epochs: int = 150
    update_epochs: int = 2
    image_limits: tuple[float, float] | None = None
    spectrum_limits: tuple[float, float] | None = None

    def _predictor(self, patches: Patches, seed: int, on_epoch: EpochHook) -> Im2SpecPredictor:
        return Im2SpecPredictor(
            patches.images(self.image_limits),
            latent=self.latent,
            dropout=self.dropout,
            start_epochs=self.start_epochs,
            update_epochs=self.update_epochs,
            seed=seed,
            limits=self.spectrum_limits,
            on_epoch=on_epoch,
        )

"""Base classes of the strategies with an Im2spec network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.strategy import Strategy

if TYPE_CHECKING:
    from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor


@dataclass(frozen=True, kw_only=True)
class LimitsStrategy(Strategy):
    """A strategy whose networks want their numbers scaled.

    Parameters
    ----------
    image_limits, spectrum_limits
        Values that become -1 and 1 for the networks. Default: the extremes of the survey,
        and of the seeds' spectra. The published code took those of the whole recording:
        give them to reproduce its figures.
    """

    image_limits: tuple[float, float] | None = None
    spectrum_limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect(
            "two finite numbers, the smaller one first",
            "image_limits",
            "spectrum_limits",
            within=lambda limits: limits is None or -math.inf < limits[0] < limits[1] < math.inf,
        )


@dataclass(frozen=True, kw_only=True)
class Im2SpecStrategy(LimitsStrategy):
    """A strategy whose predictor is the Im2spec network of the paper's second workflow.

    Parameters
    ----------
    latent, dropout
        Size of its latent space; dropout probability in the encoder.
    start_epochs, update_epochs
        Epochs on the seeds and after each further spectrum.
    """

    latent: int = 2
    dropout: float = 0.5
    start_epochs: int = 150
    update_epochs: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("latent", "start_epochs", "update_epochs")
        self._expect("1 or more", *names, within=lambda value: value >= 1)
        self._expect("0 to less than 1", "dropout", within=lambda value: 0 <= value < 1)

    def _im2spec(self, patches: Patches, seed: int, on_epoch: EpochHook) -> Im2SpecPredictor:
        # Here and in other strategies: networks take torch, and a list of strategies needs none.
        from curiosity_bluesky.learning.nn.architectures import TABLE_1
        from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor

        return Im2SpecPredictor(
            patches.images(self.image_limits),
            latent=self.latent,
            encoder=replace(TABLE_1[0], dropout=self.dropout),
            start_epochs=self.start_epochs,
            update_epochs=self.update_epochs,
            seed=seed,
            limits=self.spectrum_limits,
            on_epoch=on_epoch,
        )

"""Base classes of the baselines: a predictor that has nothing to do with the choice."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.gp.transfer import prior_mean
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice, EpochHook, Learner, Predictor
from curiosity_bluesky.learning.strategies._im2spec import Im2SpecStrategy
from curiosity_bluesky.learning.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class GaussianProcessStrategy(Strategy):
    """A strategy whose predictor is a Gaussian process on patch, position and level.

    Parameters
    ----------
    outputs
        Principal components of the spectra at most.
    refit_every
        Further spectra between two searches for the hyper-parameters.
    robust
        Whether spectra that the others contradict are trusted less.
    window
        Whether the patches are seen through a soft window whose width is found from the
        spectra; otherwise all pixels of a patch count alike.
    level
        Whether the kernel has a linear part in the values of the image.
    """

    outputs: int = 8
    refit_every: int = 20
    robust: bool = True
    window: bool = True
    level: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("outputs", "refit_every")
        self._expect("1 or more", *names, within=lambda value: value >= 1)

    @property
    def supports_warm_start(self) -> bool:
        """Whether its predictor can start from an earlier run."""
        return True

    def random_baseline(self) -> Strategy | None:
        """Random pixels with the same Gaussian process."""
        names = [field.name for field in dataclasses.fields(GaussianProcessStrategy)]
        shared = {name: getattr(self, name) for name in names}
        return Strategy.named("random", predictor="gp", **shared)

    def gp(
        self,
        patches: Patches,
        on_epoch: EpochHook = lambda model, epoch, epochs: None,
        kind: type[GaussianProcessPredictor] = GaussianProcessPredictor,
    ) -> GaussianProcessPredictor:
        """Return the Gaussian process for a survey, or a predictor that is built on one."""
        start = Kernel.start(len(patches.survey.channels), window=self.window, level=self.level)
        warm = self.supports_warm_start
        return kind(
            KernelInputs(patches), self.outputs, self.refit_every, robust=self.robust,
            window=self.window, level=self.level, on_epoch=on_epoch,
            prior_mean=prior_mean(patches, self.outputs, start, on_epoch) if warm else None,
            dwells=[dwell for dwell, _ in self.dwell_seconds or ()],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Baseline(GaussianProcessStrategy, Im2SpecStrategy):
    """A blind choice, and a predictor that learns from what it finds.

    Choosing costs nothing; the predictor is trained when a prediction is asked for. The
    seeds are chosen by the same rule as all other pixels.

    Parameters
    ----------
    predictor
        ``gp``, the Gaussian process, or ``im2spec``, the published network; the parameters
        of the other one are without effect.
    """

    predictor: Literal["gp", "im2spec"] = "gp"

    @property
    def supports_warm_start(self) -> bool:
        """Whether its predictor can start from an earlier run."""
        return self.predictor == "gp"

    @property
    def cost_aware(self) -> bool:
        """Whether it can choose by time: it goes by no acquisition."""
        return False

    def random_baseline(self) -> Strategy | None:
        """Random pixels with the same predictor."""
        return self.as_kind(type(Strategy.named("random")))

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        raise NotImplementedError

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        predictor: Predictor = (
            self.gp(patches, on_epoch)
            if self.predictor == "gp"
            else self._im2spec(patches, seed, on_epoch)
        )
        return ModelLearner(
            patches,
            predictor=predictor,
            choice=self._choice(patches, budget, seed),
            n_seeds=self.n_seeds,
            seed=seed,
        )

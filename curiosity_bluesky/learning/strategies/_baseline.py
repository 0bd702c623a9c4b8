"""What the baselines share: a predictor that has nothing to do with the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curiosity_bluesky.learning.gp_predictor import GaussianProcessPredictor, gp_inputs
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Choice, Learner, Predictor
from curiosity_bluesky.learning.strategies._im2spec import Im2SpecStrategy
from curiosity_bluesky.learning.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class GaussianProcessStrategy(Strategy):
    """A strategy whose predictor is a Gaussian process on patch and position.

    Parameters
    ----------
    components
        Principal components of the patches at most.
    outputs
        Principal components of the spectra at most.
    refit_every
        Further spectra between two searches for the hyper-parameters.
    """

    components: int = 12
    outputs: int = 8
    refit_every: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("components", "outputs", "refit_every")
        self._expect("1 or more", *names, within=lambda value: value >= 1)

    def random_twin(self) -> Strategy | None:
        """Random pixels with the same Gaussian process."""
        return Strategy.named(
            "random", predictor="gp", patch_size=self.patch_size, n_seeds=self.n_seeds,
            budget=self.budget, batch=self.batch, components=self.components,
            outputs=self.outputs, refit_every=self.refit_every,
        )  # fmt: skip

    def gp(self, patches: Patches) -> GaussianProcessPredictor:
        """Return the Gaussian process for a survey."""
        inputs = gp_inputs(patches, self.components)
        return GaussianProcessPredictor(inputs, self.outputs, self.refit_every)


@dataclass(frozen=True, kw_only=True)
class Baseline(GaussianProcessStrategy, Im2SpecStrategy):
    """A blind choice, and a predictor that learns from what it finds.

    Choosing costs nothing; the predictor is trained when somebody asks for a prediction. The
    seeds are chosen by the same rule as all other pixels.

    Parameters
    ----------
    predictor
        ``gp``, the Gaussian process, or ``im2spec``, the published network; the parameters
        of the other one are without effect.
    """

    predictor: Literal["gp", "im2spec"] = "gp"

    def random_twin(self) -> Strategy | None:
        """Random pixels with the same predictor."""
        return self.as_kind(type(Strategy.named("random")))

    def _choice(self, patches: Patches, budget: int, seed: int) -> Choice:
        raise NotImplementedError

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        predictor: Predictor = (
            self.gp(patches) if self.predictor == "gp" else self._im2spec(patches, seed, on_epoch)
        )
        return ModelLearner(
            patches,
            predictor=predictor,
            choice=self._choice(patches, budget, seed),
            n_seeds=self.n_seeds,
            seed=seed,
        )

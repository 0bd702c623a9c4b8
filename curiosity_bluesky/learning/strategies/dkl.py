"""``dkl``: deep kernel learning of one number per spectrum, as microscopists use it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.acquisition import Best
from curiosity_bluesky.learning.gp.predictor import GaussianProcessPredictor
from curiosity_bluesky.learning.learner import ModelLearner
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook, Learner
from curiosity_bluesky.learning.records import Scores, TrainingData
from curiosity_bluesky.learning.seeding import RandomSeeding
from curiosity_bluesky.learning.strategies._baseline import GaussianProcessStrategy
from curiosity_bluesky.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch

    from curiosity_bluesky.learning.nn import layers as networks
    from curiosity_bluesky.learning.nn import training
else:  # strategies are listed and checked without them
    torch = lazy_module("torch")
    networks = lazy_module("curiosity_bluesky.learning.nn.layers")
    training = lazy_module("curiosity_bluesky.learning.nn.training")

Scalariser = Literal["range", "mean", "component"]
Rule = Literal["ei", "ucb", "variance"]
HIDDEN = (1000, 500, 50)
"""Layers of the feature extractor, as AtomAI's dklGPR has them by default."""


@dataclass(frozen=True, kw_only=True)
class DeepKernelLearning(GaussianProcessStrategy):
    """A scalar of each spectrum, a Gaussian process on features learned from the patch.

    The method of Liu et al., Nature Machine Intelligence 4 (2022) 341, and of AtomAI's
    ``dklGPR`` (a network 1000-500-50-2, Gaussian kernel, Adam 1e-2, 200 cycles), with
    gpytorch. It optimises one property where curiosity maps all of them; spectra are
    predicted by the Gaussian process of the other baselines.

    Parameters
    ----------
    scalariser
        ``range``: largest less smallest value, for a loop its height; ``mean`` of the
        magnitude; ``component``: the first principal component.
    rule
        ``ei``, expected improvement of the scalar; ``ucb``, mean + 2 standard deviations;
        ``variance``, which maps it.
    start_epochs, update_epochs
        Cycles at the start and after each spectrum. (The notebooks train from scratch, 200
        cycles each time.)
    """

    name: ClassVar[str] = "dkl"

    scalariser: Scalariser = "range"
    rule: Rule = "ei"
    start_epochs: int = 200
    update_epochs: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("start_epochs", "update_epochs")
        self._expect("1 or more", *names, within=lambda value: value >= 1)

    def build(self, patches: Patches, budget: int, seed: int, on_epoch: EpochHook) -> Learner:
        """Put the parts together for one survey."""
        predictor = self.gp(patches, on_epoch)
        return ModelLearner(
            patches,
            seeding=RandomSeeding(),
            predictor=predictor,
            curiosity=ScalarKernel(self, patches, predictor, seed, on_epoch),
            choice=Best(),
            n_seeds=self.n_seeds,
            seed=seed,
        )


def scalar(spectra: NDArray, scalariser: Scalariser) -> NDArray:
    """Return one number for each spectrum, ``(n, points)`` to ``(n,)``."""
    if scalariser == "range":
        return np.nanmax(spectra, axis=1) - np.nanmin(spectra, axis=1)
    if scalariser == "mean":
        return np.nanmean(np.abs(spectra), axis=1)
    seen = np.isfinite(spectra).any(axis=0)
    centred = spectra[:, seen] - np.nanmean(spectra[:, seen], axis=0)
    filled = np.nan_to_num(centred)
    _, _, axes = np.linalg.svd(filled, full_matrices=False)
    return filled @ (axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))]))


class ScalarKernel:
    """The deep kernel at work.

    Parameters
    ----------
    strategy
        The parameters.
    patches
        The candidates.
    predictor
        Predicts spectra; not used in the choice.
    seed
        Seed of the weights.
    on_epoch
        Called after each cycle.
    """

    def __init__(
        self,
        strategy: DeepKernelLearning,
        patches: Patches,
        predictor: GaussianProcessPredictor,
        seed: int,
        on_epoch: EpochHook,
    ) -> None:
        self._gpytorch = _gpytorch()
        self._strategy = strategy
        self._images = networks.tensor(patches.images().reshape(len(patches), -1))
        self._seed = seed
        self._on_epoch = on_epoch

    def start(self, observed: TrainingData) -> float:
        """Train new features and a new kernel; return the loss."""
        width = self._images.shape[1]
        self._features = networks.build(lambda: _extractor(width), self._seed)
        gp = self._gpytorch
        self._likelihood = gp.likelihoods.GaussianLikelihood().to(networks.device())
        kernel = gp.kernels.ScaleKernel(gp.kernels.RBFKernel(ard_num_dims=2))
        # To -1 ... 1, as AtomAI does: the kernel's lengths keep their meaning.
        self._bounds = gp.utils.grid.ScaleToBounds(-1.0, 1.0)
        self._mean = gp.means.ConstantMean().to(networks.device())
        self._kernel = kernel.to(networks.device())
        parts = (self._features, self._likelihood, self._mean, self._kernel)
        parameters = [p for part in parts for p in part.parameters()]
        self._optimiser = torch.optim.Adam(parameters, lr=1e-2)
        return self._train(observed, self._strategy.start_epochs)

    def update(self, observed: TrainingData) -> float:
        """Train on; return the loss."""
        return self._train(observed, self._strategy.update_epochs)

    def _train(self, observed: TrainingData, cycles: int) -> float:
        values = scalar(observed.spectra, self._strategy.scalariser)
        width = values.std()
        self._best = float((values.max() - values.mean()) / width) if width > 0 else 0.0
        x = self._images[torch.as_tensor(observed.indices)]
        y = networks.tensor((values - values.mean()) / width if width > 0 else 0 * values)
        model = self._model = _exact_gp(self._gpytorch, x, y, self._likelihood, self)
        objective = self._gpytorch.mlls.ExactMarginalLogLikelihood(self._likelihood, model)
        parts = torch.nn.ModuleList([model, self._likelihood, self._bounds])
        with self._exactly():
            return training.train(
                parts,
                self._optimiser,
                lambda _: -objective(model(x), y),
                cycles,
                model="dkl",
                on_epoch=self._on_epoch,
            )[-1]

    def _exactly(self) -> ExitStack:
        """Compute by the defaults of gpytorch, whatever else in this process has set for all.

        Its settings are global, and botorch, for one, changes them when it is imported: a process
        that had imported it decided otherwise than one that had not.
        """
        settings, stack = self._gpytorch.settings, ExitStack()
        for pinned in (
            # Beyond 800 spectra gpytorch would draw from torch's global generator instead.
            settings.max_cholesky_size(10**9),
            settings.fast_computations(covar_root_decomposition=True, log_prob=True, solves=True),
            settings.cholesky_jitter(float_value=1e-6, double_value=1e-8),
            settings.cholesky_max_tries(3),
            settings.max_eager_kernel_size(512),
            settings.lazily_evaluate_kernels(True),
            settings.fast_pred_var(False),
            settings.detach_test_caches(True),
        ):
            stack.enter_context(pinned)
        return stack

    def forward(self, x: torch.Tensor) -> Any:
        """Prior over the patches, as gpytorch wants it."""
        z = self._bounds(self._features(x))
        return self._gpytorch.distributions.MultivariateNormal(self._mean(z), self._kernel(z))

    def scores(self, observed: TrainingData) -> Scores:
        """Score every candidate by the rule."""
        # Where every candidate is measured gpytorch suspects a mistake.
        with torch.no_grad(), self._exactly(), self._gpytorch.settings.debug(False):
            posterior = self._model(self._images)
            mean = posterior.mean.double().cpu().numpy()
            spread = np.sqrt(np.maximum(posterior.variance.double().cpu().numpy(), 1e-12))
        if self._strategy.rule == "variance":
            values = spread**2
        elif self._strategy.rule == "ucb":
            values = mean + 2 * spread
        else:
            from scipy.stats import norm

            better = mean - self._best
            values = better * norm.cdf(better / spread) + spread * norm.pdf(better / spread)
        return Scores(acquisition=values, uncertainty=spread)


def _extractor(width: int) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for units in HIDDEN:
        layers += [torch.nn.Linear(width, units), torch.nn.ReLU()]
        width = units
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 2))


def _exact_gp(gpytorch: Any, x: Any, y: Any, likelihood: Any, owner: ScalarKernel) -> Any:
    class Model(gpytorch.models.ExactGP):
        def forward(self, x: torch.Tensor) -> Any:
            return owner.forward(x)

    return Model(x, y, likelihood)


def _gpytorch() -> Any:
    try:
        import gpytorch
    except ImportError:
        raise InputError(
            "the strategy 'dkl' needs gpytorch: pip install \"curiosity-bluesky[benchmark]\""
        ) from None
    return gpytorch

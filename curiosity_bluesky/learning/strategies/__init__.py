"""The strategies; importing this package makes all of them available by name."""

from curiosity_bluesky.learning.strategies._baseline import Baseline, GaussianProcessStrategy
from curiosity_bluesky.learning.strategies.curious import Curious
from curiosity_bluesky.learning.strategies.dkl import DeepKernelLearning
from curiosity_bluesky.learning.strategies.farthest import Farthest
from curiosity_bluesky.learning.strategies.grid import Grid
from curiosity_bluesky.learning.strategies.lcmd import LCMD
from curiosity_bluesky.learning.strategies.oracle import Oracle
from curiosity_bluesky.learning.strategies.random import Random
from curiosity_bluesky.learning.strategies.sobol import Sobol
from curiosity_bluesky.learning.strategies.theory import Theory
from curiosity_bluesky.learning.strategies.variance import Variance
from curiosity_bluesky.learning.strategies.vatsavai2025_ensemble import Vatsavai2025Ensemble
from curiosity_bluesky.learning.strategies.vatsavai2025_latent import Vatsavai2025Latent
from curiosity_bluesky.learning.strategies.vatsavai2025_mcd import Vatsavai2025MCD
from curiosity_bluesky.learning.strategies.vatsavai2025_spec2im import Vatsavai2025Spec2Im

__all__ = [
    "LCMD",
    "Baseline",
    "Curious",
    "DeepKernelLearning",
    "Farthest",
    "GaussianProcessStrategy",
    "Grid",
    "Oracle",
    "Random",
    "Sobol",
    "Theory",
    "Variance",
    "Vatsavai2025Ensemble",
    "Vatsavai2025Latent",
    "Vatsavai2025MCD",
    "Vatsavai2025Spec2Im",
]

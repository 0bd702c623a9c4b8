"""The strategies, one a file; each is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from curiosity_bluesky.learning.registry import BUILT_IN

if TYPE_CHECKING:
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

_MODULES = {"Baseline": "_baseline", "GaussianProcessStrategy": "_baseline"}
_MODULES |= {cls: module for module, _, cls in (home.partition(":") for home in BUILT_IN.values())}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

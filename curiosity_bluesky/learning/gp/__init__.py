"""The Gaussian process: kernel, posterior, predictor, and what to measure next by it."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.learning.gp.expected_error_reduction import (
        ExpectedErrorReduction as ExpectedErrorReduction,
    )
    from curiosity_bluesky.learning.gp.kernel import Kernel as Kernel
    from curiosity_bluesky.learning.gp.kernel import KernelInputs as KernelInputs
    from curiosity_bluesky.learning.gp.posterior import GPPosterior as GPPosterior
    from curiosity_bluesky.learning.gp.predictor import (
        GaussianProcessPredictor as GaussianProcessPredictor,
    )
    from curiosity_bluesky.learning.gp.variance_reduction import (
        VarianceReduction as VarianceReduction,
    )

_MODULES = {
    "ExpectedErrorReduction": "expected_error_reduction",
    "GPPosterior": "posterior",
    "GaussianProcessPredictor": "predictor",
    "Kernel": "kernel",
    "KernelInputs": "kernel",
    "VarianceReduction": "variance_reduction",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

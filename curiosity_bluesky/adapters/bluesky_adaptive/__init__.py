"""The explorer behind the protocols of bluesky-adaptive 1.x, the former blop."""

from curiosity_bluesky.adapters.bluesky_adaptive.evaluation import (
    FromDocuments,
    FromTiled,
)
from curiosity_bluesky.adapters.bluesky_adaptive.optimizer import CuriosityOptimizer
from curiosity_bluesky.adapters.bluesky_adaptive.points import (
    Measurement,
    Outcome,
    Suggestion,
)
from curiosity_bluesky.adapters.bluesky_adaptive.problem import (
    InThread,
    optimization_problem,
    survey_of,
)
from curiosity_bluesky.adapters.bluesky_adaptive.queue import acquire_suggestions

__all__ = [
    "CuriosityOptimizer",
    "FromDocuments",
    "FromTiled",
    "InThread",
    "Measurement",
    "Outcome",
    "Suggestion",
    "acquire_suggestions",
    "optimization_problem",
    "survey_of",
]

"""The explorer behind the protocols of bluesky-adaptive 1.x, the former blop."""

from curiosity_bluesky.adapters.adaptive.evaluation import FromDocuments, FromTiled
from curiosity_bluesky.adapters.adaptive.optimizer import CuriosityOptimizer
from curiosity_bluesky.adapters.adaptive.points import Measurement, Outcome, Suggestion
from curiosity_bluesky.adapters.adaptive.problem import (
    OffTheLoop,
    optimization_problem,
    survey_of,
)
from curiosity_bluesky.adapters.adaptive.queue import acquire_suggestions

__all__ = [
    "CuriosityOptimizer",
    "FromDocuments",
    "FromTiled",
    "Measurement",
    "OffTheLoop",
    "Outcome",
    "Suggestion",
    "acquire_suggestions",
    "optimization_problem",
    "survey_of",
]

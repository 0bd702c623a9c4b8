"""Learning and choosing: explorer and strategies, without instruments, documents or pictures.

Imports numpy, scipy, scikit-learn and torch only; the last two with the first strategy that is
asked for, since they take seconds and most commands only read.
"""

from typing import TYPE_CHECKING, Any

from curiosity_bluesky.learning.explorer import Explorer
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.prior_run import PriorRun
from curiosity_bluesky.learning.records import (
    BEGUN,
    OUT_OF_REACH,
    Anomaly,
    Failure,
    Observation,
    Prediction,
    Proposal,
    ReachableArea,
    ResumeMarker,
    Scores,
    SteeringRequest,
    Training,
)
from curiosity_bluesky.learning.registry import register
from curiosity_bluesky.learning.scoring import Score, Scorer, withheld_pixels
from curiosity_bluesky.learning.strategy import Strategy
from curiosity_bluesky.learning.survey import Survey

if TYPE_CHECKING:
    from curiosity_bluesky.learning.learner import ModelLearner

__all__ = [
    "BEGUN",
    "OUT_OF_REACH",
    "Anomaly",
    "Explorer",
    "Failure",
    "ModelLearner",
    "Observation",
    "Patches",
    "Prediction",
    "PriorRun",
    "Proposal",
    "ReachableArea",
    "ResumeMarker",
    "Score",
    "Scorer",
    "Scores",
    "SteeringRequest",
    "Strategy",
    "Survey",
    "Training",
    "register",
    "withheld_pixels",
]


def __getattr__(name: str) -> Any:
    if name != "ModelLearner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from curiosity_bluesky.learning.learner import ModelLearner

    return ModelLearner

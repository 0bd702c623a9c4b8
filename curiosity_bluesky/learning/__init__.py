"""Learning and choosing: explorer and strategies, without instruments, documents or pictures.

Imports numpy, scipy, scikit-learn and torch only; all but numpy where something is computed with
them, since they take seconds and most commands only read or list.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.learning.explorer import Explorer as Explorer
    from curiosity_bluesky.learning.learner import ModelLearner as ModelLearner
    from curiosity_bluesky.learning.patches import Patches as Patches
    from curiosity_bluesky.learning.prior_run import PriorRun as PriorRun
    from curiosity_bluesky.learning.records import BEGUN as BEGUN
    from curiosity_bluesky.learning.records import OUT_OF_REACH as OUT_OF_REACH
    from curiosity_bluesky.learning.records import Anomaly as Anomaly
    from curiosity_bluesky.learning.records import Failure as Failure
    from curiosity_bluesky.learning.records import Observation as Observation
    from curiosity_bluesky.learning.records import Prediction as Prediction
    from curiosity_bluesky.learning.records import Proposal as Proposal
    from curiosity_bluesky.learning.records import ReachableArea as ReachableArea
    from curiosity_bluesky.learning.records import ResumeMarker as ResumeMarker
    from curiosity_bluesky.learning.records import Scores as Scores
    from curiosity_bluesky.learning.records import SteeringRequest as SteeringRequest
    from curiosity_bluesky.learning.records import Training as Training
    from curiosity_bluesky.learning.registry import register as register
    from curiosity_bluesky.learning.scoring import Score as Score
    from curiosity_bluesky.learning.scoring import Scorer as Scorer
    from curiosity_bluesky.learning.scoring import withheld_pixels as withheld_pixels
    from curiosity_bluesky.learning.seed_share import limit_seeds as limit_seeds
    from curiosity_bluesky.learning.seed_share import seeds_within as seeds_within
    from curiosity_bluesky.learning.strategy import Strategy as Strategy
    from curiosity_bluesky.learning.survey import Survey as Survey

_MODULES = {
    "Anomaly": "records",
    "BEGUN": "records",
    "Explorer": "explorer",
    "Failure": "records",
    "ModelLearner": "learner",
    "OUT_OF_REACH": "records",
    "Observation": "records",
    "Patches": "patches",
    "Prediction": "records",
    "PriorRun": "prior_run",
    "Proposal": "records",
    "ReachableArea": "records",
    "ResumeMarker": "records",
    "Score": "scoring",
    "Scorer": "scoring",
    "Scores": "records",
    "SteeringRequest": "records",
    "Strategy": "strategy",
    "Survey": "survey",
    "Training": "records",
    "limit_seeds": "seed_share",
    "register": "registry",
    "seeds_within": "seed_share",
    "withheld_pixels": "scoring",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

"""What the documents of a run hold: the one place that knows streams and data keys.

The plan writes with `Record`; the agent reads with `Translator`; a scientist reads a whole
run with `read`. Whoever wants to know what a data key means finds it here.
"""

from curiosity_bluesky.documents.keys import (
    DECISION_KEYS,
    DECISIONS,
    FLAG_KEYS,
    FLAGS,
    LEARNING,
    LEARNING_KEYS,
    MAPS,
    MASK,
    PREDICTED,
    PRIMARY,
    SURVEY,
)
from curiosity_bluesky.documents.reading import Incomplete, flags_of, read, read_stream
from curiosity_bluesky.documents.translate import (
    Translator,
    axis_of,
    channel_keys,
    decision_from,
    flag_from,
    strategy_from,
    survey_from,
)
from curiosity_bluesky.documents.writing import (
    Record,
    decision_values,
    flag_values,
    prediction_values,
    start_keys,
    training_values,
)
from curiosity_bluesky.learning import Flag, Observation, Proposal, Survey

__all__ = [
    "DECISIONS",
    "DECISION_KEYS",
    "FLAGS",
    "FLAG_KEYS",
    "LEARNING",
    "LEARNING_KEYS",
    "MAPS",
    "MASK",
    "PREDICTED",
    "PRIMARY",
    "SURVEY",
    "Flag",
    "Incomplete",
    "Observation",
    "Proposal",
    "Record",
    "Survey",
    "Translator",
    "axis_of",
    "channel_keys",
    "decision_from",
    "decision_values",
    "flag_from",
    "flag_values",
    "flags_of",
    "prediction_values",
    "read",
    "read_stream",
    "start_keys",
    "strategy_from",
    "survey_from",
    "training_values",
]

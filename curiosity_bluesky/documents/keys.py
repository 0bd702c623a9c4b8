"""Names of the streams and of their data keys."""

from __future__ import annotations

SURVEY = "survey"
DECISIONS = "decisions"
PRIMARY = "primary"
LEARNING = "learning"
MAPS = "maps"
FLAGS = "flags"
FAILURES = "failures"
STEERING = "steering"

MASK = "mask"
"""Data key of the mask in the survey stream, (y, x), 1 where nothing may be measured."""

PREDICTED = "_predicted"
"""``<channel>_predicted`` lies beside a measured channel: what was expected beforehand."""

CHANNELS = "curiosity_channels"
"""Configuration key of the survey and primary streams: the channels in their order."""

RESUMES = "curiosity_resumes"
"""Key of the start document: uid of the run that this one goes on with."""

LOOKAHEAD = "curiosity_lookahead"
"""Key of the start document, see `Explorer.propose`."""

TIME_BUDGET = "curiosity_time_budget"
"""Key of the start document: seconds that the run was allowed to take, where there is a limit."""

INTEGERS = (
    *("decision_id", "row", "col", "n_observed", "model_version", "epochs", "to_come"),
    *("attempt", "given_up", "barred", "act_id", "n_decisions"),
)
STRINGS = ("reason", "model", "architecture", "remark", "kind", "arguments")
UNITS = {"x": "um", "y": "um", "radius": "um", "seconds": "s", "remaining": "s"}

DECISION_KEYS = (
    "decision_id",
    "row",
    "col",
    "x",
    "y",
    "reason",
    "predicted_error",
    "novelty",
    "uncertainty",
    "acquisition",
    "exploration_weight",
    "n_observed",
    "model_version",
    "seconds",
    "to_come",
)
LEARNING_KEYS = (
    "model",
    "architecture",
    "epochs",
    "loss",
    "error_model_loss",
    "held_out_error",
    "n_observed",
    "model_version",
    "seconds",
)
FLAG_KEYS = ("x", "y", "radius", "n_observed", "excess", "learnable", "remark")
FAILURE_KEYS = ("decision_id", "row", "col", "attempt", "reason", "given_up", "barred", "seconds")
STEERING_KEYS = ("act_id", "kind", "arguments", "n_decisions")

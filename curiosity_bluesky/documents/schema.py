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
DRIFT = "drift"

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

ESTIMATED = "curiosity_points_estimated"
"""Key of the start document: whether the number of points is only what the time seemed to allow."""

MAX_BIAS = "curiosity_max_bias"
"""Key of the start document: no detector may apply more volts, where there is a limit."""

TIP = "curiosity_tip"
"""Key of the start document: name of the tip that is lifted between two points, if any."""

RESURVEY_EVERY = "curiosity_resurvey_every"
RESURVEY_MINUTES = "curiosity_resurvey_minutes"
"""Keys of the start document: when the survey is taken anew, in points and in minutes."""

AGENT = "curiosity_agent"
"""Key of the start document: address of the agent that decides, absent if it is in the plan."""

WARM_ASKED = "curiosity_warm_asked"
"""Key of the start document: ``similar`` or the uid that was asked for, absent for neither."""

WARM_START = "curiosity_warm_start"
"""Key of the start document: uid of the earlier run that the predictor started from, if any."""

WARM_SPECTRA = "curiosity_warm_spectra"
WARM_DISTANCE = "curiosity_warm_distance"
WARM_GATE = "curiosity_warm_gate"
WARM_REASON = "curiosity_warm_reason"
"""Keys of the start document: how many of its spectra, how far away it is by its images, beyond
which distance none is taken, and why this one, or none."""

WARM = (WARM_ASKED, WARM_START, WARM_SPECTRA, WARM_DISTANCE, WARM_GATE, WARM_REASON)
"""All that a start document says about the earlier run."""

OUT_OF_REACH = "out_of_reach"
"""Data key of the drift stream, (y, x), 1 where the tip cannot be sent by now."""

INTEGERS = (
    *("decision_id", "row", "col", "n_observed", "model_version", "epochs", "to_come"),
    *("attempt", "given_up", "barred", "act_id", "n_decisions", "resurvey", "trusted"),
    "doses",
)
STRINGS = ("reason", "decided_by", "model", "architecture", "remark", "kind", "arguments")
UNITS = {
    **{"x": "um", "y": "um", "radius": "um", "seconds": "s", "remaining": "s"},
    **{"drift_x": "um", "drift_y": "um", "expected_x": "um", "expected_y": "um"},
    **{"rate_x": "um/s", "rate_y": "um/s"},
}

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
    "decided_by",
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
FAILURE_KEYS = (
    *("decision_id", "row", "col", "attempt", "reason", "given_up", "barred", "seconds", "doses"),
)
DRIFT_KEYS = (
    *("resurvey", "seconds", "drift_x", "drift_y", "expected_x", "expected_y"),
    *("rate_x", "rate_y", "residual", "overlap", "trusted", "n_decisions"),
)
STEERING_KEYS = ("act_id", "kind", "arguments", "n_decisions")

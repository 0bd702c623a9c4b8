"""Start document of a run."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from bluesky.protocols import NamedMovable

from curiosity_bluesky import documents
from curiosity_bluesky.learning import Survey
from curiosity_bluesky.plans.measuring import position_keys
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.run_state import RunState


def start_document(
    run: RunState, survey: Survey, budget: int, md: dict[str, Any], past: InterruptedRun | None
) -> dict[str, Any]:
    """Return the start document of a run, as far as the plan gives it.

    Parameters
    ----------
    run, survey
        The run, and its survey.
    budget
        Spectra in the whole run.
    md
        Of the user, which comes last.
    past
        The run that this one goes on with, if any.
    """
    # One dimension for each motor, as in the plans of bluesky, for what draws or tabulates.
    dimensions = [(position_keys(motor), documents.PRIMARY) for motor in (run.x, run.y)]
    return {
        **({} if past is None else past.metadata),
        "plan_name": "curiosity_plan",
        "detectors": [detector.name for detector in run.detectors],
        "motors": [motor.name for motor in (run.x, run.y) if isinstance(motor, NamedMovable)],
        "imager": run.imager.name,
        "num_points": budget,
        "num_intervals": budget - 1,
        "shape": [budget],
        "extents": [[float(a.min()), float(a.max())] for a in (survey.x, survey.y)],
        "survey_shape": list(survey.shape),
        **documents.start_keys(
            run.strategy,
            run.seed,
            run.options.withhold,
            run.options.lookahead,
            version("curiosity-bluesky"),
            None if past is None else past.uid,
        ),
        **_limits(run),
        **({} if run.agent.address is None else {documents.AGENT: run.agent.address}),
        documents.RESURVEY_EVERY: run.drift.resurvey_every,
        documents.RESURVEY_MINUTES: run.drift.resurvey_minutes,
        **md,
        "hints": {"dimensions": dimensions, **md.get("hints", {})},
    }


def _limits(run: RunState) -> dict[str, Any]:
    """Return what the run was held to, as far as it was."""
    estimated = run.time_budget is not None and not run.points_given
    limits = {
        documents.TIME_BUDGET: run.time_budget,
        documents.MAX_BIAS: run.safety.max_bias,
        documents.TIP: getattr(run.tip, "name", None),
        documents.ESTIMATED: estimated or None,
    }
    return {key: value for key, value in limits.items() if value is not None}

"""Events of a run: decisions, failures, trainings, maps and what was steered."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.learning import Proposal
from curiosity_bluesky.plans.background import call_in_thread
from curiosity_bluesky.plans.device_faults import NOT_OURS
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.plans.run_wrapper import save
from curiosity_bluesky.utils.point_failure import PointFailure

logger = logging.getLogger(__name__)

MOST_PREDICTED = 8_000_000
"""Predicted values of a run that are recorded; a document with more is too slow to read."""


def save_decision(proposal: Proposal) -> MsgGenerator[None]:
    """Write a decision, before the tip moves."""
    decision = PlanReadable("decision", documents.decision_values(proposal))
    yield from save(documents.DECISIONS, [decision])


def save_failure(
    proposal: Proposal,
    attempt: int,
    failure: PointFailure,
    given_up: bool,
    barred: bool = False,
    seconds: float = 0.0,
    doses: int = 0,
) -> MsgGenerator[None]:
    """Write that an attempt at a point failed, or begins; see `documents.failure_values`."""
    values = documents.failure_values(
        proposal, attempt, str(failure), given_up, barred, seconds, doses
    )
    yield from save(documents.FAILURES, [PlanReadable("failure", values)])


def save_trainings(trainings: Sequence[Any]) -> MsgGenerator[None]:
    """Write what was trained."""
    for training in trainings:
        record = PlanReadable("training", documents.training_values(training))
        yield from save(documents.LEARNING, [record])


def save_maps(maps: Mapping[str, np.ndarray]) -> MsgGenerator[None]:
    """Write the maps, ``(rows, cols)`` each, if there are any."""
    if any(np.isfinite(values).any() for values in maps.values()):
        arrays = {name: values.astype("<f4") for name, values in maps.items()}
        record = PlanReadable("maps", arrays, dict.fromkeys(arrays, "yx"))
        yield from save(documents.MAPS, [record])


def save_predictions(run: RunState) -> MsgGenerator[None]:
    """Write the predicted spectra at every pixel of the survey, if there are any."""
    descriptor = yield from run.spectra.descriptor()
    if not descriptor["data_keys"]:
        return
    axes = documents.spectrum_axes(descriptor).values()
    n = run.survey.mask.size * sum(len(axis.values) for axis in axes)
    if n > MOST_PREDICTED:
        logger.info(
            "the predicted spectra are not recorded: %d values, and at most %d are; "
            "`curiosity predict %s` computes them",
            *(n, MOST_PREDICTED, run.uid[:8]),
        )
        return
    try:
        prediction = yield from call_in_thread(run.agent.predict)
    except NOT_OURS:
        raise
    except Exception:  # such as too little memory: a run that is measured does not fail for it
        logger.warning(
            "the predicted spectra are not recorded; `curiosity predict %s` computes them",
            run.uid[:8], exc_info=True,
        )  # fmt: skip
        return
    if prediction is None:
        return
    for record in documents.prediction_records(prediction, run.survey, descriptor):
        yield from save(documents.PREDICTIONS, [record])

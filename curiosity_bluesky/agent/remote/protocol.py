"""Protocol between a plan and a remote agent, in plain mappings.

Which documents an agent learns from, and the key by which each counts once, whichever way and
however often it comes; and the explorer's records as mappings and back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import event_model
import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.agent.curiosity_agent import DecisionResult
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Anomaly,
    Prediction,
    PriorRun,
    Proposal,
    Strategy,
    Survey,
    Training,
)
from curiosity_bluesky.utils.run_end import RunEnd

PROTOCOL = 1
"""Version of the protocol; both sides must have the same."""

HEARTBEAT = 1.0
"""Seconds between two heartbeats of an agent at work."""

CHUNK = 2**20
"""Approximate bytes of documents in one message."""

LARGEST = 256 * 2**20
"""Maximum bytes of a message; larger ones are refused."""

REFUSED = b"curiosity-agent: the seal of this message is not that of my token"
"""What is said of a message without the right seal; a stranger's connection does not get so far."""

LEARNED = (
    *(documents.SURVEY, documents.DECISIONS, documents.PRIMARY),
    *(documents.FAILURES, documents.STEERING, documents.DRIFT),
)
"""The streams that an agent learns from; the others are not sent."""

ASKED = (
    *("decide", "suggest", "outstanding", "maps", "flags", "predict"),
    *("should_stop", "take_trainings"),
)
"""Questions to an agent."""

Record = TypeVar("Record", Proposal, Training, Anomaly)

_SHAPES = {  # what identifies a document, under any name that it travels by
    "start": ("uid", "time"),
    "descriptor": ("uid", "run_start", "data_keys", "configuration", "name"),
    "event": ("descriptor", "seq_num", "data"),
    "stop": ("uid", "run_start", "exit_status"),
    "stream_resource": ("uid", "data_key", "mimetype"),
    "stream_datum": ("uid", "descriptor", "stream_resource", "indices", "seq_nums"),
}


class AgentRefused(InputError):
    """The agent refuses: another token or protocol."""


# ---- documents


def single_events(name: str, doc: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a document, or the events of a page one by one."""
    if name == "event_page":
        for event in event_model.unpack_event_page(doc):  # pyright: ignore[reportArgumentType]
            yield "event", event
    else:
        yield name, doc


def key_of(name: str, doc: Mapping[str, Any]) -> str | None:
    """Return the key of a document, which counts once; None for kinds that teach nothing.

    An event is known by its stream and number, since Tiled makes up uids of events.

    Raises
    ------
    InputError
        If it is no document of this kind.
    """
    if name not in _SHAPES:
        return None
    lacking = [key for key in _SHAPES[name] if key not in doc]
    if lacking:
        raise InputError(f"a {name} document without {', '.join(lacking)} is none")
    if name == "event":
        return f"event {doc['descriptor']} {int(doc['seq_num'])}"
    return f"{name} {doc['uid']}"


# ---- records


def plain(record: Proposal | Training | Anomaly) -> dict[str, Any]:
    """Return a record as a mapping, for `record_of`."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def record_of(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return the record of a mapping of `plain`."""
    values = dict(values)
    if "pixel" in values:
        values["pixel"] = tuple(values["pixel"])
    return kind(**values)


def plain_decided(decided: DecisionResult) -> dict[str, Any]:
    """Return a decision as a mapping, for `decided_of`."""
    return {
        "proposals": [plain(proposal) for proposal in decided.proposals],
        "reason": None if decided.end is None else str(decided.end),
        "trainings": [plain(training) for training in decided.trainings],
        "maps": decided.maps,
    }


def decided_of(values: Mapping[str, Any]) -> DecisionResult:
    """Return the decision that `plain_decided` encoded."""
    return DecisionResult(
        [record_of(Proposal, proposal) for proposal in values["proposals"]],
        None if values["reason"] is None else RunEnd.read(values["reason"]),
        [record_of(Training, training) for training in values["trainings"]],
        values["maps"],
    )


def plain_prediction(prediction: Prediction | None) -> dict[str, NDArray | None] | None:
    """Return a prediction as a mapping of arrays, None if there is none."""
    return None if prediction is None else dict(vars(prediction))


def plain_strategy(strategy: Strategy | None) -> dict[str, Any] | None:
    """Return name and parameters of a strategy, for `strategy_of`."""
    return None if strategy is None else {"name": strategy.name, "parameters": strategy.parameters}


def strategy_of(values: Mapping[str, Any] | None) -> Strategy | None:
    """Return the strategy that `plain_strategy` encoded.

    Raises
    ------
    InputError
        If it is not known here.
    """
    if values is None:
        return None
    try:
        return Strategy.recorded(values["name"], **values["parameters"])
    except InputError as error:
        raise InputError(
            f"the agent cannot follow this strategy: {error} (one of your own it learns from "
            "`curiosity agent --load FILE.py`)"
        ) from None


def plain_earlier(earlier: PriorRun | None) -> dict[str, Any] | None:
    """Return a run to start from as a mapping, for `earlier_of`."""
    if earlier is None:
        return None
    survey = earlier.survey
    return {
        "uid": earlier.uid,
        "survey": {
            "channels": [[name, image] for name, image in survey.channels.items()],
            "x": survey.x,
            "y": survey.y,
            "mask": survey.mask,
        },
        "pixels": earlier.pixels,
        "spectra": earlier.spectra,
        "axis": earlier.axis,
    }


def earlier_of(values: Mapping[str, Any] | None) -> PriorRun | None:
    """Return the earlier run that `plain_earlier` encoded."""
    if values is None:
        return None
    survey = values["survey"]
    return PriorRun(
        values["uid"],
        Survey(dict(survey["channels"]), survey["x"], survey["y"], survey["mask"]),
        np.asarray(values["pixels"], np.intp),
        values["spectra"],
        values["axis"],
    )

"""Checkpoint of a `CuriosityOptimizer`: its history as data."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curiosity_bluesky import documents
from curiosity_bluesky.agent.remote.codec import decode, encode
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Failure,
    Observation,
    Proposal,
    SteeringRequest,
    Strategy,
    Survey,
)

FORMAT = "curiosity_bluesky checkpoint 1"

Item = Proposal | Observation | Failure | SteeringRequest
"""Kinds of entries in the log."""


class ExplorerLog:
    """Log of an explorer: observations, failures and decisions, in order."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._measured: set[int] = set()

    @property
    def items(self) -> list[Item]:
        """All of it; what was expected of a decision only while its spectrum is not there."""
        # A spectrum for each decision would double the file, and none is needed any more.
        return [
            dataclasses.replace(item, predicted_spectrum=None)
            if isinstance(item, Proposal) and item.decision_id in self._measured
            else item
            for item in self._items
        ]

    def decision(self, proposal: Proposal) -> None:
        """Remember a decision."""
        self._items.append(proposal)

    def observation(self, observation: Observation) -> None:
        """Remember a spectrum."""
        self._items.append(observation)
        if observation.decision_id is not None:
            self._measured.add(observation.decision_id)

    def failure(self, failure: Failure) -> None:
        """Remember what could not be measured."""
        self._items.append(failure)

    def act(self, act: SteeringRequest) -> None:
        """Record a request."""
        self._items.append(act)


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """State of an optimiser.

    Parameters
    ----------
    survey, strategy, seed
        Of its explorer.
    actuators
        Names of those that move along x and y.
    items
        What the explorer was told and decided, in its order.
    outcomes
        Scalars of what came of each decision.
    ahead
        Numbers of the decisions that were not handed out yet.
    """

    survey: Survey
    strategy: Strategy
    seed: int
    actuators: tuple[str, str]
    items: Sequence[Item]
    outcomes: Mapping[int, dict[str, Any]]
    ahead: Sequence[int]


def write(path: Path, saved: OptimizerState) -> None:
    """Write a checkpoint; a reader meanwhile, or after a crash, finds the one before.

    Raises
    ------
    InputError
        If it cannot be written there.
    """
    survey = saved.survey
    content = {
        "format": FORMAT,
        "survey": {
            # A mapping may come back in another order, and what is learned depends on it.
            "channels": [[name, image] for name, image in survey.channels.items()],
            "x": survey.x,
            "y": survey.y,
            "mask": survey.mask,
        },
        "strategy": saved.strategy.name,
        "parameters": saved.strategy.parameters,
        "seed": saved.seed,
        "actuators": list(saved.actuators),
        "items": [_plain(item) for item in saved.items],
        "outcomes": [[number, values] for number, values in saved.outcomes.items()],
        "ahead": list(saved.ahead),
    }
    data = encode(content)
    beside = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"the checkpoint cannot be written to {path} ({error})") from error


def read(path: str | os.PathLike[str]) -> OptimizerState:
    """Read what `write` wrote.

    Raises
    ------
    InputError
        If there is no such file, or it is none.
    """
    try:
        content = decode(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"no checkpoint can be read from {path} ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no checkpoint of CuriosityOptimizer ({FORMAT!r})")
    survey = content["survey"]
    x, y = content["actuators"]
    return OptimizerState(
        Survey(dict(survey["channels"]), survey["x"], survey["y"], survey["mask"]),
        Strategy.recorded(content["strategy"], **content["parameters"]),
        content["seed"],
        (x, y),
        [_item(kind, values) for kind, values in content["items"]],
        dict(content["outcomes"]),
        content["ahead"],
    )


def _plain(item: Item) -> list[Any]:
    if isinstance(item, Proposal):
        values = documents.decision_values(item)
        return ["decision", {**values, "predicted_spectrum": item.predicted_spectrum}]
    values = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return [type(item).__name__.lower(), values]


def _item(kind: str, values: dict[str, Any]) -> Item:
    if kind == "decision":
        expected = values.pop("predicted_spectrum")
        return dataclasses.replace(documents.decision_from(values), predicted_spectrum=expected)
    if kind == "observation":
        return Observation(**{**values, "pixel": tuple(values["pixel"])})
    return Failure(**values) if kind == "failure" else SteeringRequest(**values)

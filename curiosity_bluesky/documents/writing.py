"""Values of each stream that the plan writes, and a Readable that carries them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.documents.schema import (
    CHANNELS,
    DECISIONS,
    DRIFT,
    FAILURES,
    FLAGS,
    LEARNING,
    LOOKAHEAD,
    OUT_OF_REACH,
    PREDICTED,
    RESUMES,
    STEERING,
    STREAMS,
    units_of,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Anomaly,
    Proposal,
    SteeringRequest,
    Strategy,
    Survey,
    Training,
)


class PlanReadable:
    """A Readable that holds what the plan itself has to say in one event.

    Records of one name are one device to the RunEngine, each with the values of one event:
    a message that is repeated after a pause repeats its own values.

    Parameters
    ----------
    name
        Name of the "device" in the descriptor.
    values
        Data keys to values; kinds and shapes must stay the same from event to event.
    dims
        Names of the dimensions of the arrays among them.
    channels
        Data keys of the stream that are channels, in their order. It goes into the
        configuration as a list: a store may give the data keys back in another order, and
        what is learned depends on it.
    axes
        Data keys of axes, such as ``imager_x``, with their values in um, ``(points,)``: into
        the configuration.
    """

    parent = None

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any],
        dims: Mapping[str, Sequence[str]] | None = None,
        channels: Iterable[str] = (),
        axes: Mapping[str, NDArray] | None = None,
    ) -> None:
        self.name = name
        self._channels = list(channels)
        self._axes = dict(axes or {})
        self._dims = dict(dims or {})
        self._values = dict(values)
        self._time = time.time()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlanReadable) and other.name == self.name

    def __hash__(self) -> int:
        return hash((PlanReadable, self.name))

    @property
    def hints(self) -> dict[str, list[str]]:
        """Nothing of it belongs into a live table or plot of the measurement."""
        return {"fields": []}

    def read(self) -> dict[str, Any]:
        """Return the values with the time at which the record was made."""
        return {
            key: {"value": value, "timestamp": self._time} for key, value in self._values.items()
        }

    def describe(self) -> dict[str, Any]:
        """Return the data keys."""
        return {key: self._describe(key, value) for key, value in self._values.items()}

    def _describe(self, key: str, value: Any) -> dict[str, Any]:
        described: dict[str, Any] = {"source": f"curiosity:{self.name}"}
        if isinstance(value, np.ndarray):
            described |= {
                "dtype": "array",
                "dtype_numpy": value.dtype.str,
                "shape": list(value.shape),
            }
            described |= {"dims": list(self._dims[key])} if key in self._dims else {}
        elif isinstance(value, str):
            described |= {"dtype": "string", "shape": []}
        elif isinstance(value, int):
            described |= {"dtype": "integer", "dtype_numpy": "<i8", "shape": []}
        else:
            described |= {"dtype": "number", "dtype_numpy": "<f8", "shape": []}
        units = units_of(self.name, key)
        return described | ({"units": units} if units else {})

    def read_configuration(self) -> dict[str, Any]:
        """Return the order of the channels and the axes, if there are any."""
        configuration: dict[str, Any] = {CHANNELS: self._channels} if self._channels else {}
        configuration |= self._axes
        return {
            key: {"value": value, "timestamp": self._time} for key, value in configuration.items()
        }

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the configuration."""
        described = {key: self._describe(key, values) for key, values in self._axes.items()}
        for about in described.values():
            about["units"] = "um"
        if self._channels:
            described[CHANNELS] = self._describe(CHANNELS, np.array(self._channels))
        return described


def start_keys(
    strategy: Strategy,
    seed: int,
    withhold: float,
    lookahead: int,
    version: str,
    resumes: str | None = None,
) -> dict[str, Any]:
    """Return the flat keys of the start document by which runs are searched."""
    keys = {
        "curiosity_strategy": strategy.name,
        "curiosity_parameters": strategy.parameters,
        "curiosity_seed": seed,
        "curiosity_withhold": withhold,
        LOOKAHEAD: lookahead,
        "curiosity_version": version,
    }
    return keys if resumes is None else keys | {RESUMES: resumes}


def decision_values(proposal: Proposal) -> dict[str, Any]:
    """Return the values of one event of the ``decisions`` stream."""
    row, col = proposal.pixel
    given = {**vars(proposal), "row": row, "col": col}
    return _values(DECISIONS, {key: value for key, value in given.items() if value is not None})


def training_values(training: Training) -> dict[str, Any]:
    """Return the values of one event of the ``learning`` stream."""
    return _values(LEARNING, vars(training))


def flag_values(flag: Anomaly) -> dict[str, Any]:
    """Return the values of one event of the ``flags`` stream."""
    return _values(FLAGS, vars(flag))


def failure_values(
    proposal: Proposal,
    attempt: int,
    reason: str,
    given_up: bool,
    barred: bool,
    seconds: float,
    doses: int = 0,
) -> dict[str, Any]:
    """Return the values of one event of the ``failures`` stream.

    Parameters
    ----------
    proposal
        What could not be measured.
    attempt
        Which attempt failed, from 0.
    reason
        What went wrong.
    given_up
        Whether this was the last attempt.
    barred
        Whether the pixel is not to be proposed again.
    seconds
        Time that the attempt took.
    doses
        How often the sample was measured in it.
    """
    row, col = proposal.pixel
    given = {"decision_id": proposal.decision_id, "row": row, "col": col, "attempt": attempt}
    given |= {"reason": reason, "given_up": given_up, "barred": barred, "seconds": seconds}
    return _values(FAILURES, {**given, "doses": doses})


def steering_values(act: SteeringRequest, n_decisions: int) -> dict[str, Any]:
    """Return the values of one event of the ``steering`` stream.

    Parameters
    ----------
    act
        The request.
    n_decisions
        How many decisions there were before.
    """
    given = {"act_id": act.act_id, "kind": act.kind, "arguments": json.dumps(act.arguments)}
    return _values(STEERING, {**given, "n_decisions": n_decisions})


def drift_record(values: Mapping[str, Any], out_of_reach: NDArray) -> PlanReadable:
    """Return what a re-survey found, for one event of the ``drift`` stream.

    Parameters
    ----------
    values
        The scalars of the stream by data key.
    out_of_reach
        ``(rows, cols)``, True where the tip cannot be sent by now.
    """
    plain = _values(DRIFT, values)
    plain[OUT_OF_REACH] = out_of_reach.astype("|u1")
    return PlanReadable("drift", plain, {OUT_OF_REACH: "yx"})


def survey_record(survey: Survey, imager: str) -> PlanReadable:
    """Return a survey that was taken before as a record: the same keys as when it was taken."""
    axes = {f"{imager}_x": survey.x, f"{imager}_y": survey.y}
    channels = dict(survey.channels)
    return PlanReadable(imager, channels, dict.fromkeys(channels, "yx"), axes=axes)


def prediction_values(proposal: Proposal, channels: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the expected spectrum beside the measured channels, NaN where there is none.

    Parameters
    ----------
    proposal
        What was proposed, with the spectrum that the model expected.
    channels
        The measured spectrum by data key, each ``(points,)``.

    Raises
    ------
    InputError
        If it has another length than those that the model learned from.
    """
    sizes = [len(values) for values in channels.values()]
    expected = proposal.predicted_spectrum
    if expected is None:
        expected = np.full(sum(sizes), np.nan)
    if len(expected) != sum(sizes):
        raise InputError(
            f"the spectrum has {sum(sizes)} points, those that were learned before have "
            f"{len(expected)}; measure with the channels and the points of the run so far"
        )
    parts = np.split(expected, np.cumsum(sizes)[:-1])
    return {
        f"{key}{PREDICTED}": part.astype("<f4") for key, part in zip(channels, parts, strict=True)
    }


def _values(stream: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalars of one event as the schema declares them, in its order."""
    declared = STREAMS[stream]
    return {
        key: declared[key].value(given[key])
        for key in declared.scalars
        if key in given or not declared[key].optional
    }

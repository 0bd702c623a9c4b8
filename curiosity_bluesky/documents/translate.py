"""Translation of documents into what an explorer understands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import event_model
import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.documents.files import ExternalFiles
from curiosity_bluesky.documents.schema import (
    CHANNELS,
    DECISIONS,
    DRIFT,
    FAILURES,
    FLAGS,
    MASK,
    OUT_OF_REACH,
    PRIMARY,
    RESUMES,
    STEERING,
    STREAMS,
    SURVEY,
)
from curiosity_bluesky.documents.spectra import (
    as_array,
    is_spectrum,
    learnable,
    real,
    spectrum_of,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Anomaly,
    Failure,
    Observation,
    Proposal,
    ReachableArea,
    ResumeMarker,
    SteeringRequest,
    Strategy,
    Survey,
)
from curiosity_bluesky.learning.survey import Pixel
from curiosity_bluesky.utils.masked import has_masked, hidden
from curiosity_bluesky.utils.validation import whole_number

Item = Survey | Proposal | Observation | Failure | SteeringRequest | ReachableArea | ResumeMarker
"""What an explorer has to know."""


def survey_from(
    data: Mapping[str, Any], configuration: Mapping[str, Any], mask: NDArray | None = None
) -> Survey:
    """Make a survey of what an imager reads.

    Parameters
    ----------
    data
        Data keys to values; every 2-D array is a channel.
    configuration
        Its configuration: the 1-D arrays whose keys end in ``_x`` and ``_y``, or ``-x`` and
        ``-y`` as ophyd-async has it, are the axes in um; without them the axes are pixel numbers.
    mask
        ``(rows, cols)``, True where nothing may be measured.

    Raises
    ------
    InputError
        If there is no 2-D channel, one is not made of real numbers, or the channels and axes do
        not fit each other.
    """
    images = {key: v for key, v in data.items() if key != MASK and as_array(key, v).ndim == 2}
    channels: dict[str, Any] = {
        key: np.ma.array(real(key, value), mask=hidden(value))
        if has_masked(value)
        else real(key, value)
        for key, value in images.items()
    }
    if not channels:
        raise InputError(
            f"the imager read {', '.join(data) or 'nothing'}, and no 2-D image among it; "
            "give an imager whose data keys hold (rows, cols) arrays"
        )
    axes = {
        axis: np.asarray(value)
        for axis in "xy"
        for key, value in configuration.items()
        if key.endswith((f"_{axis}", f"-{axis}")) and np.ndim(value) == 1
    }
    return Survey(channels, **axes, mask=mask)  # pyright: ignore[reportArgumentType]


def holds_image(data: Mapping[str, Any], mask: NDArray | None = None) -> bool:
    """Say whether an imager holds images with a number at each pixel that is not masked.

    Parameters
    ----------
    data
        Data keys to values.
    mask
        ``(rows, cols)``, True where nothing may be measured.
    """
    images = {key: as_array(key, value) for key, value in data.items()}
    images = {key: array for key, array in images.items() if array.ndim == 2}
    for key, array in images.items():
        covered = hidden(data[key])
        if mask is not None and np.shape(mask) == array.shape:
            covered = covered | np.asarray(mask, bool)
        if array.dtype.kind in "fc" and not np.isfinite(array[~covered]).all():
            return False
    return bool(images)


class Translator:
    """Turns the documents of one run into what an explorer understands.

    Give it documents in their order; what an explorer has to know comes back: a `Survey`,
    a `Proposal` that was decided, an `Observation`, a `Failure` of an attempt, an
    `SteeringRequest` of a user, the `ReachableArea` that drift leaves, a `ResumeMarker`. A new
    start document begins a new run, unless it goes on with the one before: that is one run in two
    pieces, with
    one survey. Documents of other runs are passed over.

    Parameters
    ----------
    survey
        For runs that take none themselves: an event without a decision's number is an
        observation at the pixel nearest to its position.

    Attributes
    ----------
    start : dict
        The start document of the run, empty before there is one.
    """

    def __init__(self, survey: Survey | None = None) -> None:
        self.start: dict[str, Any] = {}
        self._survey = survey
        self._goes_on = False
        self._descriptors: dict[str, dict[str, Any]] = {}
        self._files = ExternalFiles()
        self._decided: dict[int, Proposal] = {}

    def goes_on(self, start: Mapping[str, Any]) -> bool:
        """Say whether a start document goes on with the present run."""
        return bool(self.start) and start.get(RESUMES) == self.start["uid"]

    def __call__(self, name: str, doc: Mapping[str, Any]) -> list[Item]:
        """Process one document."""
        if name == "start":
            self._goes_on = self.goes_on(doc)
            if not self._goes_on:
                self._decided = {}
            self.start = dict(doc)
            self._descriptors = {}
            self._files = ExternalFiles()
            return [ResumeMarker()] if self._goes_on else []
        elif name == "descriptor" and doc["run_start"] == self.start.get("uid"):
            self._descriptors[doc["uid"]] = dict(doc)
        elif name == "event" and doc["descriptor"] in self._descriptors:
            descriptor, data = self._descriptors[doc["descriptor"]], doc["data"]
            if descriptor["name"] == SURVEY:  # an imager may write its images to files
                data = {**data, **self._files.data(descriptor, doc["seq_num"])}
            item = self._event(descriptor, data)
            return [] if item is None else [item]
        elif name in ("stream_resource", "stream_datum"):
            self._files(name, doc)
        elif name == "event_page":
            events = (("event", event) for event in event_model.unpack_event_page(doc))  # pyright: ignore[reportArgumentType]
            return [item for event in events for item in self(*event)]
        return []

    def _event(self, descriptor: Mapping[str, Any], data: Mapping[str, Any]) -> Item | None:
        stream = descriptor["name"]
        if stream == SURVEY and not self._goes_on:
            configuration = {
                key: value
                for device in _configured(descriptor)
                for key, value in device["data"].items()
            }
            mask = data.get(MASK)
            data = {key: data[key] for key in _ordered(descriptor)}
            self._survey = survey_from(
                data, configuration, None if mask is None else np.asarray(mask, bool)
            )
            return self._survey
        if stream == DECISIONS:
            decision = decision_from(data)
            self._decided[decision.decision_id] = decision
            return decision
        if stream == FAILURES:
            return Failure(
                int(data["decision_id"]),
                data["reason"],
                bool(data["barred"]),
                int(data["attempt"]),
                bool(data["given_up"]),
                int(data.get("doses", 1)),  # of an older version it is not known
            )
        if stream == STEERING:
            return SteeringRequest(int(data["act_id"]), data["kind"], json.loads(data["arguments"]))
        if stream == DRIFT and OUT_OF_REACH in data:
            out = np.asarray(data[OUT_OF_REACH], bool)
            return ReachableArea(int(data["resurvey"]), out, int(data["n_decisions"]))
        if stream == PRIMARY:
            keys = channel_keys(descriptor)
            number = data.get("decision_id")
            decision = None if number is None else self._decided.get(number)
            pixel = self._pixel(data) if decision is None else decision.pixel
            if keys and pixel is not None:
                spectrum = spectrum_of(data, keys)
                found = configured_axis(descriptor, keys[0]) if len(keys) == 1 else None
                return Observation(
                    pixel,
                    spectrum.values,
                    repeat=int(data.get("attempt", 0)),
                    quality=spectrum.quality,
                    decision_id=number,
                    axis=None if found is None else real(keys[0], found[1]),
                    doses=int(data.get("doses", 1)),
                    dwell=None if decision is None else decision.dwell,
                )
        return None

    def _pixel(self, data: Mapping[str, Any]) -> Pixel | None:
        """Pixel of an event by its position along the first two dimensions of the run."""
        dimensions = self.start.get("hints", {}).get("dimensions", [])
        if len(dimensions) == 1:  # motors that move together, as in list_scan
            fields = dimensions[0][0]
        else:  # what a motor reads first is where it is: a setpoint may follow
            fields = [fields[0] for fields, _ in dimensions if fields]
        if self._survey is None or len(fields) < 2 or any(f not in data for f in fields[:2]):
            return None
        return self._survey.pixel(data[fields[0]], data[fields[1]])


def events_in(name: str, doc: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Return the events of a document: of an event itself, of a page all, of others none."""
    if name == "event_page":
        return event_model.unpack_event_page(doc)  # pyright: ignore[reportReturnType, reportArgumentType]
    return [doc] if name == "event" else []


def axis_of(descriptor: Mapping[str, Any], key: str) -> tuple[str, str, NDArray]:
    """Return name, units and values of the axis along which a spectrum lies.

    Parameters
    ----------
    descriptor
        A descriptor document or the metadata of a stream in Tiled.
    key
        Data key of the spectrum.

    Returns
    -------
    name, units, values
        The point numbers where the configuration has no axis for it.
    """
    described = descriptor["data_keys"][key]
    [name] = described.get("dims") or ["point of the spectrum"]
    found = configured_axis(descriptor, key)
    return (name, "", np.arange(described["shape"][-1])) if found is None else (name, *found)


def configured_axis(descriptor: Mapping[str, Any], key: str) -> tuple[str, NDArray] | None:
    """Return units and values of a spectrum's axis, None where the configuration has none."""
    described = descriptor["data_keys"][key]
    for device in _configured(descriptor):
        for config_key, values in device["data"].items():
            about = device["data_keys"][config_key]
            size = (described["shape"][-1],)
            if about.get("dims") == (described.get("dims") or [None]) and np.shape(values) == size:
                return about.get("units") or "", np.asarray(values)
    return None


def decision_from(data: Mapping[str, Any]) -> Proposal:
    """Return the decision that `decision_values` wrote."""
    values = _values(DECISIONS, data)
    pixel = (values.pop("row"), values.pop("col"))
    return Proposal(pixel=pixel, **values)


def flag_from(data: Mapping[str, Any]) -> Anomaly:
    """Return the flag that `flag_values` wrote."""
    return Anomaly(**_values(FLAGS, data))


def _values(stream: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalars of one event; a run of an older version lacks the newest keys."""
    declared = STREAMS[stream]
    return {key: declared[key].value(data[key]) for key in declared.scalars if key in data}


def channel_keys(descriptor: Mapping[str, Any]) -> list[str]:
    """Return the data keys of the spectra that are learned.

    Where the run says which channels it learned from, those. Else all 1-D arrays of real numbers
    with two points or more, less what was predicted.
    """
    described = descriptor["data_keys"]
    said = _said(descriptor)
    return [
        key
        for key in said or described
        if learnable(key, described[key]) and (said or is_spectrum(described[key]))
    ]


def _ordered(descriptor: Mapping[str, Any]) -> list[str]:
    """Return all data keys, the channels as they were recorded and then the others."""
    return list(dict.fromkeys([*_said(descriptor), *descriptor["data_keys"]]))


def _configured(descriptor: Mapping[str, Any]) -> list[Any]:
    """Return the configuration of each device; event-model lets a descriptor have none."""
    return list((descriptor.get("configuration") or {}).values())


def _said(descriptor: Mapping[str, Any]) -> list[str]:
    """Return the channels that the stream's configuration names, in their order."""
    # A store may give the data keys back in another order, and a list as it was.
    return [key for device in _configured(descriptor) for key in device["data"].get(CHANNELS, [])]


def strategy_from(start: Mapping[str, Any]) -> tuple[Strategy, int]:
    """Return strategy and seed of a start document.

    Raises
    ------
    InputError
        If the run was not made by `curiosity_plan`.
    """
    if "curiosity_strategy" not in start:
        raise InputError(
            f"run {start.get('uid', '?')} has no curiosity_strategy in its start document; "
            "it was not made by curiosity_plan"
        )
    parameters, seed = start.get("curiosity_parameters"), start.get("curiosity_seed")
    if not isinstance(parameters, Mapping):
        raise InputError(f"curiosity_parameters is {parameters!r}; expected parameters by name")
    seed = whole_number("curiosity_seed", seed, most=2**63 - 1)
    return Strategy.recorded(start["curiosity_strategy"], **parameters), seed

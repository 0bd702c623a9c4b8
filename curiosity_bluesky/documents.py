"""What the documents of a run hold: the one place that knows streams and data keys.

The plan writes with `Record`; the agent reads with `Translator`; a scientist reads a whole
run with `read`. Whoever wants to know what a data key means finds it here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import event_model
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Observation,
    Proposal,
    Strategy,
    Survey,
    Training,
)
from curiosity_bluesky.learning.survey import Pixel

SURVEY = "survey"
DECISIONS = "decisions"
PRIMARY = "primary"
LEARNING = "learning"
MAPS = "maps"

MASK = "mask"
"""Data key of the mask in the survey stream, (y, x), 1 where nothing may be measured."""

PREDICTED = "_predicted"
"""``<channel>_predicted`` lies beside a measured channel: what was expected beforehand."""

_INTEGERS = ("decision_id", "row", "col", "n_observed", "model_version", "epochs")
_STRINGS = ("reason", "model", "architecture")
_UNITS = {"x": "um", "y": "um", "seconds": "s"}

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


class Record:
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
    """

    parent = None

    def __init__(
        self, name: str, values: Mapping[str, Any], dims: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.name = name
        self._dims = dict(dims or {})
        self._values = dict(values)
        self._time = time.time()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Record, self.name))

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
        return described | ({"units": _UNITS[key]} if key in _UNITS else {})

    def read_configuration(self) -> dict[str, Any]:
        """Return nothing: a record has no settings."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Return nothing: a record has no settings."""
        return {}


# ---- what the plan writes


def start_keys(strategy: Strategy, seed: int, withhold: float, version: str) -> dict[str, Any]:
    """Return the flat keys of the start document by which runs are searched."""
    return {
        "curiosity_strategy": strategy.name,
        "curiosity_parameters": strategy.parameters,
        "curiosity_seed": seed,
        "curiosity_withhold": withhold,
        "curiosity_version": version,
    }


def decision_values(proposal: Proposal) -> dict[str, Any]:
    """Return the values of one event of the ``decisions`` stream."""
    row, col = proposal.pixel
    given = {"row": row, "col": col}
    return {key: _plain(key, given.get(key, getattr(proposal, key, None))) for key in DECISION_KEYS}


def training_values(training: Training) -> dict[str, Any]:
    """Return the values of one event of the ``learning`` stream."""
    return {key: _plain(key, getattr(training, key)) for key in LEARNING_KEYS}


def prediction_values(proposal: Proposal, channels: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the expected spectrum beside the measured channels, NaN where there is none.

    Parameters
    ----------
    proposal
        What was proposed, with the spectrum that the model expected.
    channels
        The measured spectrum by data key, each ``(points,)``.
    """
    sizes = [len(values) for values in channels.values()]
    expected = proposal.predicted_spectrum
    if expected is None:
        expected = np.full(sum(sizes), np.nan)
    parts = np.split(expected, np.cumsum(sizes)[:-1])
    return {
        f"{key}{PREDICTED}": part.astype("<f4") for key, part in zip(channels, parts, strict=True)
    }


def _plain(key: str, value: Any) -> Any:
    if key in _STRINGS:
        return str(value)
    return int(value) if key in _INTEGERS else float(value)


# ---- what the agent reads


def survey_from(
    data: Mapping[str, Any], configuration: Mapping[str, Any], mask: NDArray | None = None
) -> Survey:
    """Make a survey of what an imager reads.

    Parameters
    ----------
    data
        Data keys to values; every 2-D array is a channel.
    configuration
        Its configuration: the 1-D arrays whose keys end in ``_x`` and ``_y`` are the axes
        in um; without them the axes are pixel numbers.
    mask
        ``(rows, cols)``, True where nothing may be measured.

    Raises
    ------
    InputError
        If there is no 2-D channel, or the channels and axes do not fit each other.
    """
    channels = {key: np.asarray(value) for key, value in data.items() if np.ndim(value) == 2}
    channels.pop(MASK, None)
    if not channels:
        raise InputError(
            f"the imager read {', '.join(data) or 'nothing'}, and no 2-D image among it; "
            "give an imager whose data keys hold (rows, cols) arrays"
        )
    axes = {
        axis: np.asarray(value)
        for axis in "xy"
        for key, value in configuration.items()
        if key.endswith(f"_{axis}") and np.ndim(value) == 1
    }
    return Survey(channels, **axes, mask=mask)  # pyright: ignore[reportArgumentType]


class Translator:
    """Turns the documents of one run into what an explorer understands.

    Give it documents in their order; what an explorer has to know comes back: a `Survey`,
    a `Proposal` that was decided, an `Observation`. A new start document begins a new run;
    documents of other runs are passed over.

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
        self._descriptors: dict[str, dict[str, Any]] = {}
        self._decided: dict[int, Pixel] = {}

    def __call__(self, name: str, doc: Mapping[str, Any]) -> list[Survey | Proposal | Observation]:
        """Take in one document."""
        if name == "start":
            self.start = dict(doc)
            self._descriptors, self._decided = {}, {}
        elif name == "descriptor" and doc["run_start"] == self.start.get("uid"):
            self._descriptors[doc["uid"]] = dict(doc)
        elif name == "event" and doc["descriptor"] in self._descriptors:
            item = self._event(self._descriptors[doc["descriptor"]], doc["data"])
            return [] if item is None else [item]
        elif name == "event_page":
            events = (("event", event) for event in event_model.unpack_event_page(doc))  # pyright: ignore[reportArgumentType]
            return [item for event in events for item in self(*event)]
        return []

    def _event(
        self, descriptor: Mapping[str, Any], data: Mapping[str, Any]
    ) -> Survey | Proposal | Observation | None:
        stream = descriptor["name"]
        if stream == SURVEY:
            configuration = {
                key: value
                for device in descriptor["configuration"].values()
                for key, value in device["data"].items()
            }
            mask = data.get(MASK)
            self._survey = survey_from(
                data, configuration, None if mask is None else np.asarray(mask, bool)
            )
            return self._survey
        if stream == DECISIONS:
            decision = decision_from(data)
            self._decided[decision.decision_id] = decision.pixel
            return decision
        if stream == PRIMARY:
            spectrum = [np.asarray(data[key], float) for key in channel_keys(descriptor)]
            number = data.get("decision_id")
            pixel = None if number is None else self._decided.get(number)
            pixel = pixel or self._pixel(data)
            if spectrum and pixel is not None:
                return Observation(pixel, np.concatenate(spectrum), decision_id=number)
        return None

    def _pixel(self, data: Mapping[str, Any]) -> Pixel | None:
        """Pixel of an event by its position, by the first two dimensions of the run."""
        dimensions = self.start.get("hints", {}).get("dimensions", [])
        fields = [field for fields, _ in dimensions for field in fields]
        if self._survey is None or len(fields) < 2 or any(f not in data for f in fields[:2]):
            return None
        return self._survey.pixel(data[fields[0]], data[fields[1]])


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
    size = described["shape"][-1]
    for device in descriptor["configuration"].values():
        for config_key, values in device["data"].items():
            about = device["data_keys"][config_key]
            if about.get("dims") == [name] and np.shape(values) == (size,):
                return name, about.get("units") or "", np.asarray(values)
    return name, "", np.arange(size)


def decision_from(data: Mapping[str, Any]) -> Proposal:
    """Return the decision that `decision_values` wrote."""
    values = {key: _plain(key, data[key]) for key in DECISION_KEYS}
    pixel = (values.pop("row"), values.pop("col"))
    return Proposal(pixel=pixel, **values)


def channel_keys(descriptor: Mapping[str, Any]) -> list[str]:
    """Return the data keys that hold spectra: 1-D arrays, less what was predicted."""
    return [
        key
        for key, described in descriptor["data_keys"].items()
        if len(described["shape"]) == 1 and not key.endswith(PREDICTED)
    ]


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
    strategy = Strategy.named(start["curiosity_strategy"], **start["curiosity_parameters"])
    return strategy, int(start["curiosity_seed"])


# ---- what a scientist reads


def read(run: Any) -> xr.Dataset:
    """Read the measured points of a run, each with the decision that led there.

    Parameters
    ----------
    run
        A run from a catalogue.

    Returns
    -------
    xarray.Dataset
        Dims ``(point, <axis>)``, for PFM ``(point, bias)``. Coordinates along `point`:
        ``decision_id``, ``row``, ``col``, ``x``, ``y`` (um, of the pixel), ``reason`` and
        ``time`` (s since 1970); along the axis its values. Variables: the spectra as they
        were measured, what was predicted beforehand (``..._predicted``), the stage's
        read-back, scalars, and the scores of the decisions. Units are in each variable's
        ``attrs``, the keys of the start document in those of the dataset.

    Raises
    ------
    InputError
        If the run holds no measured point.
    """
    if PRIMARY not in run:
        raise InputError(
            f"run {run.start['uid']} holds no measured point; it has "
            f"{', '.join(run) or 'no stream at all'}"
        )
    points = read_stream(run, PRIMARY).rename({"event": "point"})
    if DECISIONS in run and "decision_id" in points:
        decisions = read_stream(run, DECISIONS).drop_vars("time").set_index(event="decision_id")
        chosen = decisions.sel(event=points["decision_id"].rename({"point": "event"}).values)
        scores = chosen.drop_vars("event").rename({"event": "point"})
        points = points.merge(scores)
        coordinates = [key for key in ("row", "col", "x", "y", "reason") if key in points]
        points = points.set_coords(["decision_id", *coordinates])
    flat = {k: v for k, v in run.start.items() if isinstance(v, str | int | float)}
    return points.assign_attrs(flat)


def read_stream(run: Any, name: str) -> xr.Dataset:
    """Read one stream of a run with its declared dimensions.

    Tiled names dimensions after their sizes; this restores those that the descriptor
    declares and takes axes from the configuration.

    Parameters
    ----------
    run
        A run from a catalogue.
    name
        The stream: ``survey``, ``decisions``, ``primary``, ``learning`` or ``maps``.

    Returns
    -------
    xarray.Dataset
        Dims ``(event, ...)``, coordinates ``time`` and the axes.

    Raises
    ------
    InputError
        If the run has no such stream; the message lists those it has.
    """
    if name not in run:
        raise InputError(
            f"run {run.start['uid']} has no stream {name!r}; it has {', '.join(run) or 'none'}"
        )
    stream = run[name]
    data_keys = stream.metadata["data_keys"]
    # All scalars are one table, and one request.
    table = stream.base["internal"].read()
    # An event that was written twice counts once, the last time.
    once = ~table["seq_num"].duplicated(keep="last").to_numpy()
    variables = {}
    for key, described in data_keys.items():
        values = np.asarray(table[key] if key in table else stream[key].read())[once]
        values = values.astype(str) if described["dtype"] == "string" else values
        dims = _dims(key, described, data_keys)
        attrs = {"units": described["units"]} if described.get("units") else {}
        variables[key] = (("event", *dims), values, attrs)
    coordinates: dict[str, Any] = {"time": ("event", np.asarray(table["time"])[once])}
    sizes: dict[str, int] = {}
    for dims, values, _ in variables.values():
        sizes |= zip(dims, values.shape, strict=True)
    for device in stream.metadata["configuration"].values():
        for key, values in device["data"].items():
            described = device["data_keys"][key]
            dims = described.get("dims") or []
            if len(dims) == 1 and sizes.get(dims[0]) == np.size(values) and np.ndim(values) == 1:
                attrs = {"units": described["units"]} if described.get("units") else {}
                coordinates[dims[0]] = (dims[0], np.asarray(values), attrs)
    return xr.Dataset(variables, coordinates)


def _dims(key: str, described: Mapping[str, Any], data_keys: Mapping[str, Any]) -> list[str]:
    measured = key.removesuffix(PREDICTED)
    declared = (data_keys.get(measured) or described).get("dims")
    rank = len(described["shape"])
    # Scalars are rows of a table and have no dimension of their own.
    return list(declared) if declared else [f"{key}_dim_{i}" for i in range(rank)]

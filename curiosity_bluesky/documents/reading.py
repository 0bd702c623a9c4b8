"""Reading of a run as xarray, with its declared dimensions and axes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.documents.files import external_keys
from curiosity_bluesky.documents.schema import (
    DECISIONS,
    FLAGS,
    PREDICTED,
    PRIMARY,
    RESUMES,
    STREAMS,
)
from curiosity_bluesky.documents.translate import flag_from
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Anomaly
from curiosity_bluesky.utils.cycles import cycles_of
from curiosity_bluesky.utils.lazy import lazy_module

if TYPE_CHECKING:
    import httpx
    import xarray as xr
else:  # both take long to import
    httpx, xr = lazy_module("httpx"), lazy_module("xarray")

T = TypeVar("T")


class Incomplete(UserWarning):
    """A run holds less than what was measured in it."""


def read(run: Any, *, whole: bool = True) -> xr.Dataset:
    """Read the measured points of a run, each with the decision that led there.

    A run that is still being written reads as far as it is complete: a point whose
    spectrum or decision is not all there yet is left out, and is there the next time.

    Parameters
    ----------
    run
        A run from a catalogue.
    whole
        Whether a run that went on with another one, which had been interrupted, is read
        together with that one, the earlier points first.

    Returns
    -------
    xarray.Dataset
        Dims ``(point, <axis>)``, for PFM ``(point, bias)``. Coordinates along `point`:
        ``decision_id``, ``row``, ``col``, ``x``, ``y`` (um, of the pixel), ``reason``,
        ``decided_by``, ``dwell`` (where the detector has a dwell setting) and ``time`` (s since
        1970); along the axis its values. Variables: the
        spectra as they were measured, what was predicted beforehand (``..._predicted``), the
        stage's read-back, scalars, and the scores of the decisions. Units are in each variable's
        ``attrs``, the keys of the start document in those of the dataset.

    Raises
    ------
    InputError
        If the run holds no measured point.

    Warns
    -----
    Incomplete
        If the stop document counts more points than there are, or points lack their decision.
    """
    pieces = [piece for piece in (lineage(run) if whole else [run]) if PRIMARY in piece]
    if len(pieces) > 1:  # one that has just begun, or was killed there, adds nothing
        begun = [piece for piece in pieces if "internal" in piece[PRIMARY].base]
        pieces = begun or pieces[:1]
    if not pieces:
        raise InputError(
            f"run {run.start['uid']} holds no measured point; it has "
            f"{', '.join(run) or 'no stream at all'}"
        )
    flat = flat_attributes(run.start)
    if len(pieces) == 1:
        return _points(pieces[0]).assign_attrs(flat)
    parts = [_points(piece) for piece in pieces]
    if any("decided_by" in part for part in parts):  # an older version did not write it
        parts = [
            part if "decided_by" in part
            else part.assign_coords(decided_by=("point", [""] * part.sizes["point"]))
            for part in parts
        ]  # fmt: skip
    points = xr.concat(parts, "point", combine_attrs="override", join="outer")
    if "decision_id" in points:  # a message that was repeated, in one run or over both
        keys = [points[key].values for key in ("decision_id", "attempt") if key in points]
        _, first = np.unique(np.stack(keys), axis=1, return_index=True)
        points = points.isel(point=np.sort(first))
    return points.assign_attrs(flat)


def split_cycles(points: xr.Dataset) -> xr.Dataset:
    """Return spectra with their cycles apart, dims ``(point, cycle, <axis>)``.

    A cycle that was not measured is NaN; the coordinate ``dwell`` says how many were. An axis that
    does not repeat stays as it is.

    Parameters
    ----------
    points
        As `read` returns them, or any dataset along such an axis.
    """
    for axis in [str(dim) for dim in points.dims if dim in points.coords]:
        values = points[axis].values
        cycles = cycles_of(values) if values.dtype.kind in "iuf" else 1
        if cycles > 1:
            period = len(values) // cycles
            apart = points.drop_vars(axis).coarsen({axis: period})
            points = apart.construct({axis: ("cycle", axis)}).assign_coords(
                {axis: (axis, values[:period], points[axis].attrs)}
            )
    return points


def flat_attributes(start: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the flat keys of a start document as attributes: NetCDF knows no booleans."""
    return {
        key: int(value) if isinstance(value, bool) else value
        for key, value in start.items()
        if isinstance(value, str | int | float)
    }


def error_curve(points: xr.Dataset) -> NDArray:
    """Return how wrong the prediction of each spectrum was before it was measured, ``(points,)``.

    The mean squared error over the variance of all spectra about their mean, mean over the
    channels: 1 is no better than that mean. NaN where nothing was predicted.

    Parameters
    ----------
    points
        As `read` returns them.
    """
    errors = []
    for key in (str(name) for name in points if str(name).endswith(PREDICTED)):
        measured = points[key.removesuffix(PREDICTED)].values
        with warnings.catch_warnings():  # points that were never recorded, or not predicted
            warnings.simplefilter("ignore", RuntimeWarning)
            variance = np.nanmean((measured - np.nanmean(measured, axis=0)) ** 2)
            squares = np.nanmean((measured - points[key].values) ** 2, axis=1)
        errors.append(squares / (variance or 1.0))
    return np.mean(errors, axis=0) if errors else np.full(points.sizes["point"], np.nan)


def lineage(run: Any) -> list[Any]:
    """Return a run after those that it went on with, the oldest first.

    Parameters
    ----------
    run
        A run from a catalogue.

    Raises
    ------
    InputError
        If one of them is not in the catalogue any more.
    """
    runs = [run]
    while (earlier := runs[0].start.get(RESUMES)) is not None:
        try:
            runs.insert(0, runs[0].parent[earlier])
        except KeyError:
            raise InputError(
                f"run {runs[0].start['uid']} went on with {earlier}, which is not in the "
                "catalogue; read it alone with whole=False, or `curiosity recover` the other"
            ) from None
    return runs


def _points(run: Any) -> xr.Dataset:
    """Read the measured points of one run."""
    points = read_stream(run, PRIMARY).rename({"event": "point"})
    if DECISIONS in run and "decision_id" in points:
        decisions = read_stream(run, DECISIONS).drop_vars("time").set_index(event="decision_id")
        decided = np.isin(points["decision_id"], decisions["event"])
        _warn_of_missing(run, points.sizes["point"], int((~decided).sum()))
        points = points.isel(point=decided)
        chosen = decisions.sel(event=points["decision_id"].rename({"point": "event"}).values)
        scores = chosen.drop_vars("event").rename({"event": "point"})
        points = with_decisions(points, scores)
    else:
        _warn_of_missing(run, points.sizes["point"], 0)
    return points


def with_decisions(points: xr.Dataset, scores: xr.Dataset) -> xr.Dataset:
    """Return measured points with what was decided for each."""
    # A motor may be called x, and the axis of a camera: neither must be taken for the position of
    # the pixel.
    said = set(scores.variables) - {"decision_id"}
    axes = said & (set(points.dims) | set(points.coords))
    renamed = {key: f"{key}_axis" for key in axes}
    renamed |= {key: f"{key}_readback" for key in said & set(points.data_vars)}
    points = points.rename(renamed).merge(scores)
    known = ("row", "col", "x", "y", "reason", "decided_by", "dwell")
    return points.set_coords(["decision_id", *(key for key in known if key in points)])


def _warn_of_missing(run: Any, points: int, undecided: int) -> None:
    """Warn if a run that has ended lacks what was measured in it."""
    stop = run.metadata.get("stop")
    if not stop:  # it may still be written
        return
    lost = (stop.get("num_events") or {}).get(PRIMARY, 0) - points
    said = [f"{lost} of {lost + points} spectra"] if lost > 0 else []
    said += [f"the decisions of {undecided} spectra, which are left out"] if undecided else []
    if said:
        warnings.warn(
            f"run {run.start['uid']} lacks {' and '.join(said)}: `curiosity recover` puts them "
            "back if its journal is still there",
            Incomplete,
            stacklevel=3,
        )


def flags_of(run: Any) -> list[Anomaly]:
    """Return the regions that structure does not explain, the most striking first."""
    if FLAGS not in run:
        return []
    events = read_stream(run, FLAGS)
    return [
        flag_from({key: events[key].values[k] for key in STREAMS[FLAGS].scalars})
        for k in range(events.sizes["event"])
    ]


def read_stream(run: Any, name: str) -> xr.Dataset:
    """Read one stream of a run with its declared dimensions.

    Tiled names dimensions after their sizes; this restores those that the descriptor
    declares and takes axes from the configuration. A stream that is still being written is
    read as far as every data key has arrived. An event that a pause repeated, with the same
    ``seq_num``, counts once, the first time.

    Parameters
    ----------
    run
        A run from a catalogue.
    name
        The stream: ``survey``, ``decisions``, ``primary``, ``learning``, ``maps`` or ``flags``.

    Returns
    -------
    xarray.Dataset
        Dims ``(event, ...)``, coordinates ``time`` and the axes.

    Raises
    ------
    InputError
        If the run has no such stream (the message lists those it has), or it holds no
        event yet; if the server may not read, or does not find, a file that holds some of it.
    """
    if name not in run:
        raise InputError(
            f"run {run.start['uid']} has no stream {name!r}; it has {', '.join(run) or 'none'}"
        )
    stream = run[name]
    data_keys = stream.metadata["data_keys"]
    empty = InputError(
        f"nothing is measured yet in stream {name!r} of run {run.start['uid']}; "
        "read it again after its first event"
    )
    if "internal" not in stream.base:
        raise empty
    # All scalars are one table, and one request.
    table = _again(lambda: stream.base["internal"].read())
    # A row is written a second time when the answer to the first got lost; its time tells it
    # from the event of a message that was repeated.
    table = table.drop_duplicates(ignore_index=True)
    # Tiled does not ask PostgreSQL for any order of rows; arrays have theirs. (Of what a pause
    # repeated, older versions wrote both: there the rows are in the order of the arrays.)
    if table["seq_num"].is_unique:
        table = table.sort_values("seq_num", ignore_index=True)
    filed = set(external_keys(data_keys))
    columns = {
        key: _from_file(stream, key, data_keys[key])
        if key in filed
        else np.asarray(table[key] if key in table else _array(run, stream, key))
        for key in data_keys
    }
    # Table and arrays grow one after the other: an event counts once all of it is there.
    n = min(len(table), *(len(values) for values in columns.values()))
    if n == 0:
        raise empty
    table = table[:n]
    # An event that a pause repeated counts once, the first time: so the explorer counts it.
    once = ~table["seq_num"].duplicated().to_numpy()
    columns = {key: values[:n][once] for key, values in columns.items()}
    times = np.asarray(table["time"])[once]
    return dataset_of(data_keys, stream.metadata["configuration"], columns, times)


def dataset_of(
    data_keys: Mapping[str, Any],
    configuration: Mapping[str, Any],
    columns: Mapping[str, NDArray],
    times: NDArray,
) -> xr.Dataset:
    """Return the events of a stream with its declared dimensions.

    Parameters
    ----------
    data_keys, configuration
        As in the descriptor.
    columns
        ``(event, ...)`` by data key.
    times
        ``(event,)``, s since 1970.
    """
    variables = {}
    for key, described in data_keys.items():
        values = columns[key]
        values = values.astype(str) if described["dtype"] == "string" else values
        dims = _dims(key, described, data_keys)[-values.ndim + 1 :] if values.ndim > 1 else []
        attrs = {"units": described["units"]} if described.get("units") else {}
        variables[key] = (("event", *dims), values, attrs)
    coordinates: dict[str, Any] = {"time": ("event", times)}
    sizes: dict[str, int] = {}
    for dims, values, _ in variables.values():
        sizes |= zip(dims, values.shape, strict=True)
    for name, device in configuration.items():
        for key, values in device["data"].items():
            described = device["data_keys"][key]
            dims = described.get("dims") or []
            if len(dims) == 1 and sizes.get(dims[0]) == np.size(values) and np.ndim(values) == 1:
                attrs = {"units": described["units"]} if described.get("units") else {}
                # Where several lie along one dimension, it is called as its own.
                called = key.removeprefix(f"{name}_")
                axis = called if f"{name}_{dims[0]}" in device["data"] else dims[0]
                coordinates[axis] = (dims[0], np.asarray(values), attrs)
    return xr.Dataset(variables, coordinates)


def _array(run: Any, stream: Any, key: str) -> NDArray:
    """Read what the catalogue keeps in an array, ``(event, ...)``."""
    try:
        return _again(stream[key].read)
    except httpx.HTTPStatusError as error:
        uid = run.start["uid"]
        raise InputError(
            f"the server cannot read {key} of run {uid} ({error.response.status_code}): is "
            f"data/{uid} in the directory of the catalogue damaged or gone? Put it back from a "
            "backup; server.log there says more"
        ) from error


def _from_file(stream: Any, key: str, described: Mapping[str, Any]) -> NDArray:
    """Read what a detector wrote to files, ``(event, ...)``, without a dimension of one frame."""
    try:
        values = np.asarray(_again(lambda: stream[key].read()))
    except (httpx.HTTPStatusError, KeyError) as error:
        raise InputError(
            f"the server cannot read {key} ({' '.join(str(error).split())}): it is in a file of "
            f"the detector, {described.get('source', '')}, that is gone or lies where the server "
            "may not read; see `readable-storage` in docs/ophyd-async.md"
        ) from error
    shape = list(described["shape"])
    shape = shape[1:] if shape[:1] == [1] else shape
    return values.reshape(len(values), *shape)


def _again(ask: Callable[[], T]) -> T:
    """Ask the server, once more if it stumbled over what was being written meanwhile."""
    try:
        return ask()
    except httpx.HTTPStatusError:
        return ask()


def _dims(key: str, described: Mapping[str, Any], data_keys: Mapping[str, Any]) -> list[str]:
    measured = key.removesuffix(PREDICTED)
    declared = (data_keys.get(measured) or described).get("dims")
    rank = len(described["shape"])
    # Scalars are rows of a table and have no dimension of their own.
    return list(declared) if declared else [f"{key}_dim_{i}" for i in range(rank)]

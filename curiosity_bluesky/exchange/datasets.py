"""Runs and samples as sidpy datasets: what pycroscopy works with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import event_model
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from curiosity_bluesky.documents import (
    DECISIONS,
    DEVIATION,
    MAPS,
    MASK,
    PREDICTED,
    PREDICTIONS,
    SURVEY,
    read,
    read_stream,
)
from curiosity_bluesky.documents.reading import lineage
from curiosity_bluesky.errors import InputError

if TYPE_CHECKING:
    from curiosity_bluesky.exchange.sample import Sample

ROLE = "role"
"""Key in the metadata: ``survey``, ``spectra``, ``mask``, ``points``, ``predicted``, ..."""


def sidpy() -> Any:
    """Import sidpy, which takes seconds.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import sidpy as module
    except ImportError as error:
        raise InputError(
            f"this needs {error.name}, which is not installed: "
            'pip install "curiosity-bluesky[pycroscopy]"'
        ) from None
    return module


def to_sidpy(run: Any, *, grid: bool = False) -> dict[str, Any]:
    """Return what a run holds as sidpy datasets.

    ======================== =====================================================
    ``survey/<channel>``     IMAGE (x, y); several surveys: IMAGE_STACK (survey, x, y)
    ``spectra/<channel>``    POINT_CLOUD (point, <axis>, ...), as it was measured;
                             ``point_cloud["coordinates"]`` is (points, 2), x and y in um
    ``predicted/<channel>``  the same, what was predicted beforehand
    ``prediction/<channel>`` SPECTRAL_IMAGE (x, y, <axis>), what is predicted at the end, NaN where
                             nothing is; where the run recorded it
    ``deviation/<channel>``  the same, standard deviation of a measured spectrum about it
    ``points``               (point, quantity): read-back, quality and other scalars
    ``decisions``            (decision, quantity): the scores of each decision
    ``maps/<name>``          IMAGE (x, y), the last of each of the explorer's maps
    ``cube/<channel>``       with `grid`: SPECTRAL_IMAGE (x, y, <axis>), NaN where nothing
                             was measured; of a pixel measured twice the last
    ``mask``                 with `grid`: IMAGE (x, y) of uint8, 1 where nothing was measured
    ======================== =====================================================

    Images are (x, y), as sidpy draws them. dtypes stay what they are; those of the two
    tables become float64. ``metadata["run"]`` of each holds uid, sample, strategy and the
    whole start and stop documents as JSON; ``metadata["points"]`` of the spectra the
    decision, pixel, reason and time of each point.

    Parameters
    ----------
    run
        A run from a catalogue, read together with those that it went on with.
    grid
        Whether cubes on the grid of the survey are wanted too.

    Raises
    ------
    InputError
        If sidpy is not installed, the run holds no measured point, or a cube is wanted of a
        run without a survey.
    """
    points = read(run)
    about = _about(run)
    pieces = lineage(run)
    # Each stream is read once: that is what takes time.
    survey = next((s for s in (_stream(piece, SURVEY) for piece in pieces) if s is not None), None)
    datasets = {} if survey is None else _survey(survey, about)
    place = {"point_cloud": _point_cloud(run, points), "points": _point_facts(points)}
    tables: list[str] = []
    for name in map(str, points.data_vars):
        variable = points[name]
        if variable.dims[:1] != ("point",) or variable.dtype.kind not in "fiubc":
            continue
        if variable.ndim == 1:
            tables.append(name)
            continue
        key = "predicted" if name.endswith(PREDICTED) else "spectra"
        title = name if key == "predicted" else f"{name}_points"
        datasets[f"{key}/{name.removesuffix(PREDICTED)}"] = _scattered(
            variable, title, {**about, ROLE: key if key == "predicted" else "points"}, place
        )
    datasets["points"] = _table(points, tables, "points", about)
    if (decisions := _decisions(pieces)) is not None:
        numbers = [str(n) for n in decisions.data_vars if decisions[n].dtype.kind in "fiub"]
        datasets["decisions"] = _table(decisions, numbers, "decisions", about)
    if (maps := _stream(run, MAPS)) is not None:
        maps = maps.isel(event=-1)
        if survey is not None:  # whose pixels they are about
            maps = maps.assign_coords(y=survey["y"], x=survey["x"])
        for name in map(str, maps.data_vars):
            if maps[name].ndim == 2:
                datasets[f"maps/{name}"] = _image(maps[name], f"map_{name}", {**about, ROLE: "map"})
    if survey is not None and (predictions := _stream(run, PREDICTIONS)) is not None:
        datasets |= _predictions(predictions, survey, about)
    if grid:
        if survey is None or "row" not in points:
            raise InputError(
                f"run {run.start['uid']} has no survey whose grid its spectra would lie on; leave "
                "grid (--grid) out"
            )
        datasets |= _cubes(survey, points, about)
    return datasets


def _decisions(pieces: Sequence[Any]) -> xr.Dataset | None:
    """Return all decisions, each once: one that was open when a run ended is in the next too."""
    streams = [s for s in (_stream(piece, DECISIONS) for piece in pieces) if s is not None]
    if not streams:
        return None
    decisions = xr.concat(streams, "event", combine_attrs="override", join="outer")
    _, first = np.unique(decisions["decision_id"].values, return_index=True)
    return decisions.isel(event=np.sort(first)).rename(event="decision")


def _stream(run: Any, name: str) -> xr.Dataset | None:
    """Read a stream; None if the run has none, or nothing in it yet."""
    begun = name in run and "internal" in run[name].base
    return read_stream(run, name) if begun else None


def sample_to_sidpy(sample: Sample) -> dict[str, Any]:
    """Return a sample as sidpy datasets: ``survey/...``, ``cube/...`` and ``mask``.

    Parameters
    ----------
    sample
        A sample, such as `RecordedSample.from_npz` gives.

    Raises
    ------
    InputError
        If sidpy is not installed.
    """
    about = {"sample": {"name": sample.name, "source": sample.source}}
    axes = {"y": ("y", sample.y, {"units": "um"}), "x": ("x", sample.x, {"units": "um"})}
    axis = sample.axis_name if sample.axis_name not in axes else f"{sample.axis_name}_axis"
    along = {axis: (axis, sample.axis, {"units": sample.axis_units})}

    def array(values: NDArray, units: str = "", extra: Mapping[str, Any] | None = None) -> Any:
        dims = ["y", "x", *(extra or {})]
        return xr.DataArray(values, {**axes, **(extra or {})}, dims, attrs={"units": units})

    datasets = {}
    for name, image in sample.images.items():
        values = array(image, sample.image_units[name])
        datasets[f"survey/{name}"] = _image(values, name, {**about, ROLE: "survey"})
    for name, cube in sample.spectra.items():
        values = array(cube, sample.spectrum_units[name], along)
        datasets[f"cube/{name}"] = _image(values, name, {**about, ROLE: "spectra"})
    if sample.mask.any():
        datasets["mask"] = _image(
            array(sample.mask.astype(np.uint8)), "mask", {**about, ROLE: "mask"}
        )
    return datasets


def _about(run: Any) -> dict[str, Any]:
    start = dict(run.start)
    stop = run.metadata.get("stop") or {}
    known = ("uid", "time", "sample", "plan_name", "curiosity_strategy", "curiosity_seed")
    short = {key: start[key] for key in known if start.get(key) is not None}
    documents = {"start": _json(start), "stop": _json(stop)}
    return {"run": {**short, "exit_status": stop.get("exit_status", ""), **documents}}


def _json(document: Any) -> str:
    return json.dumps(event_model.sanitize_doc(dict(document)), default=str)


def _point_cloud(run: Any, points: xr.Dataset) -> dict[str, Any]:
    """Positions in the way sidpy wants them; those of the stage if nothing was decided."""
    names = ["x", "y"]
    if not all(name in points for name in names):
        names = [name for name in run.start.get("motors", []) if name in points][:2]
    if len(names) < 2:
        raise InputError(
            f"run {run.start['uid']} does not say where its spectra were taken; expected "
            "decisions or two motors in its start document"
        )
    coordinates = np.stack([np.asarray(points[name], dtype=np.float64) for name in names], axis=1)
    return {"coordinates": coordinates, "spacial_units": "um", "quantity": "distance"}


def _point_facts(points: xr.Dataset) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name in ("decision_id", "row", "col", "reason", "time"):
        if name in points:
            values = points[name].values
            facts[name] = values if values.dtype.kind in "fiu" else [str(v) for v in values]
    return facts


def _scattered(
    variable: xr.DataArray, title: str, metadata: dict[str, Any], place: Mapping[str, Any]
) -> Any:
    dataset = sidpy().Dataset.from_array(
        variable.values,
        title=title,
        datatype="POINT_CLOUD",
        coordinates=place["point_cloud"]["coordinates"],
    )
    _describe(dataset, variable, {**metadata, "points": place["points"]})
    dataset.point_cloud = dict(place["point_cloud"])
    count = np.arange(variable.shape[0])
    _set_dimensions(dataset, variable, {"point": (count, "", "POINT_CLOUD")})
    return dataset


def _image(variable: xr.DataArray, title: str, metadata: dict[str, Any]) -> Any:
    """Make an image, a stack of them or a cube of what has y and x among its dimensions."""
    others = [dim for dim in variable.dims if dim not in ("y", "x")]
    stack = bool(others) and others[0] == "survey"
    variable = variable.transpose(*(others if stack else []), "x", "y", *([] if stack else others))
    dataset = sidpy().Dataset.from_array(variable.values, title=title)
    kind = "IMAGE_STACK" if stack else "SPECTRAL_IMAGE" if others else "IMAGE"
    dataset.data_type = kind
    _describe(dataset, variable, metadata)
    _set_dimensions(dataset, variable, {})
    return dataset


def _table(points: xr.Dataset, names: Sequence[str], title: str, about: dict[str, Any]) -> Any:
    """Put scalars side by side, (row, column); the texts beside them go into the metadata."""
    columns = np.stack([np.asarray(points[name], dtype=np.float64) for name in names], axis=1)
    dataset = sidpy().Dataset.from_array(columns, title=title)
    texts = {
        str(name): [str(value) for value in points[name].values]
        for name in points.variables
        if points[name].dtype.kind in "UO" and points[name].ndim == 1
    }
    units = [str(points[name].attrs.get("units", "")) for name in names]
    table = {"columns": list(names), "units": units, **texts}
    dataset.metadata = {**about, ROLE: title, "table": table}
    rows = xr.DataArray(columns, dims=[title.removesuffix("s"), "column"])
    kinds = {
        rows.dims[0]: (np.arange(columns.shape[0]), "", "UNKNOWN"),
        "column": (np.arange(columns.shape[1]), "", "CHANNEL"),
    }
    _set_dimensions(dataset, rows, kinds)
    return dataset


def _describe(dataset: Any, variable: xr.DataArray, metadata: dict[str, Any]) -> None:
    dataset.units = str(variable.attrs.get("units", "")) or "generic"
    dataset.quantity = str(variable.name or dataset.title)
    dataset.modality = "SPM"
    dataset.source = "curiosity_bluesky"
    dataset.metadata = metadata


def _set_dimensions(dataset: Any, variable: xr.DataArray, given: Mapping[Any, Any]) -> None:
    package = sidpy()
    for i, dim in enumerate(variable.dims):
        if dim in given:
            values, units, kind = given[dim]
        elif dim in variable.coords:
            values = variable.coords[dim].values
            units = str(variable.coords[dim].attrs.get("units", ""))
            kind = "SPATIAL" if dim in ("x", "y") else "SPECTRAL"
        else:
            values, units, kind = np.arange(variable.shape[i]), "", "SPECTRAL"
        quantity = "distance" if kind == "SPATIAL" else str(dim)
        # A dimension becomes an attribute: it must not take the place of one, such as size.
        name = f"{dim}_axis" if hasattr(package.Dataset, str(dim)) else str(dim)
        if kind == "TEMPORAL" or dim == "survey":
            kind = "TEMPORAL"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that dim_0 was called a before
            dataset.set_dimension(
                i, package.Dimension(values, name, quantity, units or "generic", kind)
            )


def _survey(stream: xr.Dataset, about: dict[str, Any]) -> dict[str, Any]:
    datasets = {}
    for name in map(str, stream.data_vars):
        variable = stream[name]
        if variable.ndim != 3 or set(variable.dims[1:]) != {"y", "x"}:
            continue
        several = variable.sizes["event"] > 1
        # In seconds since the first: the axis of a stack of surveys.
        times = stream["time"].values - stream["time"].values[0]
        image = (
            variable.assign_coords(event=("event", times, {"units": "s"})).rename(event="survey")
            if several
            else variable.isel(event=0)
        )
        role = "no_spectra" if name == MASK else "survey"
        datasets[f"survey/{name}"] = _image(image, name, {**about, ROLE: role})
    return datasets


def _predictions(stream: xr.Dataset, survey: xr.Dataset, about: dict[str, Any]) -> dict[str, Any]:
    """Put the blocks of predicted rows together."""
    datasets = {}
    stream = stream.sortby("first_row")
    for key in map(str, stream.data_vars):
        if not key.endswith((PREDICTED, DEVIATION)):
            continue
        role, suffix = (
            ("deviation", DEVIATION) if key.endswith(DEVIATION) else ("prediction", PREDICTED)
        )
        name = key.removesuffix(suffix)
        axis = str(stream[key].dims[3])
        cube = np.concatenate(stream[key].values)[: survey.sizes["y"]]
        axes = {"y": survey["y"], "x": survey["x"], axis: stream[axis]}
        array = xr.DataArray(cube, axes, ["y", "x", axis], name, stream[key].attrs)
        datasets[f"{role}/{name}"] = _image(array, f"{role}_{name}", {**about, ROLE: role})
    return datasets


def _cubes(survey: xr.Dataset, points: xr.Dataset, about: dict[str, Any]) -> dict[str, Any]:
    y, x = survey["y"], survey["x"]
    rows, cols = points["row"].values, points["col"].values
    missing = np.ones((y.size, x.size), dtype=np.uint8)
    missing[rows, cols] = 0
    axes = {"y": y, "x": x}
    datasets = {}
    for name in map(str, points.data_vars):
        variable = points[name]
        if variable.ndim < 2 or name.endswith(PREDICTED) or variable.dtype.kind not in "fc":
            continue
        dims = [str(dim) for dim in variable.dims[1:]]
        cube = np.full((y.size, x.size, *variable.shape[1:]), np.nan, variable.dtype)
        cube[rows, cols] = variable.values
        coordinates = axes | {dim: variable.coords[dim] for dim in dims if dim in variable.coords}
        array = xr.DataArray(cube, coordinates, ["y", "x", *dims], attrs=variable.attrs)
        datasets[f"cube/{name}"] = _image(array, name, {**about, ROLE: "spectra"})
    mask = xr.DataArray(missing, axes, ["y", "x"])
    datasets["mask"] = _image(mask, "mask", {**about, ROLE: "mask"})
    return datasets

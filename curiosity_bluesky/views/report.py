"""Report of a run for ``curiosity show``, and numbers in words."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curiosity_bluesky import documents
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import WHOLE, Table, moment, plain
from curiosity_bluesky.utils.run_end import RunEnd
from curiosity_bluesky.views._xarray_compat import without_other_arrays

if TYPE_CHECKING:
    import xarray as xr

    from curiosity_bluesky.catalog import Catalog
    from curiosity_bluesky.learning import Anomaly

DEMO = "demo"
"""Key of the start document: the `DemoSample` of a demo."""


@dataclass(frozen=True)
class RunReport:
    """Report of one run.

    Parameters
    ----------
    start
        Its start document.
    status
        How it ended, ``open`` if it did not.
    reason
        Why it ended, in words.
    streams
        Stream name to number of events.
    points
        `documents.read` of it, None where nothing was measured.
    flags
        Regions that structure does not explain.
    picture
        Its picture, where one was asked for.
    missing
        What is not in the catalogue though it was measured, "" if nothing is.
    drift
        What the re-surveys found, in words; "" where there was none.
    gone_on_with_by
        uid and status of the newest run that went on with it, "" where none did.
    """

    start: Mapping[str, Any]
    status: str
    reason: str
    streams: Mapping[str, int]
    points: xr.Dataset | None
    flags: list[Anomaly]
    picture: str | None
    missing: str = ""
    drift: str = ""
    gone_on_with_by: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report, JSON-ready."""
        decisions = [] if self.points is None else _decisions(self.points)
        out = {field.name: getattr(self, field.name) for field in fields(self)}
        flags = [asdict(flag) for flag in self.flags]
        return out | {"start": dict(self.start), "points": decisions, "flags": flags}

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the summary, what matters most first: name and value."""
        start, points = self.start, self.points
        streams = ", ".join(f"{plain(name)} {events}" for name, events in self.streams.items())
        seed = start.get("curiosity_seed")
        by = plain(start.get("curiosity_strategy")) + ("" if seed is None else f", seed {seed}")
        rows = [
            ("sample", plain(start.get("sample"))),
            ("status", plain(self.status)),
            ("ended by", plain(self.reason, WHOLE)),
        ]
        if points is not None and (error := error_in_words(points)):
            rows.append(("error", error))
        rows += [("look closer", flag_in_words(flag)) for flag in self.flags]
        rows += [("missing", self.missing)] if self.missing else []
        rows += [("drift", self.drift)] if self.drift else []
        if points is not None and (dwell := dwell_in_words(points, start)):
            rows.append(("dwell", dwell))
        rows += [("strategy", by), ("started", moment(start["time"]))]
        if points is not None and "seconds" in points:
            seconds, explored = decision_seconds(points), decisions_explored(points)
            rows.append(("a decision", decision_in_words(seconds, explored)))
        if start.get(documents.RESUMES):
            rows.append(("went on with", plain(start[documents.RESUMES])))
        if self.gone_on_with_by:
            rows.append(("gone on with by", plain(self.gone_on_with_by)))
        rows += [("uid", plain(start["uid"])), ("plan", plain(start.get("plan_name")))]
        rows.append(("events", streams))
        return rows + ([("picture", self.picture)] if self.picture else [])

    def decisions_table(self) -> Table:
        """Return the measured points as a table, without columns that say nothing."""
        table = Table()
        strategy = self.start.get("curiosity_strategy")
        decisions, unit = [], ""
        if self.points is not None:
            unit = _unit(self.points)
            decisions = [_by_unit(each, strategy) for each in _decisions(self.points)]
        shown = {
            name.format(unit=unit): key
            for name, key in COLUMNS.items()
            if any(each.get(key) is not None for each in decisions)
            and not (key == "decided_by" and all(each[key] == strategy for each in decisions))
        }
        for column in shown:
            table.add_column(column, justify="right", overflow="fold")
        for decision in decisions:
            table.add_row(*(_cell(decision.get(key)) for key in shown.values()))
        return table


_SQUARED, _RELATIVE = "predicted_error, squared", "predicted_error, relative"

COLUMNS = {
    "decision": "decision_id",
    "x (um)": "x",
    "y (um)": "y",
    "reason": "reason",
    "expected error (rms, {unit})": _SQUARED,
    "expected error (relative)": _RELATIVE,
    "novelty (latent distance)": "novelty",
    "took (s)": "seconds",
    "decided by": "decided_by",
}
"""Columns of the table of decisions, and the data keys that they show.

The expected error of some strategies is a mean squared one in the unit of the spectra, that of
others is relative to the errors so far: a run that was given another strategy may have both.
"""

_NEWEST = 10


def error_in_words(points: xr.Dataset) -> str:
    """Say how well the newest spectra were predicted, "" if that is not known.

    Parameters
    ----------
    points
        As `documents.read` returns them.
    """
    curve = documents.error_curve(points)
    known = curve[np.isfinite(curve)]
    if not known.size:
        return ""
    newest = known[-_NEWEST:]
    first = f", the first {_NEWEST} {known[:_NEWEST].mean():.2g}" * (len(known) >= 2 * _NEWEST)
    return (
        f"the newest {len(newest)} spectra were predicted with {newest.mean():.2g} of the "
        f"variance{first} (1: no better than their mean)"
    )


def dwell_in_words(points: xr.Dataset, start: Mapping[str, Any]) -> str:
    """Say how long the spectra were measured, "" where the detector has no dwell setting.

    Parameters
    ----------
    points
        As `documents.read` returns them.
    start
        The start document of the run.
    """
    parameters = start.get("curiosity_parameters") or {}
    if "dwell" not in points or not parameters.get("dwell_seconds"):
        return ""
    seconds = dict(map(tuple, parameters["dwell_seconds"]))
    full, visit = parameters["dwell_seconds"][-1][1], parameters["visit_cost"][0]
    units = {points[key].attrs.get("units", "") for key in points if str(key).endswith("_dwell")}
    unit = next(iter(units)) if len(units) == 1 else ""
    values, counts = np.unique(points["dwell"].values, return_counts=True)
    said = ", ".join(f"{n} with {value:g}" for value, n in zip(values, counts, strict=True))
    spent = sum(n * (visit + seconds[value]) for value, n in zip(values, counts, strict=True))
    share = spent / (counts.sum() * (visit + full))
    return (
        f"{said} {plain(unit)}".rstrip() + f": {share:.0%} of the time of as many full spectra, "
        "settling included"
    )


def show_run(runs: Catalog, uid: str, picture: Path | None = None) -> RunReport:
    """Read the report of one run.

    Raises
    ------
    InputError
        If there is no such run.
    """
    if picture is not None:
        check_picture(picture)
    return runs.read(uid, lambda run: _with_picture(runs, run, picture))


def _with_picture(runs: Catalog, run: Any, picture: Path | None) -> RunReport:
    # Tiled's client needs those that are hidden from xarray.
    with without_other_arrays() if runs.reads_files else contextlib.nullcontext():
        report = _report(runs, run)
    if picture is not None:
        from curiosity_bluesky.views.live import LiveView

        view = LiveView(picture.parent, window=False)
        for name, doc in _documents(runs, run.start["uid"]):
            view.picture(name, doc)
        view.save(picture)
    return replace(report, picture=None if picture is None else str(picture))


def _documents(runs: Catalog, uid: str) -> Iterable[tuple[str, Any]]:
    """Return the documents of a run, after those of the runs that it went on with."""
    try:
        return chain.from_iterable(runs.lineage(uid))
    except InputError:  # an earlier one is gone
        return runs.documents(uid)


def _report(runs: Catalog, run: Any) -> RunReport:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        measured = _measured(run)
    later = runs.successor(run.start["uid"])
    return RunReport(
        start=run.metadata["start"],
        status=runs.status(run),
        reason=RunEnd.of(run.metadata.get("stop")).words,
        streams={name: _events(run[name]) for name in run},
        points=measured,
        flags=documents.flags_of(run),
        picture=None,
        missing="; ".join(str(w.message) for w in said if w.category is documents.Incomplete),
        drift=drift_in_words(run),
        gone_on_with_by="" if later is None else f"{later.uid} ({later.status})",
    )


def _measured(run: Any) -> xr.Dataset | None:
    """Read the points of a run; None where there are none, as when it was killed early."""
    if documents.PRIMARY not in run or not _events(run[documents.PRIMARY]):
        return None
    return documents.read(run)


def _events(stream: Any) -> int:
    # A stream is there before its first event is.
    return len(stream["time"]) if "internal" in stream.base else 0


def _decisions(points: xr.Dataset) -> list[dict[str, Any]]:
    keys = [key for key in documents.STREAMS[documents.DECISIONS].scalars if key in points]
    columns = {key: points[key].values.tolist() for key in keys}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    # JSON has no NaN.
    return [{k: None if v != v else v for k, v in row.items()} for row in rows]


def _by_unit(decision: dict[str, Any], strategy: Any) -> dict[str, Any]:
    """Return a decision with its expected error under the key of its unit."""
    error = decision.get("predicted_error")
    name = (decision.get("decided_by") or str(strategy)).partition(",")[0]
    if error is None or documents.SQUARED.get(name, {}).get("error") != 2:
        return decision | {_RELATIVE: error}
    return decision | {_SQUARED: math.sqrt(error)}


def _unit(points: xr.Dataset) -> str:
    """Return the unit of the predicted spectra."""
    predicted = [str(key) for key in points if str(key).endswith(documents.PREDICTED)]
    units = {points[key.removesuffix(documents.PREDICTED)].attrs.get("units") for key in predicted}
    [unit] = units if len(units) == 1 else [None]
    return unit or "as the spectra"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else plain(value)


def decision_seconds(measured: xr.Dataset) -> float:
    """Median time (s) of the decisions after the seeds; of all where there were only seeds."""
    seconds = measured["seconds"].values
    later = seconds[measured["reason"].values != "seed"]
    return float(np.median(later if later.size else seconds))


def decisions_explored(measured: xr.Dataset) -> int:
    """Return how many measured points were decided after the seeds."""
    return int(np.count_nonzero(measured["reason"].values != "seed"))


def decision_in_words(seconds: float, explored: int) -> str:
    """Say how long a decision took.

    Parameters
    ----------
    seconds
        Median, see `decision_seconds`.
    explored
        Decisions after the seeds; 0: it is the median over the seeds.
    """
    over = "after the seeds" if explored else "of the seeds: none was made after them"
    return f"{seconds:.3g} s (median {over})"


def drift_in_words(run: Any) -> str:
    """Return the drift that re-surveys found in words; "" without one."""
    if documents.DRIFT not in run or not _events(run[documents.DRIFT]):
        return ""
    drift = documents.read_stream(run, documents.DRIFT)
    trusted = drift.isel(event=drift["trusted"].values == 1)
    words = f"{drift.sizes['event']} re-surveys, {trusted.sizes['event']} of them trusted"
    if not trusted.sizes["event"]:
        return words
    last = {
        key: float(trusted[key].values[-1]) for key in documents.STREAMS[documents.DRIFT].scalars
    }
    speed = _speed(run.start.get(DEMO))  # of a demo: simulated minutes
    minutes = speed * last["seconds"] / 60
    nm_per_min = 6e4 * math.hypot(last["rate_x"], last["rate_y"]) / speed
    return (
        f"{words}: ({1e3 * last['drift_x']:.0f}, {1e3 * last['drift_y']:.0f}) nm in "
        f"{minutes:.3g}{' simulated' * (speed != 1)} min, at last {nm_per_min:.3g} nm/min; "
        f"residual {last['residual']:.2g} (1 - correlation), overlap {100 * last['overlap']:.0f} %"
    )


def _speed(demo: Any) -> float:
    """Return the simulated seconds per second of a demo, 1 for any other run."""
    speed = demo.get("speed") if isinstance(demo, Mapping) else None
    if isinstance(speed, int | float) and 0 < speed < math.inf:
        return float(speed)
    return 1.0


def flag_in_words(flag: Anomaly) -> str:
    """Return an anomaly in words: where, and why."""
    return (
        f"x = {flag.x:.3g}, y = {flag.y:.3g} µm, radius {flag.radius:.2g} µm, "
        f"{flag.n_observed} spectra: {flag.remark}"
    )


def check_picture(picture: Path) -> None:
    """Check that a picture can be written, before anything is measured for it."""
    if picture.suffix != ".png":
        raise InputError(f"the picture is {picture}; expected a file ending in .png")
    if not picture.parent.is_dir() or not os.access(picture.parent, os.W_OK):
        raise InputError(f"{picture} cannot be written: no such folder, or none to write to")


def format_score(value: float | None) -> str:
    """Return a score in words."""
    return "not known" if value is None else f"{value:.4g}"

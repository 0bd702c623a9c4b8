"""Summaries of runs, one line each, in Tiled, in a journal or in both; and their filter."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from curiosity_bluesky import documents
from curiosity_bluesky.catalog.document_counts import (
    COUNTED,
    count_documents,
    in_emission_order,
)
from curiosity_bluesky.catalog.journal import is_held
from curiosity_bluesky.catalog.journal_lines import lines
from curiosity_bluesky.catalog.local_reader import LocalRuns
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import iso


@dataclass(frozen=True)
class RunSummary:
    """One line about a run.

    Parameters
    ----------
    uid, sample, strategy, plan_name
        From the start document, as they are there: a sample may be a mapping. None where it
        does not say.
    time
        Start, ISO 8601 with the local time zone.
    points
        Good spectra in the run, so far if it is open: those that count for the budget.
    num_points
        Spectra that were asked for, at last.
    status
        ``success``, ``abort`` or ``fail``; without a stop document ``open`` while a
        process writes it, ``interrupted`` when that process died.
    resumes
        uid of the run that it went on with, None if it began by itself.
    scan_id
        Number of the run in its session, None where the start document has none.
    """

    uid: str
    time: str
    sample: Any
    strategy: Any
    plan_name: Any
    points: int
    num_points: Any
    status: str
    resumes: str | None = None
    scan_id: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class RunFilter:
    """Which runs are asked for.

    Parameters
    ----------
    keys
        What the start document has to hold.
    since
        Started at or after this time, s since 1970; None: at any.
    """

    keys: dict[str, str]
    since: float | None

    @staticmethod
    def of(
        sample: str | None,
        strategy: str | None,
        plan_name: str | None,
        since: str | None,
        resumes: str | None = None,
    ) -> RunFilter:
        """Understand what a user asks for, see `Catalog.runs`."""
        keys = {"sample": sample, "curiosity_strategy": strategy, "plan_name": plan_name}
        keys[documents.RESUMES] = resumes
        moment = None
        if since is not None:
            try:
                moment = datetime.fromisoformat(since).astimezone().timestamp()
            except ValueError:
                raise InputError(
                    f"since is {since!r}; expected a time such as 2026-11-21 or '2026-11-21 14:30'"
                ) from None
        return RunFilter({key: value for key, value in keys.items() if value is not None}, moment)

    def among(self, client: Any) -> Any:
        """Search for them among the runs of a Tiled client, or of a directory's files."""
        if isinstance(client, LocalRuns):
            return client.started(self.keys, self.since)
        from tiled.queries import Comparison, Eq

        for key, value in self.keys.items():
            client = client.search(Eq(f"start.{key}", value))
        return (
            client
            if self.since is None
            else client.search(Comparison("ge", "start.time", self.since))
        )

    def is_met_by(self, start: dict[str, Any]) -> bool:
        """Whether a run with this start document is one of them."""
        met = all(start.get(key) == value for key, value in self.keys.items())
        return met and (self.since is None or start["time"] >= self.since)


def summary_of(run: Any, journal: Path) -> RunSummary:
    """Return the summary of a run in Tiled.

    Parameters
    ----------
    run
        The run.
    journal
        Directory of the journals: one tells whether a run without a stop document is written.
    """
    start, stop = run.metadata["start"], run.metadata.get("stop")
    status = _status(run)
    if stop:
        events = stop.get("num_events") or {}
        if not (events.get(documents.FAILURES) or events.get(documents.STEERING)):
            return _summary(start, status, events.get(documents.PRIMARY, 0))
    elif status == "open" and (found := _abandoned(run, journal)) is not None:
        return found  # Tiled may have less of it
    return _summary(start, status, *(_kept(run) or _counted(run)))


def status_of(run: Any, journal: Path) -> str:
    """Return how a run in Tiled ended, or ``open`` or ``interrupted``; the server is not asked.

    Parameters
    ----------
    run, journal
        As for `summary_of`.
    """
    status = _status(run)
    found = _abandoned(run, journal) if status == "open" else None
    return status if found is None else found.status


def _status(run: Any) -> str:
    if stop := run.metadata.get("stop"):
        return stop["exit_status"]
    return "interrupted" if run.metadata.get("interrupted") else "open"


def _abandoned(run: Any, journal: Path) -> RunSummary | None:
    """Return the summary of a run whose journal is here, and which no living process writes."""
    path = journal / f"{run.metadata['start']['uid']}.jsonl"
    return summary_of_journal(path) if path.exists() and not is_held(path) else None


def _summary(
    start: dict[str, Any], status: str, points: int, budget: int | None = None
) -> RunSummary:
    return RunSummary(
        uid=start["uid"],
        time=iso(start["time"]),
        sample=start.get("sample"),
        strategy=start.get("curiosity_strategy"),
        plan_name=start.get("plan_name"),
        points=points,
        num_points=budget or start.get("num_points"),
        status=status,
        resumes=start.get(documents.RESUMES),
        scan_id=start.get("scan_id"),
    )


def summary_of_journal(path: Path) -> RunSummary | None:
    """Return the summary of a run from its journal; None if that holds no run, or is gone."""
    held, count = is_held(path), documents.PointCount()
    try:
        tally = count_documents(lines(path), also=count)
        if tally.disordered or tally.unknown:  # else one line at a time is enough
            count = documents.PointCount()
            tally = count_documents(in_emission_order(lines(path)), also=count)
    except OSError:  # taken in at this moment, or for others to read
        return None
    if tally.start is None:
        return None
    status = "open" if held else "interrupted"
    status = tally.stop.get("exit_status", status) if tally.stop else status
    return _summary(tally.start, status, count.n, count.budget)


def _kept(run: Any) -> tuple[int, int | None] | None:
    """Return what the writer counted as `_counted` does; None of a run without it."""
    kept = run.metadata.get(COUNTED)
    return None if kept is None else (kept["points"], kept["num_points"])


def _counted(run: Any) -> tuple[int, int | None]:
    """Return how many good spectra a run in Tiled has, and how many it was to have at last.

    The server is asked for one table of each stream that matters.
    """
    tables = {}
    for stream in (documents.PRIMARY, documents.FAILURES, documents.STEERING):
        # A stream is there before its first event is.
        parts = run[stream].base if stream in run else {}
        if "internal" in parts:
            table = parts["internal"]
            kept = [key for key in table.columns if key in _COUNTS or key.endswith(_QUALITIES)]
            tables[stream] = table.read(columns=kept).to_dict("list")
    count = documents.PointCount()
    count.take(run.metadata["start"], tables)
    return count.n, count.budget


_COUNTS = ("seq_num", "decision_id", "attempt", "reason", "kind", "arguments")
_QUALITIES = ("_quality", "-quality")
"""Columns that tell which spectra count."""

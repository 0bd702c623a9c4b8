"""One line about each run, wherever it is (in Tiled, in its journal, in both), and which."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bluesky_tiled_plugins.queries import TimeRange
from tiled.queries import Eq

from curiosity_bluesky import documents
from curiosity_bluesky.display import iso
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.journal import is_held
from curiosity_bluesky.lines import lines
from curiosity_bluesky.tally import in_turn, readable, tally_of


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
        ``success``, ``abort`` or ``fail``; without a stop document ``open`` while somebody
        writes it, ``interrupted`` when whoever wrote it died.
    """

    uid: str
    time: str
    sample: Any
    strategy: Any
    plan_name: Any
    points: int
    num_points: Any
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Wanted:
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
        sample: str | None, strategy: str | None, plan_name: str | None, since: str | None
    ) -> Wanted:
        """Understand what a user asks for, see `Catalog.runs`."""
        keys = {"sample": sample, "curiosity_strategy": strategy, "plan_name": plan_name}
        moment = None
        if since is not None:
            try:
                moment = datetime.fromisoformat(since).astimezone().timestamp()
            except ValueError:
                raise InputError(
                    f"since is {since!r}; expected a time such as 2026-11-21 or '2026-11-21 14:30'"
                ) from None
        return Wanted({key: value for key, value in keys.items() if value is not None}, moment)

    def among(self, client: Any) -> Any:
        """Search for them; returns a client."""
        for key, value in self.keys.items():
            client = client.search(Eq(f"start.{key}", value))
        return client if self.since is None else client.search(TimeRange(since=self.since))

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
    path = journal / f"{start['uid']}.jsonl"
    if stop:
        events = stop.get("num_events") or {}
        if not (events.get(documents.FAILURES) or events.get(documents.STEERING)):
            return _summary(start, stop["exit_status"], events.get(documents.PRIMARY, 0))
        return _summary(start, stop["exit_status"], *_counted(run))
    if run.metadata.get("interrupted"):
        return _summary(start, "interrupted", *_counted(run))
    if path.exists() and not is_held(path) and (found := journalled(path)) is not None:
        return found  # Tiled may have less of it
    return _summary(start, "open", *_counted(run))


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
    )


def journalled(path: Path) -> RunSummary | None:
    """Return the summary of a run from its journal; None if that holds no run, or is gone."""
    held = is_held(path)
    try:
        tally = tally_of(lines(path))
        if tally.disordered or tally.unknown:
            tally = tally_of(in_turn(lines(path)))
        if tally.start is None:
            return None
        count = documents.Count()
        for name, doc in readable(path):
            count(name, doc)
    except OSError:  # taken in at this moment, or for others to read
        return None
    status = "open" if held else "interrupted"
    status = tally.stop.get("exit_status", status) if tally.stop else status
    return _summary(tally.start, status, count.n, count.budget)


def _counted(run: Any) -> tuple[int, int | None]:
    """Return how many good spectra a run in Tiled has, and how many it was to have at last."""

    def keys(stream: str) -> list[str]:
        # A stream is there before its first event is.
        return list(run[stream]) if stream in run and "internal" in run[stream].base else []

    def column(stream: str, key: str) -> list[Any] | None:
        return run[stream][key].read().tolist() if key in keys(stream) else None

    primary = keys(documents.PRIMARY)
    if primary and "decision_id" not in primary:  # of another plan: each event is a point
        return len(run[documents.PRIMARY]["time"]), None
    count = documents.Count()
    count.begin(run.metadata["start"])
    count.take(column, [key for key in primary if key.endswith(("_quality", "-quality"))])
    return count.n, count.budget

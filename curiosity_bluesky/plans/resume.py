"""A run that was interrupted, as far as it got: what another run goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filelock import BaseFileLock

from curiosity_bluesky import documents
from curiosity_bluesky.catalog.successors import unlock
from curiosity_bluesky.documents import Document
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun, Strategy
from curiosity_bluesky.utils.validation import number, whole_number


@dataclass(frozen=True)
class InterruptedRun:
    """The documents of a run and of those that it went on with, the oldest first.

    Parameters
    ----------
    runs
        The documents of each run, from its start document on.
    earlier
        The run that the oldest of them started from, if any.
    lock
        Held, so that no other process resumes the run.
    """

    runs: Sequence[Sequence[Document]]
    earlier: PriorRun | None = None
    lock: BaseFileLock | None = None

    def release(self) -> None:
        """Let other processes resume the run; more than once does no harm."""
        if self.lock is not None:
            unlock(self.lock)

    @staticmethod
    def of(runs: Iterable[Sequence[Document]]) -> InterruptedRun:
        """Make sure that a run can be resumed.

        Raises
        ------
        InputError
            If it was not made by `curiosity_plan`, if its start document says what no run can
            have, or if it ended before its survey was written.
        """
        past = InterruptedRun(list(runs))
        try:
            # Each complains where it is of another kind.
            _ = past.strategy, past.withhold, past.lookahead, past.resurvey
        except InputError as error:
            raise InputError(f"run {past.uid} cannot be resumed: {error}") from None
        if not _has_survey(past.documents):
            raise InputError(
                f"run {past.uid} was interrupted before its survey was written; "
                "there is nothing to resume: start a new run"
            )
        return past

    @property
    def documents(self) -> list[Document]:
        """All documents in their order."""
        return [document for run in self.runs for document in run]

    @property
    def start(self) -> Mapping[str, Any]:
        """The newest start document."""
        return self.runs[-1][0][1]

    @property
    def uid(self) -> str:
        """Of the newest run."""
        return self.start["uid"]

    @property
    def ended(self) -> bool:
        """Whether the newest run was closed, and not killed."""
        return _closed(self.runs[-1])

    @property
    def closed(self) -> int:
        """How many runs there are up to the last one that was closed.

        Those after it were killed: with the one that goes on they are as one run.
        """
        return max((k + 1 for k, run in enumerate(self.runs) if _closed(run)), default=0)

    @property
    def strategy(self) -> Strategy:
        """The strategy that it began with."""
        return documents.strategy_from(self.start)[0]

    @property
    def seed(self) -> int:
        """Seed of every random choice."""
        return documents.strategy_from(self.start)[1]

    @property
    def withhold(self) -> float:
        """Share of the pixels that are never measured."""
        share = self.start.get("curiosity_withhold", 0.0)
        return number("curiosity_withhold", share, 0.0, 1.0, open_high=True, what="a share")

    @property
    def lookahead(self) -> int:
        """How many points ahead it decided."""
        return whole_number(documents.LOOKAHEAD, self.start.get(documents.LOOKAHEAD, 0))

    @property
    def resurvey(self) -> tuple[int, float]:
        """After how many points and after how many minutes it took the survey again."""
        start = self.start
        every = whole_number(documents.RESURVEY_EVERY, start.get(documents.RESURVEY_EVERY, 0))
        minutes = start.get(documents.RESURVEY_MINUTES, 0.0)
        return every, number(documents.RESURVEY_MINUTES, minutes, what="minutes")

    @property
    def max_bias(self) -> float | None:
        """Volts that no detector was allowed to exceed, None if there was no limit."""
        return self.start.get(documents.MAX_BIAS)

    @property
    def tip(self) -> str | None:
        """Name of the tip that was lifted between two points, None if there was none."""
        return self.start.get(documents.TIP)

    @property
    def estimated(self) -> bool:
        """Whether its number of points was not given, but estimated."""
        return bool(self.start.get(documents.ESTIMATED, False))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is as true of the run that goes on: the sample, and what it started from."""
        # No more: what the RunEngine says of proposal or user is for the RunEngine of today.
        return {key: self.start[key] for key in ("sample", *documents.WARM) if key in self.start}


def _closed(run: Iterable[Document]) -> bool:
    return any(name == "stop" for name, _ in run)


def _has_survey(found: Iterable[Document]) -> bool:
    """Whether a survey was written: its event, for the descriptor comes before it."""
    described = set()
    for name, doc in found:
        if name == "descriptor" and doc["name"] == documents.SURVEY:
            described.add(doc["uid"])
        elif name in ("event", "event_page") and doc["descriptor"] in described:
            return True
    return False

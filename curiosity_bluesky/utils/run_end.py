"""Why a run ended: made by the plan, kept as the reason of the stop document, read back here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class EndKind(Enum):
    """What brings a run to its end; the value is how the reason in a stop document begins."""

    BUDGET = "budget"
    """All spectra that were asked for are measured."""
    TIME = "time"
    """The time budget leaves no time for another point."""
    PIXELS = "no pixel is left to measure"
    STRATEGY = "strategy"
    """The strategy has seen enough, by a rule of its own."""
    MANUAL = "manual"
    """The scientist said `steer.stop()`."""
    STOPPED = "ended by hand"
    """`RE.stop()`."""
    FAILURES = "failures"
    """Too many points in a row failed."""
    DISK = "disk"
    """The disk of the journal is full, and too many documents wait in memory."""
    VISITS = "visits"
    """The sample was measured as often as budget and retries allow, whatever came of it."""
    DRIFT = "drift"
    """Where the sample is is not known any more."""
    AGENT = "agent"
    """The agent that decides does not answer."""
    SIGTERM = "SIGTERM"
    SIGHUP = "SIGHUP"
    ABORTED = "aborted"
    """`RE.abort()` or `RE.halt()`."""
    ERROR = "error"
    DONE = "done"
    """Another plan came to its end, which gives no reason."""
    OPEN = ""
    """It has not ended, or its process was killed."""


TROUBLE = frozenset(
    {EndKind.FAILURES, EndKind.DISK, EndKind.VISITS, EndKind.DRIFT, EndKind.AGENT, EndKind.ERROR}
)
"""Ends without a request."""

_SIGNALS = (EndKind.SIGTERM, EndKind.SIGHUP)


@dataclass(frozen=True)
class RunEnd:
    """One end.

    Parameters
    ----------
    kind
        What brought it.
    text
        The particulars, for people.
    """

    kind: EndKind
    text: str = ""

    def __str__(self) -> str:
        """Return the reason as it is kept in a stop document."""
        if self.kind is EndKind.PIXELS:
            return f"{self.kind.value}{self.text}"
        if self.kind is EndKind.STRATEGY and RunEnd.read(self.text).kind is EndKind.STRATEGY:
            return self.text  # in the words of the strategy, unless they would be misread
        return f"{self.kind.value}: {self.text}"

    @property
    def words(self) -> str:
        """What people read."""
        if self.kind is EndKind.ABORTED:
            return f"aborted: {self.text or 'RE.abort() or RE.halt(), no reason given'}"
        return self.text if self.kind in (EndKind.ERROR, EndKind.OPEN) else str(self)

    @staticmethod
    def read(reason: str) -> RunEnd:
        """Understand the reason of a run that was not aborted and did not fail."""
        if reason.startswith(EndKind.PIXELS.value):
            return RunEnd(EndKind.PIXELS, reason.removeprefix(EndKind.PIXELS.value))
        known = {kind.value: kind for kind in EndKind if kind.value}
        head, colon, text = reason.partition(": ")
        if colon and head in known:
            return RunEnd(known[head], text)
        return RunEnd(EndKind.STRATEGY, reason)

    @staticmethod
    def of(stop: Mapping[str, Any] | None) -> RunEnd:
        """Understand a stop document, also of an older version; None: there is none."""
        if not stop:
            return RunEnd(EndKind.OPEN)
        reason, status = stop.get("reason") or "", stop.get("exit_status")
        end = RunEnd.read(reason)
        if status == "fail":
            return RunEnd(EndKind.ERROR, reason)
        if status == "abort":
            if end.kind in _SIGNALS:
                return end
            old = end.kind is EndKind.STOPPED  # "ended by hand: RE.abort()" said no more than that
            return RunEnd(EndKind.ABORTED, "" if old else reason)
        return end if reason else RunEnd(EndKind.DONE, "no reason given")

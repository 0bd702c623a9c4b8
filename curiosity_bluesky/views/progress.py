"""Progress of a run: one line in a terminal, or a few lines in a log."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from curiosity_bluesky import documents
from curiosity_bluesky.utils.display import Console, duration, plain
from curiosity_bluesky.utils.run_end import EndKind, RunEnd

if TYPE_CHECKING:
    from bluesky import RunEngine
    from rich.progress import Progress

logger = logging.getLogger(__name__)

MEAN_OF = 10
"""Newest spectra whose error is shown."""
_LINES = 10
"""Lines about a run where there is no terminal, beside its first and its last."""


def show_progress(RE: RunEngine) -> ProgressLine:
    """Show the progress of all runs of a RunEngine, in one line while it runs.

    The line goes when the RunEngine pauses, so that the prompt has its place, and what others
    print, such as a LiveTable, stands above it.

    Parameters
    ----------
    RE
        Its ``state_hook`` is called after what was there before.
    """
    line, before = ProgressLine(), RE.state_hook

    def changed(new: str, old: str) -> None:
        if before is not None:
            before(new, old)
        if new in ("paused", "idle", "panicked"):
            line.hide()

    RE.state_hook = changed  # pyright: ignore[reportAttributeAccessIssue]
    RE.subscribe(line)
    return line


class ProgressLine:
    """Document callback that says how far a run is: points, error, time left, what it does now.

    The error is that of the prediction at the newest spectra before they were learned, in units
    of the spread of all before (``held_out_error``), mean of the last 10: 1 is no better than
    their mean. Where the file is no terminal, a line is written for every tenth of the run.

    Parameters
    ----------
    file
        Where to write; default: standard error.
    error
        Returns another error in words; "" for none.
    """

    def __init__(self, file: Any = None, error: Callable[[], str] | None = None) -> None:
        self._console = Console(file=file) if file is not None else Console(stderr=True)
        self._error = error or self._held_out
        self._bar: Progress | None = None
        self._task: Any = None
        self._broken = self._hidden = False
        self._forget()

    def _forget(self) -> None:
        self._count = documents.PointCount()
        self._streams: dict[str, str] = {}
        self._errors: deque[float] = deque(maxlen=MEAN_OF)
        self._left = math.nan
        self._doing = ""
        self._said = 0
        self._uid = ""

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document; an error is said once, and stops no run."""
        if self._broken:
            return
        try:
            self._process(name, doc)
        except Exception:  # a terminal that is gone, or a document of another program
            self._broken = True
            self.hide()
            logger.warning("the progress of the run cannot be shown any more", exc_info=True)

    def _process(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start":
            goes_on = doc.get(documents.RESUMES) == self._uid and self._uid
            if not goes_on:
                self._forget()
            self._uid = doc["uid"]
            self._doing = "taking the survey" if "curiosity_strategy" in doc else ""
        self._count(name, doc)
        if name == "start":
            self._begin(doc)
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        elif name == "event":
            self._event(self._streams.get(doc["descriptor"], ""), doc["data"])
        elif name == "event_page":
            for event in documents.events_in(name, doc):
                self._event(self._streams.get(event["descriptor"], ""), event["data"])
        elif name == "stop":
            self.hide()
            end = RunEnd.of(doc)
            done = end.kind in (EndKind.BUDGET, EndKind.DONE)
            why = "" if done else f", {plain(end)}"
            self._line(f"run {self._uid[:8]}: {self._points}{why}")
            return
        self._show()

    def recall(self, past: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Process the documents of a run to go on with; nothing is shown before it goes on."""
        self._hidden = True
        try:
            for name, doc in past:
                self(name, doc)
        finally:
            self._hidden = False

    def note(self, doing: str) -> None:
        """Show what is done now, which no document says, such as a training."""
        self._doing = doing
        self._show()

    def hide(self) -> None:
        """Take the line away until the next document."""
        bar, self._bar = self._bar, None
        if bar is not None:
            # The terminal may be gone, or closed; what a state hook raises ends the engine.
            with contextlib.suppress(Exception):
                bar.stop()

    # ---- what the documents say

    def _event(self, stream: str, data: Mapping[str, Any]) -> None:
        if stream == documents.DECISIONS:
            where = f"{data['x']:.3g}, {data['y']:.3g} um"
            self._doing = f"measuring ({plain(data['reason'])}) at {where}"
        elif stream == documents.PRIMARY:
            self._left = data.get("remaining", math.nan)
            self._doing = "deciding"
        elif stream == documents.FAILURES and data["reason"] != documents.BEGUN:
            self._doing = f"failed: {plain(data['reason'], 40)}"
        elif stream == documents.LEARNING:
            self._errors.append(data["held_out_error"])
        elif stream == documents.DRIFT:
            self._doing = "the survey was taken again"
        elif stream in (documents.MAPS, documents.FLAGS, documents.PREDICTIONS):
            self._doing = "writing maps and predictions"

    def _held_out(self) -> str:
        known = [error for error in self._errors if math.isfinite(error)]
        return f"error {sum(known) / len(known):.2f}" if known else ""

    @property
    def _points(self) -> str:
        total = self._count.budget
        return f"{self._count.n} of {total} spectra" if total else f"{self._count.n} spectra"

    @property
    def _time(self) -> str:
        return f"{duration(self._left)} left" if math.isfinite(self._left) else ""

    # ---- where it is shown

    def _begin(self, start: Mapping[str, Any]) -> None:
        if self._console.is_terminal:
            return
        strategy = plain(start.get("curiosity_strategy")) or plain(start.get("plan_name"))
        self._line(f"run {self._uid[:8]}: {self._points} with {strategy}")

    def _show(self) -> None:
        if self._hidden:
            return
        if self._console.is_terminal:
            self._draw()
            return
        total = self._count.budget or 10 * _LINES
        tenth = self._count.n * _LINES // max(1, total)
        if tenth > self._said and self._count.n < total:
            self._said = tenth
            self._line(", ".join(filter(None, [self._points, self._error(), self._time])))

    def _line(self, text: str) -> None:
        if self._hidden:
            return
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[error]}", markup=False),
                TextColumn("{task.fields[left]}", markup=False),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
                # What others print goes above the line, but never from a file to the terminal.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._task = self._bar.add_task("", total=None, error="", left="")
            self._bar.start()
        self._bar.update(
            self._task,
            total=self._count.budget,
            completed=self._count.n,
            error=self._error(),
            left=self._time,
            description=self._doing,
        )

"""Status of a writer: its open runs, outages, and the words for both."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.run_uploader import RunUploader

SILENT = 2.0
"""Seconds without an answer from which a status says so."""


@dataclass(frozen=True)
class Outage:
    """An outage of Tiled: reason, begin, delay and time of the next try."""

    why: str = ""
    since: float = 0.0
    delay: float = 0.0
    due: float = 0.0


@dataclass(frozen=True)
class WriterStatus:
    """Status of a writer at one moment.

    Parameters
    ----------
    backlog
        Documents that Tiled has not taken.
    in_memory
        Those of them that are in no file either.
    unwritten
        Why they are not, or why it is not certain that the disk has the others; "" if all is well.
    down
        Whether Tiled answers.
    trouble, since
        What it does not take, and since when, s since 1970; "" if all.
    silence
        For how long the upload under way has had no answer, s.
    connecting
        Whether a server is being looked for or started.
    """

    backlog: int
    in_memory: int
    unwritten: str
    down: Outage
    trouble: str
    since: float
    silence: float
    connecting: bool

    @staticmethod
    def of(runs: Iterable[OpenRun], down: Outage, silence: float, connecting: bool) -> WriterStatus:
        """Sum up runs; nothing else may change them meanwhile, except that journals grow."""
        runs = list(runs)
        states = [run.journal.state for run in runs]
        troubled = [run for run in runs if run.trouble]
        return WriterStatus(
            sum(run.documents - run.taken for run in runs),
            sum(state.waiting for state in states),
            next((state.why for state in states if state.why), ""),
            down,
            next((run.trouble for run in troubled), ""),
            min((run.since for run in troubled), default=0.0),
            silence,
            connecting,
        )

    @property
    def offline(self) -> str:
        """Why Tiled takes nothing at present, "" if it does."""
        return self.down.why or self.trouble

    def in_words(self, where: Path | str) -> str:
        """Return one line about what the disk of the journals, or Tiled, does not take, or ""."""
        if self.in_memory:
            return (
                f"{self.in_memory} documents wait in memory alone ({self.unwritten}): make room on "
                f"the disk of {where}"
            )
        if self.unwritten:
            return f"the disk of {where} does not confirm what is written ({self.unwritten})"
        if self.down.why:
            said = f"Tiled does not answer since {_clock(self.down.since)}"
        elif self.trouble:
            said = f"Tiled does not take everything since {_clock(self.since)}"
        elif self.backlog and self.connecting:
            said = "a Tiled server is looked for or started"
        elif self.backlog and self.silence > SILENT:
            said = f"Tiled has not answered for {self.silence:.0f} s"
        else:
            return ""
        return f"{said}: {self.backlog} documents wait in {where}"


def _clock(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))


@dataclass
class OpenRun:
    """A run that Tiled does not have all of yet."""

    journal: RunJournal
    position: int
    documents: int = 0
    taken: int = 0
    ended: bool = False
    let_go: bool = False  # the journal is closed, and any process may upload it
    rewrite: bool = False  # Tiled has something of it that need not be right
    feed: RunUploader | None = None
    trouble: str = ""
    since: float = 0.0
    tries: int = 0
    delay: float = 0.0
    due: float = 0.0


def documents_left(runs: Iterable[OpenRun], journal: Path, command: str) -> str:
    """Say where the documents of runs are that Tiled does not have.

    Parameters
    ----------
    runs
        The runs.
    journal
        Directory of their journals.
    command
        That uploads them.
    """
    runs = list(runs)
    states = [run.journal.state for run in runs]
    lost = sum(run.journal.in_memory() for run in runs)
    if not lost:
        return f"they are in {journal}, and `{command}` takes them in"
    there = sum(run.documents for run in runs) - lost
    why = next((state.why for state in states if state.why), "")
    return (
        f"{there} are in {journal}, and `{command}` takes them in; the last {lost} are in "
        f"memory alone ({why}) and are lost when this process ends"
    )


def refused(run: OpenRun, why: str, again: bool) -> str:
    """Say that Tiled did not take a run, and where its documents are.

    Parameters
    ----------
    run
        The run.
    why
        The reason.
    again
        Whether it is tried again.
    """
    lost = run.journal.in_memory()
    there = f"all but {lost} of its documents are" if lost else "all its documents are"
    return (
        f"run {run.journal.uid} could not be written to Tiled ({why}); {there} in "
        f"{run.journal.path}{f', those {lost} in memory alone' if lost else ''}"
        f"{', and it is tried again' if again else ''}"
    )

"""Journaled writer: documents to a journal at once, to Tiled in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from curiosity_bluesky.catalog.journal import MAY_WAIT, JournalLocked, RunJournal, check_may_wait
from curiosity_bluesky.catalog.journal_status import (
    OpenRun,
    Outage,
    WriterStatus,
    documents_left,
    refused,
)
from curiosity_bluesky.catalog.live_upload import LiveUpload
from curiosity_bluesky.catalog.recovery import RecoveryThread
from curiosity_bluesky.catalog.run_lookup import RunLookup
from curiosity_bluesky.catalog.run_uploader import (
    TRIES,
    UploadBusy,
    UploadCancelled,
    is_temporary,
)
from curiosity_bluesky.errors import InputError

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 10.0
"""Maximum seconds that the end of a process waits for a server that takes nothing."""

FULL_DISK_RETRY = 1.0
"""Seconds until a journal whose disk is full is tried again."""


class JournaledWriter:
    """A document callback: to a journal on disk at once, to Tiled in the background.

    Each document is a line of ``<journal>/<run uid>.jsonl`` before the RunEngine goes on. A thread
    feeds Tiled from that file, so that a long outage costs no memory. When Tiled does not take
    something, the thread tries again, less and less often, and then writes the run once more from
    its journal. After the stop document it counts what Tiled holds; a run that is all there loses
    its journal, a run that is not is written again. It also uploads what processes that died have
    left in the directory. A run that another writer has already is left to that one.

    Parameters
    ----------
    tiled
        Makes a client of the catalogue to write to; called again after each trouble.
    journal
        Directory of the journals.
    batch_size
        Events that are written to Tiled at once; 1 shows each as soon as it is there. An event
        of more than 100 kB does not wait for others.
    retry
        Pause after the first trouble, doubled each time, and the longest one, s.
    where
        What the user calls the catalogue.
    durable
        Whether each document is forced onto the disk, so that a power cut loses nothing.
    may_wait
        Documents of a run that may wait in memory for room on the disk of the journal before
        `curiosity_plan` pauses; ``math.inf``: any number.
    connecting
        Whether a server is being looked for or started at this moment, which is waited for.

    Attributes
    ----------
    catalog : Catalog or None
        What it writes into; held here, so that its server lives as long as the writer.
    """

    def __init__(
        self,
        tiled: Callable[[], Any],
        journal: Path,
        batch_size: int = 1,
        retry: tuple[float, float] = (1.0, 30.0),
        where: str = "",
        durable: bool = False,
        may_wait: float = MAY_WAIT,
        connecting: Callable[[], bool] = lambda: False,
    ) -> None:
        check_may_wait(may_wait)
        self.catalog: Any = None
        self._durable = durable
        self._may_wait = may_wait
        # Held while what follows, which belongs together, is changed or read; never for long.
        self._guard = threading.Lock()
        self._failed: dict[str, Exception] = {}
        self._tiled = tiled
        self._journal = journal
        self._retry = retry
        self._where = where
        self._connecting = connecting
        self._client: Any = None
        self._run_of = RunLookup()
        self._runs: dict[str, OpenRun] = {}
        self._of_others: set[str] = set()  # runs
        self._outage = Outage()
        self._answered = time.monotonic()
        self._asked: float | None = None  # when the upload under way began
        self._wake = threading.Event()
        self._progress = threading.Condition()
        self._closing = self._given_up = False
        self._upload = LiveUpload(
            self._guard, batch_size, durable, self._goes_on, self._note_progress
        )
        self._thread = threading.Thread(target=self._work, name="tiled-writer", daemon=True)
        self._thread.start()
        self._recovery = RecoveryThread(tiled, journal, retry, self._is_mine, durable)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document."""
        if self._closing:
            raise RuntimeError("this writer is closed; take a new one from the catalogue")
        uid = self._run_of(name, doc)
        if uid in self._of_others:
            return
        run = self._runs.get(uid)
        if run is None:
            try:
                journal = RunJournal(
                    self._journal, uid, durable=self._durable, may_wait=self._may_wait
                )
            except JournalLocked as error:
                self._leave_to_other(uid, str(error))
                return
            run = OpenRun(journal, journal.begins)
            if name != "start":
                logger.warning("run %s has no start document; see %s", uid, journal.path)
            with self._guard:
                if name != "start":
                    self._failed[uid] = ValueError("its start document never came")
                self._runs[uid] = run
        with self._guard:
            run.documents += 1  # before the thread can have taken it
        run.journal.append(name, doc)
        with self._guard:
            run.ended = run.ended or name == "stop"
        self._wake.set()

    def _leave_to_other(self, uid: str, who: str) -> None:
        """Leave a run to the writer that has it; two would take it from each other in Tiled."""
        if not self._of_others:
            logger.warning(
                "run %s is written into %s by %s already, so this writer leaves it, and what "
                "else that one has, alone: subscribe one writer for each catalogue (the IPython "
                "profile has subscribed one)",
                *(uid, self._where or self._journal, who),
            )
        self._of_others.add(uid)

    def _status_now(self) -> WriterStatus:
        """Return the status, read at one moment."""
        with self._guard:
            return WriterStatus.of(
                self._runs.values(), self._outage, self._silence(), self._connecting()
            )

    def _silence(self) -> float:
        """Return for how long the upload under way has had no answer, s; 0 if there is none."""
        asked = self._asked
        return 0.0 if asked is None else time.monotonic() - max(asked, self._answered)

    @property
    def failed(self) -> dict[str, Exception]:
        """Run uid to why Tiled will not take it as it is; its journal stays."""
        with self._guard:
            return dict(self._failed)

    @property
    def backlog(self) -> int:
        """Documents that Tiled has not taken yet."""
        return self._status_now().backlog

    @property
    def in_memory(self) -> int:
        """Documents that are in memory alone: the disk of the journal takes no more."""
        return self._status_now().in_memory

    @property
    def offline(self) -> str:
        """Why Tiled takes nothing at present, "" if it does."""
        return self._status_now().offline

    @property
    def status(self) -> str:
        """One line about what Tiled, or the journal, does not take, "" when all is well."""
        where = f"{self._where}/journal" if Path(self._where).is_dir() else self._journal
        return self._status_now().in_words(where)

    def flush(self) -> None:
        """Wait until Tiled has what was emitted so far; not for one that does not answer."""
        self._wait(lambda: all(map(self._settled, list(self._runs.values()))))

    def wait_for_recovery(self, key: int | str) -> None:
        """Wait until a run that a process which died has left, if it is being uploaded, is whole.

        Parameters
        ----------
        key
            Its uid or the first characters of it; a number may mean any.

        Raises
        ------
        InputError
            If that takes minutes.
        """
        self._recovery.wait_for(key)

    def _settled(self, run: OpenRun) -> bool:
        """Whether waiting longer would gain nothing for a run."""
        if not run.ended and run.position >= run.journal.end:
            return True
        return self._has_failed(run) or bool(run.trouble and run.tries >= TRIES)

    def _has_failed(self, run: OpenRun) -> bool:
        return run.journal.uid in self._failed

    def _is_mine(self, uid: str) -> bool:
        with self._guard:
            return uid in self._runs or uid in self._failed

    def _wait(self, done: Callable[[], bool], patience: float = CLOSE_TIMEOUT) -> None:
        """Wait for something as long as Tiled answers."""
        begun = time.monotonic()
        with self._progress:
            while not (done() or self._outage.why or not self._thread.is_alive()):
                late = time.monotonic() > max(begun, self._answered) + patience
                if late and not self._connecting():
                    return
                self._progress.wait(0.1)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is left and end; more than once does no harm.

        Parameters
        ----------
        timeout
            How long to wait for a server that takes nothing, s. What it has not taken then
            stays in the journal, and a warning says so.
        """
        if self._closing:
            return
        self._closing = True
        self._recovery.close()
        with self._guard:
            for run in self._runs.values():  # each is tried once more, now
                run.trouble, run.tries, run.due = "", 0, 0.0
            self._outage = replace(self._outage, why="", due=0.0)
        self._wake.set()
        self._wait(lambda: not self._thread.is_alive(), timeout)
        self._given_up = True
        self._wake.set()
        self._thread.join(0.2)
        with self._guard:
            left = {uid: run for uid, run in self._runs.items() if run.ended or run.trouble}
            gone = set(left) <= set(self._failed)
        if left and not gone:
            logger.warning(
                "%d documents of %d run%s are not in Tiled (%s); %s",
                *(sum(run.documents for run in left.values()), len(left)),
                *("" if len(left) == 1 else "s", self._why_not(left.values())),
                self._left_where(left.values()),
            )

    def _why_not(self, left: Iterable[OpenRun]) -> str:
        """Say what kept the documents of runs from Tiled."""
        unwritten = next((why for run in left if (why := run.journal.state.why)), "")
        troubles = (run.trouble for run in left if run.trouble)
        return self.offline or unwritten or next(troubles, "it did not answer in time")

    def _left_where(self, left: Iterable[OpenRun]) -> str:
        command = f"curiosity recover{f' --catalog {self._where}' if self._where else ''}"
        return documents_left(left, self._journal, command)

    # From here on: in the thread.

    def _work(self) -> None:
        try:
            while not self._given_up:
                self._wake.wait(self._pause())
                self._wake.clear()
                try:
                    self._advance_all()
                except Exception:  # a defect of ours; the journal has all, so go on
                    logger.exception("the writer to Tiled met an unexpected error")
                with self._progress:
                    self._progress.notify_all()
                if self._closing and all(map(self._finished, list(self._runs.values()))):
                    break
        finally:
            for run in list(self._runs.values()):
                if not run.let_go:
                    run.journal.close()
            self._drop_client()
            with self._progress:
                self._progress.notify_all()

    def _finished(self, run: OpenRun) -> bool:
        """Whether a writer that closes can do no more for a run."""
        return self._settled(run) or bool(self._outage.why)

    def _pause(self) -> float | None:
        """Seconds until something is to be tried again, None if nothing is."""
        now = time.monotonic()
        runs = list(self._runs.values())
        due = [self._outage.due] if self._outage.why else [run.due for run in runs if run.trouble]
        due += [now + FULL_DISK_RETRY] if any(run.journal.state.why for run in runs) else []
        return max(0.0, min(due) - now) if due else None

    def _advance_all(self) -> None:
        """Do what can be done for each run now."""
        for run in list(self._runs.values()):
            run.journal.retry()
        if self._outage.why and time.monotonic() < self._outage.due:
            return
        for uid, run in list(self._runs.items()):
            if self._has_failed(run):
                self._release(run)
            elif time.monotonic() >= run.due and (run.position < run.journal.end or run.ended):
                self._asked = time.monotonic()
                try:
                    if self._client is None:
                        self._client = self._connected()
                    if self._upload.advance(self._client, run):
                        with self._guard:
                            del self._runs[uid]
                    if self._outage.why:
                        logger.warning("Tiled answers again; run %s goes in", uid)
                    with self._guard:
                        self._outage = Outage()
                        run.trouble, run.tries, run.delay = "", 0, 0.0
                except UploadCancelled:
                    return
                except Exception as error:  # any of Tiled's: the journal has the run
                    self._note_trouble(uid, run, error)
                    if self._outage.why:
                        return
                finally:
                    self._asked = None

    def _connected(self) -> Any:
        client = self._tiled()
        http = client.context.http_client
        heard = [*http.event_hooks["response"], self._note_answer]
        http.event_hooks = {**http.event_hooks, "response": heard}
        self._note_progress()
        return client

    def _note_answer(self, response: httpx.Response) -> None:
        if not response.is_error:
            self._note_progress()

    def _goes_on(self) -> bool:
        return not self._given_up

    def _note_progress(self) -> None:
        self._answered = time.monotonic()

    def _note_trouble(self, uid: str, run: OpenRun, error: Exception) -> None:
        """Note what went wrong and when to try again."""
        self._drop_client()
        first, most = self._retry
        now, why = time.monotonic(), " ".join(f"{type(error).__name__}: {error}".split())
        with self._guard:
            run.feed, run.rewrite, run.taken = None, True, 0
            news = not (run.trouble or self._outage.delay)
            run.since = run.since if run.trouble else time.time()
            run.trouble = why
            run.tries += 1
            if isinstance(error, httpx.TransportError | InputError):
                delay = min(most, 2 * self._outage.delay or first)
                since = self._outage.since or time.time()
                self._outage, run.due = Outage(why, since, delay, now + delay), 0.0
            else:
                run.delay = min(most, 2 * run.delay or first)
                run.due = now + run.delay
                if run.tries >= TRIES and not (
                    is_temporary(error) or isinstance(error, UploadBusy)
                ):
                    self._failed[uid] = error
            failed = uid in self._failed
        if news or failed:
            logger.warning("%s", refused(run, why, again=not failed))
        self._release(run)

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.context.http_client.close()
            self._client = None

    def _release(self, run: OpenRun) -> None:
        # Of a run that ended nothing need stay open, however long Tiled is away.
        if run.ended and (run.let_go or run.journal.close()):
            with self._guard:
                run.let_go = True
                if self._has_failed(run):
                    self._runs.pop(run.journal.uid, None)

"""Writing documents so that nothing is lost and nobody waits."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from curiosity_bluesky.catalog.document_counts import count_documents, describe_damage
from curiosity_bluesky.catalog.journal import MAY_WAIT, JournalLocked, RunJournal
from curiosity_bluesky.catalog.journal_lines import Document, describe_defect
from curiosity_bluesky.catalog.journal_status import OpenRun as _Run
from curiosity_bluesky.catalog.journal_status import Outage, WriterStatus
from curiosity_bluesky.catalog.recovery import RecoveryThread
from curiosity_bluesky.catalog.run_uploader import (
    TRIES,
    RunUploader,
    UploadCancelled,
    UploadMismatch,
    compare,
    is_temporary,
    rewrite_run,
    write_metadata,
)
from curiosity_bluesky.catalog.upload import upload_journal
from curiosity_bluesky.errors import InputError

logger = logging.getLogger("curiosity_bluesky")

PATIENCE = 10.0
"""How long the end of a process waits for a server that takes nothing, s."""

AGAIN = 1.0
"""Pause before a journal whose disk is full is tried again, s."""

LARGE_EVENT = 100_000
"""Bytes of an event's line in the journal from which it goes into Tiled at once.

As lists of numbers, ten maps that wait for their batch to fill take tens of megabytes.
"""


class JournaledWriter:
    """A document callback: to a journal on disk at once, to Tiled in the background.

    Each document is a line of ``<journal>/<run uid>.jsonl`` before the RunEngine goes on.
    A thread feeds Tiled from that file, so that a long outage costs no memory. When Tiled
    does not take something, the thread tries again, less and less often, and then writes the
    run anew from its journal. After the stop document it counts what Tiled holds; a run that
    is all there loses its journal, a run that is not is written anew. It also takes in what
    processes that died have left in the directory. A run that another writer has in hand
    already, in this process or in another, is left to that one.

    Parameters
    ----------
    tiled
        Makes a client of the catalogue to write to; called again after each trouble.
    journal
        Directory of the journals.
    batch_size
        Events that are written to Tiled at once; 1 shows each as soon as it is there. An event
        of more than `LARGE_EVENT` bytes does not wait for others.
    retry
        Pause after the first trouble, doubled each time, and the longest one, s.
    where
        What the user calls the catalogue.
    durable
        Whether each document is forced onto the disk, so that a power cut loses nothing.
    may_wait
        Documents of a run that may wait in memory for room on the disk of the journal before
        `curiosity_plan` pauses; ``math.inf``: any number.

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
    ) -> None:
        if isinstance(may_wait, bool) or not (isinstance(may_wait, int | float) and may_wait >= 0):
            raise InputError(
                f"may_wait is {may_wait!r}; expected how many documents may wait in memory while "
                "the disk of the journal is full, 0 or more (math.inf: never pause)"
            )
        self.catalog: Any = None
        self._durable = durable
        self._may_wait = may_wait
        # Held while something below changes or is read that belongs together; never for long.
        self._guard = threading.Lock()
        self._failed: dict[str, Exception] = {}
        self._tiled = tiled
        self._journal = journal
        self._batch_size = batch_size
        self._retry = retry
        self._where = where
        self._client: Any = None
        self._parents: dict[str, str] = {}  # of descriptors and resources of open runs
        self._latest = "other"
        self._runs: dict[str, _Run] = {}
        self._of_others: set[str] = set()  # runs
        self._down = Outage()
        self._answered = time.monotonic()
        self._news = threading.Event()
        self._turned = threading.Condition()
        self._closing = self._given_up = False
        self._thread = threading.Thread(target=self._work, name="tiled-writer", daemon=True)
        self._thread.start()
        self._collector = RecoveryThread(tiled, journal, retry, self._is_mine, durable)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take in one document."""
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
                self._leave(uid, str(error))
                return
            run = _Run(journal, journal.begins)
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
        self._news.set()

    def _leave(self, uid: str, who: str) -> None:
        """Leave a run to whoever writes it; two would take it from each other in Tiled."""
        if not self._of_others:
            logger.warning(
                "run %s is written into %s by %s already, so this writer leaves it, and what "
                "else that one has, alone: subscribe one writer for each catalogue (the IPython "
                "profile has subscribed one)",
                *(uid, self._where or self._journal, who),
            )
        self._of_others.add(uid)

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        """Run of a document: what it names itself, or that of what it refers to."""
        if name == "start":
            self._latest = doc["uid"]
            return doc["uid"]
        if name == "stop":
            run = doc["run_start"]
            self._parents = {uid: of for uid, of in self._parents.items() if of != run}
            return run
        if name in ("descriptor", "resource", "stream_resource"):
            # A resource need not say whose it is; it comes between start and stop of its run.
            run = self._parents[doc["uid"]] = doc.get("run_start") or self._latest
            return run
        # Events and stream datums refer to a descriptor, datums to a resource.
        return self._parents.get(doc.get("descriptor") or doc.get("resource") or "", self._latest)

    def _standing(self) -> WriterStatus:
        """Return what is in hand, read at one moment."""
        with self._guard:
            return WriterStatus.of(self._runs.values(), self._down)

    @property
    def failed(self) -> dict[str, Exception]:
        """Run uid to why Tiled will not take it as it is; its journal stays."""
        with self._guard:
            return dict(self._failed)

    @property
    def backlog(self) -> int:
        """Documents that Tiled has not taken yet."""
        return self._standing().backlog

    @property
    def in_memory(self) -> int:
        """Documents that are in memory alone: the disk of the journal takes no more."""
        return self._standing().in_memory

    @property
    def offline(self) -> str:
        """Why Tiled takes nothing at present, "" if it does."""
        now = self._standing()
        return now.down.why or now.trouble

    @property
    def status(self) -> str:
        """One line about what Tiled, or the journal, does not take, "" when all is well."""
        where = f"{self._where}/journal" if Path(self._where).is_dir() else self._journal
        return self._standing().in_words(where)

    def flush(self) -> None:
        """Wait until Tiled has what was emitted so far; not for one that does not answer."""
        self._wait(lambda: all(map(self._settled, list(self._runs.values()))))

    def _settled(self, run: _Run) -> bool:
        """Whether waiting any longer would bring nothing for a run."""
        if not run.ended and run.position >= run.journal.end:
            return True
        return self._gone(run) or bool(run.trouble and run.tries >= TRIES)

    def _gone(self, run: _Run) -> bool:
        return run.journal.uid in self._failed

    def _is_mine(self, uid: str) -> bool:
        with self._guard:
            return uid in self._runs or uid in self._failed

    def _wait(self, done: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait for something as long as Tiled answers."""
        begun = time.monotonic()
        with self._turned:
            while not (done() or self._down.why or not self._thread.is_alive()):
                if time.monotonic() > max(begun, self._answered) + patience:
                    return
                self._turned.wait(0.1)

    def close(self, timeout: float = PATIENCE) -> None:
        """Write what is in hand and end; more than once does no harm.

        Parameters
        ----------
        timeout
            How long to wait for a server that takes nothing, s. What it has not taken then
            stays in the journal, and a warning says so.
        """
        if self._closing:
            return
        self._closing = True
        self._collector.close()
        with self._guard:
            for run in self._runs.values():  # each is tried once more, now
                run.trouble, run.tries, run.due = "", 0, 0.0
            self._down = replace(self._down, why="", due=0.0)
        self._news.set()
        self._wait(lambda: not self._thread.is_alive(), timeout)
        self._given_up = True
        self._news.set()
        self._thread.join(0.2)
        with self._guard:
            left = {uid: run for uid, run in self._runs.items() if run.ended or run.trouble}
            gone = set(left) <= set(self._failed)
        if left and not gone:
            logger.warning(
                "%d documents of %d run%s are not in Tiled (%s); %s",
                *(sum(run.documents for run in left.values()), len(left)),
                *("" if len(left) == 1 else "s", self._why_not(left), self._whereabouts(left)),
            )

    def _why_not(self, left: Mapping[str, _Run]) -> str:
        """Say what kept the documents of runs from Tiled."""
        unwritten = next((why for run in left.values() if (why := run.journal.state.why)), "")
        troubles = (run.trouble for run in left.values() if run.trouble)
        return self.offline or unwritten or next(troubles, "it did not answer in time")

    def _whereabouts(self, left: Mapping[str, _Run]) -> str:
        """Say where the documents of runs are that Tiled does not have."""
        lost = sum(run.journal.in_memory() for run in left.values())
        recover = f"`curiosity recover{f' --catalog {self._where}' if self._where else ''}`"
        if not lost:
            return f"they are in {self._journal}, and {recover} takes them in"
        there = sum(run.documents for run in left.values()) - lost
        return (
            f"{there} are in {self._journal}, and {recover} takes them in; the last {lost} are in "
            f"memory alone ({self._standing().unwritten}) and are lost when this process ends"
        )

    # From here on: in the thread.

    def _work(self) -> None:
        try:
            while not self._given_up:
                self._news.wait(self._pause())
                self._news.clear()
                try:
                    self._turn()
                except Exception:  # a defect of ours; the journal has all, so go on
                    logger.exception("the writer to Tiled stumbled")
                with self._turned:
                    self._turned.notify_all()
                if self._closing and all(map(self._finished, list(self._runs.values()))):
                    break
        finally:
            for run in list(self._runs.values()):
                if not run.let_go:
                    run.journal.close()
            self._drop_client()
            with self._turned:
                self._turned.notify_all()

    def _finished(self, run: _Run) -> bool:
        """Whether a writer that closes can do no more for a run."""
        return self._settled(run) or bool(self._down.why)

    def _pause(self) -> float | None:
        """Seconds until something is to be tried again, None if nothing is."""
        now = time.monotonic()
        runs = list(self._runs.values())
        due = [self._down.due] if self._down.why else [run.due for run in runs if run.trouble]
        due += [now + AGAIN] if any(run.journal.state.why for run in runs) else []
        return max(0.0, min(due) - now) if due else None

    def _turn(self) -> None:
        """Do what can be done for each run now."""
        for run in list(self._runs.values()):
            run.journal.retry()
        if self._down.why and time.monotonic() < self._down.due:
            return
        for uid, run in list(self._runs.items()):
            if self._gone(run):
                self._let_go(run)
            elif time.monotonic() >= run.due and (run.position < run.journal.end or run.ended):
                try:
                    if self._client is None:
                        self._client = self._connected()
                    self._advance(uid, run)
                    if self._down.why:
                        logger.warning("Tiled answers again; run %s goes in", uid)
                    with self._guard:
                        self._down = Outage()
                        run.trouble, run.tries, run.delay = "", 0, 0.0
                except UploadCancelled:
                    return
                except Exception as error:  # whatever Tiled raises, the journal has the run
                    self._stumbled(uid, run, error)
                    if self._down.why:
                        return

    def _connected(self) -> Any:
        client = self._tiled()
        http = client.context.http_client
        hooks = http.event_hooks
        hooks["response"].append(self._heard)
        http.event_hooks = hooks
        return client

    def _heard(self, response: httpx.Response) -> None:
        if not response.is_error:
            self._answered = time.monotonic()

    def _wanted(self) -> bool:
        return not self._given_up

    def _advance(self, uid: str, run: _Run) -> None:
        """Bring Tiled up to the journal, and delete the journal of a run that is all there."""
        if run.let_go:  # it ended while Tiled was away
            taken = upload_journal(self._client, run.journal.path, self._wanted, self._durable)
            if taken is not None and taken.status == "kept":
                raise UploadMismatch(taken.detail)
            if run.journal.path.exists():
                raise _Busy("another process takes it in")
            self._done(uid)
            return
        ended = run.ended
        if run.anew:
            self._write_anew(uid, run)
            run.anew = False
        while found := run.journal.read(run.position):
            # Of what is there already each stream is one request, so that who is behind catches
            # up; what comes one by one goes in one by one.
            last: dict[str, int] = {}
            for _, name, doc in found:
                if name == "event" and not describe_defect(
                    name, doc
                ):  # a pause may have repeated some
                    last[doc["descriptor"]] = max(doc["seq_num"], last.get(doc["descriptor"], 0))
            before = run.position
            for position, name, doc in found:
                if self._given_up:
                    raise UploadCancelled
                if run.feed is None:
                    run.feed = RunUploader(self._client, self._batch_size)
                known = name == "event" and not describe_defect(name, doc)
                more = known and doc["seq_num"] < last[doc["descriptor"]]
                large = known and position - before > LARGE_EVENT
                waits = more and not run.feed.tally.external and not large
                run.feed(name, doc, position=position, waits=waits, flush=large)
                before = position
                with self._guard:
                    run.position = position
                    run.taken += 1
                self._answered = time.monotonic()
        if ended and run.feed is not None:
            written = self._client[uid]
            compared = compare(written, run.feed.tally)
            if compared.difference:
                raise UploadMismatch(f"Tiled does not hold all of it: {compared.difference}")
            if trouble := describe_damage(run.journal.path, run.feed.tally):
                raise UploadMismatch(f"Tiled does not hold all of it: {trouble}")
            write_metadata(written, run.feed.tally, run.feed.count)
            if run.journal.begins:  # it was journalled before: both are looked at together
                self._let_go(run)
                if run.let_go:
                    self._advance(uid, run)
                return
            if self._durable:
                os.sync()  # what Tiled has written is with the system; a power cut would take it
            run.journal.delete()
            self._done(uid)

    def _done(self, uid: str) -> None:
        with self._guard:
            del self._runs[uid]

    def _write_anew(self, uid: str, run: _Run) -> None:
        """Write all that the journal has of a run so far; it goes on as before then."""
        if not run.journal.is_locked and uid in self._client:
            # Without the lock what Tiled has may be somebody else's, who goes on with it.
            raise _Busy("its journal could not be locked")
        with self._guard:
            run.position, run.taken = run.journal.begins, 0
        end = run.journal.end

        def written() -> Iterator[Document]:
            for position, name, doc in run.journal.lines(end):
                yield name, doc
                with self._guard:
                    run.position, run.taken = position, run.taken + 1
                self._answered = time.monotonic()

        tally = count_documents(run.journal.lines(end), run.journal.begins)
        run.feed = rewrite_run(self._client, uid, written(), tally, wanted=self._wanted)
        if not tally.external:
            run.feed.batch_size = self._batch_size

    def _stumbled(self, uid: str, run: _Run, error: Exception) -> None:
        """Note what went wrong and when to try again."""
        self._drop_client()
        first, most = self._retry
        now, why = time.monotonic(), " ".join(f"{type(error).__name__}: {error}".split())
        with self._guard:
            run.feed, run.anew, run.taken = None, True, 0
            news = not (run.trouble or self._down.delay)
            run.since = run.since if run.trouble else time.time()
            run.trouble = why
            run.tries += 1
            if isinstance(error, httpx.TransportError | InputError):
                delay = min(most, 2 * self._down.delay or first)
                since = self._down.since or time.time()
                self._down, run.due = Outage(why, since, delay, now + delay), 0.0
            else:
                run.delay = min(most, 2 * run.delay or first)
                run.due = now + run.delay
                if run.tries >= TRIES and not (is_temporary(error) or isinstance(error, _Busy)):
                    self._failed[uid] = error
            failed = uid in self._failed
        if news or failed:
            lost = run.journal.in_memory()
            there = f"all but {lost} of its documents are" if lost else "all its documents are"
            logger.warning(
                "run %s could not be written to Tiled (%s); %s in %s%s%s",
                *(uid, why, there, run.journal.path),
                f", those {lost} in memory alone" if lost else "",
                "" if failed else ", and it is tried again",
            )
        self._let_go(run)

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.context.http_client.close()
            self._client = None

    def _let_go(self, run: _Run) -> None:
        # Of a run that ended nothing need stay open, however long Tiled is away.
        if run.ended and (run.let_go or run.journal.close()):
            with self._guard:
                run.let_go = True
                if self._gone(run):
                    self._runs.pop(run.journal.uid, None)


class _Busy(Exception):
    """Somebody else does it at this moment."""

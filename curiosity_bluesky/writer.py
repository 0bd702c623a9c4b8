"""Writing documents so that nothing is lost and nobody waits."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import event_model
from bluesky_tiled_plugins import TiledWriter

logger = logging.getLogger("curiosity_bluesky")


class JournaledWriter:
    """A document callback: to a journal on disk at once, to Tiled in the background.

    Each document is a line of ``<journal>/<run uid>.jsonl`` before the RunEngine goes on.
    From there a thread feeds Tiled, which may be slow or gone. When the run is complete in
    Tiled, its journal is deleted; otherwise it stays and a warning says where. An event that
    a pause repeated is in the journal as often as it came, and in Tiled once, the first time.

    Parameters
    ----------
    client
        The Tiled catalogue to write to.
    journal
        Directory of the journals.
    batch_size
        Events that are written to Tiled at once; 1 shows each as soon as it is there.

    Attributes
    ----------
    catalog : Catalog or None
        What it writes into; held here, so that its server lives as long as the writer.
    failed : dict
        Run uid to what went wrong with it in Tiled.
    """

    def __init__(self, client: Any, journal: Path, batch_size: int = 1) -> None:
        self.catalog: Any = None
        self._journal = journal
        # Every array as an array: in Tiled's tables short ones would lose their dtype.
        self._tiled = TiledWriter(client, batch_size=batch_size, max_array_size=0)
        self._runs: dict[str, str] = {}  # of descriptors and resources of open runs
        self._written: dict[str, int] = {}  # by descriptor, the last event
        self._latest = "other"
        self._queue: queue.Queue[tuple[str, str, dict[str, Any]] | None] = queue.Queue()
        self._closed = False
        self.failed: dict[str, Exception] = {}
        self._thread = threading.Thread(target=self._feed, name="tiled-writer", daemon=True)
        self._thread.start()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take in one document."""
        if self._closed:
            raise RuntimeError("this writer is closed; take a new one from the catalogue")
        run = self._run_of(name, doc)
        plain = event_model.sanitize_doc(dict(doc))
        try:
            # Opened for each line, so that nothing stays open in a long session.
            with open(self._path(run), "a") as journal:
                journal.write(json.dumps({"name": name, "doc": plain}) + "\n")
        except OSError as error:  # a full disk must not end a run that Tiled can still take
            logger.error("a document could not be journalled in %s: %s", self._path(run), error)
        if not self._repeated(name, plain):
            self._queue.put((run, name, plain))

    def _repeated(self, name: str, doc: Mapping[str, Any]) -> bool:
        """Whether a pause made the RunEngine emit this event a second time.

        In Tiled the table and the arrays of a stream are put together by the number of the
        event: with a number there twice, ``run.documents()`` gives each later event the
        arrays of the one before it. The first is what the explorer learns from.
        """
        if name != "event":
            return False
        stream, number = doc["descriptor"], doc["seq_num"]
        if number <= self._written.get(stream, 0):
            logger.info("event %d was repeated after a pause; the first one counts", number)
            return True
        self._written[stream] = number
        return False

    def _path(self, run: str) -> Path:
        return self._journal / f"{run}.jsonl"

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        """Run of a document: what it names itself, or that of what it refers to."""
        if name == "start":
            self._latest = doc["uid"]
            return doc["uid"]
        if name == "stop":
            run = doc["run_start"]
            self._runs = {uid: of for uid, of in self._runs.items() if of != run}
            self._written = {uid: n for uid, n in self._written.items() if uid in self._runs}
            return run
        if name in ("descriptor", "resource", "stream_resource"):
            # A resource need not say whose it is; it comes between start and stop of its run.
            run = self._runs[doc["uid"]] = doc.get("run_start") or self._latest
            return run
        # Events and stream datums refer to a descriptor, datums to a resource.
        return self._runs.get(doc.get("descriptor") or doc.get("resource") or "", self._latest)

    def _feed(self) -> None:
        while (item := self._queue.get()) is not None:
            run, name, doc = item
            try:
                if run not in self.failed:
                    self._tiled(name, doc)
                    if name == "stop":
                        self._path(run).unlink(missing_ok=True)
            except Exception as error:  # whatever Tiled raises, the run is in the journal
                self.failed[run] = error
                logger.warning(
                    "run %s could not be written to Tiled (%s: %s); all its documents are in %s",
                    *(run, type(error).__name__, error, self._path(run)),
                )
            finally:
                self._queue.task_done()
        self._queue.task_done()

    @property
    def backlog(self) -> int:
        """Documents that Tiled has not taken yet."""
        return self._queue.unfinished_tasks

    def flush(self) -> None:
        """Wait until Tiled has taken, or refused, every document so far."""
        self._queue.join()

    def close(self) -> None:
        """Flush and end; more than once does no harm."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

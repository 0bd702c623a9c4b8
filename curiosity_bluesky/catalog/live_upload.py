"""Live upload: a run goes from its journal into Tiled while it is still being written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from curiosity_bluesky.catalog.document_counts import count_documents, describe_damage
from curiosity_bluesky.catalog.journal_lines import describe_defect, last_events
from curiosity_bluesky.catalog.journal_status import OpenRun
from curiosity_bluesky.catalog.run_uploader import (
    RunUploader,
    UploadBusy,
    UploadCancelled,
    UploadMismatch,
    compare,
    rewrite_run,
    write_metadata,
)
from curiosity_bluesky.catalog.upload import upload_journal
from curiosity_bluesky.documents import Document

LARGE_EVENT = 100_000
"""Bytes of an event's line in the journal from which it goes into Tiled at once: as lists of
numbers, ten maps that wait for their batch to fill take tens of megabytes."""


class LiveUpload:
    """Uploads what the journals of open runs hold by now, one run at a time.

    Parameters
    ----------
    guard
        Held while the position and the counts of a run change.
    batch_size
        Events that are written to Tiled at once.
    durable
        Whether a journal is deleted only when the disk has what Tiled has written.
    wanted
        Asked between documents; False cancels the upload.
    note_progress
        Called after each document that Tiled has taken.
    """

    def __init__(
        self,
        guard: threading.Lock,
        batch_size: int,
        durable: bool,
        wanted: Callable[[], bool],
        note_progress: Callable[[], None],
    ) -> None:
        self._guard = guard
        self._batch_size = batch_size
        self._durable = durable
        self._wanted = wanted
        self._note_progress = note_progress

    def advance(self, client: Any, run: OpenRun) -> bool:
        """Upload what the journal of a run holds by now.

        Returns
        -------
        bool
            Whether Tiled has all of the run, so that its journal is gone.

        Raises
        ------
        UploadMismatch, UploadBusy, UploadCancelled
            If Tiled holds something else, another process has the journal, or it is not wanted
            any more. Also whatever Tiled raises.
        """
        if run.let_go:  # it ended while Tiled was away
            return self._upload_closed(client, run)
        ended = run.ended
        if run.rewrite:
            self._rewrite(client, run)
            run.rewrite = False
        self._feed(client, run)
        if not ended or run.feed is None:
            return False
        written = client[run.journal.uid]
        compared = compare(written, run.feed.tally)
        if compared.difference:
            raise UploadMismatch(f"Tiled does not hold all of it: {compared.difference}")
        if trouble := describe_damage(run.journal.path, run.feed.tally):
            raise UploadMismatch(f"Tiled does not hold all of it: {trouble}")
        write_metadata(written, run.feed.tally, run.feed.count)
        if run.journal.begins:  # it was journalled before: both are looked at together
            if not run.journal.close():
                return False
            with self._guard:
                run.let_go = True
            return self._upload_closed(client, run)
        if self._durable:
            os.sync()  # what Tiled has written is with the system; a power cut would take it
        run.journal.delete()
        return True

    def _feed(self, client: Any, run: OpenRun) -> None:
        """Upload the documents from the position of a run to the end of its journal."""
        while found := run.journal.read(run.position):
            # Of what is there already each stream is one request, so that a writer that lags
            # catches up; what comes one by one goes in one by one.
            last = last_events(found)
            before = run.position
            for position, name, doc in found:
                if not self._wanted():
                    raise UploadCancelled
                if run.feed is None:
                    run.feed = RunUploader(client, self._batch_size)
                known = name == "event" and not describe_defect(name, doc)
                more = known and doc["seq_num"] < last[doc["descriptor"]]
                large = known and position - before > LARGE_EVENT
                waits = more and not run.feed.tally.external and not large
                run.feed(name, doc, position=position, waits=waits, flush=large)
                before = position
                with self._guard:
                    run.position = position
                    run.taken += 1
                self._note_progress()

    def _upload_closed(self, client: Any, run: OpenRun) -> bool:
        """Upload a journal that is closed, which another process may do as well."""
        path = run.journal.path
        taken = upload_journal(client, path, self._wanted, self._durable)
        if taken is not None and taken.status == "kept":
            raise UploadMismatch(taken.detail)
        if path.exists():
            raise UploadBusy("another process takes it in")
        return True

    def _rewrite(self, client: Any, run: OpenRun) -> None:
        """Write all that the journal has of a run so far; then it goes on as before."""
        uid = run.journal.uid
        if not run.journal.is_locked and uid in client:
            # Without the lock, what Tiled has may be of another writer, which goes on with it.
            raise UploadBusy("its journal could not be locked")
        with self._guard:
            run.position, run.taken = run.journal.begins, 0
        end = run.journal.end

        def written() -> Iterator[Document]:
            for position, name, doc in run.journal.lines(end):
                yield name, doc
                with self._guard:
                    run.position, run.taken = position, run.taken + 1
                self._note_progress()

        tally = count_documents(run.journal.lines(end), run.journal.begins)
        run.feed = rewrite_run(client, uid, written(), tally, wanted=self._wanted)
        if not tally.external:
            run.feed.batch_size = self._batch_size

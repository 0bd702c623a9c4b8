"""Run uploader: the documents of a run to Tiled, and what Tiled then holds against them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pandas as pd
from bluesky_tiled_plugins import TiledWriter

from curiosity_bluesky import documents
from curiosity_bluesky.catalog._tiled_compat import RunNormalizer, set_batch_size
from curiosity_bluesky.catalog.document_counts import COUNTED, DocumentCounts
from curiosity_bluesky.documents import Document
from curiosity_bluesky.errors import CuriosityError

logger = logging.getLogger(__name__)

AT_ONCE = 1000
"""Events in one request when a run is written again, if they are small."""

BYTES_AT_ONCE = 4_000_000
"""Maximum bytes of journal lines in one such request."""

TRIES = 3
"""Number of tries for what Tiled refuses, unless the error is temporary; see `is_temporary`."""

# What may pass by itself: the key is set, the server's disk is cleared, ...
_PASSING = (401, 403, 408, 429)


class UploadBusy(CuriosityError):
    """Another process uploads the run at this moment."""


class UploadCancelled(CuriosityError):
    """The upload is not wanted any more; the journal has all of the run."""


class UploadMismatch(CuriosityError):
    """Tiled does not hold what was written to it, or holds what the journal does not."""


def is_temporary(error: Exception) -> bool:
    """Whether an error may pass by itself."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= 500 or status in _PASSING
    return isinstance(error, UploadBusy)


_feeding = threading.local()


def _is_from_elsewhere(record: logging.LogRecord) -> bool:
    """Drop the warning of each failed request: our writer logs one message for each condition."""
    return not getattr(_feeding, "now", False)


logging.getLogger(TiledWriter.__module__).addFilter(_is_from_elsewhere)


class _Normalizer(RunNormalizer):
    """Normalizer that keeps a reference to the writer of the run."""

    run_writer: Any = None

    def subscribe(self, func: Any, name: Any = "all") -> Any:
        self.run_writer = func
        return super().subscribe(func, name)


class RunUploader:
    """Writes the documents of one run into Tiled, each event once, and counts them.

    Parameters
    ----------
    client
        The catalogue in Tiled.
    batch_size
        Events in one request.
    """

    def __init__(self, client: Any, batch_size: int) -> None:
        self.tally = DocumentCounts(storable=True)
        self.count = documents.PointCount()
        self.batch_size = batch_size
        self._normalizer: _Normalizer | None = None
        # Every array as an array: in Tiled's tables short ones would lose their dtype.
        normalizer: Any = self._make_normalizer
        self._writer = TiledWriter(
            client, batch_size=batch_size, max_array_size=0, normalizer=normalizer
        )

    def _make_normalizer(self, **options: Any) -> _Normalizer:  # called by TiledWriter
        self._normalizer = _Normalizer(**options)
        return self._normalizer

    def __call__(
        self,
        name: str,
        doc: Mapping[str, Any],
        *,
        position: int = 0,
        flush: bool = False,
        waits: bool = False,
    ) -> None:
        """Write one document; a line that is none is noted in the tally.

        Parameters
        ----------
        name, doc
            The document.
        position
            In its journal, bytes.
        flush
            An event goes in at once, with those that wait, though its batch is not full.
        waits
            An event waits for the next of its descriptor, however small a batch is.
        """
        if not self.tally.add(name, doc, position):
            return
        self.count(name, doc)
        writer = self._normalizer and self._normalizer.run_writer
        if writer is not None:
            set_batch_size(writer, AT_ONCE if waits else 1 if flush else self.batch_size)
        _feeding.now = True
        try:
            self._writer(name, doc)
        finally:
            _feeding.now = False


def write_metadata(run: Any, tally: DocumentCounts, count: documents.PointCount) -> None:
    """Write into the metadata of a run what no reader is to find out each time.

    Parameters
    ----------
    run
        The run in Tiled, which is complete.
    tally, count
        Of its documents. Without a stop document it is marked ``interrupted``.
    """
    there, added = run.metadata, {}
    if tally.stop is None and not (there.get("stop") or there.get("interrupted")):
        added["interrupted"] = {"time": tally.time}
    if tally.stop is None or any(
        tally.events.get(stream) for stream in (documents.FAILURES, documents.STEERING)
    ):  # else the stop document says it
        added[COUNTED] = {"points": count.n, "num_points": count.budget}
    if any(there.get(key) != value for key, value in added.items()):
        run.update_metadata(metadata=added, drop_revision=True)


@dataclass(frozen=True)
class UploadComparison:
    """What Tiled holds of a run against what was written.

    Parameters
    ----------
    difference
        In words what differs, "" if nothing does.
    more
        Whether Tiled holds something that was not written.
    less
        Whether something is missing, or there twice.
    """

    difference: str
    more: bool
    less: bool


def compare(run: Any, tally: DocumentCounts) -> UploadComparison:
    """Compare what Tiled holds of a run with what its documents come to.

    In every stream the table must have each event's number once, and each array as many
    entries. Of data in files of their own it must know where they are; the files are not
    looked at.

    Parameters
    ----------
    run
        The run in Tiled.
    tally
        Of the documents.
    """
    said: list[str] = []
    more = less = False
    stop = (run.metadata.get("stop") or {}).get("uid")
    expected = (tally.stop or {}).get("uid")
    if stop != expected:
        said.append("the stop document")
        more, less = stop is not None, expected is not None
    streams = dict(run.base.items())
    for name, node in streams.items():
        n = tally.events.get(name)
        if n is None:
            said.append(f"stream {name}, which was not written")
            more = True
            continue
        parts = dict(node.base.items())
        tables = [part for key, part in parts.items() if key.startswith("internal")]
        numbers = tables[0].read(columns=["seq_num"])["seq_num"] if tables else pd.Series([])
        columns = {column for table in tables for column in table.columns}
        lengths = {
            key: parts[key].shape[0] if key in parts else len(numbers)
            for key in tally.arrays[name]
            if key in parts or key not in columns
        }
        filed = tally.files.get(name, {})
        unknown = [
            key
            for key, count in sorted(filed.items())  # what is no array there has no shape
            if key not in parts or getattr(parts[key], "shape", (count,))[0] < count
        ]
        if unknown:
            said.append(f"stream {name}: where the files of {', '.join(unknown)} are")
            less = True
        whole = len(numbers) == n == numbers.nunique() and set(lengths.values()) <= {n}
        if whole and set(numbers) <= tally.numbers_of(name):
            continue
        # Of a journal that lost a line Tiled may hold the event, and fewer of the others.
        more = more or not set(numbers) <= tally.numbers_of(name)
        less = less or numbers.nunique() < n or len(numbers) != numbers.nunique()
        more = more or any(length > n for length in lengths.values())
        less = less or any(length < n for length in lengths.values())
        said.append(f"stream {name}: {len(numbers)} rows of {n} events, arrays {lengths}")
    for name in set(tally.events) - set(streams):
        said.append(f"stream {name}, which is missing")
        less = True
    return UploadComparison("; ".join(said), more, less)


def rewrite_run(
    client: Any,
    uid: str,
    written: Iterable[Document],
    tally: DocumentCounts,
    batch_size: int | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> RunUploader:
    """Write a run from its journal, after deleting what Tiled has of it.

    Parameters
    ----------
    client
        The catalogue in Tiled.
    uid
        The run.
    written
        Its documents.
    tally
        What they come to.
    batch_size
        Events in a request; default: as many as make a request of some megabytes.
    wanted
        Asked before each document whether to go on.

    Returns
    -------
    RunUploader
        That wrote it, for a run that goes on.

    Raises
    ------
    UploadMismatch
        If Tiled holds something that the documents do not; nothing is deleted then.
    UploadCancelled
        If it is not wanted any more.
    """
    with contextlib.suppress(KeyError):
        there = client[uid]
        found = compare(there, tally)
        if found.more:
            raise UploadMismatch(
                f"Tiled holds more of run {uid} than its journal: {found.difference}"
            )
        there.delete(recursive=True, external_only=False)
    many = max(1, min(AT_ONCE, BYTES_AT_ONCE // max(tally.longest, 1)))
    # Of data in files Tiled's writer keeps what a batch lacks until the run stops.
    whole = tally.stop is not None or not tally.external
    feed = RunUploader(client, batch_size or (many if whole else 1))
    for name, doc in written:
        if not wanted():
            raise UploadCancelled
        stream = ""
        if name == "event":
            stream = feed.tally.stream_of(str(doc.get("descriptor")))
        # The last of each stream takes along what waits for its batch to fill.
        last = bool(stream) and feed.tally.events[stream] + 1 == tally.events[stream]
        feed(name, doc, flush=last and not tally.external)
    return feed

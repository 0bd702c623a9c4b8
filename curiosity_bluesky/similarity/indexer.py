"""Runs are indexed as they close: a callback for the RunEngine that never makes it wait."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import Full, Queue
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.documents import PRIMARY
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.batches import Row, RunRow
from curiosity_bluesky.similarity.describing import Task
from curiosity_bluesky.similarity.images_of_runs import ImageKey, flat, image_keys
from curiosity_bluesky.similarity.index import Index, row_of
from curiosity_bluesky.similarity.properties import loop_channels, properties_of

RUNS_WAITING = 16
"""Runs that may wait to be indexed; of others ``curiosity index`` takes care."""

BYTES = 256_000_000
"""Images of one run that are kept in memory; the rest is left to ``curiosity index``."""

LATER = "`curiosity index` indexes it later"


@dataclass
class _Open:
    """A run under way."""

    start: Mapping[str, Any]
    keys: dict[str, list[ImageKey]] = field(default_factory=dict)
    loops: dict[str, dict[str, NDArray]] = field(default_factory=dict)
    images: list[Task[Row]] = field(default_factory=list)
    spectra: dict[str, list[NDArray]] = field(default_factory=dict)
    bias: dict[str, NDArray] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    seen: set[tuple[str, int]] = field(default_factory=set)
    bytes: int = 0
    whole: bool = True


class Indexer:
    """A document callback that indexes each run when it closes, in a thread of its own.

    ``RE.subscribe(Indexer(catalog))``. It takes images and loops from the documents that pass,
    and reads nothing from Tiled. What it cannot do, since the server is away or it does not
    keep up, ``curiosity index`` does later; a warning says so. It raises nothing into the
    RunEngine.

    Parameters
    ----------
    catalog
        Where the runs go.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._runs: dict[str, _Open] = {}
        self._descriptors: dict[str, tuple[str, str]] = {}
        self._queue: Queue[tuple[_Open, str] | None] = Queue(RUNS_WAITING)
        self._thread: threading.Thread | None = None
        self._index: Index | None = None
        self._idle = threading.Condition()
        self._waiting = 0

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document."""
        try:
            self._take(name, doc)
        except Exception as error:  # never into the RunEngine: the run is worth more
            _warn(f"a document of kind {name!r} was not indexed ({error!r}); {LATER}")

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all runs that have closed are indexed; return whether they are.

        Parameters
        ----------
        timeout
            The longest wait, s.
        """
        with self._idle:
            return self._idle.wait_for(lambda: self._waiting == 0, timeout)

    def close(self, timeout: float | None = 30.0) -> None:
        """Index what has closed, and end; more than once does no harm.

        Parameters
        ----------
        timeout
            The longest wait, s.
        """
        self.flush(timeout)
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout)

    def _take(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start":
            self._runs[doc["uid"]] = _Open(doc)
        elif name == "descriptor" and doc["run_start"] in self._runs:
            run = self._runs[doc["run_start"]]
            stream = doc.get("name", PRIMARY)
            self._descriptors[doc["uid"]] = doc["run_start"], stream
            found = image_keys(stream, doc)
            run.keys[doc["uid"]] = [key for key in found if not key.in_file]
            run.whole &= not any(key.in_file for key in found)
            run.loops[doc["uid"]] = loop_channels(doc) if stream == PRIMARY else {}
        elif name == "event" and doc["descriptor"] in self._descriptors:
            self._event(doc["descriptor"], doc["seq_num"], doc["data"])
        elif name == "event_page" and doc["descriptor"] in self._descriptors:
            for n, number in enumerate(doc["seq_num"]):
                data = {key: values[n] for key, values in doc["data"].items()}
                self._event(doc["descriptor"], number, data)
        elif name == "stop" and doc["run_start"] in self._runs:
            run = self._runs.pop(doc["run_start"])
            for uid in run.keys:
                self._descriptors.pop(uid, None)
            self._hand_over(run, doc["exit_status"])

    def _event(self, descriptor: str, number: int, data: Mapping[str, Any]) -> None:
        run = self._runs[self._descriptors[descriptor][0]]
        stream = self._descriptors[descriptor][1]
        for channel, bias in run.loops[descriptor].items():
            if (channel, number) not in run.seen and channel in data:
                run.bias[channel] = bias
                run.spectra.setdefault(channel, []).append(np.asarray(data[channel], float))
                run.seen.add((channel, number))
        for key in run.keys[descriptor]:
            # Tiled numbers what arrives, an event that a pause repeated too.
            event = run.counts.get((stream, key.key), 0)
            run.counts[stream, key.key] = event + 1
            values = np.asarray(data[key.key])
            run.bytes += values.nbytes
            if run.bytes > BYTES:
                run.whole = False
                continue
            run.images.append(
                Task(
                    item=row_of(run.start["uid"], key, event),
                    values=values.reshape(values.shape[-2:]),
                    um_per_pixel=key.um_per_pixel,
                    period=key.period,
                    what=f"{key.key}[{event}]",
                    kinds=(),
                )
            )

    def _hand_over(self, run: _Open, status: str) -> None:
        if not run.images:
            return  # `curiosity index` sees what there is, and so does not lose a thing
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="indexing", daemon=True)
            self._thread.start()
        with self._idle:
            self._waiting += 1
        try:
            self._queue.put_nowait((run, status))
        except Full:
            self._done()
            _warn(f"{RUNS_WAITING} runs wait to be indexed; run {run.start['uid']}: {LATER}")

    def _done(self) -> None:
        with self._idle:
            self._waiting -= 1
            self._idle.notify_all()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            run, status = job
            try:
                self._do(run, status)
            except Exception as error:
                away = isinstance(error, InputError | httpx.TransportError)
                why = str(error) if away else repr(error)
                _warn(f"run {run.start['uid']} is not indexed yet ({why}); {LATER}")
            finally:
                self._done()

    def _do(self, run: _Open, status: str) -> None:
        if self._index is None:
            self._index = Index(self.catalog)
        loops = {key: (run.bias[key], spectra) for key, spectra in run.spectra.items()}
        row = RunRow(
            uid=run.start["uid"],
            metadata={**flat(run.start), "exit_status": status},
            properties=properties_of(loops),
            complete=run.whole,
            written=time.time(),
        )
        self._index.add(run.images, row)


def _warn(said: str) -> None:
    warnings.warn(f"index: {said}", stacklevel=2)

"""Indexing of runs as they close: a callback that never delays the RunEngine."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Full, Queue
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.documents import PRIMARY
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.index.index import Index
from curiosity_bluesky.similarity.index.run_images import ImageKey, image_keys, scalars_of
from curiosity_bluesky.similarity.index.run_properties import (
    loop_channels,
    properties_of,
)
from curiosity_bluesky.similarity.index.schema import Row, RunRow
from curiosity_bluesky.similarity.index.update import row_of
from curiosity_bluesky.similarity.index.workers import Task
from curiosity_bluesky.utils.at_exit import call_at_exit
from curiosity_bluesky.utils.wording import plural

RUNS_WAITING = 16
"""Maximum runs that wait to be indexed; ``curiosity index`` adds the others."""

BYTES = 256_000_000
"""Maximum bytes of runs that are open or wait; ``curiosity index`` adds the rest."""

LATER = "`curiosity index` indexes it later"

AT_END = 10.0
"""Maximum seconds that the end of the process waits for closed runs."""

logger = logging.getLogger(__name__)


@dataclass
class _Open:
    """A run under way."""

    start: Mapping[str, Any]
    keys: dict[str, list[ImageKey]] = field(default_factory=dict)
    loops: dict[str, dict[str, NDArray]] = field(default_factory=dict)
    images: list[Task[Row]] = field(default_factory=list)
    spectra: dict[str, list[NDArray]] = field(default_factory=dict)
    bias: dict[str, NDArray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    full: bool = False
    whole: bool = True


class Indexer:
    """A document callback that indexes each run when it closes, in a thread of its own.

    ``RE.subscribe(Indexer(catalog))``. It takes images and loops from the documents that pass,
    and reads nothing from Tiled. What it cannot do, since the server is away or it does not
    keep up, ``curiosity index`` does later; a line in the log says so. It raises nothing into the
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
        self._bytes = 0
        end = weakref.WeakMethod(self.close)

        def at_end() -> None:
            if (close := end()) is not None:
                close(AT_END)

        # As the catalogue does, and since it came later before it: see there.
        call_at_exit(at_end)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document."""
        try:
            self._take(name, doc)
        except Exception as error:  # never into the RunEngine: the run is worth more
            with suppress(Exception):
                self._forget(doc)
            _warn(f"a document of kind {name!r} cannot be used ({error!r}); of its run, {LATER}")

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
        until = None if timeout is None else time.monotonic() + timeout
        if not self.flush(timeout):
            waiting = plural(self._waiting, "run is", "runs are")
            _warn(f"{self._waiting} {waiting} not indexed yet; {LATER}")
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(Full):  # many runs wait; the thread ends with the process
                self._queue.put(None, timeout=_left(until))
                thread.join(_left(until))

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
            run = self._runs[self._descriptors[doc["descriptor"]][0]]
            # One that a pause repeated: Tiled has the first, see `DocumentCounts`.
            if doc["seq_num"] > run.last.get(doc["descriptor"], 0):
                run.last[doc["descriptor"]] = doc["seq_num"]
                self._event(run, doc["descriptor"], doc["data"])
        elif name == "event_page" and doc["descriptor"] in self._descriptors:
            run = self._runs[self._descriptors[doc["descriptor"]][0]]
            for n in range(len(doc["seq_num"])):
                data = {key: values[n] for key, values in doc["data"].items()}
                self._event(run, doc["descriptor"], data)
        elif name == "stop" and doc["run_start"] in self._runs:
            run = self._close(doc["run_start"])
            self._hand_over(run, doc["exit_status"])

    def _close(self, uid: str) -> _Open:
        run = self._runs.pop(uid)
        for descriptor in run.keys:
            self._descriptors.pop(descriptor, None)
        return run

    def _forget(self, doc: Mapping[str, Any]) -> None:
        """Leave the run of a document to `curiosity index`: nothing counts on in it."""
        uid = doc.get("run_start") or self._descriptors.get(doc.get("descriptor", ""), ("",))[0]
        if uid in self._runs:
            self._free(self._close(uid))

    def _event(self, run: _Open, descriptor: str, data: Mapping[str, Any]) -> None:
        stream = self._descriptors[descriptor][1]
        event = run.counts.get(stream, 0)
        run.counts[stream] = event + 1
        for channel, bias in run.loops[descriptor].items():
            if channel in data:
                spectrum = np.asarray(data[channel])
                if spectrum.dtype.kind not in "iuf":  # no loop: what is complex has no imprint
                    continue
                spectrum = spectrum.astype(float)
                if self._fits(run, spectrum.nbytes):
                    run.bias[channel] = bias
                    run.spectra.setdefault(channel, []).append(spectrum)
        for key in run.keys[descriptor]:
            values = np.asarray(data[key.key])
            if not self._fits(run, values.nbytes):
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

    def _fits(self, run: _Open, size: int) -> bool:
        """Reserve bytes for a run, if as many are left."""
        with self._idle:
            fits = self._bytes + size <= BYTES
            if fits:
                self._bytes += size
                run.bytes += size
        if not fits and not run.full:
            run.full, run.whole = True, False
            of = f"{BYTES / 1e6:.0f} MB of images and spectra"
            _warn(f"run {run.start['uid']} brings more than {of} in all; the rest: {LATER}")
        return fits

    def _free(self, run: _Open) -> None:
        with self._idle:
            self._bytes -= run.bytes
            run.bytes = 0

    def _hand_over(self, run: _Open, status: str) -> None:
        if not run.images:
            self._free(run)
            return  # `curiosity index` sees what there is, and so does not lose a thing
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="indexing", daemon=True)
            self._thread.start()
        with self._idle:
            self._waiting += 1
        try:
            self._queue.put_nowait((run, status))
        except Full:
            self._done(run)
            _warn(f"{RUNS_WAITING} runs wait to be indexed; run {run.start['uid']}: {LATER}")

    def _done(self, run: _Open) -> None:
        self._free(run)
        with self._idle:
            self._waiting -= 1
            self._idle.notify_all()

    def _work(self) -> None:
        _one_thread()
        while (job := self._queue.get()) is not None:
            run, status = job
            try:
                self._do(run, status)
            except Exception as error:
                away = isinstance(error, InputError | httpx.TransportError)
                why = str(error) if away else repr(error)
                _warn(f"run {run.start['uid']} is not indexed yet ({why}); {LATER}")
            finally:
                self._done(run)

    def _do(self, run: _Open, status: str) -> None:
        if self._index is None:
            self._index = Index(self.catalog)
        loops = {key: (run.bias[key], spectra) for key, spectra in run.spectra.items()}
        row = RunRow(
            uid=run.start["uid"],
            metadata={**scalars_of(run.start), "exit_status": status},
            properties=properties_of(loops),
            complete=run.whole,
            written=time.time(),
        )
        self._index.add(run.images, row)


def _one_thread() -> None:
    """Let OpenMP, and so torch, use one core in this thread; the others keep what they have.

    BLAS is left alone: its limit holds for the whole process, and lifting it in the middle of a
    training would change what is learned in its last bits.
    """
    import torch

    torch.get_num_threads()  # which sets each thread up once, and would undo the limit later
    threadpool_limits(1, "openmp")


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _warn(said: str) -> None:
    # No warning of Python's: turned into an error it would reach the RunEngine.
    logger.warning("index: %s", said)

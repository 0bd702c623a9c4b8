"""Update of the index: missing images are read, described and committed in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from queue import Full, Queue
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.descriptors.protocol import Descriptor
from curiosity_bluesky.similarity.index.run_images import (
    ImageKey,
    image_keys,
    images_in,
    scalars_of,
    status_of,
    streams_of,
)
from curiosity_bluesky.similarity.index.run_properties import measured_properties
from curiosity_bluesky.similarity.index.schema import Batch, Row, RunRow, Source
from curiosity_bluesky.similarity.index.storage import IndexStorage
from curiosity_bluesky.similarity.index.workers import Task, describe, size_of

COMMIT = 128
"""Images that are committed together."""

COMMIT_SECONDS = 30.0
"""Maximum seconds until a batch is committed."""

AHEAD = 32
"""Images that are read ahead,"""

AHEAD_BYTES = 256_000_000
"""but no more bytes of them, unless one image is larger."""

FEW = 20
"""Maximum runs that are requested one by one; of more all are listed."""


@dataclass
class UpdateResult:
    """Result of an update.

    Parameters
    ----------
    images
        How many it described.
    seconds
        How long it took.
    refused
        Images that cannot be described, with the reason: of this update.
    failures
        Runs that could not be read, with the reason; they are tried again the next time.
    indexed
        Images in the index now.
    """

    images: int = 0
    seconds: float = 0.0
    refused: list[tuple[Source, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    indexed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-ready."""
        return asdict(self)


@dataclass
class _Item:
    """An image under way, with what is known of it."""

    row: Row
    known: Mapping[str, NDArray]


class IndexUpdate:
    """One update."""

    def __init__(
        self, store: IndexStorage, catalog: Catalog, makers: Mapping[str, Descriptor], progress: Any
    ) -> None:
        self.store, self.catalog, self.makers, self.progress = store, catalog, makers, progress
        self.done = UpdateResult()
        self.best: dict[Source, tuple[Batch, int]] = {}
        self.opened: tuple[Batch | None, dict[str, NDArray]] = (None, {})
        self.pending: list[tuple[Row, dict[str, NDArray]]] = []
        self.runs: list[RunRow] = []
        self.committed = time.monotonic()

    def run(self, uids: Sequence[str] | None, workers: int) -> UpdateResult:
        """Index what is missing in all runs, or in some."""
        started = time.monotonic()
        self._look(tidy=True, check=uids is None)
        rows = self.store.runs()
        wanted = set(self.makers)
        lacking = {
            source[0] for source, (batch, _) in self.best.items() if wanted - set(batch.arrays)
        }
        again = (row.source for batch in self.store.lost() for row in batch.rows)
        lacking |= {source[0] for source in again if source not in self.best}
        todo = [
            uid
            for uid in (list(self.catalog) if uids is None else uids)
            if uid not in rows or not rows[uid].complete or uid in lacking
        ]
        self._describe(_ahead(self._tasks(todo)), workers)
        return self._finished(started)

    def take(self, tasks: Iterable[Task[Row]], run: RunRow) -> UpdateResult:
        """Index images that are at hand."""
        started = time.monotonic()
        self._look(tidy=False)
        kinds = tuple(self.makers)
        ready: list[Any] = [
            Task(**{**vars(task), "item": _Item(task.item, {}), "kinds": kinds})
            for task in tasks
            if task.item.source not in self.best
        ]
        self._describe([*ready, run], 0)
        return self._finished(started)

    def _look(self, tidy: bool, check: bool = False) -> None:
        wanted = set(self.makers)
        self.store.batches()
        if check:
            self.store.check(wanted)
        if tidy:
            self.store.tidy()
        for batch in self.store.whole():
            have = len(wanted & set(batch.arrays))
            for n, row in enumerate(batch.rows):
                other = self.best.get(row.source)
                if other is None or have > len(wanted & set(other[0].arrays)):
                    self.best[row.source] = batch, n

    def _finished(self, started: float) -> UpdateResult:
        self._commit()
        if self.done.images:
            self.store.merge()
            self.store.remove_dominated()
        self.done.indexed = len({row.source for b in self.store.whole() for row in b.rows})
        self.done.seconds = time.monotonic() - started
        return self.done

    # What there is to do

    def _tasks(self, uids: Iterable[str]) -> Iterator[Task[_Item] | RunRow]:
        """Yield the images that are to be described, and each run after its images."""
        for uid, found in self._found(uids):
            try:
                run = self.catalog[uid] if found is None else found
                status = status_of(run.metadata)
                streams = streams_of(run)
                yield from self._tasks_of(uid, streams)
                yield RunRow(
                    uid=uid,
                    metadata={**scalars_of(run.start), "exit_status": status},
                    properties=measured_properties(run, streams),
                    complete=status != "open",
                    written=time.time(),
                )
            except (InputError, KeyError, ValueError, httpx.HTTPStatusError) as error:
                said = str(error) if isinstance(error, InputError) else repr(error)
                self.done.failures.append((uid, said))

    def _found(self, uids: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield runs with their uids, a page of them for one request where they are many."""
        wanted = list(uids)
        if len(wanted) <= FEW:
            yield from ((uid, None) for uid in wanted)
            return
        some = set(wanted)
        yield from ((uid, run) for uid, run in self.catalog.items() if uid in some)

    def _tasks_of(self, uid: str, streams: Mapping[str, Any]) -> Iterator[Task[_Item]]:
        for stream, node in streams.items():
            for key in image_keys(stream, node.metadata):
                try:
                    array = node[key.key]
                except KeyError:  # a stream before its first event
                    continue
                if not self._fits(array.shape, key):
                    raise InputError(
                        f"{key.key} in {stream} has the shape {array.shape}; expected (events, "
                        f"{key.shape[0]}, {key.shape[1]}), as the run says"
                    )
                missing: dict[int, tuple[str, ...]] = {}
                for event in range(array.shape[0]):
                    if lacking := self._lacking((uid, stream, key.key, event)):
                        missing[event] = lacking
                for event, values in images_in(array, sorted(missing)):
                    row = row_of(uid, key, event)
                    if (best := self.best.get(row.source)) is not None:
                        # Why another kind has nothing of it is not found out again.
                        row = replace(row, refused=best[0].rows[best[1]].refused)
                    yield Task(
                        item=_Item(row, self._known(row.source, missing[event])),
                        values=values,
                        um_per_pixel=key.um_per_pixel,
                        period=key.period,
                        what=f"{key.key}[{event}]",
                        kinds=missing[event],
                    )

    @staticmethod
    def _fits(shape: Sequence[int], key: ImageKey) -> bool:
        return len(shape) >= 3 and tuple(shape[-2:]) == key.shape and np.prod(shape[1:-2]) == 1

    def _lacking(self, source: Source) -> tuple[str, ...]:
        best = self.best.get(source)
        have: Iterable[str] = () if best is None else best[0].arrays
        return tuple(kind for kind in self.makers if kind not in have)

    def _known(self, source: Source, lacking: Sequence[str]) -> dict[str, NDArray]:
        """Return what was stored of an image, of other versions too."""
        if source not in self.best:
            return {}
        batch, n = self.best[source]
        if self.opened[0] is not batch:
            arrays = {kind: self.store.array(batch, kind) for kind in batch.arrays}
            self.opened = batch, {k: v for k, v in arrays.items() if v is not None}
        return {kind: values[n] for kind, values in self.opened[1].items() if kind not in lacking}

    # Doing it

    def _describe(self, stream: Iterable[Task[_Item] | RunRow], workers: int) -> None:
        ended: dict[int, list[RunRow]] = {}
        count = 0

        def images() -> Iterator[Task[tuple[int, _Item]]]:
            nonlocal count
            for one in stream:
                if isinstance(one, RunRow):
                    ended.setdefault(count, []).append(one)
                else:
                    count += 1
                    yield Task(
                        (count, one.item),
                        one.values,
                        one.um_per_pixel,
                        one.period,
                        one.what,
                        one.kinds,
                    )

        seen = 0
        for (seen, item), arrays, refused in describe(images(), self.makers, workers):
            self.runs += [row for n in [k for k in ended if k < seen] for row in ended.pop(n)]
            before = [why for why in item.row.refused.split("; ") if why]
            said = "; ".join(dict.fromkeys([*before, *refused.split("; ")] if refused else before))
            row = replace(item.row, refused=said)
            if refused:
                self.done.refused.append((row.source, refused))
            self.pending.append((row, {**item.known, **arrays}))
            self.done.images += 1
            if self.progress is not None:
                self.progress(self.done.images)
            waited = time.monotonic() - self.committed
            if len(self.pending) >= COMMIT or waited > COMMIT_SECONDS:
                self._commit()
        self.runs += [row for rows in ended.values() for row in rows]

    def _commit(self) -> None:
        alike: dict[frozenset[str], list[tuple[Row, dict[str, NDArray]]]] = {}
        for row, arrays in self.pending:
            alike.setdefault(frozenset(arrays), []).append((row, arrays))
        for kinds, items in alike.items():
            stacked = {kind: np.stack([arrays[kind] for _, arrays in items]) for kind in kinds}
            self.store.write([row for row, _ in items], stacked)
        # A run counts as indexed after its images.
        self.store.write_runs(self.runs)
        self.pending, self.runs = [], []
        self.committed = time.monotonic()


def row_of(uid: str, key: ImageKey, event: int) -> Row:
    """Return the row of an image."""
    return Row(uid, key.stream, key.key, event, key.channel, key.shape, key.um_per_pixel)


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield items that another thread reads ahead, a few at most."""
    queue: Queue[tuple[str, Any, int]] = Queue(AHEAD)
    over = threading.Event()
    room = threading.Condition()
    held = 0

    def put(kind: str, item: Any, size: int = 0) -> bool:
        nonlocal held
        with room:
            while held and held + size > AHEAD_BYTES and not over.is_set():
                room.wait(0.2)
            held += size
        while not over.is_set():
            try:
                queue.put((kind, item, size), timeout=0.2)
            except Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not put("item", item, size_of(item)):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    threading.Thread(target=read, name="reading images", daemon=True).start()
    try:
        while True:
            kind, item, size = queue.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            with room:
                held -= size
                room.notify()
            yield item
    finally:
        over.set()

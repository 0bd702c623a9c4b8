"""The index: what every image in a catalogue looks like, kept beside the runs."""

from __future__ import annotations

import hashlib
import json
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
from curiosity_bluesky.similarity.batches import Batch, Row, RunRow, Store
from curiosity_bluesky.similarity.collection import Collection, Entry
from curiosity_bluesky.similarity.conditions import chosen
from curiosity_bluesky.similarity.describing import Task, Thumbnail, describe, kind_of
from curiosity_bluesky.similarity.descriptor import Descriptor
from curiosity_bluesky.similarity.descriptors import known, named
from curiosity_bluesky.similarity.images_of_runs import (
    ImageKey,
    flat,
    image_keys,
    images_in,
    status_of,
    streams_of,
)
from curiosity_bluesky.similarity.labels import labellers
from curiosity_bluesky.similarity.properties import measured_properties

COMMIT = 128
"""Images that are committed together."""

COMMIT_SECONDS = 30.0
"""What is described waits no longer for others than this."""

AHEAD = 32
"""Images that are read ahead."""

Source = tuple[str, str, str, int]


@dataclass
class Updated:
    """What an update did.

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


class Index:
    """What the images in a catalogue look like.

    Parameters
    ----------
    catalog
        The catalogue; the index is in it, in the container ``similarity``.
    descriptors
        Their names, or descriptors of one's own; default: all that are known.

    Raises
    ------
    InputError
        If there is no descriptor of a name.
    """

    def __init__(
        self, catalog: Catalog, descriptors: Sequence[str | Descriptor] | None = None
    ) -> None:
        self.catalog = catalog
        wanted = list(known().values()) if descriptors is None else descriptors
        found = [named(one) if isinstance(one, str) else one for one in wanted]
        self.descriptors: dict[str, Descriptor] = {one.name: one for one in found}
        self._store = Store(catalog)
        thumbnail: Any = Thumbnail()
        makers = [*found, thumbnail, *labellers()]
        self._makers: dict[str, Descriptor] = {kind_of(one): one for one in makers}
        self._arrays: dict[tuple[str, str], NDArray] = {}
        self._last: tuple[Any, Collection] | None = None
        self._mutex = threading.Lock()

    # Indexing

    def update(
        self,
        runs: Sequence[str] | None = None,
        *,
        workers: int = 0,
        rebuild: bool = False,
        progress: Any = None,
    ) -> Updated:
        """Index what is missing; interrupted at any time, the next one goes on.

        Parameters
        ----------
        runs
            Only these, by uid; default: all in the catalogue.
        workers
            Processes that describe; with 0 or 1 it is this one.
        rebuild
            Whether everything is removed first, but the selections.
        progress
            Called with the number of images done so far.

        Raises
        ------
        InputError
            If the server does not answer.
        """
        with self._mutex:
            self._store.reach()
            if rebuild:
                self._store.clear()
            return _Updating(self._store, self.catalog, self._makers, progress).run(runs, workers)

    def add(self, images: Sequence[Task[Row]], run: RunRow) -> Updated:
        """Index images of one run that are at hand.

        Parameters
        ----------
        images
            With their rows and values; what is wanted of them is up to the index.
        run
            The run.

        Raises
        ------
        InputError
            If the server does not answer.
        """
        with self._mutex:
            self._store.reach()
            return _Updating(self._store, self.catalog, self._makers, None).take(images, run)

    # Searching

    def collection(self, where: Mapping[str, Any] | Sequence[str] | None = None) -> Collection:
        """Return all images that are indexed, or those of which something holds.

        Parameters
        ----------
        where
            See `curiosity_bluesky.similarity.conditions`: ``{"sample": "PTO", "points >=": 50}``
            or ``["sample=PTO", "points>=50"]``. Tiled is asked about metadata; what was
            derived from images and spectra is looked at here.

        Raises
        ------
        InputError
            If there is no index, it is of other versions, or a condition cannot be used.
        """
        with self._mutex:
            self._store.reach()
            whole = self._whole()
        return whole if not where else whole.part(chosen(self.catalog, whole, where))

    def _whole(self) -> Collection:
        for last in (False, False, True):
            batches, runs = self._store.batches(), self._store.runs()
            state = (frozenset(b.key for b in batches), frozenset(r.written for r in runs.values()))
            if self._last is not None and self._last[0] == state:
                return self._last[1]
            found = self._loaded(batches, runs, tolerant=last)
            if found is not None:
                self._last = state, found
                return found
            # Somebody merged batches meanwhile, and those that were seen are gone.
        raise InputError(
            f"arrays of the index in {self.catalog.where} cannot be read; "
            "`curiosity index --rebuild` makes it anew"
        )

    def _wanted(self) -> dict[str, str]:
        return {name: kind_of(one) for name, one in self.descriptors.items()}

    def _loaded(
        self, batches: Sequence[Batch], runs: Mapping[str, RunRow], tolerant: bool
    ) -> Collection | None:
        wanted = self._wanted()
        needed = {*wanted.values(), kind_of(Thumbnail())}
        usable = [batch for batch in batches if needed <= set(batch.arrays)]
        if not usable:
            self._say_why_not(batches, wanted)
        labels = {kind_of(one): one for one in labellers()}
        arrays: dict[tuple[str, str], NDArray] = {}
        lost = []
        for batch in usable:
            for kind in [*needed, *(kind for kind in labels if kind in batch.arrays)]:
                where = kind, batch.arrays[kind][0]
                values = self._arrays.get(where)
                values = self._store.array(batch, kind) if values is None else values
                if values is None:
                    lost.append(batch.key)
                else:
                    arrays[where] = values
        if lost and (not tolerant or len(set(lost)) == len(usable)):
            return None
        usable = [batch for batch in usable if batch.key not in lost]
        self._arrays = arrays
        entries: dict[Source, Entry] = {}
        places: dict[Source, tuple[int, int]] = {}
        for b, batch in enumerate(usable):
            each = {kind: arrays[kind, batch.arrays[kind][0]] for kind in wanted.values()}
            whole = np.logical_and.reduce(
                [np.isfinite(values).all(1) for values in each.values()]
                or [np.ones(len(batch.rows), bool)]
            )
            said = [
                (labeller, arrays[kind, batch.arrays[kind][0]])
                for kind, labeller in labels.items()
                if kind in batch.arrays
            ]
            for n, row in enumerate(batch.rows):
                if whole[n] and row.source not in entries:
                    run = runs.get(row.uid)
                    labelled: dict[str, Any] = {}
                    for one, values in said:
                        labelled |= one.labels(values[n])
                    entries[row.source] = Entry(
                        row.uid, row.stream, row.key, row.channel, row.event, row.shape,
                        row.um_per_pixel, run.metadata if run else {},
                        run.properties if run else {}, labelled,
                    )  # fmt: skip
                    places[row.source] = b, n
        # The order of the runs, and then that of their images.
        order = sorted(entries, key=lambda s: (entries[s].metadata.get("time", 0.0), s))

        def gathered(kind: str) -> NDArray:
            parts = [arrays[kind, batch.arrays[kind][0]] for batch in usable]
            starts = np.cumsum([0, *(len(part) for part in parts)])
            rows = [starts[places[s][0]] + places[s][1] for s in order]
            return np.concatenate(parts)[rows]

        vectors = {name: gathered(kind) for name, kind in wanted.items()}
        return Collection([entries[s] for s in order], vectors, gathered(kind_of(Thumbnail())))

    def _say_why_not(self, batches: Sequence[Batch], wanted: Mapping[str, str]) -> None:
        where = self.catalog.where
        if not batches:
            raise InputError(f"nothing in {where} is indexed yet; `curiosity index` does it")
        there = sorted({kind for batch in batches for kind in batch.arrays})
        raise InputError(
            f"the index in {where} has {', '.join(there)}, but {', '.join(wanted.values())} is "
            "wanted: it was made by another version; `curiosity index` adds what is missing"
        )

    def state(self) -> dict[str, Any]:
        """Return what is in the index, JSON-ready: images by kind, refused ones, runs."""
        self._store.reach()
        batches, runs = self._store.batches(), self._store.runs()
        kinds: dict[str, set[Source]] = {}
        refused = {}
        for batch in batches:
            for kind in batch.arrays:
                kinds.setdefault(kind, set()).update(row.source for row in batch.rows)
            refused |= {row.source: row.refused for row in batch.rows if row.refused}
        return {
            "runs": len(runs),
            "images": len({row.source for batch in batches for row in batch.rows}),
            "batches": len(batches),
            "kinds": {kind: len(sources) for kind, sources in sorted(kinds.items())},
            "other_versions": sorted(set(kinds) - set(self._makers)),
            "refused": [
                {"uid": s[0], "stream": s[1], "key": s[2], "event": s[3], "reason": why}
                for s, why in sorted(refused.items())
            ],
        }

    # Selections

    def save_selection(self, selection: Mapping[str, Any]) -> str:
        """Keep a selection in the catalogue; return its id, the same for the same selection.

        Parameters
        ----------
        selection
            JSON-ready; its scalars are shown where selections are listed.
        """
        self._store.reach()
        content = dict(selection)
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        scalars = {k: v for k, v in content.items() if isinstance(v, str | bool | int | float)}
        self._store.save(key, content, {"shown": scalars})
        return key

    def selection(self, id: str) -> dict[str, Any]:
        """Return a selection.

        Raises
        ------
        InputError
            If there is none of this id.
        """
        self._store.reach()
        found = self._store.load(id)
        if found is None:
            there = ", ".join(self._store.saved()) or "none"
            raise InputError(f"no selection {id!r} in {self.catalog.where}; there is {there}")
        return found

    def selections(self) -> list[dict[str, Any]]:
        """Return one line about each selection, the oldest first: id, time and its scalars."""
        self._store.reach()
        saved = [
            {**about.get("shown", {}), "id": key, "time": float(about["time"])}
            for key, about in self._store.saved().items()
        ]
        return sorted(saved, key=lambda one: one["time"])


@dataclass
class _Item:
    """An image under way, with what is known of it."""

    row: Row
    known: Mapping[str, NDArray]


class _Updating:
    """One update."""

    def __init__(
        self, store: Store, catalog: Catalog, makers: Mapping[str, Descriptor], progress: Any
    ) -> None:
        self.store, self.catalog, self.makers, self.progress = store, catalog, makers, progress
        self.done = Updated()
        self.best: dict[Source, tuple[Batch, int]] = {}
        self.opened: tuple[Batch | None, dict[str, NDArray]] = (None, {})
        self.pending: list[tuple[Row, dict[str, NDArray]]] = []
        self.runs: list[RunRow] = []
        self.committed = time.monotonic()

    def run(self, uids: Sequence[str] | None, workers: int) -> Updated:
        """Index what is missing in all runs, or in some."""
        started = time.monotonic()
        self._look(tidy=True)
        rows = self.store.runs()
        wanted = set(self.makers)
        lacking = {
            source[0] for source, (batch, _) in self.best.items() if wanted - set(batch.arrays)
        }
        todo = [
            uid
            for uid in (list(self.catalog) if uids is None else uids)
            if uid not in rows or not rows[uid].complete or uid in lacking
        ]
        self._describe(_ahead(self._tasks(todo)), workers)
        return self._finished(started)

    def take(self, tasks: Iterable[Task[Row]], run: RunRow) -> Updated:
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

    def _look(self, tidy: bool) -> None:
        wanted = set(self.makers)
        self.store.batches()
        if tidy:
            self.store.tidy()
        for batch in self.store.whole():
            have = len(wanted & set(batch.arrays))
            for n, row in enumerate(batch.rows):
                other = self.best.get(row.source)
                if other is None or have > len(wanted & set(other[0].arrays)):
                    self.best[row.source] = batch, n

    def _finished(self, started: float) -> Updated:
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
        for uid in uids:
            try:
                run = self.catalog[uid]
                status = status_of(run.metadata)
                yield from self._tasks_of(run)
                yield RunRow(
                    uid=uid,
                    metadata={**flat(run.start), "exit_status": status},
                    properties=measured_properties(run),
                    complete=status != "open",
                    written=time.time(),
                )
            except (InputError, KeyError, ValueError, httpx.HTTPStatusError) as error:
                said = str(error) if isinstance(error, InputError) else repr(error)
                self.done.failures.append((uid, said))

    def _tasks_of(self, run: Any) -> Iterator[Task[_Item]]:
        uid = run.start["uid"]
        for stream, node in streams_of(run).items():
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
            said = "; ".join(filter(None, (item.row.refused, refused)))
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
    queue: Queue[tuple[str, Any]] = Queue(AHEAD)
    over = threading.Event()

    def put(kind: str, item: Any) -> bool:
        while not over.is_set():
            try:
                queue.put((kind, item), timeout=0.2)
            except Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    threading.Thread(target=read, name="reading images", daemon=True).start()
    try:
        while True:
            kind, item = queue.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        over.set()

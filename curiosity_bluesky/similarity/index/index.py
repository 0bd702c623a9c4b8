"""Index of the descriptors of all images in a catalogue, stored beside the runs."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.descriptors import known, named
from curiosity_bluesky.similarity.descriptors.protocol import Descriptor
from curiosity_bluesky.similarity.index.collection import Collection, Entry
from curiosity_bluesky.similarity.index.filters import select_rows
from curiosity_bluesky.similarity.index.schema import Batch, Row, RunRow, Source
from curiosity_bluesky.similarity.index.storage import IndexStorage
from curiosity_bluesky.similarity.index.update import IndexUpdate
from curiosity_bluesky.similarity.index.update import UpdateResult as UpdateResult
from curiosity_bluesky.similarity.index.workers import Task, Thumbnail, kind_of
from curiosity_bluesky.similarity.symmetry import SymmetryScores, labels_of

logger = logging.getLogger(__name__)


class Index:
    """Index of the images in a catalogue.

    Parameters
    ----------
    catalog
        The catalogue; the index is in it, in the container ``similarity``.
    descriptors
        Their names, or descriptors of one's own; default: all that are known.
    require
        Names of those that an image must have in order to be found: the collection has the
        others where all its images have them. Default: all of `descriptors`.

    Attributes
    ----------
    left_out : int
        Images that the last `collection` has not, since they lack something that is required
        or their arrays are damaged.
    lacking : dict
        By the name of each descriptor that is not required, how many images lack it; those
        that some lack are not in the collection.

    Raises
    ------
    InputError
        If there is no descriptor of a name.
    """

    def __init__(
        self,
        catalog: Catalog,
        descriptors: Sequence[str | Descriptor] | None = None,
        require: Sequence[str] | None = None,
    ) -> None:
        self.catalog = catalog
        wanted = list(known().values()) if descriptors is None else descriptors
        found = [named(one) if isinstance(one, str) else one for one in wanted]
        self.descriptors: dict[str, Descriptor] = {one.name: one for one in found}
        self._store = IndexStorage(catalog)
        for name in require or ():
            if name not in self.descriptors:
                there = ", ".join(self.descriptors)
                raise InputError(f"there is no descriptor {name!r}; there are {there}")
        self._required = tuple(self.descriptors if require is None else require)
        thumbnail: Any = Thumbnail()
        self._makers: dict[str, Descriptor] = {kind_of(one): one for one in [*found, thumbnail]}
        self.left_out = 0
        self.lacking: dict[str, int] = {}
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
    ) -> UpdateResult:
        """Index the images that are missing; after an interruption the next call goes on.

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
            return IndexUpdate(self._store, self.catalog, self._makers, progress).run(runs, workers)

    def add(self, images: Sequence[Task[Row]], run: RunRow) -> UpdateResult:
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
            return IndexUpdate(self._store, self.catalog, self._makers, None).take(images, run)

    # Searching

    def collection(self, where: Mapping[str, Any] | Sequence[str] | None = None) -> Collection:
        """Return all images that are indexed, or those of which something holds.

        Parameters
        ----------
        where
            See `curiosity_bluesky.similarity.index.filters`: ``{"sample": "PTO", "points >=": 50}``
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
        return whole if not where else whole.part(select_rows(self.catalog, whole, where))

    def _whole(self) -> Collection:
        read: dict[tuple[str, str], NDArray] = {}
        for _ in range(4):
            batches, runs = self._store.batches(), self._store.runs()
            state = (frozenset(b.key for b in batches), frozenset(r.written for r in runs.values()))
            if self._last is not None and self._last[0] == state:
                return self._last[1]
            usable = self._usable(batches)
            if all([self._read(batch, read) for batch in usable]):
                found = self._assembled(usable, runs, read)
                self._say_what_is_missing(batches, usable)
                self._last = state, found
                return found
            # Damaged, or another process merged the batches meanwhile, and they are gone.
        raise InputError(
            f"the index in {self.catalog.where} changes all the time; try again when no process "
            "indexes"
        )

    def _wanted(self) -> dict[str, str]:
        return {name: kind_of(one) for name, one in self.descriptors.items()}

    def _usable(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return the batches that have what is required, those with the most first."""
        wanted = self._wanted()
        required = {name: wanted[name] for name in self._required}
        needed = {*required.values(), kind_of(Thumbnail())}
        usable = [batch for batch in batches if needed <= set(batch.arrays)]
        if not usable:
            self._say_why_not(batches, required)
        return sorted(usable, key=lambda batch: -len(self._makers.keys() & batch.arrays.keys()))

    def _read(self, batch: Batch, read: dict[tuple[str, str], NDArray]) -> bool:
        """Read what is missing of a batch; return whether all of it is there."""
        for kind in (self._makers.keys() | {kind_of(SymmetryScores)}) & batch.arrays.keys():
            where = kind, batch.arrays[kind][0]
            if where not in read:
                values = self._store.array(batch, kind)
                if values is None:
                    return False
                read[where] = values
        return True

    def _assembled(
        self,
        usable: Sequence[Batch],
        runs: Mapping[str, RunRow],
        read: dict[tuple[str, str], NDArray],
    ) -> Collection:
        """Return the collection of what was read, and empty `read`."""
        wanted = self._wanted()
        entries: dict[Source, Entry] = {}
        places: dict[Source, tuple[int, int]] = {}
        for b, batch in enumerate(usable):
            whole = np.ones(len(batch.rows), bool)
            for kind in set(wanted.values()) & batch.arrays.keys():
                whole &= np.isfinite(read[kind, batch.arrays[kind][0]]).all(1)
            said: list[dict[str, Any]] = [{} for _ in batch.rows]
            if (named_by := kind_of(SymmetryScores)) in batch.arrays:
                said = labels_of(read[named_by, batch.arrays[named_by][0]])
            for n, row in enumerate(batch.rows):
                if whole[n] and row.source not in entries:
                    run = runs.get(row.uid)
                    entries[row.source] = Entry(
                        row.uid, row.stream, row.key, row.channel, row.event, row.shape,
                        row.um_per_pixel, run.metadata if run else {},
                        run.properties if run else {}, said[n],
                    )  # fmt: skip
                    places[row.source] = b, n
        # The order of the runs, and then that of their images.
        order = sorted(entries, key=lambda s: (entries[s].metadata.get("time", 0.0), s))
        chosen: dict[int, list[tuple[int, int]]] = {b: [] for b in range(len(usable))}
        for k, source in enumerate(order):
            b, n = places[source]
            chosen[b].append((k, n))

        def gathered(kind: str) -> NDArray:
            out = None
            for b, batch in enumerate(usable):
                if kind not in batch.arrays:
                    continue
                # Batch by batch, so that the index is not in memory twice.
                values = read.pop((kind, batch.arrays[kind][0]))
                if out is None:
                    out = np.empty((len(order), *values.shape[1:]), values.dtype)
                if chosen[b]:
                    to, rows = np.array(chosen[b]).T
                    out[to] = values[rows]
            assert out is not None
            return out

        lacking = {
            name: sum(len(chosen[b]) for b, batch in enumerate(usable) if kind not in batch.arrays)
            for name, kind in wanted.items()
            if name not in self._required
        }
        self.lacking = lacking
        nowhere = {n for n, k in wanted.items() if not any(k in batch.arrays for batch in usable)}
        vectors = {
            name: gathered(kind)
            for name, kind in wanted.items()
            if not lacking.get(name) and name not in nowhere
        }
        thumbnails = gathered(kind_of(Thumbnail()))
        read.clear()
        return Collection([entries[s] for s in order], vectors, thumbnails)

    def _say_what_is_missing(self, batches: Sequence[Batch], usable: Sequence[Batch]) -> None:
        there = {row.source for batch in usable for row in batch.rows}
        lost = {row.source for batch in self._store.lost() for row in batch.rows} - there
        without = {row.source for batch in batches for row in batch.rows} - there - lost
        self.left_out = len(lost | without)
        where, adds = self.catalog.where, "`curiosity index` describes them"
        if lost:
            logger.warning("%d images in %s are damaged in the index; %s", len(lost), where, adds)
        if without:
            wanted = ", ".join(self._wanted()[name] for name in self._required)
            logger.warning(
                "%d images in %s are left out, since not all of %s is there; %s",
                *(len(without), where, wanted, adds),
            )

    def _say_why_not(self, batches: Sequence[Batch], wanted: Mapping[str, str]) -> None:
        where = self.catalog.where
        if not batches and self._store.lost():
            raise InputError(
                f"arrays of the index in {where} cannot be read; `curiosity index` makes them again"
            )
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
            If none has this id.
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

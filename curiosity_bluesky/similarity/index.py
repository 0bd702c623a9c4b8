"""The index: what every image in a catalogue looks like, kept beside the runs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.batches import Store
from curiosity_bluesky.similarity.collection import Collection, Entry
from curiosity_bluesky.similarity.conditions import chosen
from curiosity_bluesky.similarity.describing import Task, Thumbnail, kind_of
from curiosity_bluesky.similarity.descriptor import Descriptor
from curiosity_bluesky.similarity.descriptors import known, named
from curiosity_bluesky.similarity.labels import labellers
from curiosity_bluesky.similarity.rows import Batch, Row, RunRow, Source
from curiosity_bluesky.similarity.updating import Updated as Updated
from curiosity_bluesky.similarity.updating import Updating


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
        # Whoever asks for some descriptors alone waits for no other.
        makers = [*found, thumbnail, *(labellers() if descriptors is None else ())]
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
            return Updating(self._store, self.catalog, self._makers, progress).run(runs, workers)

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
            return Updating(self._store, self.catalog, self._makers, None).take(images, run)

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
            said: list[dict[str, Any]] = [{} for _ in batch.rows]
            for kind, labeller in labels.items():
                if kind in batch.arrays:
                    each_said = labeller.labels(arrays[kind, batch.arrays[kind][0]])
                    said = [old | new for old, new in zip(said, each_said, strict=True)]
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

"""Storage of the index in Tiled: batches that are written once and never changed.

``similarity/<kind>`` is a container each for the thumbnails and for every descriptor, named
with its version, such as ``texture-1``; in it are arrays with one row an image. ``images-1``
holds tables that say which images these are: the metadata of each names the arrays that belong
to it, with their checksums, and it is written last. So what a process that died has left is
never taken for more than it is, and two that write at once do at worst one image twice. In
``runs-1`` are tables with one row a run.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.catalog.directory import INDEX, INDEX_SPEC
from curiosity_bluesky.similarity.index.run_images import plain
from curiosity_bluesky.similarity.index.schema import (
    Batch,
    Row,
    RunRow,
    Source,
    batch_in,
    checksum,
    checksum_of,
    images_table,
    merge_batches,
    runs_in,
    runs_table,
)

IMAGES, RUNS, SELECTIONS = "images-1", "runs-1", "selections"
STALE = 3600.0
"""Seconds without a batch after which a node counts as left by a process that died."""

SMALL = 4096
"""A batch of fewer images is merged with others of its kind."""

MANY = 16
"""Number of small batches that are merged."""


class IndexStorage:
    """The batches of one catalogue.

    Parameters
    ----------
    catalog
        Where they are.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, Batch | None] = {}
        self._known_runs: dict[str, list[RunRow] | None] = {}
        self._client: Any = None
        self._folders: dict[str, Any] = {}
        self._lost: set[str] = set()
        self._sound: set[str] = set()

    # What is there

    def reach(self) -> None:
        """Look for the server: another one may have taken the place of the last."""
        client = self._catalog.client
        if client is not self._client:
            self._client, self._folders = client, {}

    def batches(self) -> list[Batch]:
        """Return all batches that are whole."""
        there = self._there(IMAGES)
        self._known = {key: batch for key, batch in self._known.items() if key in there}
        self._lost &= set(there)
        for key, node in there.items():
            if self._known.get(key) is None:
                self._known[key] = batch_in(key, node)
        return self.whole()

    def whole(self) -> list[Batch]:
        """Return what `batches` found, and what was written since, but `lost` ones."""
        known = self._known.items()
        return [batch for key, batch in known if batch is not None and key not in self._lost]

    def lost(self) -> list[Batch]:
        """Return batches of which an array is not what was written."""
        return [batch for key in self._lost if (batch := self._known.get(key)) is not None]

    def check(self, kinds: Iterable[str]) -> None:
        """Read arrays of all batches once, so that it is known which of them are lost."""
        wanted = set(kinds)
        for batch in self.whole():
            if batch.key not in self._sound:
                here = wanted & set(batch.arrays)
                if all([self.array(batch, kind) is not None for kind in here]):
                    self._sound.add(batch.key)

    def array(self, batch: Batch, kind: str) -> NDArray | None:
        """Return an array of a batch; None if it is not what was written: the batch is `lost`."""
        key, expected = batch.arrays[kind]
        folder = self._folder(kind)
        if folder is not None:
            with suppress(KeyError, httpx.HTTPStatusError):
                values = np.asarray(folder[key].read())
                if checksum(values) == expected:
                    return values
        self._lost.add(batch.key)
        return None

    def runs(self) -> dict[str, RunRow]:
        """Return the newest row of each run."""
        there = self._there(RUNS)
        self._known_runs = {k: rows for k, rows in self._known_runs.items() if k in there}
        for key, node in there.items():
            if self._known_runs.get(key) is None:
                self._known_runs[key] = runs_in(node)
        found: dict[str, RunRow] = {}
        for row in (row for rows in self._known_runs.values() for row in rows or ()):
            if row.uid not in found or row.written >= found[row.uid].written:
                found[row.uid] = row
        return found

    # What is written

    def write(
        self, rows: Sequence[Row], arrays: Mapping[str, NDArray], merged: bool = False
    ) -> Batch:
        """Write a batch; it counts once this returns.

        Parameters
        ----------
        rows
            The images.
        arrays
            By kind, (rows, ...).
        merged
            Whether it takes the place of smaller ones.
        """
        # What merges others comes before them in every order.
        key = f"{'m' if merged else 'p'}-{secrets.token_hex(8)}"
        for kind, values in arrays.items():
            self._write_array(kind, key, np.ascontiguousarray(values))
        for kind, values in arrays.items():
            # Another process takes for abandoned what has waited long for its table.
            if key not in self._folder(kind):
                self._write_array(kind, key, np.ascontiguousarray(values))
        written = {kind: (key, checksum(values)) for kind, values in arrays.items()}
        return self._commit(key, tuple(rows), written)

    def _commit(
        self, key: str, rows: tuple[Row, ...], arrays: Mapping[str, tuple[str, str]]
    ) -> Batch:
        about = {
            "arrays": {kind: list(where) for kind, where in arrays.items()},
            "sha256": checksum_of(rows),
        }
        self._write_table(IMAGES, key, images_table(rows), about)
        self._known[key] = batch = Batch(key, rows, dict(arrays))
        return batch

    def write_runs(self, rows: Sequence[RunRow]) -> None:
        """Write rows of runs; they count instead of older ones.

        Parameters
        ----------
        rows
            The runs.
        """
        if not rows:
            return
        key = f"p-{secrets.token_hex(8)}"
        about = {"sha256": checksum_of(rows)}
        self._write_table(RUNS, key, runs_table(rows), about)
        self._known_runs[key] = list(rows)

    def merge(self) -> None:
        """Merge what is small, when there is much of it: at any time, by anybody."""
        # Of one set of kinds only: what a merged batch lacks would have to be done again.
        alike: dict[frozenset[str], list[Batch]] = {}
        for batch in self.whole():
            if len(batch.rows) < SMALL:
                alike.setdefault(frozenset(batch.arrays), []).append(batch)
        merged = False
        for kinds, small in alike.items():
            for group in merge_batches(small, SMALL) if len(small) >= MANY else []:
                merged |= self._merge(group, kinds)
        if merged:
            self.remove_dominated()
        self._merge_runs()

    def tidy(self) -> None:
        """Remove merged batches, and what processes that died have left."""
        self.remove_dominated()
        for kind in self._kinds(IMAGES, RUNS, SELECTIONS):
            used = {b.arrays[kind][0] for b in self._known.values() if b and kind in b.arrays}
            there = self._there(kind)
            self._delete(kind, [k for k, node in there.items() if k not in used and _is_old(node)])
            for key, batch in self._known.items():
                if batch and kind in batch.arrays and batch.arrays[kind][0] not in there:
                    self._lost.add(key)
        self._remove_broken()

    def _remove_broken(self) -> None:
        """Remove tables that cannot be read, of old; each is read once more before that."""
        for kind, known, read in (
            (IMAGES, self._known, lambda key, node: batch_in(key, node)),
            (RUNS, self._known_runs, lambda _, node: runs_in(node)),
        ):
            broken = [key for key, found in known.items() if found is None]
            there = self._there(kind) if broken else {}
            old = [key for key in broken if key in there and _is_old(there[key])]
            self._delete(kind, [key for key in old if read(key, there[key]) is None])

    def clear(self) -> None:
        """Remove all but the selections."""
        for kind in self._kinds(SELECTIONS):
            self._delete(kind, self._keys(kind))
        self._known, self._known_runs = {}, {}

    def _merge(self, group: list[Batch], kinds: Iterable[str]) -> bool:
        arrays: dict[str, NDArray] = {}
        for kind in kinds:
            parts = [self.array(batch, kind) for batch in group]
            if any(part is None for part in parts):
                return False
            arrays[kind] = np.concatenate([part for part in parts if part is not None])
        rows = [row for batch in group for row in batch.rows]
        once = list({row.source: n for n, row in enumerate(rows)}.values())
        arrays = {kind: values[once] for kind, values in arrays.items()}
        self.write([rows[n] for n in once], arrays, merged=True)
        return True

    def _merge_runs(self) -> None:
        small = {
            key: rows
            for key, rows in self._known_runs.items()
            if rows is not None and len(rows) < SMALL
        }
        if len(small) >= MANY:
            newest: dict[str, RunRow] = {}
            every = [row for rows in small.values() for row in rows]
            for row in sorted(every, key=lambda row: row.written):
                newest[row.uid] = row
            self.write_runs(list(newest.values()))
            self._delete(RUNS, small)
            for key in small:
                del self._known_runs[key]

    def remove_dominated(self) -> None:
        """Remove batches all of whose images are in others with as much or more."""
        holding: dict[Source, list[Batch]] = {}
        for batch in self.whole():
            for row in batch.rows:
                holding.setdefault(row.source, []).append(batch)
        for batch in [*self.whole(), *self.lost()]:
            lost = batch.key in self._lost
            if all(
                any(
                    other.arrays.keys() >= batch.arrays.keys() if lost else other.dominates(batch)
                    for other in holding.get(row.source, ())
                )
                for row in batch.rows
            ):
                self._remove(batch)

    def _remove(self, batch: Batch) -> None:
        self._delete(IMAGES, [batch.key])
        self._known.pop(batch.key, None)
        self._lost.discard(batch.key)
        for kind, (key, _) in batch.arrays.items():
            self._delete(kind, [key])

    # Selections

    def save(self, key: str, content: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Keep a JSON document under a key; what is there already stays.

        Parameters
        ----------
        key, content
            The document.
        about
            What a list of them shows.
        """
        if key not in self._keys(SELECTIONS):
            values = np.frombuffer(json.dumps(content, sort_keys=True).encode(), np.uint8)
            self._write_array(SELECTIONS, key, values, about)

    def saved(self) -> dict[str, dict[str, Any]]:
        """Return what a list shows of each document, by its key."""
        return {key: dict(node.metadata) for key, node in self._there(SELECTIONS).items()}

    def load(self, key: str) -> dict[str, Any] | None:
        """Return a document; None if there is none, or only a part of it."""
        folder = self._folder(SELECTIONS)
        if folder is None:
            return None
        try:
            node = folder[key]
            values = np.asarray(node.read())
        except (KeyError, httpx.HTTPStatusError):
            return None
        whole = checksum(values) == node.metadata["sha256"]
        return json.loads(values.tobytes()) if whole else None

    # Tiled

    def _root(self, make: bool = False) -> Any:
        if INDEX in self._folders:
            return self._folders[INDEX]
        if self._client is None:
            self.reach()
        client: Any = self._client
        about = {"about": "Descriptors of the images in the runs, see curiosity_bluesky.similarity"}
        return self._kept(INDEX, plain(client), make, metadata=about, specs=[INDEX_SPEC])

    def _folder(self, kind: str, make: bool = False) -> Any:
        root = self._root(make)
        if root is None:
            return None
        # Not by its truth, which is a request: how many are in it.
        return self._folders[kind] if kind in self._folders else self._kept(kind, root, make)

    def _kept(self, key: str, parent: Any, make: bool, **about: Any) -> Any:
        """Return a container, and ask for it once; None if there is none and none is to be made."""
        try:
            found = parent[key]
        except KeyError:
            if not make:
                return None
            try:
                found = parent.create_container(key, **about)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.CONFLICT:
                    raise
                found = parent[key]  # another process made it at this moment
        self._folders[key] = found
        return found

    def _kinds(self, *but: str) -> list[str]:
        root = self._root()
        return [] if root is None else [kind for kind in root if kind not in but]

    def _keys(self, kind: str) -> list[str]:
        folder = self._folder(kind)
        return [] if folder is None else list(iter(folder))  # a list asks how many first

    def _there(self, kind: str) -> dict[str, Any]:
        folder = self._folder(kind)
        return {} if folder is None else dict(folder.items())

    def _write_array(
        self, kind: str, key: str, values: NDArray, about: Mapping[str, Any] | None = None
    ) -> None:
        metadata = {**_about(), "sha256": checksum(values), **(about or {})}
        self._folder(kind, make=True).write_array(values, key=key, metadata=metadata)

    def _write_table(
        self, kind: str, key: str, columns: Mapping[str, list[Any]], about: Mapping[str, Any]
    ) -> None:
        import pandas

        table = pandas.DataFrame(columns)
        metadata = {**_about(), **about}
        self._folder(kind, make=True).write_table(table, key=key, metadata=metadata)

    def _delete(self, kind: str, keys: Iterable[str]) -> None:
        folder = self._folder(kind)
        if folder is None:
            return
        for key in list(keys):
            try:
                folder.delete_contents([key], recursive=True, external_only=False)
            except httpx.HTTPStatusError as error:
                # Another process that tidies up was quicker.
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise


def _about() -> dict[str, Any]:
    return {"time": time.time(), "curiosity_version": version("curiosity-bluesky")}


def _is_old(node: Any) -> bool:
    return time.time() - float(node.metadata.get("time", 0.0)) > STALE

"""Runs of an embedded catalogue, read from its files while no server has the directory.

Starting a Tiled server takes seconds; a list of runs takes milliseconds. What is here looks like
Tiled's clients as far as summaries and reports ask them, so that these come from the same code
with a server and without (docs/decisions/0013). It writes nothing. Of whatever it does not know
(`NotUnderstood`) the server is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import filelock

from curiosity_bluesky.catalog.directory import INDEX
from curiosity_bluesky.catalog.local_files import (
    CatalogFiles,
    LocalArray,
    LocalColumn,
    LocalTable,
    NotUnderstood,
)
from curiosity_bluesky.documents.schema import RESUMES

_RUN, _STREAM, _TABLE = "BlueskyRun", "BlueskyEventStream", "internal"
_ARRAY, _SQL = "application/x-zarr", "application/x-tiled-sql-table"
_TIME = """JSON_EXTRACT(metadata, '$."start"."time"')"""

_PARTS = """
SELECT nodes.id, nodes.key, data_sources.mimetype, data_sources.parameters, structures.structure,
    assets.data_uri
FROM nodes
LEFT JOIN data_sources ON data_sources.node_id = nodes.id
LEFT JOIN structures ON structures.id = data_sources.structure_id
LEFT JOIN data_source_asset_association AS link ON link.data_source_id = data_sources.id
LEFT JOIN assets ON assets.id = link.asset_id
WHERE nodes.parent = ? ORDER BY nodes.id
"""


@dataclass(frozen=True)
class LocalRuns:
    """Runs of a directory: all of them, or those that were searched for.

    Parameters
    ----------
    files
        The databases.
    keys
        What the start documents hold, texts.
    since
        Started at or after this time, s since 1970; None: at any.
    newest_first
        Whether they are in the order of their start, the newest first; else as they were written.
    """

    files: CatalogFiles
    keys: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    newest_first: bool = False

    @classmethod
    def of(cls, directory: Path, lock: filelock.BaseFileLock) -> Self:
        """Return all runs of a directory; the lock is freed by `close`.

        Parameters
        ----------
        directory
            Of the catalogue, as a whole path.
        lock
            Its lock, held. It stays held if this raises.

        Raises
        ------
        InputError
            If a database is gone or damaged.
        NotUnderstood
            If a server has to look at the directory first.
        """
        return cls(CatalogFiles(directory, lock))

    def close(self) -> None:
        """Release the directory."""
        self.files.close()

    def started(self, keys: Mapping[str, str], since: float | None) -> Self:
        """Return those whose start document holds something, and that started since a time."""
        if not all(isinstance(value, str) for value in keys.values()):
            raise NotUnderstood  # of texts alone SQLite and Python agree when they are equal
        return replace(self, keys=tuple(keys.items()), since=since)

    def sort(self, *sorting: tuple[str, int]) -> Self:
        """Return them in another order; of `sorting` Tiled knows more than this."""
        if sorting != (("start.time", -1),):
            raise NotUnderstood
        return replace(self, newest_first=True)

    def _found(
        self, condition: str = "1", *given: Any, most: int = -1
    ) -> Iterator[tuple[str, LocalRun]]:
        where, parameters = self._where()
        # As Tiled sorts: by the text of the number.
        order = f"JSON_QUOTE({_TIME}) DESC, id" if self.newest_first else "id"
        rows = self.files.catalog.execute(
            f"SELECT id, key, specs, metadata FROM nodes WHERE {where} AND {condition} "
            f"ORDER BY {order} LIMIT ?",
            (*parameters, *given, most),
        )
        for number, key, specs, metadata in rows:
            if not _is(_RUN, specs):
                raise NotUnderstood  # of an older layout
            yield key, LocalRun(replace(self, keys=(), since=None), number, json.loads(metadata))

    def _where(self) -> tuple[str, list[Any]]:
        """Return the condition on nodes, and its parameters; that on specs is Tiled's own."""
        conditions = ["parent = ?", "key != ?", "specs LIKE ?"]
        parameters: list[Any] = [self.files.root, INDEX, f'%{{"name":"{_RUN}",%']
        for key, value in self.keys:
            conditions.append("JSON_EXTRACT(metadata, ?) = ?")
            parameters += [f'$."start"."{key}"', value]
        if self.since is not None:
            conditions.append(f"{_TIME} >= ?")
            parameters.append(self.since)
        return " AND ".join(conditions), parameters

    def items(self) -> _Items:
        """Return the runs with their keys."""
        return _Items(self)

    def __len__(self) -> int:
        where, parameters = self._where()
        statement = f"SELECT COUNT(*) FROM nodes WHERE {where}"
        return self.files.catalog.execute(statement, parameters).fetchone()[0]

    def __getitem__(self, uid: str) -> LocalRun:
        """Return a run by its uid or the beginning of it, ready to be read.

        Raises
        ------
        KeyError
            If there is none.
        ValueError
            If there are several.
        NotUnderstood
            If some of it, or of a run that it goes on with, is for a server to read.
        """
        if not isinstance(uid, str) or "/" in uid:
            raise NotUnderstood
        found = list(self._found("key = ?", uid)) if len(uid) == 36 else []
        if not found:
            begins = """JSON_EXTRACT(metadata, '$."start"."uid"') LIKE ?"""
            found = list(self._found(begins, f"{uid}%", most=2))
        if not found:
            raise KeyError(uid)
        if len(found) > 1:
            raise ValueError(f"{uid} is the beginning of several uids")
        run = found[0][1]
        run.check()
        return run

    def __contains__(self, uid: str) -> bool:
        try:
            return bool(self[uid].metadata)
        except KeyError:
            return False


@dataclass(frozen=True)
class _Items:
    """Runs with their keys, read as they are asked for."""

    runs: LocalRuns

    def __iter__(self) -> Iterator[tuple[str, LocalRun]]:
        return self.runs._found()

    def head(self, most: int) -> list[tuple[str, LocalRun]]:
        """Return the first of them."""
        return list(self.runs._found(most=most))


class LocalRun:
    """One run.

    Parameters
    ----------
    parent
        All runs.
    number
        Of its node.
    metadata
        ``start``, ``stop`` and what the writer noted.
    """

    def __init__(self, parent: LocalRuns, number: int, metadata: dict[str, Any]) -> None:
        self.parent = parent
        self.metadata = metadata
        self._number = number
        self._streams: dict[str, LocalStream] | None = None

    @property
    def start(self) -> dict[str, Any]:
        """The start document."""
        return self.metadata["start"]

    @property
    def streams(self) -> dict[str, LocalStream]:
        """Its streams by name."""
        if self._streams is None:
            files = self.parent.files
            rows = files.catalog.execute(
                "SELECT id, key, specs, metadata FROM nodes WHERE parent = ?", (self._number,)
            ).fetchall()
            if not all(_is(_STREAM, specs) for _, _, specs, _ in rows):
                raise NotUnderstood  # of an older layout
            self._streams = {
                key: LocalStream(files, number, json.loads(metadata))
                for number, key, _, metadata in sorted(rows, key=lambda row: row[1])
            }
        return self._streams

    def check(self) -> None:
        """Raise NotUnderstood if a server has to read some of it, or what it goes on with."""
        for stream in self.streams.values():
            _ = stream.base
        earlier = self.start.get(RESUMES)
        if earlier is not None and earlier != self.start.get("uid"):
            _ = earlier in self.parent  # which checks it

    def __iter__(self) -> Iterator[str]:
        return iter(self.streams)

    def __contains__(self, name: object) -> bool:
        return name in self.streams

    def __getitem__(self, name: str) -> LocalStream:
        return self.streams[name]


class LocalStream:
    """One stream of a run: a table of the scalars, and arrays.

    Parameters
    ----------
    files
        The databases.
    number
        Of its node.
    metadata
        ``data_keys``, ``configuration`` and the like.
    """

    def __init__(self, files: CatalogFiles, number: int, metadata: dict[str, Any]) -> None:
        self.metadata = metadata
        self._files = files
        self._number = number
        self._base: dict[str, LocalTable | LocalArray] | None = None

    @property
    def base(self) -> dict[str, LocalTable | LocalArray]:
        """The table, ``internal``, once there is an event, and the arrays by data key."""
        if self._base is None:
            rows = self._files.catalog.execute(_PARTS, (self._number,)).fetchall()
            parts: dict[str, LocalTable | LocalArray] = {}
            for _, key, mimetype, parameters, structure, uri in rows:
                if key in parts or uri is None or structure is None:
                    raise NotUnderstood  # of several files, or of none
                if mimetype == _SQL and key == _TABLE:
                    parts[key] = LocalTable(
                        self._files, uri, json.loads(parameters), json.loads(structure)
                    )
                elif mimetype == _ARRAY and key != _TABLE:
                    parts[key] = LocalArray(self._files.directory, uri, json.loads(structure))
                else:
                    raise NotUnderstood  # such as a file of a detector
            self._base = parts
        return self._base

    def __getitem__(self, key: str) -> LocalColumn | LocalArray:
        part = self.base.get(key)
        if isinstance(part, LocalArray):
            return part
        table = self.base.get(_TABLE)
        if not isinstance(table, LocalTable) or key not in table.columns:
            raise KeyError(key)
        return LocalColumn(table, key)


def _is(name: str, specs: str) -> bool:
    """Whether a node is a run or a stream in the layout that is read here, by its specs."""
    return any(
        spec["name"] == name and str(spec["version"]).startswith("3.") for spec in json.loads(specs)
    )

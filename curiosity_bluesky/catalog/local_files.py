"""Databases and arrays of an embedded catalogue, read while no server has its directory.

What `local_reader` makes runs of. Nothing is written, and what is not known raises `NotUnderstood`.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog.databases import check_databases
from curiosity_bluesky.catalog.relocation import earlier_places
from curiosity_bluesky.errors import CuriosityError, InputError
from curiosity_bluesky.utils.hdf5 import plain_uri_of

REVISION = "917dbbcfc4b1"
"""Of Tiled's catalogue database (``alembic_version``): the one whose tables are read here."""

_TABLE_NAME = re.compile("[a-z][a-z0-9_]*")


class NotUnderstood(CuriosityError):
    """The catalogue holds what only a server reads."""


class CatalogFiles:
    """The databases of a directory, whose lock is held.

    Parameters
    ----------
    directory
        Of the catalogue, as a whole path.
    lock
        Its lock, which is freed with the databases.

    Raises
    ------
    InputError
        If a database is gone or damaged, as a server would say.
    NotUnderstood
        If the database is of another version of Tiled, or the directory was moved.
    """

    def __init__(self, directory: Path, lock: filelock.BaseFileLock) -> None:
        # Of a server that was killed, SQLite first undoes what was half done.
        check_databases(directory)
        self.directory = directory
        self._lock = lock
        self.catalog = _opened(directory / "catalog.db")
        self.tables = None
        try:
            if (directory / "tables.db").exists():
                self.tables = _opened(directory / "tables.db")
            revisions = self.catalog.execute("SELECT version_num FROM alembic_version").fetchall()
            if revisions != [(REVISION,)] or earlier_places(self.catalog, directory):
                raise NotUnderstood
            roots = self.catalog.execute("SELECT id FROM nodes WHERE parent IS NULL").fetchall()
            if len(roots) != 1:
                raise NotUnderstood
            self.root = roots[0][0]
        except BaseException:
            self._close_databases()
            raise

    def _close_databases(self) -> None:
        for database in (self.catalog, self.tables):
            if database is not None:
                database.close()

    def close(self) -> None:
        """Close the databases and free the lock."""
        self._close_databases()
        self._lock.release()


def _opened(path: Path) -> sqlite3.Connection:
    # Not mode=ro: it fails where SQLite has to undo what a killed server left half done.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False)
    database.execute("PRAGMA query_only = ON")
    return database


class LocalTable:
    """The scalars of a stream.

    Parameters
    ----------
    files
        The databases.
    uri
        Of the database that has the rows.
    parameters, structure
        Of the data source in Tiled's catalogue.

    Raises
    ------
    NotUnderstood
        If the rows are elsewhere, or in an order or of a type that is not known here.
    """

    def __init__(
        self, files: CatalogFiles, uri: str, parameters: dict[str, Any], structure: dict[str, Any]
    ) -> None:
        name, dataset = parameters.pop("table_name", ""), parameters.pop("dataset_id", None)
        if (
            files.tables is None
            or uri != f"sqlite://localhost/{files.directory / 'tables.db'}"
            or not _TABLE_NAME.fullmatch(name)
            or not isinstance(dataset, int)
            or any(value is not None for value in parameters.values())
            or structure.get("npartitions") != 1
        ):
            raise NotUnderstood
        self.columns: list[str] = structure["columns"]
        self._schema: str = structure["arrow_schema"]
        self._database = files.tables
        self._rows = f'FROM "{name}" WHERE _dataset_id = {dataset}'

    def __len__(self) -> int:
        return self._database.execute(f"SELECT COUNT(*) {self._rows}").fetchone()[0]

    def read(self, columns: list[str] | None = None) -> Any:
        """Return the rows in the order in which they were written.

        Parameters
        ----------
        columns
            Only these. Default: all.

        Returns
        -------
        pandas.DataFrame
            With the types that the table was declared with.
        """
        import pyarrow  # here and below: a list of runs needs no table

        encoded = self._schema.removeprefix("data:application/vnd.apache.arrow.file;base64,")
        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(encoded)))
        fields = [schema.field(c) for c in self.columns if columns is None or c in columns]
        # Tiled has the names in lower case: SQLite takes two that differ in case for one.
        names = ", ".join(f'"{field.name.lower()}"' for field in fields) or "NULL"
        rows = self._database.execute(
            f"SELECT {names} {self._rows} ORDER BY _partition_id, rowid"
        ).fetchall()
        values = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
        return pyarrow.table(
            [
                pyarrow.array(column).cast(field.type)
                for field, column in zip(fields, values, strict=True)
            ],
            schema=pyarrow.schema(fields),
        ).to_pandas()


@dataclass(frozen=True)
class LocalColumn:
    """One column of a table."""

    table: LocalTable
    key: str

    def __len__(self) -> int:
        return len(self.table)

    def read(self) -> NDArray:
        """Return its values, ``(event,)``."""
        return self.table.read([self.key])[self.key].to_numpy()


class LocalArray:
    """An array of a stream, ``(event, ...)``.

    Parameters
    ----------
    directory
        Of the catalogue.
    uri
        Of the array.
    structure
        Of the data source in Tiled's catalogue.

    Raises
    ------
    NotUnderstood
        If it lies elsewhere, or its files are not what the catalogue says.
    """

    def __init__(self, directory: Path, uri: str, structure: dict[str, Any]) -> None:
        inside = f"{plain_uri_of(directory / 'data')}/"
        kind = structure.get("data_type") or {}
        if (
            not uri.startswith(inside)
            or ".." in uri
            or kind.get("kind") not in ("b", "i", "u", "f")
        ):
            raise NotUnderstood
        self._path = directory / "data" / uri[len(inside) :]
        order = {"little": "<", "big": ">"}.get(kind["endianness"], "|")
        self._dtype = np.dtype(f"{order}{kind['kind']}{kind['itemsize']}")
        self.shape = tuple(structure["shape"])
        try:
            there = json.loads((self._path / "zarr.json").read_text())
            stored = there["shape"]
            whole = len(stored) == len(self.shape) and all(map(int.__ge__, stored, self.shape))
        except (OSError, ValueError, KeyError, TypeError):
            raise NotUnderstood from None
        if not whole:  # a server was killed between the file and the catalogue
            raise NotUnderstood

    def __len__(self) -> int:
        return self.shape[0]

    def read(self) -> NDArray:
        """Return all of it.

        Raises
        ------
        InputError
            If its files are damaged.
        """
        import zarr

        try:
            array: Any = zarr.open_array(str(self._path), mode="r")
            values = np.asarray(array[tuple(slice(0, length) for length in self.shape)])
        except Exception as error:  # of zarr, its codecs and the file system
            raise InputError(
                f"the array {self._path} cannot be read ({type(error).__name__}: {error}); put the "
                "directory back from a backup"
            ) from error
        return values.astype(self._dtype, copy=False)

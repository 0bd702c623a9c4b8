"""Check of the databases in a catalogue's directory."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from curiosity_bluesky.errors import InputError

_MAGIC = b"SQLite format 3\x00"


def check_databases(directory: Path) -> None:
    """Make sure that a directory's databases are whole, or that it is yet to become a catalogue.

    ``catalog.db`` says what the files in ``data/`` and the tables in ``tables.db`` are of. An
    empty one in its place would hide all runs without a word.

    Raises
    ------
    InputError
        If one is gone, empty, no database, or damaged.
    """
    catalog, tables = directory / "catalog.db", directory / "tables.db"
    why = _wrong_with(catalog)
    if why in ("is missing", "is empty"):
        there = [path.name for path in (directory / "data", tables) if _holds_something(path)]
        if not there:
            return  # a new catalogue
        raise _refused(catalog, f"{why}, and {' and '.join(there)} beside it hold data of runs")
    if why:
        raise _refused(catalog, why)
    try:
        with contextlib.closing(_opened(catalog)) as database:
            database.execute("SELECT COUNT(*) FROM nodes").fetchone()
            known = "SELECT COUNT(*) FROM assets WHERE data_uri LIKE 'sqlite:%/tables.db'"
            [used] = database.execute(known).fetchone()
    except sqlite3.Error as error:
        raise _refused(catalog, f"cannot be read as a catalogue ({error})") from None
    why = _wrong_with(tables)
    if why and (used or why not in ("is missing", "is empty")):
        raise _refused(tables, f"{why}, and the numbers of {used} tables of runs were in it")
    if not why:
        try:
            with contextlib.closing(_opened(tables)) as database:
                database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise _refused(tables, f"cannot be read as a database ({error})") from None


def _opened(path: Path) -> sqlite3.Connection:
    # To be written to: of a server that was killed, SQLite first undoes what was half done.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30)


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.is_file() and path.stat().st_size > 0


def _wrong_with(path: Path) -> str:
    """Return in words why a file is no SQLite database, "" if it begins like one."""
    if path.is_dir():
        return "is a directory"
    try:
        with open(path, "rb") as file:
            begins = file.read(len(_MAGIC))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not begins:
        return "is empty"
    return "" if begins == _MAGIC else "is no SQLite database"


def _refused(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} {why}. Nothing was changed. Expected the file that was written there: put it back "
        f"from a backup (what is left of a damaged one: `sqlite3 {path.name} .recover`). Nothing "
        "else says which data are of which run, so it cannot be rebuilt from them. To begin a "
        "new catalogue, give another directory with --catalog, and keep this one"
    )

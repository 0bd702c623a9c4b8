"""Relocation: a catalogue that was copied or moved finds its files where its directory is now.

Tiled keeps whole paths of all files in its database. They are looked at each time that a
server takes a directory, before it serves: a copy brings a database of its own along, so the
copy and the original are independent of each other from then on.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from curiosity_bluesky.catalog.journal import is_held, journals
from curiosity_bluesky.utils.hdf5 import plain_uri_of, uri_of

logger = logging.getLogger(__name__)

_TABLES = {"sqlite": "tables.db", "duckdb": "storage.duckdb"}
"""Files of scalars in a catalogue, by the scheme of their URI; the second one of old versions."""


def update_moved_paths(directory: Path) -> int:
    """Let all paths in a catalogue that lead into its directory lead to where that is now.

    Paths that lead elsewhere, such as to files that detectors wrote outside of the catalogue,
    stay as they are. Where nothing was moved, nothing is written. It is for who holds the
    lock of the directory.

    Parameters
    ----------
    directory
        Of the catalogue, as a whole path.

    Returns
    -------
    int
        How many paths were changed in the database.
    """
    changed = 0
    with contextlib.closing(sqlite3.connect(directory / "catalog.db")) as database:
        for old in sorted(earlier_places(database, directory)):
            with database:  # all, or none if this process is killed
                changed += sum(
                    _replace(database, before, after) for before, after in _uris(old, directory)
                )
            logger.info("the catalogue was at %s and is at %s now", old, directory)
            _follow_in_journals(directory, old)
    return changed


def earlier_places(database: sqlite3.Connection, directory: Path) -> set[Path]:
    """Return where the catalogue was before: every run has a table, and its path is known."""
    found = set()
    for scheme, name in _TABLES.items():
        # Tiled does not quote these.
        start = f"{scheme}://localhost/"
        rows = database.execute(
            "SELECT data_uri FROM assets WHERE data_uri >= ? AND data_uri < ?",
            (start, start[:-1] + "0"),  # the character after "/"
        )
        found |= {path.parent for (uri,) in rows if (path := Path(uri[len(start) :])).name == name}
    return found - {directory}


def _uris(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """Yield the beginnings of all URIs of files in a directory, before and after its move."""
    yield f"{plain_uri_of(old)}/", f"{plain_uri_of(new)}/"
    # As detectors write them: quoted.
    yield f"{uri_of(old)}/assets/", f"{plain_uri_of(new)}/assets/"
    for scheme in _TABLES:
        yield f"{scheme}://localhost/{old}/", f"{scheme}://localhost/{new}/"


def _replace(database: sqlite3.Connection, before: str, after: str) -> int:
    rows = database.execute(
        "SELECT id, data_uri FROM assets WHERE data_uri >= ? AND data_uri < ?",
        (before, before[:-1] + "0"),
    ).fetchall()
    for number, uri in rows:
        moved = after + uri[len(before) :]
        # A version before this one may have written here since the move: one file, two rows.
        there = database.execute("SELECT id FROM assets WHERE data_uri = ?", (moved,)).fetchone()
        if there is None:
            database.execute("UPDATE assets SET data_uri = ? WHERE id = ?", (moved, number))
        else:
            database.execute(
                "UPDATE data_source_asset_association SET asset_id = ? WHERE asset_id = ?",
                (there[0], number),
            )
            database.execute("DELETE FROM assets WHERE id = ?", (number,))
    return len(rows)


def _follow_in_journals(directory: Path, old: Path) -> None:
    """Do the same for what is not in Tiled yet: documents name files of detectors."""
    before, after = (f'"{uri_of(place)}/'.encode() for place in (old, directory))
    for path in journals(directory / "journal"):
        if is_held(path) or before not in (text := path.read_bytes()):
            continue
        new = path.with_suffix(".moved")
        new.write_bytes(text.replace(before, after))
        new.replace(path)

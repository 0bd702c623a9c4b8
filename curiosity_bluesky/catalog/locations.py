"""Locations of catalogues, as a user may name them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from curiosity_bluesky.errors import InputError

DEFAULT = "runs"
"""Directory of the catalogue when ``CURIOSITY_CATALOG`` says nothing else."""


def check_place(where: str | os.PathLike[str] | None = None) -> None:
    """Make sure that a catalogue may be where `connect` is told, without making or asking it.

    Raises
    ------
    InputError
        If that is no URI, or no directory that can be written to.
    """
    place, elsewhere = place_of(where)
    if elsewhere:
        return
    path = Path(place).expanduser().absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(
            f"the catalogue directory {place} cannot be written to; choose another with "
            "--catalog DIR"
        )


def place_of(where: str | os.PathLike[str] | None) -> tuple[str, bool]:
    """Return what the user calls a catalogue, and whether another server has it."""
    place = os.fspath(where or os.environ.get("CURIOSITY_CATALOG") or DEFAULT)
    expected = "a directory, a Tiled URI such as http://127.0.0.1:8000 or a Tiled profile"
    try:
        place.encode()
        if place.startswith(("http://", "https://")):
            # Both read it later, and neither complains of all that the other does.
            import httpx

            if not httpx.URL(place).host or urlsplit(place).port == 0:
                raise ValueError("it names no server")
            return place, True
        # A name is a directory as soon as there is one; write ./name to mean one yet to be made.
        there = Path(place).expanduser().exists()
        if Path(place).expanduser().is_file():
            raise ValueError("it is a file")
    except Exception as error:  # of httpx, urllib and the file system
        raise InputError(f"the catalogue is {place!r} ({error}); expected {expected}") from None
    if there or place != Path(place).name:
        return place, False
    from curiosity_bluesky.catalog._tiled_compat import list_profiles

    return place, place in list_profiles()

"""A catalogue's directory: whether it can be written to, its lock, and the server that has it."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from pathlib import Path

import filelock

from curiosity_bluesky.errors import InputError

INDEX, INDEX_SPEC = "similarity", "SimilarityIndex"
"""Key and spec of the container beside the runs that holds descriptors of their images."""

START_SECONDS = 30.0
"""How long a server may take to start, s."""


class DirectoryTaken(InputError):
    """Another process serves the directory."""


def lock_of_directory(directory: Path, *, thread_local: bool = True) -> filelock.FileLock:
    """Return the lock of a catalogue's directory, not taken yet.

    Parameters
    ----------
    directory
        Of the catalogue.
    thread_local
        Whether only the thread that takes it can free it.
    """
    return filelock.FileLock(directory / ".lock", timeout=0, thread_local=thread_local)


def lock_unless_served(directory: Path) -> tuple[filelock.FileLock | None, tuple[str, str] | None]:
    """Take the lock of a directory, or return URI and key of the server that has it.

    Who holds the lock and says nothing is starting a server or reading: both are waited for.

    Parameters
    ----------
    directory
        Of the catalogue.

    Returns
    -------
    lock : filelock.FileLock or None
        Held; None if a server has the directory.
    server : tuple of str or None
        URI and key of that server.

    Raises
    ------
    InputError
        If a process holds the lock for half a minute and serves nothing.
    """
    lock = lock_of_directory(directory, thread_local=False)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            lock.acquire()
            return lock, None
        except filelock.Timeout:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                note = json.loads((directory / "server.json").read_text())
                # A copy of a catalogue that is served has the note of the original's server.
                if note.get("directory") in (None, str(directory)):
                    return None, (note["uri"], note["api_key"])
        if time.monotonic() > deadline:  # locked, but it never said where it listens
            raise InputError(
                f"{directory} is locked by a process that does not answer; end it "
                f"(see {directory / '.lock'}) and try again"
            )
        time.sleep(0.05)


def running_server(directory: Path) -> tuple[str, str] | None:
    """Return URI and key of the server that has a directory; None if none has."""
    lock, server = lock_unless_served(directory)
    if lock is not None:
        lock.release()
    return server


def writable_directory(directory: Path) -> Path:
    """Make a directory if need be and return its absolute path.

    A new one can be entered by its owner alone; one that is there keeps its permissions.

    Raises
    ------
    InputError
        If it cannot be made or written to.
    """
    path = Path(directory).expanduser().resolve()
    if found := [mark for mark in "?#" if mark in str(path)]:
        # Tiled does not quote them in the URI of a database, and would write to another file.
        raise InputError(
            f"the catalogue directory {path} has {' and '.join(found)} in its path, which no "
            "catalogue can have; choose another with --catalog DIR"
        )
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = path / f".write-test-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the catalogue directory {directory} cannot be written to "
            f"({error.strerror or error}); choose another with --catalog DIR"
        ) from None
    return path

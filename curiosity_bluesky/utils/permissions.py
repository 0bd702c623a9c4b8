"""Permissions of files: what a catalogue or a server keeps is its owner's alone."""

from __future__ import annotations

import os
from pathlib import Path

from curiosity_bluesky.errors import InputError

_OTHERS = 0o077


def owner_only(path: str, flags: int) -> int:
    """Open a file for `open` (its ``opener``); a new one can be read by its owner alone."""
    return os.open(path, flags, 0o600)


def private_directory(path: Path) -> Path:
    """Make a directory that its owner alone can enter, or make one that is there such a one.

    Parameters
    ----------
    path
        The directory; its parents are made as usual.

    Raises
    ------
    InputError
        If others can enter it all the same.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    _restrict(path, 0o700)
    return path


def make_private(directory: Path) -> None:
    """Take a directory with all that is in it away from everybody but its owner.

    No other user gets past the directory itself. Files and folders that lie in it directly lose
    their permissions for others, too, so that they keep none where they are moved.

    Parameters
    ----------
    directory
        The directory.

    Raises
    ------
    InputError
        If that cannot be: it belongs to another user, or its file system has no permissions.
    """
    private_directory(directory)
    for path in directory.iterdir():
        if not path.is_symlink():  # what lies elsewhere is not the catalogue's
            _restrict(path, 0o700 if path.is_dir() else 0o600)


def _restrict(path: Path, mode: int) -> None:
    try:
        if path.stat().st_mode & _OTHERS:
            path.chmod(mode)
        restricted = not path.stat().st_mode & _OTHERS or os.name == "nt"
    except FileNotFoundError:  # a temporary file that has gone
        return
    except OSError as error:
        raise InputError(_said(path, error.strerror or str(error))) from None
    if not restricted:
        raise InputError(_said(path, "its file system keeps no permissions"))


def _said(path: Path, why: str) -> str:
    return (
        f"{path} cannot be made private ({why}); expected a directory of your own on a file system "
        "with permissions: choose another, or have its owner do it"
    )

"""What those who write HDF5 files and those who read them agree on: how a document names one."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

MIMETYPE = "application/x-hdf5"


def uri_of(path: PurePath) -> str:
    """Return the URI of a file or a directory, as Tiled wants it: with a host.

    Parameters
    ----------
    path
        Its whole path.
    """
    return path.as_uri().replace("file:///", "file://localhost/", 1)


def plain_uri_of(path: PurePath) -> str:
    """Return the URI of a file or a directory, as Tiled 0.2.20 reads it: nothing is quoted.

    Of ``file://localhost/my%20runs/data`` it would make a directory called ``my%20runs``.

    Parameters
    ----------
    path
        Its whole path, without ``?`` and ``#``.
    """
    return unquote(uri_of(path))


def path_of(uri: str, *, windows: bool = os.name == "nt") -> str:
    """Return the path that a URI of the scheme ``file`` names.

    Parameters
    ----------
    uri
        Such as ``file://localhost/data/a%20b.h5`` or, on Windows, ``file://localhost/C:/a.h5``
        and ``file://server/share/a.h5``. Elsewhere the host is passed over: it is for the reader
        to have the file under the same path.
    windows
        Whether it is a path of Windows. Default: what this machine has.
    """
    where = urlsplit(uri)
    path = unquote(where.path)
    if not windows:
        return path
    if re.match("/+[A-Za-z]:", path):
        return path.lstrip("/")
    return path if where.netloc in ("", "localhost") else f"//{where.netloc}{path}"

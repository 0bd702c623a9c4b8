"""The way to a catalogue: found again when the server at its end has changed."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any, Protocol

import httpx
import platformdirs
from tiled.client import from_profile, from_uri
from tiled.profiles import load_profiles

from curiosity_bluesky.catalog.embedded_server import (
    DirectoryTaken,
    EmbeddedServer,
    running_server,
    writable_directory,
)
from curiosity_bluesky.catalog.run_uploader import is_unreachable as is_unreachable
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.errors import Unreachable as Unreachable
from curiosity_bluesky.utils.permissions import private_directory

PROBE = 15.0
"""How long a server may take to say that it is there, s."""

SLOW = 120.0
"""How long one may take that this process serves itself, s: on a busy machine it is slow."""


class Connection(Protocol):
    """What a catalogue needs of the way to its server."""

    where: str
    journal: Path
    pictures: Path
    assets: Path

    def open(self) -> Any:
        """Return a new Tiled client, or raise InputError."""
        ...

    def close(self) -> None:
        """Let go of it; it opens nothing any more."""
        ...


class DirectoryConnection:
    """To the runs in a directory.

    Whoever comes first serves the directory, the others join; when the one that serves it
    ends, the next that asks takes its place.

    Parameters
    ----------
    where
        The directory as the user named it.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.directory = writable_directory(Path(where))
        self.journal = writable_directory(self.directory / "journal")
        self.pictures = Path(where) / "pictures"
        self.assets = self.directory / "assets"
        self._mutex = threading.Lock()
        self._server: EmbeddedServer | None = None
        self._closed = False

    def open(self) -> Any:
        """Return a new Tiled client; start a server if none has the directory.

        Raises
        ------
        InputError
            If that cannot be.
        """
        uri, api_key = self._found()
        _answers(uri, own=self._server is not None)
        return _ask(self.where, lambda: from_uri(uri, api_key=api_key))

    def _found(self) -> tuple[str, str]:
        with self._mutex:
            while True:
                if self._closed:
                    raise Unreachable(f"the catalogue {self.where} is closed; connect to it again")
                if self._server is None and (found := running_server(self.directory)) is not None:
                    return found
                try:
                    self._server = self._server or EmbeddedServer(self.directory)
                    return self._server.uri, self._server.api_key
                except DirectoryTaken:
                    continue  # by a process that looked at the same moment, and was quicker

    def close(self) -> None:
        """Stop the server, if it is ours; more than once is fine."""
        with self._mutex:
            self._closed = True
            if self._server is not None:
                self._server.close()


class RemoteConnection:
    """To a Tiled server elsewhere.

    Parameters
    ----------
    where
        Its URI, or the name of a Tiled profile.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.pictures = Path("pictures")
        self.assets = Path("assets")
        self._is_uri = where.startswith(("http://", "https://"))
        content = {} if self._is_uri else load_profiles()[where][1]
        self._uri = where if self._is_uri else content.get("uri")
        # One folder for each server: what was meant for one must not be taken in by another.
        name = re.sub(r"\W+", "-", self._uri or where).strip("-")
        data = Path(platformdirs.user_data_dir("curiosity-bluesky"))
        self.journal = private_directory(data / "journal" / name)

    def open(self) -> Any:
        """Return a new Tiled client.

        Raises
        ------
        InputError
            If the server does not answer, refuses the key or has no runs.
        """
        if self._uri:
            _answers(self._uri)
        opened = from_uri if self._is_uri else from_profile
        return _ask(self.where, lambda: opened(self.where))

    def close(self) -> None:
        """Do nothing: nothing is ours."""


def alive(client: Any) -> bool:
    """Whether the server of a client answers."""
    http = client.context.http_client
    if http.is_closed:
        return False
    try:
        answer = http.get(str(client.context.api_uri), timeout=PROBE)
    except httpx.TransportError:
        return False
    return not answer.is_server_error


def _answers(uri: str, own: bool = False) -> None:
    """Raise Unreachable if nobody is there: Tiled's own client tries for half a minute.

    Parameters
    ----------
    uri
        Of the server.
    own
        Whether this very process serves it: then it is there, and may only be slow.
    """
    try:
        answer = httpx.get(uri, timeout=SLOW if own else PROBE)
        why = f"{answer.status_code} {answer.reason_phrase}" if answer.is_server_error else ""
    except httpx.TransportError as error:
        why = f"{type(error).__name__}: {error}"
        if own and isinstance(error, httpx.TimeoutException):
            raise Unreachable(
                f"the Tiled server of this process is slow: it did not answer within {SLOW:g} s; "
                "the machine is very busy, try again when it is less so"
            ) from None
    if why:
        raise Unreachable(
            f"no Tiled server answers at {uri} ({why}); is it running (`curiosity serve`)?"
        )


def _ask(where: str, ask: Any) -> Any:
    try:
        client = ask()
        if not hasattr(client, "v3"):
            raise InputError(
                f"{where} is not a catalogue of Bluesky runs; add the path of one to the URI"
            )
        # Explicitly version 3: databroker may have switched the process to another one.
        return client.v3
    except InputError:
        raise
    except Exception as error:  # httpx's and tiled's many ways to say no
        failed = isinstance(error, httpx.HTTPStatusError) and error.response.is_server_error
        kind = Unreachable if failed or is_unreachable(error) else InputError
        raise kind(
            f"the Tiled server at {where} cannot be used ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); is it running (`curiosity serve`), and is "
            "TILED_API_KEY set?"
        ) from error

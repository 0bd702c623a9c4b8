"""Connection to a catalogue, made again when its server has changed.

What asks a server is imported when one is asked: reading the files of a directory needs none of it.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import platformdirs

from curiosity_bluesky.catalog.directory import (
    DirectoryTaken,
    lock_unless_served,
    running_server,
    writable_directory,
)
from curiosity_bluesky.catalog.local_files import NotUnderstood
from curiosity_bluesky.catalog.local_reader import LocalRuns
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.errors import Unreachable as Unreachable
from curiosity_bluesky.utils.at_exit import call_at_exit
from curiosity_bluesky.utils.permissions import private_directory

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.embedded_server import EmbeddedServer

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

    @property
    def connecting(self) -> bool:
        """Whether a server is being looked for or started at this moment."""
        ...

    def open(self) -> Any:
        """Return a new Tiled client, or raise InputError."""
        ...

    def close(self) -> None:
        """Close it for good."""
        ...


class DirectoryConnection:
    """To the runs in a directory.

    The first process serves the directory, the others join; when the one that serves it
    ends, the next that asks takes its place. Clients that were opened before go on with it.

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
        self._latest: tuple[str, str] | None = None
        self._closed = False

    @property
    def connecting(self) -> bool:
        """Whether a server is being looked for or started at this moment."""
        return self._mutex.locked()

    def open(self) -> Any:
        """Return a new Tiled client; start a server if none has the directory.

        Raises
        ------
        InputError
            If that cannot be.
        """
        from tiled.client import from_uri

        from curiosity_bluesky.catalog._tiled_compat import wrap_transport
        from curiosity_bluesky.catalog.following import FollowingTransport

        uri, api_key = self._found()
        _answers(uri, own=self._server is not None)
        client = _ask(self.where, lambda: from_uri(uri, api_key=api_key))
        wrap_transport(client.context, lambda inner: FollowingTransport(inner, self.server))
        return client

    def server(self, ended: str = "") -> tuple[str, str]:
        """Return URI and key of the server; look for another, or start one, if that one ended.

        Parameters
        ----------
        ended
            URI of one that does not listen any more.

        Raises
        ------
        InputError
            If there is no other.
        """
        latest = self._latest
        if latest is not None and latest[0] != ended:
            return latest
        return self._found()

    def read_files(self) -> LocalRuns | None:
        """Return the runs as their files hold them, which takes the directory's lock.

        Returns
        -------
        LocalRuns or None
            None if a server has the directory, or has to look at it first.

        Raises
        ------
        InputError
            If a database is gone or damaged.
        """
        lock, _ = lock_unless_served(self.directory)
        if lock is None:
            return None
        try:
            # Of a server that was killed: while this has the lock, others must not ask there.
            (self.directory / "server.json").unlink(missing_ok=True)
            return LocalRuns.of(self.directory, lock)
        except BaseException as error:
            lock.release()
            # A file that this module cannot open: the server says what is wrong with it.
            if isinstance(error, NotUnderstood | OSError | sqlite3.Error):
                return None
            raise

    def _found(self) -> tuple[str, str]:
        from curiosity_bluesky.catalog.embedded_server import EmbeddedServer

        with self._mutex:
            while True:
                if self._closed:
                    raise Unreachable(f"the catalogue {self.where} is closed; connect to it again")
                found = running_server(self.directory) if self._server is None else None
                try:
                    if found is None:
                        self._server = self._server or EmbeddedServer(self.directory)
                        found = self._server.uri, self._server.api_key
                except DirectoryTaken:
                    continue  # by a process that looked at the same moment, and was quicker
                self._latest = found
                return found

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

    connecting = False

    def __init__(self, where: str) -> None:
        from curiosity_bluesky.catalog._tiled_compat import load_profiles

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
        from tiled.client import from_profile, from_uri

        if self._uri:
            _answers(self._uri)
        opened = from_uri if self._is_uri else from_profile
        return _ask(self.where, lambda: opened(self.where))

    def close(self) -> None:
        """Do nothing: nothing is ours."""


# Bad gateway, service unavailable, gateway timeout: of a proxy whose server is down.
_OF_PROXIES = (502, 503, 504)


def is_unreachable(error: Exception) -> bool:
    """Whether an error says that no server is there, or only a proxy in front of none."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _OF_PROXIES
    return isinstance(error, httpx.TransportError)


def close_at_exit(close: weakref.WeakMethod) -> None:
    """Close a catalogue that is still open when the interpreter ends."""

    def run() -> None:
        if (method := close()) is not None:
            method()

    # The embedded server needs the thread pools of Python in order to take the last documents;
    # without them the journal keeps the rest.
    call_at_exit(run)


def alive(client: Any) -> bool:
    """Whether the server that a client was made for answers, and no other in its place."""
    import httpx

    http, uri = client.context.http_client, httpx.URL(str(client.context.api_uri))
    if http.is_closed:
        return False
    try:
        answer = http.get(uri, timeout=PROBE)
    except httpx.TransportError:
        return False
    asked = [*answer.history, answer][0].url  # before any redirection
    return not answer.is_server_error and asked.netloc == uri.netloc


def _answers(uri: str, own: bool = False) -> None:
    """Raise Unreachable if no server answers: Tiled's own client tries for half a minute.

    Parameters
    ----------
    uri
        Of the server.
    own
        Whether this very process serves it: then it is there, and may only be slow.
    """
    import httpx

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
    import httpx

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

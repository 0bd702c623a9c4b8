"""Source of a catalogue's runs: the files of a directory, or a Tiled server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from curiosity_bluesky.catalog.connection import Connection, alive, is_unreachable
from curiosity_bluesky.catalog.local_files import NotUnderstood
from curiosity_bluesky.catalog.local_reader import LocalRuns
from curiosity_bluesky.errors import InputError

T = TypeVar("T")


class RunSource:
    """Reads runs from the files of a directory as long as they will do, else from the server.

    When the server has ended, the next request looks for the one that took its place.

    Parameters
    ----------
    connection
        The way to the server.
    client
        A Tiled client of it, None if the server does not answer yet, or is not asked yet.
    files
        The runs as a directory's files hold them; None: the server is asked.
    """

    def __init__(self, connection: Connection, client: Any, files: LocalRuns | None) -> None:
        self._connection = connection
        self._client = client
        self._files = files
        self._mutex = threading.Lock()

    @property
    def reads_files(self) -> bool:
        """Whether it reads the files of a directory, and asks no server."""
        return self._files is not None

    @property
    def client(self) -> Any:
        """The Tiled client; a new one if the server of the last does not answer any more."""
        self.let_go_of_files()
        with self._mutex:
            if self._client is None or not alive(self._client):
                self._client = None
                self._client = self._connection.open()
            return self._client

    def let_go_of_files(self) -> None:
        """Free the directory for a server, which is asked from now on."""
        files, self._files = self._files, None
        if files is not None:
            files.close()

    def read(self, ask: Callable[[Any], T]) -> T:
        """Ask the files of the directory about the runs, or else the server."""
        if self._files is not None:
            try:
                return ask(self._files)
            except NotUnderstood:
                self.let_go_of_files()
        return self.ask_server(ask)

    def peek(self, ask: Callable[[Any], T]) -> T | None:
        """Ask the files of the directory alone; None where it takes the server."""
        with contextlib.suppress(NotUnderstood):
            return None if self._files is None else ask(self._files)
        return None

    def ask_server(self, ask: Callable[[Any], T]) -> T:
        """Ask the server about the runs, once more if it went away in between."""
        return once_more(lambda: ask(_runs(self.client)))


def once_more(ask: Callable[[], T]) -> T:
    """Return what is asked, asked a second time if the server went away in between."""
    try:
        return ask()
    except InputError:
        raise
    except Exception as error:
        # To tell which errors these are takes an import that is slow, and that files do not need.
        if not is_unreachable(error):
            raise
        return ask()  # raises Unreachable if no other took its place


def _runs(client: Any) -> Any:
    """Return what is a run of all that lies in a catalogue: the index of similarity is none."""
    from tiled.queries import SpecsQuery

    return client.search(SpecsQuery(include=["BlueskyRun"]))

"""Embedded Tiled server for the runs in one directory."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import uvicorn

from curiosity_bluesky.catalog import _tiled_compat
from curiosity_bluesky.catalog.databases import check_databases
from curiosity_bluesky.catalog.directory import (
    START_SECONDS,
    DirectoryTaken,
    lock_of_directory,
    writable_directory,
)
from curiosity_bluesky.catalog.relocation import update_moved_paths
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hdf5 import plain_uri_of, uri_of
from curiosity_bluesky.utils.hosts import HostCheck, Hosts
from curiosity_bluesky.utils.permissions import make_private

_KEEP_ALIVE = 60
"""How long an idle connection is kept, s: httpx gives its own up after 5 s, and has to be the
first, or it sends a request at the moment in which uvicorn closes the connection."""

_TURN_SECONDS = 120.0
"""Maximum seconds that a request waits for its turn at the tables."""

_STREAMING = {"uri": "memory", "data_ttl": 60, "seq_ttl": 86400, "maxsize": 1000}
"""Streaming cache of Tiled: subscribers can fetch what was written within the last minute."""


class EmbeddedServer:
    """Serves the runs in a directory to this machine, from a thread of this process.

    The directory belongs to one server at a time: a lock says so, and while it is held
    ``server.json`` (readable by its owner alone) tells other processes of the same user
    where to ask. The thread is a daemon, so a process that forgets to close it still ends.

    Parameters
    ----------
    directory
        Where the runs live: ``catalog.db``, ``tables.db``, ``data/`` and the server's
        logs. It is made if need be.
    port
        Port on 127.0.0.1; 0 takes a free one.
    api_key
        Key that allows everything. Default: a random one.
    anonymous_read
        Whether all users of this machine may read without a key.
    private
        Whether to take the directory with all that is in it away from other users of this
        machine. (One that is made here is its owner's alone in any case.)
    host_names
        Names that the server is reached by besides 127.0.0.1 and localhost, such as through a
        reverse proxy. It answers to no others.

    Attributes
    ----------
    uri : str
        Where clients ask, without the key.
    api_key : str
        The key.

    Raises
    ------
    DirectoryTaken
        If another server has the directory.
    InputError
        If the directory cannot be written to.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        api_key: str | None = None,
        anonymous_read: bool = False,
        private: bool = False,
        host_names: Sequence[str] = (),
    ) -> None:
        hosts = Hosts.of("127.0.0.1", host_names)
        self.directory = writable_directory(directory)
        if private:
            make_private(self.directory)
        self.api_key = api_key or secrets.token_hex(16)
        # The thread that closes it may be another than the one that starts it.
        self._lock = lock_of_directory(self.directory, thread_local=False)
        self._server: _Server | None = None
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise DirectoryTaken(
                f"{directory} is served by another process already; join it with "
                f"connect({str(directory)!r}), or end that process first"
            ) from None
        try:
            # Of a server that was killed: clients that wait for this one must not ask there.
            (self.directory / "server.json").unlink(missing_ok=True)
            self._start(port, anonymous_read, hosts)
        except BaseException as error:
            if self._server is not None:
                self._server.should_exit = True
            self._lock.release()
            if isinstance(error, OSError):
                raise InputError(
                    f"the catalogue {directory} cannot be opened ({error.strerror or error}); make "
                    "room on its disk, or correct its permissions, and try again"
                ) from error
            raise

    def _start(self, port: int, anonymous_read: bool, hosts: Hosts) -> None:
        check_databases(self.directory)
        _tiled_compat.create_catalog(self.directory / "catalog.db")
        update_moved_paths(self.directory)
        _tiled_compat.allow_leftover_arrays()
        listening = _listen(port)
        app = _tiled_compat.build_app(_config(self.directory, self.api_key, anonymous_read))
        _tiled_compat.keep_settings(app, self.api_key, anonymous_read)
        config = uvicorn.Config(
            HostCheck(_said_to_close(app), hosts),
            loop="asyncio",
            log_config=_logging(self.directory),
            timeout_keep_alive=_KEEP_ALIVE,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="tiled", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise InputError(
                    f"the Tiled server for {self.directory} did not start; "
                    f"{self.directory / 'server.log'} says why"
                )
            time.sleep(0.02)
        _tiled_compat.one_request_at_a_time(_tables(self.directory), _TURN_SECONDS)
        self.uri = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
        note = {
            "uri": self.uri, "api_key": self.api_key, "pid": os.getpid(),
            "directory": str(self.directory),
        }  # fmt: skip
        path = self.directory / "server.json"
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            json.dump(note, file)

    def wait(self) -> None:
        """Serve until the thread ends (Ctrl-C raises KeyboardInterrupt)."""
        while self._thread.is_alive():
            self._thread.join(0.2)

    def close(self) -> None:
        """Stop serving and give the directory free; more than once does no harm."""
        if not self._lock.is_locked:
            return
        (self.directory / "server.json").unlink(missing_ok=True)
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(10)
        self._lock.release()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        # Signals belong to the RunEngine and to the command line.
        yield


def _listen(port: int) -> socket.socket:
    # Of TCP by name: asyncio switches Nagle's algorithm off on no other sockets, and each answer
    # would wait 40 ms for the acknowledgement of its first half.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A server that has just ended leaves its port in a state that would refuse the next one.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(f"port {port} cannot be used ({error}); choose another: --port") from None
    return listening


def _config(directory: Path, api_key: str, anonymous_read: bool) -> dict[str, Any]:
    (directory / "data").mkdir(exist_ok=True)
    return {
        "authentication": {
            "single_user_api_key": api_key,
            "allow_anonymous_access": anonymous_read,
        },
        "trees": [
            {
                "path": "/",
                "tree": "curiosity_bluesky.catalog.listing:runs_only",
                "args": {
                    "uri": f"sqlite:///{directory / 'catalog.db'}",
                    "writable_storage": [
                        plain_uri_of(directory / "data"),
                        _tables(directory),
                    ],
                    "readable_storage": [
                        *_older_tables(directory),
                        *_older_data(directory),
                        *_readable(directory),
                    ],
                    "specs": [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
                    # Tiled hands `streaming_cache` on to trees of its own alone.
                    "cache_config": dict(_STREAMING),
                },
            }
        ],
        # Lets a run be read back as the documents that made it.
        "media_types": {
            "BlueskyRun": {
                "application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"
            }
        },
        "file_extensions": {"json-seq": "application/json-seq"},
        "streaming_cache": {"uri": _STREAMING["uri"]},
    }


def _tables(directory: Path) -> str:
    """Return where scalars are written.

    SQLite: a DuckDB file whose process was killed may refuse for good, when it is next opened,
    to delete the rows of a run ("Failed to delete all rows from index"), and with that all
    else, until the server is started again.
    """
    return f"sqlite:///{directory / 'tables.db'}"


def _readable(directory: Path) -> list[str]:
    """Return where the server reads files of detectors: ``assets``, and what is listed.

    The list, ``readable-storage``, is in the catalogue's directory, one directory a line, so
    that it holds whichever process serves it.
    """
    listed = directory / "readable-storage"
    lines = listed.read_text().splitlines() if listed.exists() else []
    found = [directory / "assets"]
    for line in filter(None, map(str.strip, lines)):
        path = Path(line).expanduser()
        if line.startswith("#"):
            continue
        if not path.is_absolute():
            raise InputError(
                f"{listed} has the line {line!r}; expected a directory's whole path, such as "
                "/data/images: correct it and start again"
            )
        found.append(path)
    return [plain_uri_of(path.resolve()) for path in found]


def _older_tables(directory: Path) -> list[str]:
    """Return where versions of this package before SQLite wrote scalars."""
    older = directory / "storage.duckdb"
    return [f"duckdb:///{older}"] if older.exists() else []


def _older_data(directory: Path) -> list[str]:
    """Return where versions before this one wrote arrays if a path has spaces or the like.

    They quoted the path, which Tiled took as it is: the directory of that name is another one.
    """
    older = uri_of(directory / "data")
    literal = Path(older.removeprefix("file://localhost"))
    return [older] if literal != directory / "data" and literal.exists() else []


def _said_to_close(app: Any) -> Any:
    """Have an answer of 500 say that its connection is closed.

    Starlette sends it and raises the error again, so that it is logged; uvicorn then closes the
    connection. A client that was not told would ask there again, and learn of no error but that
    the connection was reset.
    """

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 500:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, sending)

    return wrapped


class LogFile(logging.FileHandler):
    """A log whose disk may be full: that is said where it matters, and not for each line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing of a line that the disk does not take, and what `logging` does of others."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _logging(directory: Path) -> dict[str, Any]:
    config = _tiled_compat.logging_configuration()
    for handler, name in (("access", "access.log"), ("default", "server.log")):
        config["handlers"][handler].pop("stream", None)
        config["handlers"][handler] |= {
            "class": "curiosity_bluesky.catalog.embedded_server.LogFile",
            "filename": str(directory / name),
            "delay": True,
        }
    # Its connections are the server's: on a full disk each that is put back says so, at length.
    config["loggers"]["sqlalchemy"] = {**config["loggers"]["tiled"], "level": "WARNING"}
    return config

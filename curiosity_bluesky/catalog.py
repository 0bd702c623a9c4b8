"""Where runs live: an embedded or a remote Tiled catalogue, written and searched alike."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import platformdirs
from bluesky_tiled_plugins.queries import TimeRange
from tiled.client import from_profile, from_uri
from tiled.profiles import list_profiles
from tiled.queries import Eq

from curiosity_bluesky.documents import RESUMES
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.server import (
    DirectoryTaken,
    EmbeddedServer,
    running_server,
    writable_directory,
)
from curiosity_bluesky.writer import JournaledWriter

DEFAULT = "runs"
"""Directory of the catalogue when ``CURIOSITY_CATALOG`` says nothing else."""


@dataclass(frozen=True)
class RunSummary:
    """One line about a run.

    Parameters
    ----------
    uid, sample, strategy, plan_name
        From the start document; None where it does not say.
    time
        Start, ISO 8601 with the local time zone.
    points
        Spectra in the run, so far if it is open.
    num_points
        Spectra that were asked for.
    status
        ``success``, ``abort`` or ``fail``; ``open`` while there is no stop document.
    """

    uid: str
    time: str
    sample: str | None
    strategy: str | None
    plan_name: str | None
    points: int
    num_points: int | None
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, JSON-ready."""
        return asdict(self)


class Catalog:
    """The runs in one Tiled catalogue; made by `connect`.

    ``catalog[-1]``, ``catalog[uid]`` and ``catalog["first characters of a uid"]`` are runs,
    `runs` searches, `writer` makes a callback for a RunEngine. Before anything is read, what
    its writers still have in hand is written. Close it, or use it in a ``with`` statement;
    at the latest it is closed when the process ends.

    Parameters
    ----------
    client
        The Tiled client of the catalogue.
    where
        What the user called it.
    journal
        Directory of the writers' journals.
    server
        The server to close with it.
    remote
        Whether it is elsewhere, so that `where` is not a directory.
    """

    def __init__(
        self,
        client: Any,
        where: str,
        journal: Path,
        server: EmbeddedServer | None = None,
        remote: bool = False,
    ) -> None:
        # Explicitly version 3: databroker may have switched the process to another one.
        self.client = client.v3
        self.where = where
        self._journal = journal
        self._server = server
        self._remote = remote
        self._writers: list[JournaledWriter] = []
        _at_exit(weakref.WeakMethod(self.close))

    @property
    def pictures(self) -> Path:
        """Where pictures of its runs go: beside the runs, or ``pictures`` for a remote one."""
        return Path("pictures") if self._remote else Path(self.where) / "pictures"

    def writer(self, batch_size: int = 1) -> JournaledWriter:
        """Return a document callback that writes into this catalogue.

        ``RE.subscribe(catalog.writer())``; see `JournaledWriter`.
        """
        writer = JournaledWriter(self.client, self._journal, batch_size)
        writer.catalog = self  # whoever holds the writer holds the server
        self._writers.append(writer)
        return writer

    def flush(self) -> None:
        """Wait until the writers have nothing in hand."""
        for writer in self._writers:
            writer.flush()

    def __getitem__(self, key: int | str) -> Any:
        self.flush()
        try:
            return self.client[key]
        except (KeyError, IndexError, ValueError):
            raise InputError(
                f"no run {key!r} in {self.where}, which holds {len(self.client)} runs; "
                "`curiosity runs` lists them"
            ) from None

    def __len__(self) -> int:
        self.flush()
        return len(self.client)

    def __iter__(self) -> Iterator[str]:
        self.flush()
        return iter(self.client)

    def __repr__(self) -> str:
        return f"<Catalog {self.where!r}, {len(self)} runs>"

    def documents(self, uid: str | int) -> list[tuple[str, dict[str, Any]]]:
        return list(self[uid].documents())

    def lineage(self, uid: str | int) -> list[list[tuple[str, dict[str, Any]]]]:
        """Return the documents of a run, after those of the runs that it went on with.

        Parameters
        ----------
        uid
            Of the newest run, or its first characters.
        """
        runs = [self.documents(uid)]
        while (earlier := runs[0][0][1].get(RESUMES)) is not None:
            runs.insert(0, self.documents(earlier))
        return runs

    def search(self, query: Any) -> Any:
        """Search with a Tiled query, such as ``Key("sample") == "PTO"``; returns a client."""
        self.flush()
        return self.client.search(query)

    def runs(
        self,
        *,
        sample: str | None = None,
        strategy: str | None = None,
        plan_name: str | None = None,
        since: str | None = None,
    ) -> list[RunSummary]:
        """Return one line about each run, the newest last.

        Parameters
        ----------
        sample, strategy, plan_name
            Only runs with these in their start document.
        since
            Only runs started at or after this time, such as ``2026-11-21`` or
            ``2026-11-21 14:30``.

        Raises
        ------
        InputError
            If `since` is not a time.
        """
        self.flush()
        found = self.client
        keys = {"sample": sample, "curiosity_strategy": strategy, "plan_name": plan_name}
        for key, value in keys.items():
            if value is not None:
                found = found.search(Eq(f"start.{key}", value))
        if since is not None:
            try:
                moment = datetime.fromisoformat(since).astimezone()
            except ValueError:
                raise InputError(
                    f"since is {since!r}; expected a time such as 2026-11-21 or '2026-11-21 14:30'"
                ) from None
            found = found.search(TimeRange(since=moment.timestamp()))
        summaries = [_summary(run) for run in found.values()]
        return sorted(summaries, key=lambda summary: summary.time)

    def close(self) -> None:
        """Write what is in hand and, if it is ours, stop the server; more than once is fine."""
        for writer in self._writers:
            writer.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def connect(where: str | os.PathLike[str] | None = None, *, create: bool = True) -> Catalog:
    """Open a catalogue of runs.

    Parameters
    ----------
    where
        A directory, a Tiled URI (``http...``) or the name of a Tiled profile. Default: the
        environment variable ``CURIOSITY_CATALOG``, else the directory ``runs``. In a
        directory an embedded server is started; if another process of this user has it
        open already, that one is joined (and its end is the end of this catalogue too).
    create
        Whether a directory without a catalogue becomes one.

    Raises
    ------
    InputError
        If the directory cannot be written to or holds no catalogue, or if the server does
        not answer or refuses the key.
    """
    where = os.fspath(where or os.environ.get("CURIOSITY_CATALOG") or DEFAULT)
    if where.startswith(("http://", "https://")):
        _answers(where)
        return Catalog(_ask(where, lambda: from_uri(where)), where, _remote_journal(), remote=True)
    # A name is a directory as soon as there is one; write ./name to mean one yet to be made.
    if not Path(where).exists() and where == Path(where).name and where in list_profiles():
        return Catalog(
            _ask(where, lambda: from_profile(where)), where, _remote_journal(), remote=True
        )
    directory = Path(where).expanduser().resolve()
    if not create and not (directory / "catalog.db").exists():
        raise InputError(
            f"no catalogue at {where}; expected a directory that a run was written to, a Tiled "
            "URI or a Tiled profile: give one with --catalog, or make a run with `curiosity demo`"
        )
    writable_directory(directory)
    journal = writable_directory(directory / "journal")
    server, (uri, api_key) = _server(directory)
    client = _ask(where, lambda: from_uri(uri, api_key=api_key))
    return Catalog(client, where, journal, server)


def _server(directory: Path) -> tuple[EmbeddedServer | None, tuple[str, str]]:
    """Join the server that has a directory, or start one; with it, where to ask."""
    server: EmbeddedServer | None = None
    found = running_server(directory)
    while found is None:
        try:
            server = EmbeddedServer(directory)
            found = server.uri, server.api_key
        except DirectoryTaken:  # by a process that looked at the same moment, and was quicker
            found = running_server(directory)
    return server, found


def _at_exit(close: weakref.WeakMethod) -> None:
    """Close a catalogue that nobody closed when the interpreter ends."""

    def run() -> None:
        if (method := close()) is not None:
            method()

    # atexit comes too late: before it, Python shuts down the thread pools that the embedded
    # server needs in order to take the last documents. This hook comes before that, and has
    # no public name (CPython uses it for just this); without it, the journal keeps the rest.
    getattr(threading, "_register_atexit", atexit.register)(run)


def _answers(uri: str) -> None:
    """Raise InputError if nobody is there at all: Tiled's own client tries for half a minute."""
    try:
        httpx.get(uri, timeout=10)
    except httpx.TransportError as error:
        raise InputError(
            f"no Tiled server answers at {uri} ({error}); is it running (`curiosity serve`)?"
        ) from None


def _ask(where: str, ask: Any) -> Any:
    try:
        with contextlib.redirect_stdout(None):
            client = ask()
        if not hasattr(client, "v3"):
            raise InputError(
                f"{where} is not a catalogue of Bluesky runs; add the path of one to the URI"
            )
        return client
    except InputError:
        raise
    except Exception as error:  # httpx's and tiled's many ways to say no
        raise InputError(
            f"the Tiled server at {where} cannot be used ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); is it running (`curiosity serve`), and is "
            "TILED_API_KEY set?"
        ) from error


def _remote_journal() -> Path:
    return writable_directory(Path(platformdirs.user_data_dir("curiosity-bluesky")) / "journal")


def _summary(run: Any) -> RunSummary:
    start, stop = run.metadata["start"], run.metadata.get("stop")
    events = (stop or {}).get("num_events") or {}
    started = datetime.fromtimestamp(start["time"]).astimezone()
    return RunSummary(
        uid=start["uid"],
        time=started.isoformat(timespec="seconds"),
        sample=start.get("sample"),
        strategy=start.get("curiosity_strategy"),
        plan_name=start.get("plan_name"),
        points=events.get("primary", 0) if stop else _points_so_far(run),
        num_points=start.get("num_points"),
        status=stop["exit_status"] if stop else "open",
    )


def _points_so_far(run: Any) -> int:
    # A stream is there before its first event is.
    if "primary" not in run or "internal" not in run["primary"].base:
        return 0
    return len(run["primary"]["time"])

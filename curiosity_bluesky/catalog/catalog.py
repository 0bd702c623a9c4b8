"""Catalogue of runs, in an embedded or a remote Tiled server, written and searched alike."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curiosity_bluesky.catalog.abandoned import upload_abandoned
from curiosity_bluesky.catalog.connection import (
    Connection,
    DirectoryConnection,
    RemoteConnection,
    Unreachable,
    close_at_exit,
)
from curiosity_bluesky.catalog.databases import check_databases
from curiosity_bluesky.catalog.journal import MAY_WAIT, journals
from curiosity_bluesky.catalog.journal_lines import first_document
from curiosity_bluesky.catalog.local_reader import LocalRuns
from curiosity_bluesky.catalog.locations import place_of
from curiosity_bluesky.catalog.run_documents import documents_of
from curiosity_bluesky.catalog.run_source import RunSource, once_more
from curiosity_bluesky.catalog.successors import successor_of
from curiosity_bluesky.catalog.summaries import RunFilter, status_of, summary_of, summary_of_journal
from curiosity_bluesky.catalog.summaries import RunSummary as RunSummary
from curiosity_bluesky.documents import RESUMES, Document
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.wording import plural

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.upload import RecoveredJournal
    from curiosity_bluesky.catalog.writer import JournaledWriter

T = TypeVar("T")

_PAGE = 300
"""Tiled gives no more of them at once."""


class Catalog:
    """The runs in one Tiled catalogue; made by `connect`.

    ``catalog[-1]``, ``catalog[uid]`` and ``catalog["first characters of a uid"]`` are runs,
    `runs` searches, `writer` makes a callback for a RunEngine. Before anything is read, what
    its writers have not written yet is written, and a run whose process was killed is uploaded.
    When the server has ended, the next request looks for the one that took its place. Close it,
    or use it in a ``with`` statement; at the latest it is closed when the process ends.

    Parameters
    ----------
    connection
        The way to its server.
    client
        A Tiled client of it, None if the server does not answer yet, or is not asked yet.
    files
        The runs as a directory's files hold them, see `connect`; None: a server is asked.
    """

    def __init__(
        self, connection: Connection, client: Any = None, files: LocalRuns | None = None
    ) -> None:
        self._connection = connection
        self._writers: list[JournaledWriter] = []
        self._source = RunSource(connection, client, files)
        self._kept: set[Path] = set()
        close_at_exit(weakref.WeakMethod(self.close))

    @property
    def where(self) -> str:
        """What the user called it."""
        return self._connection.where

    @property
    def journal(self) -> Path:
        """Directory of its journals."""
        return self._connection.journal

    @property
    def assets(self) -> Path:
        """Where detectors may write files so that its server can read them; made if need be.

        For a remote catalogue it is ``assets`` here, and its server has to be told.
        """
        self._connection.assets.mkdir(parents=True, exist_ok=True)
        return self._connection.assets.resolve()

    @property
    def reads_files(self) -> bool:
        """Whether it reads the files of a directory, and asks no server; see `connect`."""
        return self._source.reads_files

    @property
    def pictures(self) -> Path:
        """Where pictures of its runs go: beside the runs, or ``pictures`` for a remote one."""
        return self._connection.pictures

    @property
    def client(self) -> Any:
        """Its Tiled client; a new one if the server of the last does not answer any more.

        Raises
        ------
        InputError
            If no server answers.
        """
        return self._source.client

    def _read(self, ask: Callable[[Any], T]) -> T:
        """Ask the files of the directory about its runs, or else the server."""
        self.flush()
        return self._source.read(ask)

    def _asked(self, ask: Callable[[Any], T]) -> T:
        """Ask the server about its runs, once more if it went away in between."""
        self.flush()
        return self._source.ask_server(ask)

    def writer(
        self,
        batch_size: int = 1,
        retry: tuple[float, float] = (1.0, 30.0),
        durable: bool = False,
        may_wait: float = MAY_WAIT,
    ) -> JournaledWriter:
        """Return a document callback that writes into this catalogue.

        ``RE.subscribe(catalog.writer())``; see `JournaledWriter`. It also takes in, in the
        background, what processes that died have left in the journal.

        Parameters
        ----------
        batch_size
            Events that are written to Tiled at once.
        retry
            Pause before a server that failed is tried again, doubled each time, and the
            longest one, s.
        durable
            Whether the RunEngine waits for each document until the disk has it, so that a
            power cut loses nothing either; what it costs is in docs/what-happens-when.md.
        may_wait
            Documents of a run that may wait in memory while the disk of the journal is full,
            before `curiosity_plan` pauses; ``math.inf``: any number.

        Raises
        ------
        InputError
            If `may_wait` is no such number.
        """
        from curiosity_bluesky.catalog.writer import JournaledWriter

        self._source.let_go_of_files()
        way = self._connection
        writer = JournaledWriter(
            *(way.open, self.journal, batch_size, retry, self.where),
            durable=durable,
            may_wait=may_wait,
            connecting=lambda: way.connecting,
        )
        writer.catalog = self  # what holds the writer holds the server
        self._writers.append(writer)
        return writer

    def recover(self) -> list[RecoveredJournal]:
        """Upload each journal that no living process writes; say what became of it.

        A run that Tiled has already, whole, only loses its journal. One whose process died
        is written as far as it got, and marked ``interrupted`` in the metadata of the run.
        One that the server or its client refuses is kept, and keeps no other waiting. Again,
        or twice at once, does no harm.

        Raises
        ------
        InputError
            If no server answers.
        """
        from curiosity_bluesky.catalog.upload import upload_journals

        # By hand, and of processes that may have written durably: so it waits for the disk.
        each = upload_journals(lambda: self.client, journals(self.journal), durable=True)
        return [recovered for recovered, _ in each]

    @property
    def in_memory(self) -> int:
        """Documents that its writers have in memory alone: the disk of the journal is full."""
        return sum(writer.in_memory for writer in self._writers)

    def flush(self) -> None:
        """Wait until the writers have written everything, but not for a server that is away."""
        for writer in self._writers:
            writer.flush()

    def __getitem__(self, key: int | str) -> Any:
        self._take_abandoned(key)
        return self._look_up(key)

    def check(self, uid: str) -> None:
        """Refuse a run that the directory's files do not hold; what takes a server is not asked."""
        self._look_up(uid, self._source.peek)

    def _take_abandoned(self, key: int | str = -1) -> None:
        """Upload what only journals of processes that died have, of one run or of all."""
        self.flush()
        for writer in self._writers:
            writer.wait_for_recovery(key)
        upload_abandoned(self.journal, key, self._look_up, lambda: self.client, self._kept)

    def _look_up(self, key: int | str, read: Callable[..., Any] | None = None) -> Any:
        if isinstance(key, str) and len(key) < 5:
            raise InputError(f"{key!r} is too short; give the first 5 or more characters of a uid")

        def look(client: Any) -> Any:
            latest = isinstance(key, int) and key < 0  # a recovered run is written last
            return (client.sort(("start.time", 1)) if latest else client)[key]

        try:
            return (read or self._read)(look)
        except (KeyError, IndexError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            n = self.count()
            raise InputError(
                f"no run {key!r} in {self.where}, which holds {n} {plural(n, 'run')}; "
                "`curiosity runs` lists them"
            ) from None

    def __len__(self) -> int:
        self._take_abandoned()
        return self._read(len)

    def __iter__(self) -> Iterator[str]:
        self._take_abandoned()
        return iter(self._asked(list))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield all runs with their uids, asking for a hundred or so at once."""
        self._take_abandoned()
        yield from self._asked(lambda client: client.items())

    def __repr__(self) -> str:
        return f"<Catalog {self.where!r}>"

    def lineage(self, uid: str | int) -> list[list[Document]]:
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
        self._take_abandoned()
        return self._asked(lambda client: client.search(query))

    def documents(self, key: int | str) -> list[Document]:
        """Return the documents of a run as they were emitted, ``(name, document)`` each.

        They come from the journal while there is one, so that a run which was just killed,
        or whose server is away, is read like any other. Else they come from Tiled, which
        keeps neither the uids of events nor an event that a pause repeated.

        Parameters
        ----------
        key
            The run: its uid or the first characters (5 or more) of it, or its number.

        Raises
        ------
        InputError
            If there is no such run, no server answers, or it cannot give documents.
        """
        self._source.let_go_of_files()  # which hold no documents
        return documents_of(self, key)

    def runs(
        self,
        *,
        sample: str | None = None,
        strategy: str | None = None,
        plan_name: str | None = None,
        since: str | None = None,
        last: int | None = None,
        resumes: str | None = None,
    ) -> list[RunSummary]:
        """Return one line about each run, the newest last.

        Of a catalogue of thousands ask for the `last`: the server finds them, and no others
        travel.

        Parameters
        ----------
        sample, strategy, plan_name
            Only runs with these in their start document.
        since
            Only runs started at or after this time, such as ``2026-11-21`` or
            ``2026-11-21 14:30``.
        last
            Maximum number of runs, those started last. None: all.
        resumes
            Only runs that went on with the one of this uid.

        Raises
        ------
        InputError
            If `since` is not a time, or `last` less than 1.
        """
        if last is not None and last < 1:
            raise InputError(f"the last {last} runs are asked for; expected 1 or more")
        wanted = RunFilter.of(sample, strategy, plan_name, since, resumes)

        def ask(client: Any) -> dict[str, tuple[float, RunSummary]]:
            found = wanted.among(client).sort(("start.time", -1)).items()
            if last is not None:
                one_page = last <= _PAGE  # no more travel than are wanted
                found = found.head(last) if one_page else islice(found, min(last, sys.maxsize))
            return {
                uid: (run.metadata["start"]["time"], summary_of(run, self.journal))
                for uid, run in found
            }

        summaries = self._read(ask)
        for path, start in self._journals_of(wanted):
            if path.stem not in summaries and (found := summary_of_journal(path)) is not None:
                summaries[path.stem] = start["time"], found
        by_time = sorted(summaries.values(), key=lambda each: each[0])
        return [summary for _, summary in by_time][-(last or 0) :]

    def count(
        self,
        *,
        sample: str | None = None,
        strategy: str | None = None,
        plan_name: str | None = None,
        since: str | None = None,
    ) -> int:
        """Return how many runs there are; the parameters are those of `runs`."""
        wanted = RunFilter.of(sample, strategy, plan_name, since)
        alone = [path.stem for path, _ in self._journals_of(wanted)]
        there = self._read(lambda client: len(wanted.among(client)))
        return there + sum(not self._read(lambda c, uid=uid: uid in c) for uid in alone)

    def _journals_of(self, wanted: RunFilter) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield journals of runs that are wanted: one that Tiled has not heard of is a run too."""
        for path in journals(self.journal):
            start = first_document(path)
            if start is not None and wanted.is_met_by(start):
                yield path, start

    def read(self, uid: str | int, ask: Callable[[Any], T]) -> T:
        """Return what is asked of a run, asked once more if its server went away in between.

        Where several processes have one directory, the first of them serves it; when that one ends,
        the run is there again at the next server.

        Parameters
        ----------
        uid
            Its uid, the first characters of it, or its number.
        ask
            Called with the run.

        Raises
        ------
        InputError
            If there is no such run, or no server takes the place of the one that ended.
        """
        return once_more(lambda: ask(self[uid]))

    def successor(self, uid: str) -> RunSummary | None:
        """Return the newest run that went on with a run; see `successor_of`."""
        return successor_of(self, uid)

    def status(self, run: Any) -> str:
        """Return how a run ended, or ``open`` or ``interrupted``; see `RunSummary`."""
        return status_of(run, self.journal)

    def close(self) -> None:
        """Write what is left and, if it is ours, stop the server; more than once is fine."""
        for writer in self._writers:
            writer.close()
        self._source.let_go_of_files()
        self._connection.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def connect(
    where: str | os.PathLike[str] | None = None, *, create: bool = True, serve: bool = True
) -> Catalog:
    """Open a catalogue of runs.

    Parameters
    ----------
    where
        A directory, a Tiled URI (``http...``) or the name of a Tiled profile. Default: the
        environment variable ``CURIOSITY_CATALOG``, else the directory ``runs``. In a
        directory an embedded server is started; if another process of this user has it
        open already, that one is joined, and replaced when it ends.
    create
        Whether it is to be written to: a directory without a catalogue becomes one, and a
        server that does not answer is a warning only, since the journal takes what is
        measured until it does.
    serve
        Whether a directory that no server has is served at once. False is for who only lists
        and shows runs, and is quicker: its files are read, by this process alone as long as
        the catalogue is open, and a server is started when it is needed, such as to write.

    Raises
    ------
    InputError
        If the directory cannot be written to or holds no catalogue, or if the server does
        not answer (unless `create`) or refuses the key.
    """
    place, elsewhere = place_of(where)
    if elsewhere:
        connection = RemoteConnection(place)
        try:
            return Catalog(connection, connection.open())
        except Unreachable as error:
            if not create:
                raise
            warnings.warn(
                f"{error}; what is measured meanwhile waits in {connection.journal}", stacklevel=2
            )
            return Catalog(connection)
    directory = Path(place).expanduser()
    if not create and not (directory / "catalog.db").exists():
        check_databases(directory)  # it may have been one
        raise InputError(
            f"no catalogue at {place}; expected a directory that a run was written to, a Tiled "
            "URI or a Tiled profile: give one with --catalog, or make a run with `curiosity demo`"
        )
    connection = DirectoryConnection(place)
    if not serve and (files := connection.read_files()) is not None:
        return Catalog(connection, files=files)
    return Catalog(connection, connection.open())

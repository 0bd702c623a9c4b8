"""Runs that are read from a directory's files are those that a server would show."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from stored import STORED, documents_in, unpacked
from tiled.catalog.core import REQUIRED_REVISION

from curiosity_bluesky import connect
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.catalog.connection import DirectoryConnection
from curiosity_bluesky.catalog.directory import DirectoryTaken
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.catalog.journal import journals, lock_of
from curiosity_bluesky.catalog.journal_lines import encode_line
from curiosity_bluesky.catalog.local_files import REVISION, NotUnderstood
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.views.report import show_run

Documents = list[tuple[str, dict[str, Any]]]
SEARCHES: list[dict[str, Any]] = [
    {},
    {"last": 1},
    {"last": 3},
    {"last": 1000},
    {"sample": "film of curious"},
    {"sample": '{"a":1}'},
    {"sample": "no such"},
    {"strategy": "curious", "last": 2},
    {"plan_name": "curiosity_plan"},
    {"since": "2001-01-01"},
    {"since": "2999-01-01"},
    {"strategy": "lcmd", "since": "2001-01-01"},
]


def renewed(documents: Documents, **start: Any) -> Documents:
    """Return the documents as another run, with other things in its start document."""
    text = json.dumps(documents)
    for name, doc in documents:
        if name in ("start", "descriptor", "event", "stop"):
            text = text.replace(doc["uid"], str(uuid.uuid4()))
    found = json.loads(text)
    found[0][1].update(start)
    return [(name, doc) for name, doc in found]


def keep(journal: Path, documents: Documents) -> None:
    """Write a journal, as of a process that died."""
    text = b"".join(encode_line(name, doc, lambda value: None) for name, doc in documents)
    (journal / f"{documents[0][1]['uid']}.jsonl").write_bytes(text)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a catalogue with runs of every kind, which no process serves."""
    where = tmp_path_factory.mktemp("kinds") / "runs"
    stored = {path.name.split(".")[0]: documents_in(path) for path in STORED.glob("*.jsonl.gz")}
    interrupted = stored["lcmd-interrupted"]
    odd = {
        "sample": {"a": 1}, "curiosity_strategy": 3, "plan_name": None, "num_points": "many",
        "note": 'é "quoted" \u2028 %_', "huge": 2**60, "tiny": 5e-324, "nested": [[], {}, [None]],
    }  # fmt: skip
    journalled = [
        *stored.values(),
        renewed(stored["curious"], curiosity_resumes=interrupted[0][1]["uid"]),
        renewed(stored["dose"], **odd),
        renewed(stored["theory"])[:1],
    ]
    with connect(where) as catalog:
        for documents in journalled:
            keep(catalog.journal, documents)
        assert {taken.status for taken in catalog.recover()} == {"written"}
        writer = catalog.writer()
        for name, doc in renewed(stored["dose"])[:6]:
            writer(name, doc)
        catalog.flush()
        assert len(catalog) == len(journalled) + 1
    # Of processes that died before Tiled heard of the run.
    keep(where / "journal", renewed(stored["steered"])[:5])
    keep(where / "journal", renewed(stored["steered"]))
    return where


@contextmanager
def from_files(directory: Path) -> Iterator[Catalog]:
    """Open a catalogue whose files are read, and stay so."""
    with connect(directory, create=False, serve=False) as catalog:
        assert catalog.reads_files
        yield catalog
        assert catalog.reads_files


def lists_of(catalog: Catalog) -> list[Any]:
    """Return all that is listed."""
    lists = []
    for search in SEARCHES:
        found = [run.to_dict() for run in catalog.runs(**search)]
        counted = {key: value for key, value in search.items() if key != "last"}
        lists.append([search, found, catalog.count(**counted)])
    return lists


def said_of(catalog: Catalog) -> dict[str, Any]:
    """Return all that is listed and shown."""
    told: dict[str, Any] = {"lists": lists_of(catalog), "shown": {}}
    for uid in {run.uid for run in catalog.runs()}:
        try:
            shown = show_run(catalog, uid)
        except InputError as error:
            told["shown"][uid] = str(error)
        else:
            decisions = shown.decisions_table()
            told["shown"][uid] = [
                json.loads(json.dumps(shown.to_dict(), default=dict)),
                [list(row) for row in shown.rows()],
                [list(column.cells) for column in decisions.columns],
            ]
    told["begins"] = catalog[min(told["shown"])[:8]].start["uid"] if told["shown"] else ""
    return told


def contents(directory: Path) -> dict[str, str]:
    """Return what is in a directory, but for what servers log."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix not in (".log", ".lock")
    }


def changed(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "catalog.db")) as database, database:
        assert database.execute(statement).rowcount > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_files_and_server_say_the_same_of_runs_of_every_kind(directory: Path) -> None:
    with from_files(directory) as catalog:
        listed = lists_of(catalog)
    with connect(directory, create=False) as catalog:
        assert not catalog.reads_files and lists_of(catalog) == listed
        for path in journals(catalog.journal):
            _ = catalog[path.stem]  # which takes it in
        served = said_of(catalog)
    before = contents(directory)
    with from_files(directory) as catalog:
        read = said_of(catalog)
    assert contents(directory) == before
    assert read == served
    statuses = {run["status"] for run in read["lists"][0][1]}
    assert {"success", "interrupted"} <= statuses
    # At first 13 in Tiled, two in the journal alone.
    assert len(read["lists"][0][1]) == len(listed[0][1]) == 15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_a_living_process_writes_is_open_for_both(directory: Path) -> None:
    # Those that were left there are in Tiled once they were read.
    keep(directory / "journal", renewed(documents_in(STORED / "steered.jsonl.gz"))[:5])
    paths = sorted((directory / "journal").glob("*.jsonl"))
    locks = [lock_of(path) for path in paths]
    for lock in locks:
        lock.acquire()
    try:
        with connect(directory, create=False) as catalog:
            served = said_of(catalog)
        with from_files(directory) as catalog:
            read = said_of(catalog)
    finally:
        for lock in locks:
            lock.release()
    assert read == served
    assert [run["status"] for run in read["lists"][0][1]].count("open") >= 1


@pytest.mark.slow
def test_a_moved_catalogue_goes_through_a_server_once_with_its_index(tmp_path: Path) -> None:
    directory = unpacked(tmp_path)
    with connect(directory, create=False, serve=False) as catalog:
        assert not catalog.reads_files  # the paths in its database lead elsewhere
        served = said_of(catalog)
    with from_files(directory) as catalog:
        assert said_of(catalog) == served


def test_the_revision_of_the_database_is_that_of_tiled_here() -> None:
    assert REVISION == REQUIRED_REVISION


@pytest.mark.slow
def test_what_is_not_understood_is_for_a_server(tmp_path: Path) -> None:
    directory = unpacked(tmp_path)
    with connect(directory, create=False) as catalog:
        [first, *_] = catalog.runs()
    connection = DirectoryConnection(str(directory))
    changed(
        directory,
        "UPDATE data_sources SET mimetype = 'application/x-hdf5' WHERE mimetype LIKE '%zarr'",
    )
    with from_files(directory) as catalog:
        assert catalog.runs()[0] == first  # for which no array is read
        catalog.check(first.uid[:8])
        with pytest.raises(InputError, match="no run 'nopenope'"):
            catalog.check("nopenope")
        assert catalog.reads_files  # no server was asked
    runs = connection.read_files()
    assert runs is not None
    with pytest.raises(NotUnderstood):
        runs[first.uid]
    runs.close()
    changed(directory, "UPDATE nodes SET specs = REPLACE(specs, '3.0', '2.0')")
    runs = connection.read_files()
    assert runs is not None
    with pytest.raises(NotUnderstood):
        list(runs.items())
    runs.close()
    changed(directory, "UPDATE alembic_version SET version_num = 'another'")
    assert connection.read_files() is None
    (directory / "catalog.db").write_bytes(b"SQLite format 3\x00 and nothing that follows it")
    with pytest.raises(InputError, match=r"cannot be read as a catalogue.*put it back"):
        connect(directory, create=False, serve=False)


@pytest.mark.slow
def test_an_array_that_is_damaged_is_named(tmp_path: Path) -> None:
    directory = unpacked(tmp_path)
    with connect(directory, create=False) as catalog:
        uid = catalog.runs()[0].uid
    chunk = directory / "data" / uid / "primary" / "spectrometer_response" / "c" / "0" / "0"
    chunk.write_bytes(b"no array")
    with from_files(directory) as catalog, pytest.raises(InputError, match="cannot be read"):
        show_run(catalog, uid)


@pytest.mark.slow
def test_the_directory_has_one_server_or_readers(tmp_path: Path) -> None:
    directory = unpacked(tmp_path)
    with connect(directory) as catalog:
        with connect(directory, create=False, serve=False) as joined:
            assert not joined.reads_files  # whoever serves the directory is asked
            assert joined.runs() == catalog.runs()
        listed = catalog.runs()
    # What a killed server left behind must lead nobody astray while the files are read.
    (directory / "server.json").write_text('{"uri": "http://127.0.0.1:9", "api_key": "k"}')
    with connect(directory, create=False, serve=False) as catalog:
        assert catalog.reads_files and catalog.runs() == listed
        assert not (directory / "server.json").exists()
        with pytest.raises(DirectoryTaken):
            EmbeddedServer(directory)
        # What files do not hold is asked of a server, which takes the directory over.
        documents = catalog.documents(listed[0].uid)
        assert documents[0][1]["uid"] == listed[0].uid and not catalog.reads_files
        assert catalog.runs() == listed
    with from_files(directory) as catalog:
        with pytest.raises(InputError, match="too short"):
            _ = catalog["abc"]
        with pytest.raises(InputError, match="no run 'ffffffff'"):
            _ = catalog["ffffffff"]

"""A catalogue whose databases are gone or damaged is refused, and never replaced."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from uploads import QUICK_RETRY, documents_of

from curiosity_bluesky import connect
from curiosity_bluesky.catalog.databases import check_databases
from curiosity_bluesky.errors import InputError


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A catalogue with a run, not open."""
    directory = tmp_path_factory.mktemp("whole") / "runs"
    with connect(directory) as catalog:
        writer = catalog.writer(retry=QUICK_RETRY)
        for document in documents_of("run-one"):
            writer(*document)
    return directory


@pytest.fixture
def runs(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def contents(directory: Path) -> dict[str, bytes]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 100)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def garbled(path: Path) -> None:
    """Keep how it begins."""
    path.write_bytes(path.read_bytes()[:16] + b"\x7f" * 5000)


def foreign(path: Path) -> None:
    """Put another program's database there."""
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE songs (name TEXT)")
        database.commit()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("name", "spoil", "why"),
    [
        ("catalog.db", empty, "is empty"),
        ("catalog.db", Path.unlink, "is missing"),
        ("catalog.db", other, "is no SQLite database"),
        ("catalog.db", folder, "is a directory"),
        ("catalog.db", garbled, "cannot be read as a catalogue"),
        ("catalog.db", foreign, "cannot be read as a catalogue .no such table"),
        ("tables.db", empty, "is empty, and the numbers of 1 tables"),
        ("tables.db", Path.unlink, "is missing, and the numbers of 1 tables"),
        ("tables.db", other, "is no SQLite database"),
        ("tables.db", folder, "is a directory"),
        ("tables.db", garbled, "cannot be read as a database"),
    ],
)
def test_a_database_that_is_not_what_it_was_is_refused_in_words(runs, name, spoil, why, create):
    spoil(runs / name)
    before = contents(runs)
    with pytest.raises(InputError, match=f"{name} {why}.*put it back from a backup"):
        connect(runs, create=create)
    after = contents(runs)
    assert {key: after[key] for key in before} == before
    assert not (runs / "server.json").exists()
    with pytest.raises(InputError):  # and again: the lock was given back
        connect(runs, create=create)


def test_data_alone_is_no_new_catalogue(runs):
    (runs / "catalog.db").unlink()
    (runs / "tables.db").unlink()
    (runs / "data" / "run-one").mkdir()  # arrays
    with pytest.raises(InputError, match="catalog.db is missing, and data beside it hold"):
        connect(runs)


def test_what_is_no_catalogue_yet_may_become_one(tmp_path):
    (tmp_path / "catalog.db").touch()
    (tmp_path / "tables.db").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "run-one.jsonl").touch()
    check_databases(tmp_path)
    with connect(tmp_path) as catalog:
        assert len(catalog) == 0
    check_databases(tmp_path)  # with tables.db of which nothing was used


def test_a_whole_catalogue_is_opened_again(runs):
    check_databases(runs)


def test_a_directory_that_is_read_only_is_said_in_one_line(tmp_path, whole):
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        done = subprocess.run(
            ["mount", "--bind", "-o", "ro", str(whole), str(disk)], capture_output=True, text=True
        )
    except OSError as error:
        pytest.skip(f"there is no mount here: {error}")
    if done.returncode:
        pytest.skip(f"this user may not mount a directory: {done.stderr.strip()}")
    try:
        for create in (True, False):
            with pytest.raises(InputError, match="cannot be written to .Read-only file system"):
                connect(disk, create=create)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)

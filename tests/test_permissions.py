"""Permissions: what other users of this machine can read of what we keep."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curiosity_bluesky.adapters.queueserver.processes import ManagedProcess
from curiosity_bluesky.catalog import connection, embedded_server
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.cli import output, runs
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.permissions import make_private, private_directory


@pytest.fixture
def where() -> Iterator[Path]:
    """A directory that all users of the machine can get to, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="curiosity-others-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


def read_by_others(directory: Path) -> set[str]:
    """Return the names of the files that the user ``nobody`` can read."""
    if os.geteuid() != 0 or shutil.which("find") is None:
        pytest.skip("only root can become another user, and find looks for it")
    done = subprocess.run(
        ["find", str(directory), "-type", "f", "-readable", "-printf", "%f\\n"],
        user=65534, group=65534, extra_groups=[], capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    return set(done.stdout.split())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def old_catalogue(directory: Path) -> list[Path]:
    """Make what an older version left behind: all of it can be read by everybody."""
    files = [directory / name for name in ("catalog.db", "tables.db", "server.log")]
    files += [directory / "journal" / "a.jsonl", directory / "data" / "a" / "b" / "0"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        path.chmod(0o644)
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    return files


def test_a_new_catalogue_is_its_owners_alone(where: Path) -> None:
    served = EmbeddedServer(where / "runs")
    try:
        assert (where / "runs" / "catalog.db").exists() and mode(where / "runs") == 0o700
        assert not read_by_others(where / "runs")
    finally:
        served.close()


def test_a_catalogue_that_others_could_read_becomes_private(where: Path) -> None:
    runs = where / "runs"
    files = old_catalogue(runs)
    elsewhere = where / "elsewhere"
    elsewhere.write_text("x")
    elsewhere.chmod(0o644)
    (runs / "link").symlink_to(elsewhere)
    assert {path.name for path in files} <= read_by_others(runs)
    make_private(runs)
    assert mode(runs) == mode(runs / "data") == mode(runs / "journal") == 0o700
    assert mode(runs / "catalog.db") == mode(runs / "tables.db") == 0o600
    assert mode(elsewhere) == 0o644
    assert not read_by_others(runs)


def test_private_is_said_to_the_server_and_of_what_is_written_later(
    where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`curiosity serve --private` and `curiosity serve`, without starting Tiled."""
    given: list[dict[str, Any]] = []

    def start(self: EmbeddedServer, *_: Any) -> None:
        self.uri = "http://127.0.0.1:1/api/v1"
        given.append({"mode": mode(self.directory), "umask": os.umask(0o022)})
        os.umask(given[-1]["umask"])

    monkeypatch.setattr(embedded_server.EmbeddedServer, "_start", start)
    monkeypatch.setattr(embedded_server.EmbeddedServer, "wait", lambda self: None)
    monkeypatch.setattr(embedded_server.EmbeddedServer, "close", lambda self: self._lock.release())
    monkeypatch.setattr(output.signal, "signal", lambda *_: None)
    old_catalogue(where / "runs")
    before = os.umask(0o022)
    try:
        runs.serve(str(where / "runs"), 0, False)
        runs.serve(str(where / "runs"), 0, True)
    finally:
        os.umask(before)
    assert [each["mode"] for each in given] == [0o755, 0o700]
    assert [each["umask"] for each in given] == [0o022, 0o077]


def test_what_cannot_be_made_private_is_said(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_catalogue(where / "runs")
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # as on a file system without permissions
    with pytest.raises(InputError, match="cannot be made private.*keeps no permissions"):
        make_private(where / "runs")

    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(InputError, match="Operation not permitted"):
        make_private(where / "runs")


def test_runs_that_wait_for_a_server_elsewhere_are_private(
    where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.platformdirs, "user_data_dir", lambda *_: str(where))
    (where / "journal" / "http-a-b").mkdir(parents=True)
    (where / "journal" / "http-a-b").chmod(0o755)
    assert mode(connection.RemoteConnection("http://a.b").journal) == 0o700


def test_logs_and_what_servers_keep_are_private(where: Path) -> None:
    child = ManagedProcess("echo", [sys.executable, "-c", ""], where / "echo.log")
    child.end()
    assert mode(where / "echo.log") == 0o600
    (where / "redis").mkdir(mode=0o755)
    assert mode(private_directory(where / "redis")) == mode(private_directory(where / "a")) == 0o700

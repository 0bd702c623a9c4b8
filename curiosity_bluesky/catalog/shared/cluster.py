"""PostgreSQL cluster in a directory, to try a shared catalogue with."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.permissions import owner_only

DATABASES = ("tiled_catalog", "tiled_authn", "tiled_tables")
"""Nodes and their metadata; principals and keys; scalars."""

ROLE = "tiled"

_SECONDS = 60.0
"""How long the server may take to start or to end."""


def programs() -> Path | None:
    """Return the directory of PostgreSQL's programs, None if it is not installed."""
    beside = shutil.which("postgres")
    # Debian keeps them out of PATH, those of each version in a directory of its own.
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: float(path.parts[-3]) if path.parts[-3].isdigit() else 0.0,
    )
    return Path(beside).resolve().parent if beside else found[-1].parent if found else None


class Cluster:
    """A PostgreSQL server with the three databases, on 127.0.0.1, until it is closed.

    It is for trying and for testing: one disk, no backup. PostgreSQL refuses to run
    as root; started by root it runs as the user ``postgres``, who must be able to reach the
    directory.

    Parameters
    ----------
    directory
        Where its data are (``data``), its log (``postgres.log``) and the password of the role
        ``tiled`` (``password``, readable by its owner alone). They are made if need be.
    port
        On 127.0.0.1; 0 takes a free one.

    Attributes
    ----------
    port : int
        On 127.0.0.1.
    pid : int
        Of the server.

    Raises
    ------
    InputError
        If PostgreSQL is not installed, or does not start.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        found = programs()
        if found is None:
            raise InputError(
                "PostgreSQL is not installed: no `postgres` in PATH or /usr/lib/postgresql; "
                "install it (Debian: apt-get install postgresql), or use one that is there: "
                "docs/shared-catalogue.md"
            )
        self._programs = found
        self.directory = Path(directory).resolve()
        self._data = self.directory / "data"
        self._user = _user()
        self.directory.mkdir(parents=True, exist_ok=True)
        # Another user, as whom the server runs, has to get through to its data.
        self.directory.chmod(0o700 if self._user is None else 0o711)
        secret = self.directory / "password"
        if not secret.exists():
            with open(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(16))
        self._password = secret.read_text()
        self.port = port or free_port()
        if not (self._data / "PG_VERSION").exists():
            self._make()
        self._start()
        self._make_databases()

    @property
    def environment(self) -> dict[str, str]:
        """Where it is, as PostgreSQL's own programs and drivers take it."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": ROLE,
            "PGPASSWORD": self._password,
        }

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    def _make(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)  # of one who was killed at it
        self._data.mkdir(mode=0o700)
        # Under the eyes of the server's user alone: the password is in the environment of none.
        given = self._data.with_name("password.given")
        with open(os.open(given, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._password)
        if self._user is not None:
            for path in (self._data, given):
                shutil.chown(path, self._user, self._user)
        options = ["--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8"]
        options += ["--locale=C.UTF-8", f"--username={ROLE}", f"--pwfile={given}"]
        try:
            self._run("initdb", f"--pgdata={self._data}", *options)
        finally:
            given.unlink()

    def _as_user(self) -> dict[str, Any]:
        who = {} if self._user is None else {"user": self._user, "group": self._user}
        # Locks and temporary files are made in the current directory, which may be anybody's.
        return {"cwd": self._data, **who, **({"extra_groups": []} if who else {})}

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs; return what it prints."""
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            **self._as_user(),
        )
        if done.returncode:
            who = f"; the user {self._user} must be able to reach it" if self._user else ""
            raise InputError(
                f"{program} failed in {self.directory}: {' '.join(done.stderr.split())}{who}"
            )
        return done.stdout

    def _start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",  # a path of a socket may be 107 bytes long, no more
        }
        given = [f"--{name}={value}" for name, value in settings.items()]
        log = open(self.directory / "postgres.log", "a", opener=owner_only)  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self._data), *given],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for who waits for it, who ends it then
            **self._as_user(),
        )
        log.close()
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise InputError(
                    f"PostgreSQL did not start in {self.directory}; "
                    f"{self.directory / 'postgres.log'} says why"
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        asked = [str(self._programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(asked, cwd=self.directory).returncode == 0

    def _make_databases(self) -> None:
        there = self.sql("SELECT datname FROM pg_database").split()
        for name in DATABASES:
            if name not in there:
                self.sql(f"CREATE DATABASE {name}")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Return what a statement answers, a row a line."""
        quiet = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        return self._run("psql", *quiet, "-c", statement, database)

    def dump(self, database: str, into: Path) -> None:
        """Write all of a database into one file, as of one moment (``pg_dump``)."""
        into.write_text(self._run("pg_dump", "--no-owner", database))

    def restore(self, database: str, dumped: Path) -> None:
        """Read into an empty database what `dump` wrote."""
        self._run("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", str(dumped), database)

    def restart(self, *, crash: bool = False) -> None:
        """Stop the server and start it again on the same port.

        Parameters
        ----------
        crash
            Stop it as ``pg_ctl stop -m immediate`` does, so that it has to recover.
        """
        self.close(crash=crash)
        self._start()

    def close(self, *, crash: bool = False) -> None:
        """Stop the server; more than once does no harm."""
        if self._process.poll() is not None:
            return
        # PostgreSQL's own words for them: immediate, fast.
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_SECONDS)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free at this moment."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _user() -> str | None:
    """Return as whom PostgreSQL is to run, None for who asks."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    raise InputError(
        "PostgreSQL does not run as root, and there is no user `postgres`; start it as another user"
    )

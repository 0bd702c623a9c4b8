"""Server of a shared catalogue: its databases, the Tiled process, keys."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import URL

from curiosity_bluesky.catalog._tiled_compat import (
    build_app,
    logging_configuration,
    parse_configuration,
)
from curiosity_bluesky.catalog.shared.cluster import Cluster, free_port
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.utils.hosts import HostCheck, Hosts
from curiosity_bluesky.utils.permissions import owner_only, private_directory

_READ = ("read:metadata", "read:data")
_WRITE = (
    *(*_READ, "create:node", "write:metadata", "write:data"),
    *("delete:node", "delete:revision"),  # a run that went in by halves is written again
    "register",  # detectors may write files of their own
)
_SUBSCRIBE = ("create:apikeys", "revoke:apikeys")
# Tiled's client makes itself a key for each subscription. It may allow all that the role of
# the service does, not only what the key that made it allows: hence roles of our own.

ROLES = {"reader": _READ, "writer": _WRITE}
"""What services of each role may do; besides, to subscribe to what is being written."""

_SECONDS = 90.0
"""How long the server may take to start."""


def configuration() -> Path:
    """Return the file for ``tiled serve config``: as installed, or of the repository."""
    here = Path(__file__).parent
    packed = here / "config.yml"
    return packed if packed.exists() else here.parents[2] / "profiles/tiled-server/config.yml"


def prepare(environment: Mapping[str, str]) -> None:
    """Make what is lacking in the two databases that Tiled wants made beforehand; and `ROLES`.

    Parameters
    ----------
    environment
        With ``PGHOST``, ``PGPORT``, ``PGUSER``, ``PGPASSWORD``.

    Raises
    ------
    InputError
        If Tiled cannot.
    """
    where = f"postgresql://{environment['PGHOST']}:{environment['PGPORT']}"
    commands = (
        (("catalog", "init", "--if-not-exists"), f"{where}/tiled_catalog"),
        (("admin", "initialize-database"), f"{where}/tiled_authn"),
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tiled", *command, database],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, database in commands
    ]
    said = [process.communicate()[1] for process in processes]
    for (command, database), process, text in zip(commands, processes, said, strict=True):
        if process.returncode and "already initialized" not in text:
            raise InputError(
                f"`tiled {' '.join(command)} {database}` failed: {' '.join(text.split())}"
            )
    asyncio.run(_make_roles(environment))


async def _make_roles(environment: Mapping[str, str]) -> None:
    from sqlalchemy import select
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    from curiosity_bluesky.catalog._tiled_compat import Role

    where = URL.create(
        "postgresql+asyncpg",
        environment["PGUSER"],
        environment.get("PGPASSWORD"),
        environment["PGHOST"],
        int(environment["PGPORT"]),
        "tiled_authn",
    )
    engine = create_async_engine(where)
    try:
        async with AsyncSession(engine) as session:
            found = (await session.execute(select(Role))).scalars()
            there: dict[Any, Any] = {each.name: each for each in found}
            for name, scopes in ROLES.items():
                role: Any = there.get(name) or Role(name=name, description="A service.")
                role.scopes = [*scopes, *_SUBSCRIBE]  # of an earlier version, too
                session.add(role)
            await session.commit()
    finally:
        await engine.dispose()


def serve_configuration(path: Path, port: int | None = None, extra: Sequence[str] = ()) -> None:
    """Serve a configuration as ``tiled serve config`` does, with a host check, until it ends.

    Parameters
    ----------
    path
        The configuration.
    port
        Default: the configuration's.
    extra
        Names that it is reached by besides the address that it listens on.

    Raises
    ------
    InputError
        If the configuration cannot be read.
    """
    import uvicorn

    try:
        config = parse_configuration(path)
    except Exception as error:  # of the file, of YAML, of what Tiled expects
        raise InputError(f"{path} is no configuration of Tiled: {error}") from error
    options: dict[str, Any] = {"host": "127.0.0.1", "log_config": logging_configuration()}
    options |= config.uvicorn
    if port is not None:
        options["port"] = port
    hosts = Hosts.of(options["host"], extra)
    uvicorn.run(HostCheck(build_app(config), hosts), **options)


class TiledServer:
    """Tiled in a process of its own, until it is closed.

    Parameters
    ----------
    environment
        What its configuration names.
    log
        File for what it says.
    port
        On 127.0.0.1; 0 takes a free one.
    host_names
        Names that it is reached by besides 127.0.0.1 and localhost.

    Attributes
    ----------
    uri : str
        Where clients ask.
    pid : int
        Of the process.

    Raises
    ------
    InputError
        If it does not start.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        port: int = 0,
        host_names: Sequence[str] = (),
    ) -> None:
        Hosts.of(extra=host_names)  # its error before anything is started
        self._environment = {**os.environ, **environment}
        self._host_names = host_names
        self._log = log
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}/api/v1"
        self.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def start(self) -> None:
        """Start it, on the same port as before."""
        command = ["tiled", str(configuration()), "--port", str(self.port)]
        command += [word for name in self._host_names for word in ("--host-name", name)]
        with open(self._log, "a", opener=owner_only) as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "curiosity_bluesky.catalog.shared", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who waits for it, who ends it then
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise InputError(f"the Tiled server did not start; {self._log} says why")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it; more than once does no harm."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:  # it waits for who is subscribed
            self.kill()

    def wait(self) -> int:
        """Wait until it ends by itself."""
        return self._process.wait()


def make_key(
    uri: str, password: str, *, write: bool, note: str, expires_in: int | None = None
) -> str:
    """Return a new key for a new service: an instrument, a page, a script.

    Parameters
    ----------
    uri
        Of the server.
    password
        Of its ``admin``.
    write
        Whether it may write and delete runs; else it only reads.
    note
        What it is for.
    expires_in
        Seconds until it is worth nothing; default: never. A key that ends cannot
        subscribe to what is being written.

    Raises
    ------
    InputError
        If the server does not answer, or it is not the password.
    """
    form = {"grant_type": "password", "username": "admin", "password": password}
    session = _asked(f"{uri}/auth/provider/local/token", data=form).json()
    headers = {"Authorization": f"Bearer {session['access_token']}"}
    role = "writer" if write else "reader"
    service = _asked(f"{uri}/auth/principal", params={"role": role}, headers=headers).json()
    # One that ends must not make one that does not.
    scopes = ROLES[role] if expires_in else (*ROLES[role], *_SUBSCRIBE)
    body = {"scopes": list(scopes), "note": note, "expires_in": expires_in}
    where = f"{uri}/auth/principal/{service['uuid']}/apikey"
    secret = _asked(where, json=body, headers=headers).json()["secret"]
    ended = {"refresh_token": session["refresh_token"]}
    _asked(f"{uri}/auth/session/revoke", json=ended, headers=headers)
    return secret


def _asked(uri: str, **options: Any) -> httpx.Response:
    try:
        answer = httpx.post(uri, timeout=30, **options)
    except httpx.TransportError as error:
        raise Unreachable(f"no Tiled server answers at {uri} ({error}); is it running?") from None
    if answer.is_error:
        raise InputError(
            f"the Tiled server refused {uri} ({answer.status_code}: {answer.text[:200]}); "
            "CURIOSITY_ADMIN_PASSWORD must be the one that it was started with"
        )
    return answer


class SharedCatalogue:
    """PostgreSQL, Tiled and two keys, all in one directory of this machine.

    To try a shared catalogue, and to test with one; for a facility see
    docs/shared-catalogue.md.

    Parameters
    ----------
    directory
        Where everything is: ``postgres``, ``files``, ``assets``, ``tiled.log``,
        ``secrets`` (readable by its owner alone). It is made if need be.
    port
        Of Tiled on 127.0.0.1; 0 takes a free one.
    host_names
        Names that Tiled is reached by besides 127.0.0.1 and localhost.

    Attributes
    ----------
    cluster : Cluster
        PostgreSQL.
    environment : dict
        What the server's configuration names.
    server : TiledServer
        Tiled.
    write_key, read_key : str
        Keys for clients.

    Raises
    ------
    InputError
        If PostgreSQL is not installed, or one of the two does not start.
    """

    def __init__(self, directory: Path, port: int = 0, host_names: Sequence[str] = ()) -> None:
        Hosts.of(extra=host_names)  # its error before anything is made
        self.directory = Path(directory).expanduser().resolve()
        self._secrets = self.directory / "secrets"
        for path in (self.directory / "files", self.directory / "assets", self._secrets):
            private_directory(path)
        self.cluster = Cluster(self.directory / "postgres")
        try:
            self.environment = {
                **self.cluster.environment,
                "CURIOSITY_FILES": str(self.directory / "files"),
                "CURIOSITY_ASSETS": str(self.directory / "assets"),
                "CURIOSITY_ADMIN_PASSWORD": self._secret("admin-password"),
                "CURIOSITY_SECRET_KEY": self._secret("secret-key"),
                "CURIOSITY_STREAMING": "memory",
            }
            prepare(self.environment)
            log = self.directory / "tiled.log"
            self.server = TiledServer(self.environment, log, port, host_names)
        except BaseException:
            self.cluster.close()
            raise
        try:
            self.write_key = self._key("write-key", write=True)
            self.read_key = self._key("read-key", write=False)
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        """Where clients ask."""
        return self.server.uri

    def _secret(self, name: str, value: str | None = None) -> str:
        """Return a secret, made at the first time."""
        path = self._secrets / name
        if not path.exists():
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(value or secrets.token_hex(32))
        return path.read_text()

    def _key(self, name: str, *, write: bool) -> str:
        if (self._secrets / name).exists():
            return self._secret(name)
        made = make_key(self.uri, self._secret("admin-password"), write=write, note=name)
        return self._secret(name, made)

    def close(self) -> None:
        """End both; more than once does no harm."""
        self.server.close()
        self.cluster.close()

    def __enter__(self) -> SharedCatalogue:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

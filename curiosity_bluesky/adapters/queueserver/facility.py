"""All the processes of a small facility on one machine, started in order and ended in reverse."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from curiosity_bluesky.adapters.queueserver.manager import (
    ADDRESS,
    DEFAULT_ADDRESS,
    QueueClient,
)
from curiosity_bluesky.adapters.queueserver.processes import (
    ManagedProcess,
    is_listening,
    usable_port,
)
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.catalog import DEFAULT
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.permissions import private_directory

_CURIOSITY = [sys.executable, "-m", "curiosity_bluesky.cli"]
_START_MANAGER = "from bluesky_queueserver.manager.start_manager import start_manager as go; go()"

_PRIVATE_KEY = "QSERVER_ZMQ_PRIVATE_KEY_FOR_SERVER"
"""Environment variable in which the manager finds its key."""

_AT_ONCE = 2.0
"""An agent that lives no longer than this (s) is not started again."""

PROFILE = Path(__file__).parents[3] / "profiles" / "queueserver"
"""The profile in a checkout; an installed package has none."""


@dataclass(frozen=True)
class FacilityPaths:
    """Where a facility lives.

    Parameters
    ----------
    directory
        Of logs and of the queue itself, which Redis keeps there.
    catalog
        Directory of the catalogue, which is served; or the URI of a server, or a profile.
    profile
        Directory with ``startup/`` and ``config.yml``.
    sample
        What lies under the simulated microscope; default: as the profile has it.
    token
        What documents are sealed with. Default: a random one.
    redis
        Address of a Redis that runs already; default: one of its own is started.
    control, info, documents_in, documents_out, agent, tiled
        Ports on 127.0.0.1: the manager's two, the proxy's two, the agent's and Tiled's; 0 takes a
        free one.
    """

    directory: Path
    catalog: str
    profile: Path = PROFILE
    sample: str | None = None
    token: str | None = None
    redis: str | None = None
    control: int = 60615
    info: int = 60625
    documents_in: int = 5567
    documents_out: int = 5568
    agent: int = 5577
    tiled: int = 8000


class Facility:
    """Redis, a Tiled server, a 0MQ proxy, an agent, a Queue Server with its environment open.

    Use it in a ``with`` statement: all processes end when it ends, also on an error.

    Parameters
    ----------
    site
        Where.
    say
        Is told what goes on.

    Attributes
    ----------
    address : str
        Of the Queue Server.
    incoming, documents : str
        Where documents are published to, and where they are listened to.
    agent : str
        Of the agent that plans can ask.
    key_file : Path
        What one has to know to ask the Queue Server anything; its owner alone can read it.
    token : str
        What documents are sealed with.
    children : list of Child
        What runs.

    Raises
    ------
    InputError
        If redis-server or an extra is missing, a port is taken, or something does not start.
    """

    def __init__(self, site: FacilityPaths, say: Callable[[str], Any] = print) -> None:
        self.site = site
        token = secrets.token_hex(16) if site.token is None else site.token
        self.token = tokens.check_token(token, "the facility")
        self.children: list[ManagedProcess] = []
        self._say = say
        if not (site.profile / "startup").is_dir():
            raise InputError(
                f"there is no profile at {site.profile}; expected a directory with startup/ and "
                "config.yml, as profiles/queueserver of the repository: give it with --profile"
            )
        if site.redis is None and shutil.which("redis-server") is None:
            raise InputError(
                "the Queue Server keeps its queue in Redis, and there is no redis-server here; "
                "install it (apt-get install redis-server), or name one that runs: --redis"
            )
        site.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = filelock.FileLock(site.directory / ".lock", timeout=0)
        self._ports = {
            name: usable_port(getattr(site, name), name.replace("_", " "))
            for name in ("control", "info", "documents_in", "documents_out", "agent")
        }
        self.address = f"tcp://127.0.0.1:{self._ports['control']}"
        self.key_file = tokens.queue_key_of(self._ports["control"])
        self._public_key, self._private_key = _keys()
        self.incoming = f"tcp://127.0.0.1:{self._ports['documents_in']}"
        self.documents = f"tcp://127.0.0.1:{self._ports['documents_out']}"
        self.agent = f"tcp://127.0.0.1:{self._ports['agent']}"

    @property
    def catalog(self) -> str:
        """Where the catalogue is, for processes that are started anywhere."""
        where = self.site.catalog
        return where if self._is_remote() else str(Path(where).expanduser().resolve())

    def _is_remote(self) -> bool:
        from tiled.profiles import list_profiles

        where = self.site.catalog
        return "://" in where or (not Path(where).exists() and where in list_profiles())

    def __enter__(self) -> Facility:
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise InputError(
                f"a facility runs in {self.site.directory} already; end that one, or choose "
                "another directory: --directory"
            ) from None
        try:
            redis = self.site.redis or self._start_redis()
            self._start_tiled()
            self._start_proxy()
            self._start_agent()
            self._start_manager(redis)
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def greeting(self) -> str:
        """Return what to type now."""
        exports = [f"export CURIOSITY_AGENT_TOKEN={self.token}"]
        if self.address != DEFAULT_ADDRESS:
            exports.append(f"export {ADDRESS}={self.address}")
        if self.site.catalog != DEFAULT:
            exports.append(f"export CURIOSITY_CATALOG={self.catalog}")
        lines = "\n".join(f"    {line}" for line in exports)
        return f"""
queue server  {self.address}, its environment is open
its key       {self.key_file}
documents     {self.documents} (0MQ)
agent         {self.agent}
catalogue     {self.site.catalog}
logs          {self.site.directory}

In another terminal:

{lines}
    curiosity queue add --strategy curious --points 60 --agent {self.agent}
    curiosity queue start
    curiosity queue steer budget 80
    curiosity queue list
    curiosity agent status {self.agent}
    curiosity runs

Ctrl-C ends all of it.
"""

    def wait(self) -> None:
        """Watch until something ends that should not.

        Raises
        ------
        InputError
            If something does.
        """
        while True:
            self.look()
            time.sleep(0.5)

    def look(self) -> None:
        """Look once whether all of them run; an agent that has ended is started again.

        It rebuilds itself from the catalogue and from the plan; meanwhile the plan does without it.

        Raises
        ------
        InputError
            If another one has ended, or the agent as soon as it was started.
        """
        for child in list(self.children):
            if child.alive:
                continue
            if child.name == "agent" and child.age > _AT_ONCE:
                self._say(f"agent has ended ({child.last_words()}); starting another")
                self.children.remove(child)
                child.end()
                self._start_agent()
                continue
            raise InputError(
                f"{child.name} has ended ({child.last_words()}), and all the others are "
                f"ended now; {child.log} says more"
            )

    def close(self) -> None:
        """End all of it, what was started last first; more than once is fine."""
        if any(child.name == "manager" and child.alive for child in self.children):
            try:
                self._shut()
            except (Exception, KeyboardInterrupt) as error:  # the processes end all the same
                self._say(f"the plan could not be ended in order ({error or 'told to end again'})")
        for child in reversed(self.children):
            self._say(f"ending {child.name}")
            _ended(child)
        self.children.clear()
        tokens.remove_secret(self.key_file, self._public_key)
        self._lock.release()

    # ---- one after the other

    def _start_redis(self) -> str:
        port = usable_port(0, "redis")
        store = self.site.directory / "redis"
        private_directory(store)
        password = secrets.token_hex(16)
        settings = {"bind": "127.0.0.1", "port": port, "dir": f'"{store.resolve()}"', "save": '""'}
        settings |= {"appendonly": "yes", "requirepass": password}
        # In a file of ours alone: the words of a command can be read by everybody.
        file = store.resolve() / "redis.conf"
        tokens.write_secret(file, "".join(f"{name} {value}\n" for name, value in settings.items()))
        self._start("redis", ["redis-server", str(file)], lambda: _pings(port, password))
        return f":{password}@127.0.0.1:{port}"

    def _start_tiled(self) -> None:
        from curiosity_bluesky.catalog.directory import running_server, writable_directory

        if self._is_remote():
            return
        directory = writable_directory(Path(self.site.catalog))
        if running_server(directory) is not None:
            self._say(f"{directory} is served by another process already, which is joined")
            return
        port = usable_port(self.site.tiled, "Tiled")
        command = [*_CURIOSITY, "serve", "--catalog", str(directory), "--port", str(port)]
        self._start("tiled", command, lambda: is_listening(port))

    def _start_proxy(self) -> None:
        ends = [
            f"tcp://127.0.0.1:{self._ports[name]}" for name in ("documents_in", "documents_out")
        ]
        command = [*_CURIOSITY, "queue", "proxy", *ends]
        ports = self._ports["documents_in"], self._ports["documents_out"]
        self._start("proxy", command, lambda: all(map(is_listening, ports)))

    def _start_agent(self) -> None:
        places = {"--bind": self.agent, "--documents": self.documents, "--catalog": self.catalog}
        command = [*_CURIOSITY, "agent", *(word for place in places.items() for word in place)]
        environment = {"CURIOSITY_AGENT_TOKEN": self.token}
        self._start("agent", command, lambda: is_listening(self._ports["agent"]), environment)

    def _start_manager(self, redis: str) -> None:
        site = self.site
        environment = {
            "CURIOSITY_CATALOG": self.catalog,
            "CURIOSITY_DOCUMENTS": self.incoming,
            "CURIOSITY_AGENT_TOKEN": self.token,
            _PRIVATE_KEY: self._private_key,
            **({} if site.sample is None else {"CURIOSITY_SAMPLE": site.sample}),
        }
        options = {
            "--config": str(self._configuration(redis)),
            "--startup-dir": str(site.profile / "startup"),
            "--zmq-control-addr": self.address,
            "--zmq-info-addr": f"tcp://127.0.0.1:{self._ports['info']}",
        }
        words = [word for option in options.items() for word in option]
        command = [sys.executable, "-c", _START_MANAGER, *words]
        tokens.write_secret(self.key_file, self._public_key)
        with self._queue(timeout=1.0) as queue:
            self._start("manager", command, lambda: _answers(queue), environment)

    def _configuration(self, redis: str) -> Path:
        """Return the profile's configuration with the address of Redis, password and all."""
        import yaml

        given = yaml.safe_load((self.site.profile / "config.yml").read_text()) or {}
        given.setdefault("network", {})["redis_addr"] = redis
        path = self.site.directory.resolve() / "manager.yml"
        tokens.write_secret(path, yaml.safe_dump(given))
        return path

    def _queue(self, timeout: float = 5.0) -> QueueClient:
        return QueueClient(self.address, timeout, self._public_key)

    def _start(
        self,
        name: str,
        command: list[str],
        ready: Callable[[], bool],
        environment: dict[str, str] | None = None,
    ) -> None:
        self._say(f"starting {name}")
        child = ManagedProcess(name, command, self.site.directory / f"{name}.log", environment)
        self.children.append(child)
        child.wait_until(ready)

    def _open(self) -> None:
        self._say("opening the environment")
        with self._queue() as queue:
            queue.open()

    def _shut(self) -> None:
        """End what runs, as a scientist would, so that the run is closed and in the catalogue."""
        with self._queue() as queue:
            if queue.status()["manager_state"] not in ("idle", "initializing"):
                self._say("ending the plan that runs; `curiosity queue add --resume UID` goes on")
                queue.end("stop", timeout=30.0)
            queue.shut(timeout=30.0)


def _ended(child: ManagedProcess) -> None:
    """End a process; a second Ctrl-C kills it at once, and the others still end."""
    try:
        child.end()
    except KeyboardInterrupt:
        child.end(timeout=0.0)


def _keys() -> tuple[str, str]:
    """Return the public and the private key of the Queue Server: that of the environment, or new.

    The manager takes everybody who knows the public key: so that is kept secret, too.
    """
    import zmq

    private = os.environ.get(_PRIVATE_KEY)
    if private is None:
        public, made = zmq.curve_keypair()
        return public.decode(), made.decode()
    try:
        return zmq.curve_public(private.encode()).decode(), private
    except (ValueError, zmq.ZMQError):
        raise InputError(
            f"${_PRIVATE_KEY} is no key; expected 40 characters as `qserver-zmq-keys` prints them, "
            "or unset it: one is made"
        ) from None


def _pings(port: int, password: str) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        answer = connection.makefile("rb")
        return answer.readline().startswith(b"+OK") and answer.readline().startswith(b"+PONG")


def _answers(queue: QueueClient) -> bool:
    try:
        return queue.status()["manager_state"] == "idle"
    except InputError:
        return False

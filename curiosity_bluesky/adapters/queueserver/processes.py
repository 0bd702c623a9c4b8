"""Processes that are started together, watched, and ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.permissions import owner_only


class ManagedProcess:
    """A process with all that it starts, writing into a log file.

    It leads a process group of its own: a Ctrl-C in the terminal does not reach it, and what it
    has started ends with it.

    Parameters
    ----------
    name
        What people call it.
    command
        Its words.
    log
        The file that its output is appended to.
    environment
        Added to that of this process.

    Raises
    ------
    InputError
        If there is no such program.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with open(log, "ab", opener=owner_only) as output:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            except OSError as error:
                raise InputError(f"{name} cannot be started: {error}") from None
        self.pid = self._process.pid
        self._began = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until it answers.

        Parameters
        ----------
        ready
            Asked again and again; an `OSError` is a no.
        timeout
            How long it may take, s.

        Raises
        ------
        InputError
            If it ends, or takes longer; with the last line of its log.
        """
        until = time.monotonic() + timeout
        while True:
            with contextlib.suppress(OSError):
                if ready():
                    return
            if not self.alive or time.monotonic() > until:
                how = "does not answer" if self.alive else "ended at once"
                raise InputError(f"{self.name} {how} ({self.last_words()}); {self.log} says more")
            time.sleep(0.05)

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def end(self, timeout: float = 15.0) -> None:
        """Terminate it, then kill what is left of its process group; idempotent."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + timeout
        while self._group_lives() and time.monotonic() < until:
            self._process.poll()  # or it stays a zombie, and the group with it
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        # The group outlives its leader, and keeps its number as long as anybody is in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def usable_port(port: int, what: str) -> int:
    """Return a port to listen on: the one that is wanted, or for 0 a free one.

    Raises
    ------
    InputError
        If the port is in use.
    """
    if port == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port {port} cannot be had for {what} ({error}); is one running already? Else "
                "choose another, 0 takes a free one"
            ) from None
    return port


def is_listening(port: int) -> bool:
    """Whether a process accepts connections on a port of 127.0.0.1."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True

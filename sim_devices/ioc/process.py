"""An IOC in a process of its own, for as long as it is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from curiosity_bluesky.errors import InputError
from sim_devices.ioc.settings import DEFAULT_PREFIX

_ENDS_WITHIN = 5.0


class IOCProcess:
    """Runs ``curiosity ioc`` beside this process and ends it again.

    The IOC ends with `close`, and by itself when this process is gone, also by SIGKILL. It is
    in a session of its own, so that a Ctrl-C here does not take it away while there is still
    something to stop.

    Parameters
    ----------
    *options
        Options of ``curiosity ioc``, such as ``"--sample", "synthetic"``.
    prefix
        What all names begin with.
    port
        UDP port on which it answers; 0 for one that is free.
    timeout
        Seconds that it may take to start.

    Attributes
    ----------
    port : int
        Where it answers; see `client_environment`.
    pid : int
        Its process.

    Raises
    ------
    InputError
        If it does not start, with what it says.
    """

    def __init__(
        self,
        *options: str,
        prefix: str = DEFAULT_PREFIX,
        port: int = 0,
        timeout: float = 120.0,
    ) -> None:
        self.prefix = prefix
        self._process = subprocess.Popen(
            [*command(), "--prefix", prefix, "--port", str(port), "--until-eof", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        late = threading.Timer(timeout, self._process.kill)
        late.start()
        try:
            self.port = self._announced()
        except BaseException:
            self.close()
            raise
        finally:
            late.cancel()
        # What it says is not read from now on, and a full pipe would stop it.
        for stream in (self._process.stdout, self._process.stderr):
            threading.Thread(target=_drained, args=(stream,), daemon=True).start()

    def _announced(self) -> int:
        assert self._process.stdout is not None and self._process.stderr is not None
        port = 0
        for line in self._process.stdout:
            if found := re.search(r"EPICS_CA_ADDR_LIST=\S+:(\d+)", line):
                port = int(found.group(1))
            if line.startswith("ready"):
                return port
        said = " ".join(self._process.stderr.read().split())
        said = said.removeprefix("curiosity: ")
        raise InputError(f"the IOC did not start: {said or 'it said nothing'}")

    def close(self) -> None:
        """End it; more than once is fine."""
        self._process.terminate()
        try:
            self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def __enter__(self) -> IOCProcess:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()


def command() -> Sequence[str]:
    """Return the words that run ``curiosity ioc`` with this Python."""
    return [sys.executable, "-m", "curiosity_bluesky.cli", "ioc"]


def _drained(stream: Any) -> None:
    for _ in stream:
        pass

"""Projections computed in the background, with a cache."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.projection import check_method, key_of, project

_IN_MEMORY = 32
_ON_DISK = 200
"""Maximum maps in the cache. One of 25,133 images has 200 kB."""

Points = NDArray[np.float32]


class Projections:
    """Cache of projections: PCA in a thread, PaCMAP in a process of its own.

    The process takes PaCMAP's import and compilation (20 s and more the first time), and a
    few hundred MB, away from the one that serves pages. It starts with the first map that
    needs it and is ended with `close`.

    Parameters
    ----------
    directory
        Where maps are kept, by content; default: the user's cache.
    """

    def __init__(self, directory: Path | None = None) -> None:
        cache = Path(platformdirs.user_cache_dir("curiosity-bluesky"))
        self.directory = directory or cache / "projections"
        self._kept: OrderedDict[str, Points] = OrderedDict()
        self._lock = threading.Lock()
        self._pools = {name: ThreadPoolExecutor(1, f"project-{name}") for name in ("pca", "pacmap")}
        self._worker = _Worker()

    def get(self, key: str) -> Points | None:
        """Return a cached map by its key, else None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        # A file that is damaged is as good as none; it is written again.
        with contextlib.suppress(OSError, ValueError, EOFError):
            points = np.load(self.directory / f"{key}.npy", allow_pickle=False)
            if points.ndim == 2 and points.shape[1] == 2:
                self._remember(key, points)
                return points
        return None

    def ask(self, vectors: NDArray[np.float32], method: str, seed: int = 0) -> Future[Points]:
        """Return the future of a map; cancel it when it is not needed any more.

        Parameters
        ----------
        vectors, method, seed
            As for `curiosity_bluesky.similarity.projection.project`, whose errors it gives.
        """
        check_method(method)
        key = key_of(vectors, method, seed)
        if (points := self.get(key)) is not None:
            done: Future[Points] = Future()
            done.set_result(points)
            return done
        make = project if method == "pca" else self._worker.project
        return self._pools[method].submit(self._make, make, key, vectors, method, seed)

    def _make(
        self,
        make: Callable[[NDArray[np.float32], str, int], Points],
        key: str,
        vectors: NDArray[np.float32],
        method: str,
        seed: int,
    ) -> Points:
        if (points := self.get(key)) is None:
            points = make(vectors, method, seed)
            self._remember(key, points)
            with contextlib.suppress(OSError):  # a full disk costs the cache, not the map
                self._write(key, points)
        return points

    def _remember(self, key: str, points: Points) -> None:
        with self._lock:
            self._kept[key] = points
            while len(self._kept) > _IN_MEMORY:
                self._kept.popitem(last=False)

    def _write(self, key: str, points: Points) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self.directory / f"{key}.{os.getpid()}.part"
        with part.open("wb") as file:
            np.save(file, points)
        part.replace(self.directory / f"{key}.npy")
        kept = sorted(self.directory.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-_ON_DISK]:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the process and its work; more than once does no harm."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._worker.close()


class _Worker:
    """Process that projects vectors from its standard input, one map after another."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise InputError("the page is closed")
            if self._process is None or self._process.poll() is not None:
                # A session of its own: Ctrl-C is for the server, which then ends this.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            return self._process

    def project(self, vectors: NDArray[np.float32], method: str, seed: int) -> Points:
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((vectors, method, seed), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self._forget(process)
            raise InputError("the process that projects has ended; try again") from None
        if isinstance(answer, str):
            raise InputError(answer)
        return answer

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with self._lock:
            self._process = None if self._process is process else self._process

    def close(self) -> None:
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


def _serve() -> None:
    """Read vectors from standard input, write their map to standard output, until it ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    while True:
        try:
            vectors, method, seed = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = project(vectors, method, seed)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    _serve()

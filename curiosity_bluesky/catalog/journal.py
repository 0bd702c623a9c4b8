"""Journal: the documents of each run in a file of its own, before any other callback has them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from curiosity_bluesky.catalog.journal_lines import Line, decode_lines, encode_line
from curiosity_bluesky.errors import CuriosityError, InputError

logger = logging.getLogger(__name__)

CHUNK = 256 * 1024
"""Bytes that are read from a journal at once; a line may be longer."""

MAY_WAIT = 10
"""Documents that may wait in memory for room on the disk before a plan pauses."""


def check_may_wait(may_wait: Any) -> None:
    """Refuse what is no number of documents.

    Raises
    ------
    InputError
        If it is not 0 or more.
    """
    if isinstance(may_wait, bool) or not (isinstance(may_wait, int | float) and may_wait >= 0):
        raise InputError(
            f"may_wait is {may_wait!r}; expected how many documents may wait in memory while "
            "the disk of the journal is full, 0 or more (math.inf: never pause)"
        )


_HELD = "another process has it"


_open_here: weakref.WeakValueDictionary[tuple[Path, str], RunJournal]
_open_here = weakref.WeakValueDictionary()
"""The journals that this process writes; the locks of files are for other processes."""

_here = threading.Lock()


class JournalLocked(CuriosityError):
    """Another writer has the journal of the run."""


class JournalTruncated(CuriosityError):
    """Lines were taken out of a journal while it was written."""


@dataclass(frozen=True)
class JournalState:
    """How far a journal has come, at one moment.

    Parameters
    ----------
    end
        Position after the last document, bytes.
    waiting
        Documents that are in memory alone.
    why
        Why they are, or why it is not certain that the disk has them; "" if all is well.
    """

    end: int = 0
    waiting: int = 0
    why: str = ""


class RunJournal:
    """The write-ahead file of one run, ``<directory>/<uid>.jsonl``.

    A line is ``{"name": ..., "doc": ...}``. When `append` returns, the line is with the
    operating system: killing this process loses nothing. While it is open, a lock beside it
    (``<uid>.lock``, given back by the system when the process dies) says that a process
    writes it. Lines that cannot be written, because the disk is full, wait in memory and are
    tried again with the next one, and by `retry`. One thread appends, others may read.

    Parameters
    ----------
    directory
        Where the journals are.
    uid
        The run.
    durable
        Whether `append` waits until the disk has the line: then a power cut loses nothing.
    may_wait
        Documents that may wait in memory before a plan pauses, see `describe_backlog`.

    Raises
    ------
    Taken
        If another writer has it, in this process or in another.
    """

    def __init__(
        self, directory: Path, uid: str, *, durable: bool = False, may_wait: float = math.inf
    ) -> None:
        self.uid = uid
        self.path = directory / f"{uid}.jsonl"
        self.may_wait = may_wait
        self.state = JournalState()
        """Read it once: what belongs together is in one object, replaced as a whole."""
        self._durable = durable
        self._mutex = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._lock = lock_of(self.path)
        self._file: int | None = None
        self._size = 0  # of the whole lines in the file
        self._unsynced = self._unlisted = False  # lines, or a file, of which the disk knows not
        self._shortened = 0  # bytes that were taken away from outside
        self._why = ""
        self._odd = False  # something was kept as its text
        self._key = (directory.resolve(), uid)
        with _here:
            if self._key in _open_here:
                raise JournalLocked("another writer in this process")
            _open_here[self._key] = self
        with self._mutex:
            try:
                # The one time that it waits: another process may be testing whether it is held.
                self._lock.acquire(timeout=1)
            except filelock.Timeout:
                self._forget()
                raise JournalLocked("another process") from None
            except OSError:
                pass  # the disk is full; said and tried again with the rest
            self._drain()
        self.begins = self.state.end  # a run of that uid may have been journalled before

    def append(self, name: str, doc: Mapping[str, Any]) -> None:
        """Write one document of any content; numpy's arrays become lists.

        Complex numbers come back as such. Of what else JSON cannot hold the text is kept.
        """
        line = encode_line(name, doc, self._say_odd)
        with self._mutex:
            self._waiting.append(line)
            self._drain()

    def retry(self) -> JournalState:
        """Try again to write what waits in memory; return what came of it."""
        with self._mutex:
            if self._why:
                self._drain()
        return self.state

    def read(self, position: int) -> list[Line]:
        """Return the next lines, about 256 kB of them, each with the position after it.

        Parameters
        ----------
        position
            Bytes; `begins` for the first document.

        Raises
        ------
        Shortened
            If lines were taken away: positions mean nothing any more.
        """
        with self._mutex:
            with contextlib.suppress(OSError):  # `append` says it
                self._notice()
            if self._shortened:
                raise JournalTruncated(
                    f"{self._shortened} bytes of the journal {self.path} were taken away while "
                    "it was written"
                )
            return self._read(position)

    def _read(self, position: int) -> list[Line]:
        if position >= self._size:  # what the disk did not take
            data = b"".join(self._waiting)[position - self._size :]
            return list(decode_lines(data, position))
        assert self._file is not None
        data = os.pread(self._file, min(CHUNK, self._size - position), position)
        while b"\n" not in data:
            more = os.pread(self._file, CHUNK, position + len(data))
            if not more:  # never wait for a file to become longer
                raise JournalTruncated(f"the journal {self.path} ends before byte {self._size}")
            data += more
        return list(decode_lines(data[: data.rindex(b"\n") + 1], position))

    def lines(self, end: int) -> Iterator[Line]:
        """Yield the lines up to a position, as far as they are there."""
        position = self.begins
        while position < end:
            with self._mutex:
                with contextlib.suppress(OSError):
                    self._notice()
                found = self._read(position) if position < self.state.end else []
            if not found:
                return
            for after, name, doc in found:
                if after > end:
                    return
                yield after, name, doc
                position = after

    @property
    def end(self) -> int:
        """Position after the last document."""
        return self.state.end

    @property
    def is_locked(self) -> bool:
        """Whether it is certain that no other process writes this run."""
        return self._lock.is_locked

    @property
    def on_disk(self) -> bool:
        """Whether every line is in the file."""
        return not self.state.waiting

    @property
    def is_overfull(self) -> bool:
        """Whether more documents wait in memory than may."""
        return self.state.waiting > self.may_wait

    def in_memory(self, position: int = 0) -> int:
        """Return how many documents after a position are in memory alone."""
        with self._mutex:
            after, found = self._size, 0
            for line in self._waiting:
                after += len(line)
                found += after > position
            return found

    def close(self) -> bool:
        """Close the file, unless lines still wait for its disk; return whether it is closed."""
        with self._mutex:
            self._drain()
            if self._waiting:
                return False
            self._shut()
            self._lock.release()
            self._forget()
            return True

    def delete(self) -> None:
        """Delete the file: Tiled has all of it."""
        with self._mutex:
            self._waiting.clear()
            self._why = ""
            self._shut()
            if self._lock.is_locked:  # else it never came to a file
                remove(self.path, self._lock)
            self._forget()
            self._say_state()

    def _say_odd(self, value: Any) -> None:
        if not self._odd:
            self._odd = True
            logger.warning(
                "a document of run %s holds a %s, for which JSON has nothing; its text is kept",
                *(self.uid, type(value).__name__),
            )

    def _forget(self) -> None:
        with _here:
            if _open_here.get(self._key) is self:
                del _open_here[self._key]

    def _say_state(self) -> None:
        end = self._size + sum(map(len, self._waiting))
        self.state = JournalState(end, len(self._waiting), self._why)

    def _drain(self) -> None:
        why = ""
        try:
            if self._file is None:
                self._open()
            self._notice()
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
            if self._durable and self._unsynced:
                self._force()
        except filelock.Timeout:
            why = _HELD
        except OSError as error:
            why = error.strerror or str(error)
        if why and not self._why and not self._waiting:
            logger.warning(
                "the journal %s is written, but its disk does not confirm it (%s): a power cut "
                "may take its last lines",
                *(self.path, why),
            )
        elif why and not self._why:
            logger.warning(
                "the journal %s cannot be written (%s): its documents wait in memory alone, and "
                "are tried again%s",
                *(self.path, why),
                "" if why == _HELD else ": make room on that disk",
            )
        elif self._why and not why:
            logger.warning("the journal %s is written again, nothing is missing", self.path)
        self._why = why
        self._say_state()

    def _open(self) -> None:
        if not self._lock.is_locked:
            self._lock.acquire()  # without waiting: a plan stands still
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = 0
        self._unsynced = self._unlisted = True

    def _force(self) -> None:
        """Wait until the disk has all lines, and that there is such a file."""
        assert self._file is not None
        os.fsync(self._file)
        for path in (self.path.parent, self.path.parent.parent) if self._unlisted else ():
            directory = os.open(path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        self._unsynced = self._unlisted = False

    def _shut(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _notice(self) -> None:
        """Notice what the file holds, whichever process wrote it or cut it off."""
        if self._file is None:
            return
        size = os.fstat(self._file).st_size
        if size == self._size:
            return
        if size < self._size:
            if not self._shortened:
                logger.error(
                    "the journal %s was shortened by %d bytes while it was written, by another "
                    "program: what was in them is lost unless Tiled has it. The rest is kept",
                    *(self.path, self._size - size),
                )
            self._shortened += self._size - size
        # A line that a killed process left unfinished would spoil the one after it.
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            size += os.write(self._file, b"\n")
        self._size = size
        self._say_state()

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        written = 0
        self._unsynced = True
        try:
            while written < len(line):  # a disk that fills up takes a part of it
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)


def describe_backlog(uid: str) -> str:
    """Say of which journals of a run more documents wait in memory than may; "" if of none.

    A run has a journal for each catalogue that it is written into. Those of other runs of this
    process do not matter: their disk may be another one, and full for long.
    """
    with _here:
        found = [each for each in _open_here.values() if each.uid == uid]
    full = [each for each in found if each.is_overfull and each.retry() and each.is_overfull]
    if not full:
        return ""
    waiting = sum(each.state.waiting for each in full)
    where = ", ".join(sorted({str(each.path.parent) for each in full}))
    return (
        f"{waiting} documents wait in memory alone, since the disk of {where} takes no more "
        f"({full[0].state.why}); they are written as soon as there is room, and lost if this "
        "process ends before"
    )


def lock_of(path: Path) -> filelock.FileLock:
    """Return the lock of a journal, not taken yet; one thread may take it, another free it."""
    return filelock.FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)


def is_held(path: Path) -> bool:
    """Whether a living process writes this journal, or uploads it."""
    if not path.with_suffix(".lock").exists():
        return False
    lock = lock_of(path)
    try:
        lock.acquire()
    except (filelock.Timeout, OSError):  # a lock that may not be opened is of another user
        return True
    if not path.exists():  # both were removed in between, and taking the lock made it again
        path.with_suffix(".lock").unlink(missing_ok=True)
    lock.release()
    return False


def remove(path: Path, lock: filelock.FileLock) -> None:
    """Delete a journal, and its lock, which must be held, after it."""
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)
    lock.release()


def journals(directory: Path) -> list[Path]:
    """Return the journals in a directory, the oldest first."""
    found = []
    for path in directory.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # taken in at this moment
            if path.is_file():
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]

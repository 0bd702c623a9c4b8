"""The journal: each run's documents in a file of its own, before anybody else hears of them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np

logger = logging.getLogger("curiosity_bluesky")

CHUNK = 256 * 1024
"""Bytes that are read from a journal at once; a line may be longer."""

_COMPLEX = "__complex__"
"""Marks, in a line, the real and the imaginary parts of a number or an array."""

Document = tuple[str, dict[str, Any]]

Line = tuple[int, str, dict[str, Any]]
"""A document behind the position in its journal, bytes, that follows it."""


_open_here: weakref.WeakValueDictionary[tuple[Path, str], RunJournal]
_open_here = weakref.WeakValueDictionary()
"""The journals that this process writes; the locks of files are for other processes."""

_here = threading.Lock()


class Taken(Exception):
    """Somebody else writes the journal of that run."""


class RunJournal:
    """The write-ahead file of one run, ``<directory>/<uid>.jsonl``.

    A line is ``{"name": ..., "doc": ...}``. When `append` returns, the line is with the
    operating system: killing this process loses nothing. While it is open, a lock beside it
    (``<uid>.lock``, given back by the system when the process dies) says that somebody
    writes it. Lines that cannot be written, because the disk is full, wait in memory and are
    tried again with the next one. One thread appends, another may read.

    Parameters
    ----------
    directory
        Where the journals are.
    uid
        The run.

    Raises
    ------
    Taken
        If somebody else writes it, in this process or in another.
    """

    def __init__(self, directory: Path, uid: str) -> None:
        self.uid = uid
        self.path = directory / f"{uid}.jsonl"
        self._mutex = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._lock = lock_of(self.path)
        self._file: int | None = None
        self._size = 0  # of the whole lines in the file
        self._end = 0  # with those in memory
        self._troubled = False
        self._odd = False  # something was kept as its text
        self._key = (directory.resolve(), uid)
        with _here:
            if self._key in _open_here:
                raise Taken("another writer in this process")
            _open_here[self._key] = self
        with self._mutex:
            try:
                # The one time that it waits: somebody may look at this moment whether it is held.
                self._lock.acquire(timeout=1)
            except filelock.Timeout:
                self._forget()
                raise Taken("another process") from None
            except OSError:
                pass  # the disk is full; said and tried again with the rest
            self._drain()
        self.begins = self._end  # a run of that uid may have been journalled before

    def append(self, name: str, doc: Mapping[str, Any]) -> None:
        """Write one document, whatever is in it; numpy's arrays become lists.

        Complex numbers come back as such. Of what else JSON cannot hold the text is kept.
        """
        line = self._text({"name": name, "doc": doc}) + "\n"
        with self._mutex:
            self._waiting.append(line.encode())
            self._end += len(self._waiting[-1])
            self._drain()

    def read(self, position: int) -> list[Line]:
        """Return the next documents, about 256 kB of them, each with the position after it.

        Parameters
        ----------
        position
            Bytes; `begins` for the first document.
        """
        with self._mutex:
            size = self._size
            if position >= size:  # what the disk did not take
                data = b"".join(self._waiting)[position - size :]
                return list(_parsed(data, position))
            assert self._file is not None
            data = os.pread(self._file, min(CHUNK, size - position), position)
            while b"\n" not in data:
                data += os.pread(self._file, CHUNK, position + len(data))
        return list(_parsed(data[: data.rindex(b"\n") + 1], position))

    def lines(self, end: int) -> Iterator[Line]:
        """Yield the documents up to a position."""
        position = self.begins
        while position < end:
            for after, name, doc in self.read(position):
                if after > end:
                    return
                yield after, name, doc
                position = after

    @property
    def end(self) -> int:
        """Position after the last document."""
        return self._end

    @property
    def is_locked(self) -> bool:
        """Whether it is certain that nobody else writes this run."""
        return self._lock.is_locked

    @property
    def on_disk(self) -> bool:
        """Whether every line is in the file."""
        return not self._waiting

    def close(self) -> bool:
        """Let go of the file, unless lines still wait for its disk; return whether it did."""
        with self._mutex:
            self._drain()
            if self._waiting:
                return False
            if self._file is not None:
                os.close(self._file)
                self._file = None
            self._lock.release()
            self._forget()
            return True

    def delete(self) -> None:
        """Delete the file: somebody else has all of it."""
        with self._mutex:
            self._waiting.clear()
            if self._file is not None:
                os.close(self._file)
                self._file = None
            if self._lock.is_locked:  # else it never came to a file
                remove(self.path, self._lock)
            self._forget()

    def _text(self, entry: dict[str, Any]) -> str:
        try:
            return json.dumps(entry, default=self._held)
        except (TypeError, ValueError, RecursionError):  # odd keys, or something within itself
            return json.dumps(_plain(entry), default=self._held)

    def _held(self, value: Any) -> Any:
        """Return something that JSON can hold for something that it cannot."""
        if hasattr(value, "__array__"):
            value = np.asarray(value)
            if value.dtype.kind == "c":
                parts = [part.astype(float).tolist() for part in (value.real, value.imag)]
                return {_COMPLEX: parts, "dtype": value.dtype.str}
            if value.dtype.kind == "f" and value.ndim == 0:  # a long double is its own item
                return float(value)
            if value.dtype.kind in "biufUSO" or value.ndim:
                return value.tolist()
        elif isinstance(value, complex):
            return {_COMPLEX: [value.real, value.imag]}
        if not self._odd:
            self._odd = True
            logger.warning(
                "a document of run %s holds a %s, for which JSON has nothing; its text is kept",
                *(self.uid, type(value).__name__),
            )
        return str(value)

    def _forget(self) -> None:
        with _here:
            if _open_here.get(self._key) is self:
                del _open_here[self._key]

    def _drain(self) -> None:
        try:
            if self._file is None:
                self._open()
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
        except (OSError, filelock.Timeout) as error:
            if not self._troubled:
                self._troubled = True
                locked = isinstance(error, filelock.Timeout)
                logger.warning(
                    "the journal %s cannot be written (%s); its lines wait in memory and are "
                    "tried again with each document%s",
                    *(self.path, "another process has it" if locked else error),
                    "" if locked else ": make room on that disk",
                )
        else:
            if self._troubled:
                self._troubled = False
                logger.warning("the journal %s is written again, nothing is missing", self.path)

    def _open(self) -> None:
        if not self._lock.is_locked:
            self._lock.acquire()  # without waiting: a plan stands still
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # A line that a killed process left unfinished would spoil the one after it.
        size = os.fstat(self._file).st_size
        while size and os.pread(self._file, 1, size - 1) != b"\n":
            size -= 1
        os.ftruncate(self._file, size)
        self._size = size
        self._end = size + sum(map(len, self._waiting))

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        written = 0
        try:
            while written < len(line):  # a disk that fills up takes a part of it
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)


def lock_of(path: Path) -> filelock.FileLock:
    """Return the lock of a journal, not taken yet; one thread may take it, another free it."""
    return filelock.FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)


def is_held(path: Path) -> bool:
    """Whether somebody alive writes this journal, or takes it in."""
    if not path.with_suffix(".lock").exists():
        return False
    lock = lock_of(path)
    try:
        lock.acquire()
    except filelock.Timeout:
        return True
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
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def first_document(path: Path) -> dict[str, Any] | None:
    """Return the start document of a journal, None if it is gone or begins otherwise."""
    with contextlib.suppress(FileNotFoundError):
        for _, name, doc in lines(path):
            return doc if name == "start" else None
    return None


def documents(path: Path, position: int = 0) -> Iterator[Document]:
    """Yield the documents of a journal, one at a time.

    A last line that a killed process left unfinished is passed over.

    Parameters
    ----------
    path
        The journal.
    position
        Where to begin, bytes.
    """
    for _, name, doc in lines(path, position):
        yield name, doc


def lines(path: Path, position: int = 0) -> Iterator[Line]:
    """Yield the documents of a journal from a position on, each with that after it."""
    with open(path, "rb") as file:
        file.seek(position)
        for line in file:
            if line.endswith(b"\n"):
                yield from _parsed(line, position)
            position += len(line)


def _parsed(data: bytes, position: int) -> Iterator[Line]:
    for line in data.splitlines(keepends=True):
        position += len(line)
        try:
            # Few lines have any, and to look into each dictionary takes time.
            hook = _restored if _COMPLEX.encode() in line else None
            entry = json.loads(line, object_hook=hook)
            name, doc = entry["name"], entry["doc"]
        except (ValueError, KeyError, TypeError):
            logger.warning("a journal holds a line that is no document: %.60r", line)
            continue
        yield position, name, doc


def _restored(found: dict[str, Any]) -> Any:
    if _COMPLEX not in found:
        return found
    real, imag = found[_COMPLEX]
    if "dtype" not in found:
        return complex(real, imag)
    value = np.empty(np.shape(real), found["dtype"])
    value.real, value.imag = real, imag
    return value


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a copy whose keys are text and which is not endless."""
    if depth > 50:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    return value


class Tally:
    """What the documents of one run come to.

    An event that a pause made the RunEngine emit again, with the same number, counts once,
    the first time: it is what the explorer learns from. In Tiled the table and the arrays of
    a stream are put together by that number; with one there twice, each later event would
    get the arrays of the one before it.

    Attributes
    ----------
    start, stop : dict or None
        Those documents.
    documents : int
        How many there are.
    time : float or None
        Of the last document that has one, s since 1970.
    events : dict
        Stream to its number of events.
    arrays : dict
        Stream to the data keys whose values are arrays in the events themselves.
    external : bool
        Whether data are in files of their own.
    files : dict
        Stream to data key to how many events have it in a file, by stream datums.
    begins : int
        In a journal, the position of the start document, bytes.
    longest : int
        In a journal, the longest line, bytes.
    unknown : int
        Events of streams that were never described, which Tiled cannot take; they count for
        nothing else.
    """

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        self.stop: dict[str, Any] | None = None
        self.documents = 0
        self.time: float | None = None
        self.events: dict[str, int] = {}
        self.arrays: dict[str, set[str]] = {}
        self.external = False
        self.files: dict[str, dict[str, int]] = {}
        self.begins = 0
        self.longest = 0
        self.unknown = 0
        self._streams: dict[str, str] = {}  # of descriptors
        self._last: dict[str, int] = {}  # event of descriptors
        self._keys: dict[str, str] = {}  # of stream resources

    def add(self, name: str, doc: Mapping[str, Any]) -> bool:
        """Take in a document; return whether it is to be written: no repetition, and known."""
        if name == "start":
            self.start = dict(doc)
        self.documents += 1
        self.time = doc.get("time", self.time) if name != "event_page" else self.time
        if name == "stop":
            self.stop = dict(doc)
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
            self.events.setdefault(doc["name"], 0)
            self.arrays.setdefault(doc["name"], set()).update(
                key
                for key, described in doc["data_keys"].items()
                if described["dtype"] == "array" and "external" not in described
            )
        elif name in ("event", "event_page") and doc["descriptor"] not in self._streams:
            # Of a writer that was subscribed in the middle of a run.
            self.unknown += 1 if name == "event" else len(doc["seq_num"])
            return False
        elif name == "event":
            stream, number = doc["descriptor"], doc["seq_num"]
            if number <= self._last.get(stream, 0):
                logger.info("event %d was repeated after a pause; the first one counts", number)
                return False
            self._last[stream] = number
            self.events[self._streams[stream]] += 1
        elif name == "event_page":
            self.events[self._streams[doc["descriptor"]]] += len(doc["seq_num"])
        elif name in ("resource", "datum", "datum_page", "stream_resource", "stream_datum"):
            self.external = True
            if name == "stream_resource":
                self._keys[doc["uid"]] = doc["data_key"]
            elif name == "stream_datum" and doc["descriptor"] in self._streams:
                files = self.files.setdefault(self._streams[doc["descriptor"]], {})
                key = self._keys.get(doc["stream_resource"], "")
                count = doc["seq_nums"]["stop"] - doc["seq_nums"]["start"]
                files[key] = files.get(key, 0) + count
        return True

    def stream_of(self, descriptor: str) -> str:
        """Return the stream of a descriptor that was taken in, "" if none was."""
        return self._streams.get(descriptor, "")


def tally_of(found: Iterable[Line], begins: int = 0) -> Tally:
    """Return what a journal comes to.

    Parameters
    ----------
    found
        Its lines.
    begins
        Position of the first, bytes.
    """
    tally, before = Tally(), begins
    for position, name, doc in found:
        if name == "start":  # a run that is journalled a second time counts from there
            tally = Tally()
            tally.begins = before
        tally.longest = max(tally.longest, position - before)
        tally.add(name, doc)
        before = position
    return tally

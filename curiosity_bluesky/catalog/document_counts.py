"""Document counts of one run, and the lines of its journal that cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from curiosity_bluesky.catalog.journal_lines import UNREAD, Line, describe_defect, lines
from curiosity_bluesky.documents import Document

logger = logging.getLogger(__name__)

Verdict = Literal["new", "again", "copy", "unknown", "unread"]
"""What a document is: ``again``: an event that a pause repeated, ``copy``: a line that is there
twice."""

COUNTED = "counted"
"""Key in the metadata of a run: its good spectra, ``points``, and how many were asked for at
last, ``num_points``. Who lists runs need not read any table for it."""

_UIDS = {"resource": "uid", "datum": "datum_id", "stream_resource": "uid", "stream_datum": "uid"}
_LAST = 9
_RANKS = {"start": 0, "descriptor": 1, "resource": 2, "stream_resource": 2, "stop": 5}


class DocumentCounts:
    """What the documents of one run come to.

    An event that a pause made the RunEngine emit again, with the same number, counts once,
    the first time: it is what the explorer learns from. In Tiled the table and the arrays of
    a stream are put together by that number; with one there twice, each later event would
    get the arrays of the one before it.

    Parameters
    ----------
    storable
        Whether a document that Tiled's writer would refuse counts as one that cannot be read.

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
    ends : int
        In a journal, the position after the last whole line, bytes.
    longest : int
        In a journal, the longest line, bytes.
    unknown : int
        Events of streams that were never described, which Tiled cannot take; they count for
        nothing else.
    unread : list
        Of each line that cannot be used, the position after it and why; they count for
        nothing else.
    copies : int
        Lines that are there a second time, as they are; they count for nothing else.
    disordered : bool
        Whether documents come in another order than a RunEngine emits them.
    """

    def __init__(self, *, storable: bool = False) -> None:
        self.start: dict[str, Any] | None = None
        self.stop: dict[str, Any] | None = None
        self.documents = 0
        self.time: float | None = None
        self.events: dict[str, int] = {}
        self.arrays: dict[str, set[str]] = {}
        self.external = False
        self.files: dict[str, dict[str, int]] = {}
        self.ends = 0
        self.longest = 0
        self.unknown = 0
        self.unread: list[tuple[int, str]] = []
        self.copies = 0
        self.disordered = False
        self._storable = storable
        self._streams: dict[str, str] = {}  # of descriptors
        self._described: dict[str, tuple[set[str], set[str]]] = {}  # keys that may, must be there
        self._numbers: dict[str, dict[int, Any]] = {}  # event of descriptors, with its uid
        self._last: dict[str, int] = {}
        self._keys: dict[str, str] = {}  # of stream resources
        self._uids: set[tuple[str, str]] = set()  # of documents about files

    def add(self, name: str, doc: Mapping[str, Any], position: int = 0) -> bool:
        """Process a document; return whether it is to be written: no repetition, and known."""
        return self.judged(name, doc, position) == "new"

    def judged(self, name: str, doc: Mapping[str, Any], position: int = 0) -> Verdict:
        """Process a document, or a line that is none; return what it is.

        Parameters
        ----------
        name, doc
            The document.
        position
            In a journal, the position after its line, bytes.
        """
        why = doc["why"] if name == UNREAD else describe_defect(name, doc, storable=self._storable)
        verdict = "unread" if why else self._verdict(name, doc)
        if verdict == "unread":
            self.unread.append((position, why or self._odd(name, doc)))
            return verdict
        if verdict == "copy":
            self.copies += 1
            return verdict
        self.documents += 1
        self.time = doc.get("time", self.time) if name != "event_page" else self.time
        if verdict == "new":
            self._count(name, doc)
        elif verdict == "unknown":  # of a writer that was subscribed in the middle of a run
            self.unknown += 1 if name == "event" else len(doc["seq_num"])
        else:
            logger.info("event %d was repeated after a pause; the first one counts", doc["seq_num"])
        return verdict

    def _verdict(self, name: str, doc: Mapping[str, Any]) -> Verdict:
        """Return what a document with all that it needs is."""
        if name in ("start", "stop"):
            there = self.start if name == "start" else self.stop
            if there is not None:
                return "copy" if there == doc else "unread"
            return "unread" if self._odd(name, doc) else "new"
        if name == "descriptor":
            if doc["uid"] in self._streams:
                return "copy"
            return "unread" if self._odd(name, doc) else "new"
        if name in ("event", "event_page"):
            if doc["descriptor"] not in self._streams:
                return "unknown"
            if name == "event" and doc["seq_num"] in self._numbers[doc["descriptor"]]:
                first = self._numbers[doc["descriptor"]][doc["seq_num"]]
                return "copy" if doc.get("uid") == first is not None else "again"
            return "unread" if self._odd(name, doc) else "new"
        return "copy" if _uid(name, doc) in self._uids else "new"

    def _odd(self, name: str, doc: Mapping[str, Any]) -> str:
        """Return in words what is wrong with a document among the others, "" if nothing is."""
        if (self.start if name == "start" else self.stop if name == "stop" else None) is not None:
            return f"it is a second {name} document, and another one than the first"
        if not self._storable or name == "start":
            return ""
        if name in ("stop", "descriptor"):
            mine = self.start is None or doc["run_start"] == self.start["uid"]
            return "" if mine else f"its {name} document is of another run"
        may, must = self._described[doc["descriptor"]]
        if not must <= doc["data"].keys() <= may or not must <= doc["timestamps"].keys() <= may:
            return f"its {name} document has other data keys than its descriptor"
        return ""

    def _count(self, name: str, doc: Mapping[str, Any]) -> None:
        if self.stop is not None or (name != "start" and self.start is None):
            self.disordered = True
        if name == "start":
            self.start = dict(doc)
        elif name == "stop":
            self.stop = dict(doc)
        elif name == "descriptor":
            self._describe(doc)
        elif name == "event":
            stream, number = doc["descriptor"], doc["seq_num"]
            self.disordered = self.disordered or number < self._last.get(stream, number)
            self._last[stream] = number
            self._numbers[stream][number] = doc.get("uid")
            self.events[self._streams[stream]] += 1
        elif name == "event_page":
            self._numbers[doc["descriptor"]].update(dict.fromkeys(doc["seq_num"]))
            self.events[self._streams[doc["descriptor"]]] += len(doc["seq_num"])
        else:
            self._count_file(name, doc)

    def _describe(self, doc: Mapping[str, Any]) -> None:
        uid, stream, keys = doc["uid"], doc["name"], doc["data_keys"]
        inside = {key for key, described in keys.items() if "external" not in described}
        self._streams[uid] = stream
        self._described[uid] = set(keys), inside
        self._numbers[uid] = {}
        self.events.setdefault(stream, 0)
        arrays = {key for key in inside if keys[key]["dtype"] == "array"}
        self.arrays.setdefault(stream, set()).update(arrays)

    def _count_file(self, name: str, doc: Mapping[str, Any]) -> None:
        self.external = True
        if (uid := _uid(name, doc)) is not None:
            self._uids.add(uid)
        if name == "stream_resource":
            self._keys[doc["uid"]] = doc["data_key"]
        elif name == "stream_datum" and doc["descriptor"] in self._streams:
            files = self.files.setdefault(self._streams[doc["descriptor"]], {})
            key = self._keys.get(doc["stream_resource"], "")
            count = doc["seq_nums"]["stop"] - doc["seq_nums"]["start"]
            files[key] = files.get(key, 0) + count

    def numbers_of(self, stream: str) -> set[int]:
        """Return the numbers of the events of a stream."""
        mine = [uid for uid, name in self._streams.items() if name == stream]
        return {number for uid in mine for number in self._numbers[uid]}

    def stream_of(self, descriptor: str) -> str:
        """Return the stream of a descriptor that was taken in, "" if none was."""
        return self._streams.get(descriptor, "")


def _uid(name: str, doc: Mapping[str, Any]) -> tuple[str, str] | None:
    uid = doc.get(_UIDS.get(name, ""))
    return (name, uid) if isinstance(uid, str) else None


def count_documents(
    found: Iterable[Line],
    begins: int = 0,
    *,
    storable: bool = False,
    also: Callable[[str, dict[str, Any]], None] | None = None,
) -> DocumentCounts:
    """Return what a journal comes to.

    Parameters
    ----------
    found
        Its lines.
    begins
        Position of the first, bytes.
    storable
        See `DocumentCounts`.
    also
        Called with each document that counts, as it is read.
    """
    tally, before = DocumentCounts(storable=storable), begins
    for position, name, doc in found:
        tally.longest = max(tally.longest, position - before)
        if tally.add(name, doc, position) and also is not None:
            also(name, doc)
        before = position
    tally.ends = before
    return tally


def in_emission_order(found: Iterable[Line]) -> list[Line]:
    """Return lines in the order in which a RunEngine emits documents.

    A journal whose lines were mixed up has all its documents still. What is none comes last.
    """
    ranked = sorted(found, key=_rank)
    events = [k for k, line in enumerate(ranked) if line[1] == "event" and _rank(line) < _LAST]
    by_time = sorted((ranked[k] for k in events), key=lambda line: line[2]["time"])
    # Of each stream in the order of its numbers, not of its clock.
    turns: dict[str, list[Line]] = {}
    for line in sorted(by_time, key=lambda line: line[2]["seq_num"]):
        turns.setdefault(line[2]["descriptor"], []).append(line)
    following = {descriptor: iter(each) for descriptor, each in turns.items()}
    for k, line in zip(events, by_time, strict=True):
        ranked[k] = next(following[line[2]["descriptor"]])
    return ranked


def _rank(line: Line) -> int:
    _, name, doc = line
    return _LAST if name == UNREAD or describe_defect(name, doc) else _RANKS.get(name, 3)


def readable_documents(path: Path) -> list[Document]:
    """Return the documents of a journal that are whole, in the order of a run.

    Events that a pause repeated are among them; what is there as a copy is not.
    """
    found = list(lines(path))
    tally = count_documents(found)
    if tally.disordered or tally.unknown:
        found = in_emission_order(found)
    again = DocumentCounts()
    kept: list[Document] = [
        (name, doc)
        for position, name, doc in found
        if again.judged(name, doc, position) in ("new", "again")
    ]
    if trouble := describe_damage(path, again):
        logger.warning("the journal %s holds what cannot be used: %s", path, trouble)
    return kept


def journalled_documents(path: Path) -> list[Document]:
    """Return the documents of a journal, none if it is gone or its start cannot be read."""
    try:
        found = readable_documents(path)
    except OSError:  # taken in at this moment, or for others to read
        return []
    return found if found and found[0][0] == "start" else []


def describe_damage(path: Path, tally: DocumentCounts) -> str:
    """Return in words what of a journal could not be used, and on which lines; "" if nothing.

    Parameters
    ----------
    path
        The journal.
    tally
        Of its lines.
    """
    said = []
    if tally.unread:
        whole = path.read_bytes()
        unread = sorted(tally.unread)
        each, number = [], 0
        for (before, _), (after, why) in pairwise([(0, ""), *unread]):
            number += whole.count(b"\n", before, after)
            each.append(f"line {number}: {why}")
        more = f"; and {len(each) - MOST} more" if len(each) > MOST else ""
        said.append("; ".join(each[:MOST]) + more)
    if tally.unknown:
        said.append(unknown_events(tally))
    return "; ".join(said)


def unknown_events(tally: DocumentCounts) -> str:
    """Return why a journal with events that nothing describes is not done with."""
    return f"{tally.unknown} events are of streams that it does not describe"


MOST = 20
"""Lines that cannot be used which are said one by one."""

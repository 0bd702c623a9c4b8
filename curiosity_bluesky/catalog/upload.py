"""Upload to Tiled of journals that no living process writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import httpx

from curiosity_bluesky import documents
from curiosity_bluesky.catalog.connection import is_unreachable
from curiosity_bluesky.catalog.document_counts import (
    count_documents,
    describe_damage,
    in_emission_order,
)
from curiosity_bluesky.catalog.journal import lock_of, remove
from curiosity_bluesky.catalog.journal_lines import lines
from curiosity_bluesky.catalog.run_uploader import (
    TRIES,
    UploadCancelled,
    compare,
    rewrite_run,
    write_metadata,
)
from curiosity_bluesky.documents import Document
from curiosity_bluesky.errors import InputError, Unreachable


@dataclass(frozen=True)
class RecoveredJournal:
    """What became of one journal.

    Parameters
    ----------
    uid
        The run.
    status
        ``written``: it is in Tiled now. ``present``: it was there already. ``kept``: it could
        not be taken in, and the journal is still there.
    documents
        In the journal.
    interrupted
        Whether its stop document was never written.
    detail
        Why it was kept.
    """

    uid: str
    status: str
    documents: int
    interrupted: bool
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-ready."""
        return asdict(self)


def upload_journal(
    client: Any,
    path: Path,
    wanted: Callable[[], bool] = lambda: True,
    durable: bool = False,
) -> RecoveredJournal | None:
    """Upload a journal to Tiled and delete it, unless a living process writes it.

    Killed in the middle and called again, or called by two at once, it does no harm.

    Parameters
    ----------
    client
        The catalogue in Tiled.
    path
        The journal.
    wanted
        Asked before each document whether to go on.
    durable
        Whether it is deleted only when the disk has what Tiled made of it. That waits for
        all else that this machine has to write.

    Returns
    -------
    Recovered or None
        None if another process holds the journal, or has uploaded it meanwhile.

    Raises
    ------
    httpx.HTTPError
        If Tiled cannot take it; the journal stays.
    UploadCancelled
        If it is not wanted any more.
    """
    lock = lock_of(path)
    try:
        lock.acquire()
    except filelock.Timeout:
        return None
    try:
        if not path.exists():
            remove(path, lock)
            return None
        return _taken_in(client, path, lock, wanted, durable)
    finally:
        lock.release()


def upload_journals(
    client: Callable[[], Any],
    paths: Iterable[Path],
    wanted: Callable[[], bool] = lambda: True,
    durable: bool = False,
) -> Iterator[tuple[RecoveredJournal, Exception | None]]:
    """Upload journals, one after the other; one that is refused does not keep the others waiting.

    Parameters
    ----------
    client
        Returns the catalogue in Tiled.
    paths
        The journals. One that another process holds is passed over.
    wanted
        Asked before each document whether to go on.
    durable
        See `upload_journal`.

    Yields
    ------
    tuple
        What became of a journal, and the error if it was kept because of one.

    Raises
    ------
    httpx.TransportError
        If the server went away.
    InputError
        If no server answers, or it cannot be used.
    UploadCancelled
        If it is not wanted any more.
    """
    for path in paths:
        opened = client()
        try:
            taken = upload_journal(opened, path, wanted, durable)
        except (httpx.TransportError, InputError, UploadCancelled):
            raise  # the same for all of them
        except Exception as error:  # any that Tiled's client raises for this one
            if is_unreachable(error):
                raise Unreachable(f"no Tiled server answers ({_words(error)})") from error
            yield _refused(path, error), error
        else:
            if taken is not None:
                yield taken, None


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _refused(path: Path, error: Exception) -> RecoveredJournal:
    why = _words(error)
    try:
        tally = count_documents(lines(path))
    except Exception:  # perhaps the very reason
        return RecoveredJournal(path.stem, "kept", 0, True, why)
    why = "; ".join(filter(None, [why, describe_damage(path, tally)]))
    return RecoveredJournal(path.stem, "kept", tally.documents, tally.stop is None, why)


def _taken_in(
    client: Any, path: Path, lock: filelock.FileLock, wanted: Callable[[], bool], durable: bool
) -> RecoveredJournal:
    count = documents.PointCount()
    tally = count_documents(lines(path), storable=True, also=count)
    uid, ends, ordered = path.stem, tally.ends, None
    if tally.disordered or tally.unknown:
        ordered, count = in_emission_order(lines(path)), documents.PointCount()
        tally = count_documents(ordered, storable=True, also=count)
    interrupted = tally.stop is None

    def found() -> Iterator[Document]:
        for _, name, doc in lines(path) if ordered is None else ordered:
            yield name, doc

    def result(status: str, *details: str) -> RecoveredJournal:
        detail = "; ".join(filter(None, details))
        return RecoveredJournal(uid, status, tally.documents, interrupted, detail)

    trouble = describe_damage(path, tally)
    if tally.documents == 0 and not trouble:  # killed before the first line was whole
        return result("present", _done_with(path, ends, lock, durable))
    if tally.start is None or tally.start["uid"] != uid:
        return result("kept", "it does not begin with the start document of its run", trouble)
    status = "present"
    try:
        run = client[uid]
        there = compare(run, tally)
        less, more, difference = there.less, there.more, there.difference
    except KeyError:
        less, more, difference = True, False, ""
    if less and more:
        return result("kept", f"Tiled holds more than the journal: {difference}", trouble)
    for _ in range(TRIES):
        if not less:
            break
        status = "written"
        rewrite_run(client, uid, found(), tally, wanted=wanted)
        there = compare(client[uid], tally)
        less, difference = there.less, there.difference
    if less:
        return result("kept", f"written {TRIES} times, Tiled still differs: {difference}", trouble)
    write_metadata(client[uid], tally, count)
    if trouble:  # nothing of it is anywhere else
        return result("kept", trouble, f"the other {tally.documents} documents are in Tiled")
    remarks = ["its lines were out of order"] if tally.disordered or ordered else []
    if tally.copies:
        remarks.append(f"{tally.copies} of its lines were there twice")
    return result(status, *remarks, _done_with(path, ends, lock, durable))


def _done_with(path: Path, ends: int, lock: filelock.FileLock, durable: bool) -> str:
    """Delete a journal of which all is in Tiled; say what is kept of it elsewhere.

    A killed process may have left a line unfinished: it was never acknowledged as written, but
    it is not for us to throw away what cannot be read.
    """
    with open(path, "rb") as file:
        file.seek(ends)
        unfinished = file.read()
    said = ""
    if unfinished:
        aside = path.parent.with_name(f"{path.parent.name}-unfinished") / path.name
        aside.parent.mkdir(exist_ok=True)
        with open(aside, "ab") as file:
            file.write(unfinished + b"\n")
        said = f"the line that it was killed in is in {aside}"
    if durable:
        os.sync()  # else a power cut may take from Tiled what the journal had
    remove(path, lock)
    return said

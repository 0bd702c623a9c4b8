"""Runs that went on with another one: which they are, and what a list says of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from curiosity_bluesky.catalog.summaries import RunSummary
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.permissions import private_directory

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.catalog import Catalog


def successor_of(catalog: Catalog, uid: str) -> RunSummary | None:
    """Return the run that went on with a run, the newest of a row of them; None if none did.

    Parameters
    ----------
    catalog
        Where both are.
    uid
        Of the run, in full.
    """
    newest, known = None, {uid}
    while True:
        found = [run for run in catalog.runs(resumes=uid) if run.uid not in known]
        if not found:
            return newest
        newest = found[-1]
        uid = newest.uid
        known.add(uid)


def check_newest(catalog: Catalog, uid: str) -> None:
    """Make sure that no other run went on with a run: what that one measured is not measured twice.

    Raises
    ------
    InputError
        If one did; the message names it and says how far it is.
    """
    newest = successor_of(catalog, uid)
    if newest is not None:
        of = f" of {newest.num_points}" if newest.num_points else ""
        raise InputError(
            f"run {uid} was gone on with already, by run {newest.uid} ({newest.status}, "
            f"{newest.points} more spectra{of} in all), and would measure the same pixels again; "
            f"resume that one: {newest.uid[:8]}"
        )


def lock_to_resume(catalog: Catalog, uid: str) -> filelock.FileLock:
    """Return the lock of a run that this process resumes, held until it is released.

    It lies beside the journals, in ``journal-resuming``: in the directory of the catalogue, or, of
    a server, among the data of this user. So two users, or two machines, may resume a run of one
    server at the same moment, and measure the same pixels.

    Parameters
    ----------
    catalog
        Where the run is.
    uid
        Of the run, in full.

    Raises
    ------
    InputError
        If another plan resumes the run.
    """
    journal = catalog.journal
    path = private_directory(journal.with_name(f"{journal.name}-resuming")) / f"{uid}.lock"
    lock = filelock.FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        holder = "unknown process"
        with contextlib.suppress(OSError):
            holder = f"process {path.with_suffix('.pid').read_text()}"
        raise InputError(
            f"run {uid} is being resumed by another plan ({holder}), and would measure the same "
            "pixels twice; wait for it, or end it and resume again"
        ) from None
    except OSError as error:
        raise InputError(
            f"run {uid} cannot be resumed: its lock {path} cannot be taken ({error}); give this "
            "user the right to write there"
        ) from None
    with contextlib.suppress(OSError):  # as on a full disk; only a message lacks it
        path.with_suffix(".pid").write_text(str(os.getpid()))
    return lock


def unlock(lock: filelock.BaseFileLock) -> None:
    """Let others resume a run; more than once does no harm."""
    if lock.is_locked:
        path = Path(lock.lock_file)
        for left in (path.with_suffix(".pid"), path):
            left.unlink(missing_ok=True)
        lock.release()


def in_list(runs: Iterable[RunSummary]) -> dict[str, tuple[str, str]]:
    """Return what a list says of the spectra and of the status of each run, by uid.

    Of a run that went on with one in the list, the spectra of both are shown, as in ``40 + 20``.
    """
    listed = {run.uid: run for run in runs}
    later = {run.resumes: run.uid for run in listed.values() if run.resumes}
    shown = {}
    for uid, run in listed.items():
        counts: list[Any] = [run.points]
        before, seen = run.resumes, {uid}
        while before in listed and before not in seen:
            counts.insert(0, listed[before].points)
            seen.add(before)
            before = listed[before].resumes
        of = f" of {run.num_points}" if run.num_points else ""
        status = f"{run.status}, gone on with by {later[uid][:8]}" if uid in later else run.status
        shown[uid] = " + ".join(map(str, counts)) + of, status
    return shown

"""Runs whose process was killed: uploaded from their journals before they are read."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curiosity_bluesky.catalog.journal import is_held, journals
from curiosity_bluesky.catalog.journal_lines import first_document
from curiosity_bluesky.documents import RESUMES, WARM_START
from curiosity_bluesky.errors import InputError


def upload_abandoned(
    journal: Path,
    key: int | str,
    look_up: Callable[[int | str], Any],
    client: Callable[[], Any],
    kept: set[Path],
) -> None:
    """Upload a run, and those that it went on with or began from, which only journals have whole.

    What a living process writes or uploads is left alone.

    Parameters
    ----------
    journal
        Directory of the journals.
    key
        Of the run, as for `Catalog`; a number may mean any.
    look_up
        Returns a run by its key, or raises InputError.
    client
        Returns the catalogue in Tiled.
    kept
        Journals that could not be uploaded, which are not tried again; more are added.

    Raises
    ------
    InputError
        If no server answers.

    Warns
    -----
    Incomplete
        If not all of a run can be uploaded.
    """
    left = {path.stem: path for path in journals(journal) if path not in kept and not is_held(path)}
    begun = [uid for uid in left if not isinstance(key, str) or uid.startswith(key)]
    asked: list[int | str] = [*begun] or [key]
    seen: set[int | str] = set()
    while left and asked:
        one = asked.pop()
        seen.add(one)
        path = left.pop(one, None) if isinstance(one, str) else None
        start: dict[str, Any] = {}
        if path is not None:
            start = first_document(path) or {}
            _upload(path, client, kept)
        else:
            with contextlib.suppress(InputError):  # which is said when it is read
                start = look_up(one).metadata.get("start") or {}
        earlier = [start.get(name) for name in (RESUMES, WARM_START)]
        asked += [uid for uid in earlier if isinstance(uid, str) and uid not in seen]


def _upload(path: Path, client: Callable[[], Any], kept: set[Path]) -> None:
    from curiosity_bluesky.catalog.upload import upload_journals
    from curiosity_bluesky.documents import Incomplete

    # Durably: its process may have written so.
    for taken, _ in upload_journals(client, [path], durable=True):
        if taken.status == "kept":
            kept.add(path)
            warnings.warn(
                f"run {taken.uid} may be read without the last that its journal {path} has, which "
                f"cannot be written to Tiled ({taken.detail})",
                Incomplete,
                stacklevel=4,
            )

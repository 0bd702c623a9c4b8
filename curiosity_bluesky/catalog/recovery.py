"""Recovery, in the background, of journals that processes left when they died."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from curiosity_bluesky.catalog.journal import is_held, journals
from curiosity_bluesky.catalog.run_uploader import TRIES, UploadCancelled, is_temporary
from curiosity_bluesky.catalog.upload import RecoveredJournal, upload_journals
from curiosity_bluesky.errors import InputError

logger = logging.getLogger(__name__)

WAIT = 300.0
"""Maximum seconds that a reader waits for a run that is being uploaded."""

_SELDOM = 3600.0
# Longest pause before journals are tried again that the server itself refuses, s: each time
# what it has of them is written again, and nothing waits for them.


class RecoveryThread:
    """Thread that uploads every abandoned journal once, and ends.

    One that is refused is tried as often as the writer tries a run: `TRIES` times, or, if that
    may pass by itself, as long as the process lives, less and less often.

    It is not the thread that feeds live runs: a long journal keeps none of them waiting.

    Parameters
    ----------
    tiled
        Makes a client of the catalogue to write to.
    journal
        Directory of the journals.
    retry
        Pause after the first trouble, doubled each time, and the longest one, s.
    is_mine
        Whether another part of the process has a run, by its uid.
    durable
        Whether a journal is deleted only when the disk has what Tiled made of it.
    """

    def __init__(
        self,
        tiled: Callable[[], Any],
        journal: Path,
        retry: tuple[float, float],
        is_mine: Callable[[str], bool],
        durable: bool = False,
    ) -> None:
        self._tiled = tiled
        self._journal = journal
        self._retry = retry
        self._is_mine = is_mine
        self._durable = durable
        self._kept: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._ended = threading.Event()
        self._turn = threading.Condition()
        self._uploading = ""
        threading.Thread(target=self._collect, name="journals", daemon=True).start()

    def close(self) -> None:
        """Upload no more; the next one writes what is half there again."""
        self._ended.set()

    def wait_for(self, key: int | str) -> None:
        """Wait until a run that is being uploaded is whole.

        Parameters
        ----------
        key
            Its uid or the first characters of it; a number may mean any.

        Raises
        ------
        InputError
            If it is not whole after `WAIT` seconds.
        """
        with self._turn:
            whole = self._turn.wait_for(
                lambda: (
                    not self._uploading
                    or (isinstance(key, str) and not self._uploading.startswith(key))
                ),
                WAIT,
            )
            uid = self._uploading
        if not whole:
            raise InputError(
                f"run {uid} is asked for, and is still being uploaded from its journal in "
                f"{self._journal} after {WAIT:g} s; expected a server that takes it sooner: look "
                "whether it is busy, and ask again later"
            )

    def _note_upload(self, uid: str) -> None:
        with self._turn:
            self._uploading = uid
            self._turn.notify_all()

    def _collect(self) -> None:
        delay, most = self._retry
        while not self._ended.is_set() and (left := self._left()):
            try:
                client = self._tiled()
                again = False
                for taken, error in self._uploads(client, left):
                    again = self._is_tried_again(taken.uid, error) or again
                    if error is not None and self._tries[taken.uid] > 1:
                        continue  # that was said the first time
                    logger.warning("journal of %s: %s %s", taken.uid, taken.status, taken.detail)
                    if taken.status == "kept" and error is None:
                        self._kept.add(taken.uid)
                longest = max(most, _SELDOM)
            except UploadCancelled:
                return
            except Exception as error:  # the journals stay; there is time
                logger.info("journals left by others are not taken in yet: %s", error)
                again, longest = True, most
            if again:
                self._ended.wait(delay)
                delay = min(longest, 2 * delay)

    def _uploads(
        self, client: Any, left: list[Path]
    ) -> Iterator[tuple[RecoveredJournal, Exception | None]]:
        for path in left:
            self._note_upload(path.stem)
            try:
                yield from upload_journals(lambda: client, [path], self._wanted, self._durable)
            finally:
                self._note_upload("")

    def _wanted(self) -> bool:
        return not self._ended.is_set()

    def _is_tried_again(self, uid: str, error: Exception | None) -> bool:
        """Note that a journal was refused; return whether it is tried again."""
        if error is None:
            return False
        self._tries[uid] += 1
        if self._tries[uid] >= TRIES and not is_temporary(error):
            self._kept.add(uid)
        return uid not in self._kept

    def _left(self) -> list[Path]:
        return [
            path
            for path in journals(self._journal)
            if not (path.stem in self._kept or self._is_mine(path.stem) or is_held(path))
        ]

"""Taking in, in the background, what processes that died have left in the journal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from curiosity_bluesky.intake import BrokenOff, take_in
from curiosity_bluesky.journal import is_held, journals

logger = logging.getLogger("curiosity_bluesky")


class Collector:
    """A thread that takes in every abandoned journal, once, and ends.

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
        Whether a run, by its uid, is somebody else's business.
    """

    def __init__(
        self,
        tiled: Callable[[], Any],
        journal: Path,
        retry: tuple[float, float],
        is_mine: Callable[[str], bool],
    ) -> None:
        self._tiled = tiled
        self._journal = journal
        self._retry = retry
        self._is_mine = is_mine
        self._kept: set[str] = set()
        self._ended = threading.Event()
        threading.Thread(target=self._collect, name="journals", daemon=True).start()

    def close(self) -> None:
        """Take in no more; what is half there is written anew by the next."""
        self._ended.set()

    def _collect(self) -> None:
        delay, most = self._retry
        while not self._ended.is_set() and (left := self._left()):
            try:
                client = self._tiled()
                refused: Exception | None = None
                for path in left:
                    try:
                        taken = take_in(client, path, lambda: not self._ended.is_set())
                    except httpx.HTTPStatusError as error:  # the next may be taken all the same
                        refused = error
                        continue
                    if taken is not None:
                        logger.warning("journal %s: %s %s", path, taken.status, taken.detail)
                    if taken is not None and taken.status == "kept":
                        self._kept.add(path.stem)
                if refused is not None:
                    raise refused
            except BrokenOff:
                return
            except Exception as error:  # the journals stay; there is time
                logger.info("journals left by others are not taken in yet: %s", error)
                self._ended.wait(delay)
                delay = min(most, 2 * delay)

    def _left(self) -> list[Path]:
        return [
            path
            for path in journals(self._journal)
            if not (path.stem in self._kept or self._is_mine(path.stem) or is_held(path))
        ]

"""Blocking work in a thread, while the RunEngine stays free."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """Blocking work in a thread of its own, begun at once, while the RunEngine stays free.

    Parameters
    ----------
    func
        What to call.
    *args
        Its arguments.
    """

    def __init__(self, func: Callable[..., T], *args: Any) -> None:
        self._func, self._args = func, args
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                self._future.set_result(func(*args))
            except BaseException as error:  # handed to what waits for the future
                self._future.set_exception(error)

        # A daemon: an interpreter that exits does not wait for a training.
        threading.Thread(target=run, name=f"call {func!r}", daemon=True).start()

    def again(self) -> BackgroundCall[T]:
        """Begin the same work once more."""
        return BackgroundCall(self._func, *self._args)

    def result(self) -> MsgGenerator[T]:
        """Wait for the work and return what came of it, or raise what it raised.

        Pause, stop and Ctrl-C work meanwhile. When the RunEngine goes back to a checkpoint
        and repeats its messages, it waits for the same work again.
        """

        async def wait() -> None:
            # Shielded, since a pause cancels the wait and must not cancel the work.
            waiting = asyncio.shield(asyncio.wrap_future(self._future))
            await asyncio.wait([waiting])
            waiting.exception()  # asked for, so that asyncio does not complain; raised below

        yield from bps.wait_for([wait])
        return self._future.result()

    def discard(self, release: Callable[[T], object]) -> None:
        """Wait no longer: what came of the work, or will come of it, is given to `release`."""

        def done(future: concurrent.futures.Future[T]) -> None:
            if future.exception() is None:
                release(future.result())

        self._future.add_done_callback(done)


def call_in_thread(func: Callable[..., T], *args: Any) -> MsgGenerator[T]:
    """Run blocking work in a thread and wait for it, see `BackgroundCall`."""
    return (yield from BackgroundCall(func, *args).result())

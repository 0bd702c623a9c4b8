"""Worker for blocking calls to a driver: one at a time, in a thread, with abort."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ophyd.log import logger
from ophyd.status import StatusBase
from ophyd.utils import InvalidState, StatusTimeoutError, WaitTimeoutError

from curiosity_bluesky.errors import CuriosityError

T = TypeVar("T")

ABORT_SECONDS = 0.2
"""Maximum seconds to wait for an instrument that was told to stop."""

_AGAIN_SECONDS = 0.005


def finish_status(status: StatusBase, error: Exception | None = None) -> None:
    """End a status, unless another thread was faster: its word counts then.

    A failure does not stop the device, as ophyd would have it: whoever fails a status here
    has seen to that, and a call that is refused must not stop the one under way.

    Parameters
    ----------
    status
        What to end.
    error
        Why it failed; None for success.
    """
    if isinstance(error, (StatusTimeoutError, WaitTimeoutError)):
        # Ophyd keeps these for its own timeouts; a driver on ophyd signals may raise them.
        error = TimeoutError(str(error))
    with contextlib.suppress(InvalidState):
        if error is None:
            status.set_finished()
        else:
            status._handle_failure = lambda: None
            status.set_exception(error)


class WorkerBusy(CuriosityError, RuntimeError):
    """The instrument is still in the previous call; nothing was started."""


class Worker:
    """Runner of blocking calls, one at a time, each in a thread of its own.

    The threads are daemons, so that an instrument that is stuck never holds the process.

    Parameters
    ----------
    name
        Name of the threads.
    abort
        Makes a call that is under way end early; called from yet another thread.
    """

    def __init__(self, name: str, abort: Callable[[], None]) -> None:
        self._name = name
        self._abort = abort
        self._returned = threading.Event()
        self._returned.set()
        self._broken_off = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._aborter: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the driver is still in a call, or in an abort that could hit the next one."""
        return not self._returned.is_set() or _alive(self._aborter)

    def start(
        self,
        call: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Make a call.

        Parameters
        ----------
        call
            What blocks: the driver's part, and nothing else.
        then
            Takes what it returned; by then the worker is free for the next call.
        failed
            Takes what either of them raised.

        Raises
        ------
        WorkerBusy
            If the call before is not over: two at a time would be neither.
        """
        aborter = self._aborter
        if self._returned.is_set() and aborter is not None:
            # The call is over, the thread that aborted it as good as over.
            aborter.join(ABORT_SECONDS)
        with self._lock:
            if self.busy:
                how = "was broken off but goes on" if self._broken_off else "is under way"
                raise WorkerBusy(
                    f"{self._name}: the instrument is busy, the call before {how}; expected it to "
                    "be over: wait for it, or stop it at the instrument."
                )
            returned = self._returned = threading.Event()
            self._broken_off = False

        def run() -> None:
            try:
                try:
                    result = call()
                finally:
                    returned.set()
                then(result)
            except Exception as error:  # any error of the instrument belongs to the status
                failed(error)

        thread = threading.Thread(target=run, name=self._name, daemon=True)
        thread.start()
        self._thread = thread  # only now: a thread that is not started cannot be joined

    def break_off(self, *, always: bool = False) -> None:
        """End the call under way and wait for it, but not for long: `call_off` and `wait`."""
        self.wait(self.call_off(always=always))

    def call_off(self, *, always: bool = False) -> float:
        """Begin to end the call under way, without waiting.

        An instrument that cannot be stopped goes on, and the worker stays busy until it is
        done. An abort that raises is logged, since a caller that stops a device has to stop others
        too.

        Parameters
        ----------
        always
            Abort once even if no call of ours is under way.

        Returns
        -------
        deadline
            Until when it is worth to wait for the end, as `time.monotonic` counts.
        """
        deadline = time.monotonic() + ABORT_SECONDS
        with self._lock:
            returned = self._returned
            self._broken_off = True
            if (always or not returned.is_set()) and not _alive(self._aborter):
                # In a thread, for the abort itself may block.
                aborter = threading.Thread(
                    target=self._abort_until,
                    args=(returned, deadline),
                    name=f"{self._name}-abort",
                    daemon=True,
                )
                aborter.start()
                self._aborter = aborter
        return deadline

    def wait(self, deadline: float) -> None:
        """Wait for the end of a call that was called off, until the deadline of `call_off`."""
        for thread in (self._aborter, self._thread):
            # A callback of the status may break off from within the thread itself.
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _abort_until(self, returned: threading.Event, deadline: float) -> None:
        try:
            self._abort()
            # Again: an abort between "called" and "measuring" finds nothing to abort.
            while not returned.wait(_AGAIN_SECONDS) and time.monotonic() < deadline:
                self._abort()
        except Exception:
            logger.exception("%s: the instrument could not be told to stop", self._name)


def _alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()

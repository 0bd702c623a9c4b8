"""A process that is told to end, while it measures: the run ends in order first.

``end_in_order(RE)``, once, is all that a script, a profile or a Queue Server needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from bluesky import RunEngine
from bluesky.utils import (
    RequestAbort,
    RunEngineInterrupted,
    TransitionError,  # pyright: ignore[reportPrivateImportUsage]
)

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans._bluesky_compat import cancel_task
from curiosity_bluesky.plans.run_log import RUN_LOG, expected
from curiosity_bluesky.utils.run_end import EndKind, RunEnd

logger = logging.getLogger(__name__)

_REASONS = {
    name: RunEnd(kind, text)
    for name, kind, text in (
        ("SIGTERM", EndKind.SIGTERM, "the process was told to end"),
        ("SIGHUP", EndKind.SIGHUP, "the terminal was closed"),
    )
    if hasattr(signal, name)  # Windows has no SIGHUP
}

AT_ONCE = 1.0
"""Signals that come within so many seconds are one: a terminal that closes may say so twice."""


class TerminatedBySignal(SystemExit):
    """The process was told to end, and the run has ended; exit status 128 + number of the signal.

    Parameters
    ----------
    signum
        The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.end = _REASONS[signal.Signals(signum).name]


class SignalHandler:
    """Ends what a RunEngine does before the process ends, where SIGTERM or SIGHUP comes.

    As a context manager, for as long as the context lasts; see `end_in_order`.

    Parameters
    ----------
    RE
        The RunEngine, which is called in the main thread.
    last
        See `end_in_order`.
    """

    def __init__(self, RE: RunEngine, last: Callable[[], object] | None = None) -> None:
        self._RE = RE
        self._last = last
        self._before: dict[int, Any] = {}
        self._signum: int | None = None
        self._when = 0.0
        self._broke_off = False
        self._streams = sys.stdout, sys.stderr

    def __enter__(self) -> SignalHandler:
        # Python hands signals to the main thread, and takes handlers from no other.
        if threading.current_thread() is threading.main_thread():
            for name in _REASONS:
                signum = getattr(signal, name)
                if signal.getsignal(signum) != signal.SIG_IGN:  # as `nohup` has it
                    self._before[signum] = signal.signal(signum, self._told)
            if self._before:
                self._RE.context_managers.append(self._watch)
                RUN_LOG.addFilter(self._expected)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)
        if self._before:
            self._RE.context_managers.remove(self._watch)
            RUN_LOG.removeFilter(self._expected)
        self._before.clear()
        if self._signum is not None:
            sys.stdout, sys.stderr = self._streams
            self._signum, self._broke_off = None, False

    def _expected(self, record: logging.LogRecord) -> bool:
        """Leave the traceback out where the run ends since the process was told to end."""
        return self._signum is None or expected(record, RequestAbort, asyncio.CancelledError)

    def _told(self, signum: int, frame: Any) -> None:
        _let_go_of_closed()
        now = time.monotonic()
        if self._signum is not None:
            if now - self._when < AT_ONCE:
                return
            self._when = now
            self._told_again(signum, frame)
            return
        if self._idle:
            self._as_before(signum, frame)
            return
        self._signum, self._when = signum, now
        self._streams = sys.stdout, sys.stderr
        # The RunEngine prints and flushes on its way to the stop document.
        sys.stdout, sys.stderr = ClosedStreamGuard(sys.stdout), ClosedStreamGuard(sys.stderr)
        if self._RE.state == "paused":  # at a prompt, which may never be answered any more
            self._abort()
            self._end()
        # Not in the handler: the thread that it interrupts may hold what aborting needs.
        threading.Thread(target=self._abort, name="told to end", daemon=True).start()

    def _told_again(self, signum: int, frame: Any) -> None:
        """Break off what the orderly end waits for; then, or when it is over, end at once."""
        if self._idle or self._broke_off:
            self._as_before(signum, frame)
            return
        self._broke_off = True
        logger.error("told to end once more: what the run's end waits for is broken off")
        cancel_task(self._RE)

    @property
    def _idle(self) -> bool:
        return self._RE.state in ("idle", "panicked")

    def _as_before(self, signum: int, frame: Any) -> None:
        before = self._before[signum]
        if callable(before):
            before(signum, frame)
        else:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)

    def _abort(self) -> None:
        assert self._signum is not None
        reason = str(TerminatedBySignal(self._signum).end)
        logger.error("%s: the run ends, devices are stopped", reason)
        # It may be ending, or pausing, by itself just now: `_watch` looks again.
        with contextlib.suppress(TransitionError, RunEngineInterrupted):
            self._RE.abort(reason)

    @contextlib.contextmanager
    def _watch(self, RE: RunEngine) -> Iterator[None]:
        """See to it, in the main thread, that a call of the RunEngine ends the process."""
        if self._signum is not None and RE.state == "idle":  # SystemExit was caught; begin nothing
            self._end()
        try:
            with _interrupting_main_thread({*self._before, signal.SIGINT}):
                yield
        finally:
            if self._signum is not None:
                if RE.state == "paused":
                    self._abort()
                self._end()

    def _end(self) -> NoReturn:
        """End the process, now that the run has ended."""
        assert self._signum is not None
        told = TerminatedBySignal(self._signum)
        if self._last is None:
            _have_ipython_end(told)
            raise told
        try:
            self._last()
        except Exception:
            logger.exception("told to end: what was to be done last failed")
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(128 + self._signum)  # an exception would be caught, and the process live on


@contextlib.contextmanager
def _interrupting_main_thread(signums: set[int]) -> Iterator[None]:
    """Have some signals interrupt the main thread, whichever thread the kernel gives them to.

    Python calls a handler in the main thread, and that waits, in a RunEngine, without a timeout
    for the end of the run. A signal that another thread receives would be noticed only then.
    SIGURG, of which nothing else is made here, interrupts the wait.
    """
    here = threading.current_thread()
    # On Windows no signal goes to a thread; a RunEngine in another thread gets none.
    if not hasattr(signal, "pthread_kill") or here is not threading.main_thread():
        yield
        return
    main = threading.get_ident()
    received, sent = socket.socketpair()
    sent.setblocking(False)
    urgent = signal.signal(signal.SIGURG, lambda *_: None)
    others = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)

    def interrupt() -> None:
        while numbers := received.recv(64):
            if others >= 0:  # such as that of an event loop in the main thread
                with contextlib.suppress(OSError):
                    os.write(others, numbers)
            if signums.intersection(numbers):
                signal.pthread_kill(main, signal.SIGURG)

    thread = threading.Thread(target=interrupt, name="signals to the main thread", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(others)
        sent.close()
        thread.join()
        received.close()
        signal.signal(signal.SIGURG, urgent)


def _let_go_of_closed() -> None:
    """Have what goes to a terminal that is closed, or to a pipe without a reader, go nowhere."""
    if not hasattr(select, "poll"):
        return
    for fd in (1, 2):
        poll = select.poll()
        poll.register(fd, 0)
        if poll.poll(0):  # hung up, or broken: all that can be seen without asking for anything
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, fd)
            os.close(nowhere)


def _have_ipython_end(told: TerminatedBySignal) -> None:
    """Have IPython end after the cell: from a cell, SystemExit only comes to a warning."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:

        def leave(*result: Any) -> None:
            raise told

        shell.events.register("post_run_cell", leave)


def end_in_order(RE: RunEngine, last: Callable[[], object] | None = None) -> None:
    """Have SIGTERM and a closed terminal (SIGHUP) end a run in order, and then the process.

    Devices are stopped, the tip is lifted, the run gets its stop document (``abort``, with the
    signal in its reason), what waits for the catalogue is handed over, and the process ends with
    the exit status 128 + number of the signal. While the RunEngine is idle, a signal does what it
    did before. A second signal, a second or more after the first, breaks off what the end of the
    run waits for; a third ends the process at once.

    Parameters
    ----------
    RE
        The RunEngine, which is called in the main thread.
    last
        Where what calls the RunEngine catches every exception and lives on, as the worker of a
        Queue Server does: called, without arguments, when the run has ended, such as
        ``catalog.close``; then the process ends at once. Default: ``RE(...)`` raises
        `TerminatedBySignal`.

    Raises
    ------
    InputError
        If it is not called in the main thread.

    Examples
    --------
    ::

        RE = RunEngine({})
        end_in_order(RE)
    """
    if threading.current_thread() is not threading.main_thread():
        raise InputError("end_in_order was called in another thread; call it in the main thread")
    SignalHandler(RE, last).__enter__()


class ClosedStreamGuard:
    """A stream whose closed terminal, or closed pipe, is no reason to fail.

    Parameters
    ----------
    stream
        What is written to, as long as it can be.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if it can be."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if it can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

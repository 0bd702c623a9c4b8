"""Thread that owns BEPyAE, with a way out of its endless waits.

A COM object belongs to the thread (the apartment) that made it, and one microscope does one
thing at a time: so one thread makes the `AEBE`, and every call goes through it, in order.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from curiosity_bluesky.errors import CuriosityError, InputError

T = TypeVar("T")
Kind = Literal["move", "measurement"]

logger = logging.getLogger(__name__)

FLAGS = {
    "move_tip_control_cluster": (3,),
    "set_setpoint_control_cluster": (1,),
    "BE_pulse_control_cluster": (9,),
    "Initialize_BE_line_scan_control_cluster": (2,),
    "BE_line_scan_control_cluster": (4,),
    "Initialize_BEPS_VS_control_cluster": (18, 19, 20),
}
"""Busy indicators of BEPyAE's controls."""

_POLL_SECONDS = 0.05


class CallAborted(CuriosityError, RuntimeError):
    """A move, scan or spectrum was aborted."""


@dataclass(eq=False)
class _Job:
    """One call for the thread, and what became of it."""

    kind: Kind | None
    work: Callable[[Any], Any]
    timeout_s: float
    stopped: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None
    deadline: float = math.inf
    allowed_s: float = math.inf

    def begin(self, at_least: float = -math.inf) -> None:
        """Let the time run from now, and not end before `at_least` (`time.monotonic`)."""
        now = time.monotonic()
        self.deadline = max(now + self.timeout_s, at_least)
        self.allowed_s = self.deadline - now

    def check(self) -> None:
        """Raise if the job is to end."""
        if self.stopped.is_set():
            raise CallAborted(
                f"the {self.kind or 'call'} was given up; what BEPyAE had begun (one move, one "
                "line, one loop) it finishes by itself."
            )
        if time.monotonic() > self.deadline:
            raise TimeoutError(
                f"BEPyAE did not finish within {self.allowed_s:.3g} s; expected it to clear its "
                "button by then, also that of what was given up before: look at its panel for an "
                "error, or give a longer timeout_s."
            )


class AbortableVI:
    """Proxy of BEPyAE's VI for `AEBE`: every read of a control may abort the call.

    `AEBE` waits in loops without an end that read a control again and again. Those reads
    pass here, and raise once the job is given up or has taken too long.

    Attributes
    ----------
    lines : list
        Every line of a raster scan that was read since it was last emptied.
    """

    def __init__(self, vi: Any) -> None:
        self._vi = vi
        self._job: _Job | None = None
        self.lines: list[Any] = []

    def getcontrolvalue(self, name: str) -> Any:
        """Read a control."""
        if self._job is not None:
            self._job.check()
        value = self._vi.getcontrolvalue(name)
        if name == "BE_line_scan_indicator_cluster":
            # Not the spectra of each pixel: AEBE keeps those, and they are large.
            self.lines.append((None, None, None, *value[3:7]))
        return value

    def setcontrolvalue(self, name: str, value: Any) -> None:
        """Write a control."""
        if self._job is not None:
            self._job.check()
        self._vi.setcontrolvalue(name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vi, name)


class AEThread:
    """Thread that makes an `AEBE` and all calls to it, one after the other.

    Parameters
    ----------
    connect
        Makes the ``aecroscopy.acquisition.AEBE.AEBE`` and gets it ready (``init_BEPyAE``).
        Called once, in the thread.
    timeout_s
        How long BEPyAE may take to start, s: `AEBE` itself would wait for ever.

    Attributes
    ----------
    gate : Gate
        What `AEBE` has as ``VI``; to be used within a call only.
    uploaded : str
        Whose waveform the DAQ card holds: ``"line"``, ``"BEPS"`` or ``""``.

    Raises
    ------
    InputError
        If what `connect` returns is no AEBE.
    TimeoutError
        If BEPyAE does not start in time.
    Exception
        As raised by `connect`.
    """

    gate: AbortableVI

    def __init__(self, connect: Callable[[], Any], *, timeout_s: float = 120.0) -> None:
        if not callable(connect):
            raise InputError(
                f"connect is {type(connect).__name__}; expected a function that makes the AEBE: "
                "COM objects belong to the thread that made them, so give for example "
                'lambda: AEBE(exe_path=r"C:\\...\\BEPyAE.exe").'
            )
        self.uploaded = ""
        self._connect = connect
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._open: list[_Job] = []
        self._closed = False
        self._unsettled = False
        self._settled_by = -math.inf
        self._thread = threading.Thread(target=self._run, name="aecroscopy", daemon=True)
        self._first = _Job(None, lambda aebe: None, timeout_s)
        self._thread.start()
        if not self._first.done.wait(timeout_s):
            self.close()
            raise TimeoutError(
                f"BEPyAE did not start within {timeout_s:g} s; expected it to answer over COM: "
                "start BEPyAE.exe by hand to see its error, check exe_path and that pywin32 is "
                "installed (AEBE itself waits for ever, and says nothing)."
            )
        if self._first.error is not None:
            raise self._first.error

    def call(self, work: Callable[[Any], T], *, kind: Kind | None = None, timeout_s: float) -> T:
        """Have the thread call ``work(aebe)`` when it is its turn, and wait for it.

        Parameters
        ----------
        work
            What is to be done.
        kind
            What it is, for `abort`; None is not aborted.
        timeout_s
            How long it may take once begun, s: the wait for what was given up before it (a loop
            that BEPyAE finishes) does not count, and may itself take as long as that was given.

        Raises
        ------
        CallAborted
            If `abort` was called.
        TimeoutError
            If it takes too long.
        ConnectionError
            If the connection was closed.
        """
        job = _Job(kind, work, timeout_s)
        with self._lock:
            if self._closed:
                raise ConnectionError("the connection to BEPyAE was closed: connect again.")
            self._open.append(job)
            self._jobs.put(job)
        # In short waits: one without an end does not let Ctrl-C through on Windows.
        while not job.done.wait(0.5):
            pass
        if job.error is not None:
            raise job.error
        return job.result

    def abort(self, kind: Kind) -> None:
        """Give up all calls of a kind, under way or waiting; from any thread, at once.

        What BEPyAE has begun it finishes by itself: it has no control that would end a move
        of the tip, a line or a loop. The next call waits until it has.
        """
        with self._lock:
            for job in self._open:
                if job.kind == kind:
                    job.stopped.set()

    def close(self) -> None:
        """Let go of BEPyAE; calls under way are given up. May be called twice."""
        with self._lock:
            self._closed = True
            for job in self._open:
                job.stopped.set()
            self._jobs.put(None)

    def _run(self) -> None:
        # A thread that uses COM has to say so; elsewhere than on Windows there is no COM.
        com: Any = None
        with contextlib.suppress(ImportError):
            com = importlib.import_module("pythoncom")
        if com is not None:
            com.CoInitialize()
        try:
            try:
                aebe = self._connected()
            except BaseException as error:
                self._first.error = error
                return
            finally:
                self._first.done.set()
            while (job := self._next(com)) is not None:
                self._do(job, aebe)
            del aebe
            self.gate = AbortableVI(None)
        finally:
            if com is not None:
                com.CoUninitialize()

    def _connected(self) -> Any:
        aebe = self._connect()
        missing = [
            name
            for name in ("VI", "tip_control", "raster_scan", "define_BEPS_parameters")
            if not hasattr(aebe, name)
        ]
        if missing:
            raise InputError(
                f"connect returned {type(aebe).__name__} without {', '.join(missing)}; expected "
                "an aecroscopy.acquisition.AEBE.AEBE: let the function return it."
            )
        self.gate = AbortableVI(aebe.VI)
        aebe.VI = self.gate
        return aebe

    def _next(self, com: Any) -> _Job | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._jobs.get(timeout=_POLL_SECONDS)
            if com is not None:
                # Windows posts messages to a thread with COM objects; unread, they pile up and
                # make other programs wait.
                com.PumpWaitingMessages()

    def _do(self, job: _Job, aebe: Any) -> None:
        try:
            self.gate._job = job
            job.check()
            self._settle(job)
            job.begin()
            # So long BEPyAE may go on with it, should the call be given up.
            self._settled_by = job.deadline
            job.result = job.work(aebe)
        except BaseException as error:
            # What was interrupted may go on in BEPyAE.
            self._unsettled = True
            job.error = error
        finally:
            self.gate._job = None
            with self._lock:
                self._open.remove(job)
            job.done.set()

    def _settle(self, job: _Job) -> None:
        """Wait until BEPyAE has finished what a call that was given up had begun."""
        job.begin(at_least=self._settled_by)
        while self._unsettled:
            busy = any(
                any(self.gate.getcontrolvalue(name)[index] for index in indices)
                for name, indices in FLAGS.items()
            )
            self._unsettled = busy
            if busy:
                job.stopped.wait(_POLL_SECONDS)

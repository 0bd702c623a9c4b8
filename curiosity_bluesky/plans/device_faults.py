"""Instruments that fail: what a device raises becomes an answer that a plan can act on.

The RunEngine throws the failure of a status into the plan at whatever message comes next,
also long after the plan has given that status up. So the plan hands it statuses that always
succeed, and looks afterwards what became of the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.protocols import Movable, Pausable, Status, Stoppable
from bluesky.utils import (
    FailedPause,
    FailedStatus,
    IllegalMessageSequence,
    MsgGenerator,
    RunEngineControlException,
    short_uid,
)

from curiosity_bluesky.errors import CuriosityError, InputError

NOT_OURS = (RunEngineControlException, FailedPause, IllegalMessageSequence, InputError)
"""Exceptions that are no fault of an instrument: the plan is asked, or has, to end."""


class _Outcome:
    """A status that is done when another one is, and never fails itself."""

    success = True

    def __init__(self, start: Callable[[], Status]) -> None:
        self.error: BaseException | None = None
        self._status: Status | None = None
        try:
            self._status = start()
        except Exception as error:  # whatever the device raises at once
            self.error = error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._status is None:
            raise AttributeError(name)
        return getattr(self._status, name)  # such as watch, for a progress bar

    @property
    def done(self) -> bool:
        return self._status is None or self._status.done

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        if self._status is None:
            callback(self)
        else:
            self._status.add_callback(lambda status: callback(self))

    def exception(self, timeout: float | None = 0.0) -> None:
        return None

    def failure(self) -> BaseException | None:
        """Return what went wrong, None if nothing did."""
        if self._status is None or not self._status.done or self._status.success:
            return self.error
        return self._status.exception(0.0)

    def check(self, what: str) -> None:
        """Raise what went wrong, as the RunEngine would have, but say `what` failed and why."""
        if (error := self.failure()) is not None:
            if self._status is None:
                raise error
            raise FailedStatus(f"{what} failed ({in_words(error)})") from error


class PositionRefused(CuriosityError):
    """A position is vetoed."""


def _never_refused() -> None:
    return None


class _Forgiving:
    """Stands for a device in one message to the RunEngine.

    Parameters
    ----------
    device
        The device; to the RunEngine and to preprocessors this is equal to it.
    refusal
        Asked at the last moment, also where a pause has the message repeated, whether
        it is vetoed: why, or None.
    """

    def __init__(self, device: Any, refusal: Callable[[], str | None] = _never_refused) -> None:
        self.device = device
        self._refusal = refusal
        self.name = getattr(device, "name", repr(device))
        self.parent = getattr(device, "parent", None)
        self.outcome: _Outcome | None = None

    def __eq__(self, other: object) -> bool:
        # The RunEngine keeps what it may have to stop: each device once, not each move.
        return (other.device if isinstance(other, _Forgiving) else other) is self.device

    def __hash__(self) -> int:
        return hash(self.device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)  # for preprocessors that look at a message's device

    def _begun(self, start: Callable[[], Status]) -> _Outcome:
        def unless_refused() -> Status:
            if (why := self._refusal()) is not None:
                raise PositionRefused(why)
            return start()

        self.outcome = _Outcome(unless_refused)
        return self.outcome

    def pause(self) -> Any:
        """Let the device know of a pause, where it wants to."""
        return self.device.pause() if isinstance(self.device, Pausable) else None

    def stop(self, *, success: bool = True) -> Any:
        """Stop the device, where it can be stopped."""
        if isinstance(self.device, Stoppable):
            return self.device.stop(success=success)
        return None


class GuardedSet(_Forgiving):
    """A move to a target (um; or what else the device understands) that may fail."""

    def __init__(
        self, device: Movable, target: Any, refusal: Callable[[], str | None] = _never_refused
    ) -> None:
        super().__init__(device, refusal)
        self.target = target

    def set(self, value: Any) -> _Outcome:
        """Start the move."""
        return self._begun(lambda: self.device.set(value))

    def start(self, group: str) -> MsgGenerator[Any]:
        """Ask the RunEngine to start the move."""
        return bps.abs_set(self, self.target, group=group)  # pyright: ignore[reportArgumentType]


class GuardedTrigger(_Forgiving):
    """A measurement that may fail."""

    def trigger(self) -> _Outcome:
        """Start the measurement."""
        return self._begun(self.device.trigger)

    def start(self, group: str) -> MsgGenerator[Any]:
        """Ask the RunEngine to start the measurement."""
        return bps.trigger(self, group=group)  # pyright: ignore[reportArgumentType]


def wait_for_all(
    jobs: Sequence[GuardedSet | GuardedTrigger], timeout: float | None
) -> MsgGenerator[str | None]:
    """Start moves or measurements together and wait; say what failed, None if nothing did.

    Parameters
    ----------
    jobs
        What to start.
    timeout
        Seconds to wait for all of them; None for any time. Whatever is late, or was started
        beside something that failed, is stopped.
    """
    group = short_uid("together")
    for job in jobs:
        yield from job.start(group)
    late = False
    try:
        yield from bps.wait(group, timeout=timeout)
    except TimeoutError:
        late = True
    failed = failures(jobs)
    if late:
        slow = ", ".join(job.name for job in jobs if job.outcome and not job.outcome.done)
        failed.append(f"{slow or 'a device'} did not answer within {timeout:g} s")
    if failed:
        yield from give_up(jobs)
    return "; ".join(failed) or None


def failures(jobs: Sequence[GuardedSet | GuardedTrigger]) -> list[str]:
    """Say what failed so far, the last time that each was started."""
    errors = [(job.name, job.outcome.failure()) for job in jobs if job.outcome is not None]
    return [f"{name}: {in_words(error)}" for name, error in errors if error]


def unfinished(jobs: Sequence[GuardedSet | GuardedTrigger]) -> str | None:
    """Say what keeps the next step from being taken; None if all of these steps succeeded.

    Where a pause has messages repeated, the RunEngine goes on whatever became of a step.
    """
    for job in jobs:
        if job.outcome is None or not job.outcome.done:
            return f"{job.name} is not done"
    return "; ".join(failures(jobs)) or None


def give_up(jobs: Sequence[GuardedSet | GuardedTrigger]) -> MsgGenerator[None]:
    """Stop what was started, and have no pause repeat it.

    Repeated, it might be late again; and the plan, which has gone on, would be thrown a
    `TimeoutError` wherever it is by then.
    """
    yield from bps.checkpoint()
    for job in jobs:
        yield from _stopped(job)


def _stopped(job: _Forgiving) -> MsgGenerator[None]:
    try:
        yield from bps.stop(job)  # pyright: ignore[reportArgumentType]
    except NOT_OURS:
        raise
    except Exception:  # a device that is gone cannot be stopped either
        return


def in_words(error: BaseException) -> str:
    """Return what a device raised as one line."""
    if isinstance(error, PositionRefused):
        return str(error)
    cause = error.__cause__ if isinstance(error, FailedStatus) and error.__cause__ else error
    said = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {said}" if said else type(cause).__name__

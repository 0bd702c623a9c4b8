"""Stage that moves the tip over the sample."""

from __future__ import annotations

from typing import Any

from ophyd import Component, Device
from ophyd.positioner import PositionerBase, SoftPositioner
from ophyd.status import MoveStatus
from ophyd.utils import LimitError

from curiosity_bluesky.devices.driver_protocols import Axis, LiftDriver, StageDriver, stated_seconds
from curiosity_bluesky.devices.tip import Tip
from curiosity_bluesky.devices.worker import Worker, WorkerBusy, finish_status


class ThreadedMoves(PositionerBase):
    """A positioner whose moves are blocking calls, each in a thread of its own.

    Subclasses have a `_worker`, whose abort ends a move, and say in `_drive` how to move.
    """

    _worker: Worker
    _status: MoveStatus | None = None

    def _drive(self, position: float) -> None:
        """Go to a position (um); return once settled there, or once stopped."""
        raise NotImplementedError

    def _setup_move(self, position: float, status: MoveStatus) -> None:
        # Ophyd would fail this status when the next move is asked for, and stop the axis for
        # it. Here the thread of a move ends its own status, and a move too many is refused.
        self._reset_sub(self._SUB_REQ_DONE)
        before, self._status = self._status, status
        was_moving, self._moving = self._moving, True

        def go() -> None:
            if not status.done:  # otherwise stopped before it began
                self._run_subs(sub_type=self.SUB_START)
                self._drive(position)

        def then(_: None) -> None:
            self._ended(status)
            if not status.done:
                self._set_position(self.position)
                self._run_subs(sub_type=self.SUB_DONE)
            finish_status(status)

        def failed(error: Exception) -> None:
            # What the driver could not bring to its end may still be moving.
            self._worker.break_off(always=True)
            self._ended(status)
            finish_status(status, error)

        try:
            self._worker.start(go, then, failed)
        except WorkerBusy as busy:
            self._status, self._moving = before, was_moving
            finish_status(status, busy)

    def _ended(self, status: MoveStatus) -> None:
        # Stopped before, the axis may be in its next move already.
        if self._status is status:
            self._moving = False

    def stop(self, *, success: bool = False) -> None:
        """End a move where it is; its status fails unless `success`."""
        self._worker.wait(self._call_off(success))

    def _call_off(self, success: bool) -> float:
        """Begin to stop; return until when it is worth to wait (`time.monotonic`)."""
        # First the status, so that the thread which the driver lets go cannot call it a success.
        if self._status is not None:
            stopped = RuntimeError(f"{self.name} was stopped on its way")
            finish_status(self._status, None if success else stopped)
        # Also without a move of ours: what else moves the axis is to be stopped as well.
        return self._worker.call_off(always=True)


class StageAxis(ThreadedMoves, SoftPositioner):
    """One axis of an `AFMStage`, in um, with soft limits.

    Parameters
    ----------
    axis
        ``x`` or ``y``.
    """

    def __init__(self, *, axis: Axis, **kwargs: Any) -> None:
        super().__init__(egu="um", **kwargs)
        self._axis: Axis = axis
        self._limits = self._driver.limits(axis)
        self.source = f"stage:{axis}"
        self._worker = Worker(f"{self.name}-move", lambda: self._driver.stop(axis))

    @property
    def _driver(self) -> StageDriver:
        stage = self.parent
        assert isinstance(stage, AFMStage)
        return stage.driver

    def _drive(self, position: float) -> None:
        self._driver.move(self._axis, position)

    @property
    def position(self) -> float:
        """Position of the axis (um)."""
        return float(self._driver.position(self._axis))

    def seconds(self, distance_um: float) -> float | None:
        """Seconds of a move over a distance (um); None if the driver does not say.

        Settling is included; the sign of the distance does not matter.
        """
        move_seconds = getattr(self._driver, "move_seconds", None)
        if move_seconds is None:
            return None
        return stated_seconds(move_seconds(self._axis, abs(distance_um)), "move_seconds")

    def set_limits(self, low: float, high: float) -> None:
        """Narrow the soft limits (um), never beyond what the stage can reach."""
        reach = self._driver.limits(self._axis)
        if not reach[0] <= low <= high <= reach[1]:
            raise LimitError(
                f"{self.name}: limits {low:g} to {high:g} um do not lie within what the stage "
                f"reaches, {reach[0]:g} to {reach[1]:g} um"
            )
        self._limits = (low, high)

    def check_value(self, pos: float) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise `LimitError` if a position is outside the soft limits."""
        # A position computed from an axis may miss a limit by a rounding error.
        if not self.low_limit - 1e-9 <= pos <= self.high_limit + 1e-9:
            raise LimitError(
                f"{self.name} = {pos:g} um is outside the soft limits "
                f"{self.low_limit:g} to {self.high_limit:g} um"
            )

    def move(  # pyright: ignore[reportIncompatibleMethodOverride] (ophyd's own signatures differ)
        self, position: float, wait: bool = False, timeout: float | None = None, moved_cb=None
    ) -> MoveStatus:
        """Move to a position (um); return at once unless `wait`."""
        return super().move(position, wait=wait, timeout=timeout, moved_cb=moved_cb)


class TwoAxes(Device):
    """A device with axes `x` and `y` that are stopped together."""

    x: Any
    y: Any

    def stop(self, *, success: bool = False) -> None:
        """End moves where they are; their status fails unless `success`."""
        # Ophyd stops the parts that are Devices, and a positioner is none.
        self._stop([self.x, self.y], success)

    def pause(self) -> None:
        """End moves where they are, quietly: the RunEngine repeats them when it resumes."""
        self._stop([axis for axis in (self.x, self.y) if axis.moving], success=True)

    @staticmethod
    def _stop(axes: list[ThreadedMoves], success: bool) -> None:
        # Both are told before either is waited for.
        for axis, deadline in [(axis, axis._call_off(success)) for axis in axes]:
            axis._worker.wait(deadline)

    def unstage(self) -> list[object]:
        """Leave no move running behind."""
        self.pause()
        return super().unstage()


class AFMStage(TwoAxes):
    """The tip's position over the sample: axes `x` and `y` in um, with soft limits.

    Parameters
    ----------
    driver
        What moves the tip.
    name
        Name of the device; the axes are ``<name>_x`` and ``<name>_y``.

    Attributes
    ----------
    tip : Tip or None
        Lifts the tip, where the driver can (`LiftDriver`).
    """

    x = Component(StageAxis, axis="x", kind="hinted")
    y = Component(StageAxis, axis="y", kind="hinted")

    def __init__(self, driver: StageDriver, *, name: str = "stage", **kwargs: Any) -> None:
        self.driver = driver
        super().__init__("", name=name, **kwargs)
        self.tip = Tip(driver, name=f"{name}_tip") if isinstance(driver, LiftDriver) else None

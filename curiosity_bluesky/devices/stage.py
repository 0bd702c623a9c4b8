"""The stage that moves the tip over the sample."""

from __future__ import annotations

from typing import Any

from ophyd import Component, Device
from ophyd.positioner import SoftPositioner
from ophyd.status import MoveStatus
from ophyd.utils import LimitError

from curiosity_bluesky.devices.drivers import Axis, StageDriver, stated_seconds
from curiosity_bluesky.devices.signals import run_in_thread


class StageAxis(SoftPositioner):
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

    @property
    def _driver(self) -> StageDriver:
        stage = self.parent
        assert isinstance(stage, AFMStage)
        return stage.driver

    @property
    def position(self) -> float:
        """Where the axis is now (um)."""
        return float(self._driver.position(self._axis))

    def seconds(self, distance_um: float) -> float | None:
        """How long a move over a distance (um) takes (s), or None if the driver does not say.

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

    def check_value(self, pos: float) -> None:
        """Raise `LimitError` if a position is outside the soft limits."""
        # A position computed from an axis may miss a limit by a rounding error.
        if not self.low_limit - 1e-9 <= pos <= self.high_limit + 1e-9:
            raise LimitError(
                f"{self.name} = {pos:g} um is outside the soft limits "
                f"{self.low_limit:g} to {self.high_limit:g} um"
            )

    def _setup_move(self, position: float, status: MoveStatus) -> None:
        self._moving = True
        self._run_subs(sub_type=self.SUB_START)

        def job() -> None:
            self._driver.move(self._axis, position)
            self._moving = False
            if not status.done:
                self._set_position(self.position)
                self._done_moving()

        def failed(error: Exception) -> None:
            self._moving = False
            if not status.done:
                status.set_exception(error)

        run_in_thread(job, failed, f"{self.name}-move")

    def move(  # pyright: ignore[reportIncompatibleMethodOverride] (ophyd's own signatures differ)
        self, position: float, wait: bool = False, timeout: float | None = None, moved_cb=None
    ) -> MoveStatus:
        """Move to a position (um); return at once unless `wait`."""
        return super().move(position, wait=wait, timeout=timeout, moved_cb=moved_cb)

    def stop(self, *, success: bool = False) -> None:
        """End a move where it is."""
        # First the status, so that the thread which the driver lets go cannot call it a success.
        super().stop(success=success)
        self._driver.stop(self._axis)


class AFMStage(Device):
    """The tip's position over the sample: axes `x` and `y` in um, with soft limits.

    Parameters
    ----------
    driver
        What moves the tip.
    name
        Name of the device; the axes are ``<name>_x`` and ``<name>_y``.
    """

    x = Component(StageAxis, axis="x", kind="hinted")
    y = Component(StageAxis, axis="y", kind="hinted")

    def __init__(self, driver: StageDriver, *, name: str = "stage", **kwargs: Any) -> None:
        self.driver = driver
        super().__init__("", name=name, **kwargs)

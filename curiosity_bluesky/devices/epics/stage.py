"""The stage over Channel Access: two motor records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ophyd import Component, EpicsMotor, EpicsSignal, EpicsSignalRO
from ophyd.device import required_for_connection
from ophyd.positioner import PositionerBase
from ophyd.status import MoveStatus
from ophyd.status import wait as wait_for_status
from ophyd.utils import LimitError
from ophyd.utils.epics_pvs import AlarmSeverity

from curiosity_bluesky.devices.epics.access import (
    CONNECT_SECONDS,
    MICROMETRES,
    as_error,
    check_pyepics,
    connection_lost,
    put,
    read_now,
    read_number,
    read_text,
    wait_until_connected,
)
from curiosity_bluesky.devices.stage import ThreadedMoves, TwoAxes
from curiosity_bluesky.devices.worker import Worker
from curiosity_bluesky.errors import InputError


class EpicsAxis(ThreadedMoves, EpicsMotor):
    """A motor record in um, with the soft limits LLM and HLM.

    A move is over when its put to VAL is complete. It has failed if RBV is in alarm then
    (MAJOR or INVALID), with the words of ``<record>:Message`` where there is one.
    """

    # Not monitored: they are seldom read, and each update costs both sides time.
    user_setpoint = Component(EpicsSignal, ".VAL", kind="omitted")
    motor_is_moving = Component(EpicsSignalRO, ".MOVN", kind="omitted")
    direction_of_travel = Component(EpicsSignal, ".TDIR", kind="omitted")
    motor_done_move = Component(EpicsSignalRO, ".DMOV", auto_monitor=True, kind="omitted")
    settling = Component(EpicsSignalRO, ".DLY", auto_monitor=True, kind="omitted")
    message = Component(EpicsSignalRO, ":Message", lazy=True, string=True, kind="omitted")

    def __init__(self, prefix: str = "", **kwargs: Any) -> None:
        self._narrowed: tuple[float, float] | None = None
        self._worker = Worker(f"{kwargs.get('name')}-move", self._halt)
        super().__init__(prefix, configuration_attrs=[], **kwargs)

    @required_for_connection
    @motor_done_move.sub_value
    def _move_changed(self, value: Any = None, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The end of a move of ours is known from its put; this is for moves of others.
        self._moving = value != 1 or self._worker.busy

    @property
    def moving(self) -> bool:
        """Whether the axis moves, as far as it is known."""
        return self._moving

    @property
    def position(self) -> float:
        """Where the axis was when the IOC said so last (um)."""
        self._check_connected()
        return self._position  # pyright: ignore[reportReturnType]

    @property
    def limits(self) -> tuple[float, float]:  # pyright: ignore
        """The soft limits (um): LLM and HLM as they are now, or what `set_limits` left of them."""
        self._check_connected()
        low, high = (read_number(s) for s in (self.low_limit_travel, self.high_limit_travel))
        if self._narrowed is None or low >= high:  # a record without limits has both 0
            return self._narrowed or (low, high)
        return max(low, self._narrowed[0]), min(high, self._narrowed[1])

    def set_limits(self, low: float, high: float) -> None:
        """Narrow the soft limits (um) here, never beyond those of the record."""
        self._narrowed = None
        reach = self.limits
        unlimited = reach[0] >= reach[1]
        if not low <= high or not (unlimited or reach[0] <= low <= high <= reach[1]):
            raise LimitError(
                f"{self.name}: limits {low:g} to {high:g} um do not lie within what the stage "
                f"reaches, {reach[0]:g} to {reach[1]:g} um"
            )
        self._narrowed = (low, high)

    def check_value(self, pos: float) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise `LimitError` if a position is outside the soft limits."""
        low, high = self.limits
        # A position computed from an axis may miss a limit by a rounding error.
        if (low, high) != (0, 0) and not low - 1e-9 <= pos <= high + 1e-9:
            raise LimitError(
                f"{self.name} = {pos:g} um is outside the soft limits {low:g} to {high:g} um"
            )

    def seconds(self, distance_um: float) -> float | None:
        """How long a move over a distance (um) takes (s), by VELO, ACCL and DLY."""
        if distance_um == 0:
            return 0.0
        self._check_connected()
        velocity = read_number(self.velocity)
        if not velocity > 0:
            return None
        settling = read_number(self.acceleration) + read_number(self.settling)
        return float(abs(distance_um) / velocity + settling)

    def move(  # pyright: ignore[reportIncompatibleMethodOverride] (ophyd's own signatures differ)
        self, position: float, wait: bool = False, timeout: float | None = None, moved_cb=None
    ) -> MoveStatus:
        """Move to a position (um); return at once unless `wait`."""
        status = PositionerBase.move(self, position, moved_cb=moved_cb, timeout=timeout)
        self._setup_move(position, status)
        if wait:
            wait_for_status(status)
        return status

    def _drive(self, position: float) -> None:
        put(self.user_setpoint, position)
        ended = read_now(self.user_readback)
        if ended["severity"] > AlarmSeverity.MINOR:
            raise as_error(self._why(ended))
        self._set_position(ended["value"])

    def _why(self, ended: Mapping[str, Any]) -> str:
        try:
            said = read_text(self.message, fresh=True)
        except (TimeoutError, ConnectionError):  # other motor records have no such text
            said = ""
        severity = AlarmSeverity(ended["severity"]).name
        return said or f"{self.prefix} is in alarm {severity} after a move (see its MSTA)"

    def _halt(self) -> None:
        if self.motor_stop.connected:  # what cannot be reached cannot be told either
            self.motor_stop.put(1, wait=False)

    def _check_connected(self) -> None:
        if not self.connected:
            raise connection_lost(self.prefix)

    def _check_units(self) -> None:
        self._check_connected()
        units = read_text(self.motor_egu)
        if units not in MICROMETRES:
            raise InputError(
                f"{self.prefix} moves in {units or 'units that it does not name'}; expected um "
                "in its EGU: the plan gives positions in micrometres"
            )

    def read(self) -> Any:
        """Return where the axis is."""
        self._check_connected()
        return super().read()

    def describe(self) -> Any:
        """Return the data key of the position."""
        low, high = self.limits
        return {
            self.name: {
                "source": f"PV:{self.user_readback.pvname}",
                "dtype": "number",
                "shape": (),
                "units": "um",
                "lower_ctrl_limit": low,
                "upper_ctrl_limit": high,
            }
        }


class EpicsAFMStage(TwoAxes):
    """The tip's position over the sample: two motor records, ``<prefix>x`` and ``<prefix>y``.

    Parameters
    ----------
    prefix
        What the names of the records begin with.
    name
        Name of the device; the axes are ``<name>_x`` and ``<name>_y``.

    Raises
    ------
    InputError
        If pyepics is not there.
    """

    x = Component(EpicsAxis, "x", kind="hinted")
    y = Component(EpicsAxis, "y", kind="hinted")

    def __init__(self, prefix: str, *, name: str = "stage", **kwargs: Any) -> None:
        check_pyepics()
        super().__init__(prefix, name=name, **kwargs)

    def wait_for_connection(self, all_signals: bool = False, timeout: Any = None) -> None:
        """Wait until both records answer, 10 s if no time is given.

        Raises
        ------
        InputError
            If they do not, or do not move in um.
        """
        for axis in (self.x, self.y):
            wait_until_connected(axis, CONNECT_SECONDS if timeout is None else timeout)
            axis._check_units()

    def stage(self) -> list[object]:
        """Get ready; refuse if there is no connection, or a record does not move in um."""
        for axis in (self.x, self.y):
            axis._check_units()
        return super().stage()


# --- image and spectrum --------------------------------------------------------------------

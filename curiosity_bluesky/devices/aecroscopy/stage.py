"""The tip's position over the scan, in um, through `AEBE.tip_control`."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.devices.aecroscopy.com_thread import AEThread
from curiosity_bluesky.devices.aecroscopy.settings import finite
from curiosity_bluesky.devices.driver_protocols import Axis
from curiosity_bluesky.errors import InputError

_TOGETHER_SECONDS = 0.02
"""Seconds in which a move of one axis waits for the other's, to go straight there."""


class ScanFrame:
    """Map between AEBE's positions, -1 to 1, and ours, 0 to the scan size in um.

    x = -1 is the left edge and y = -1 the bottom edge of the scan, both 0 um.

    Parameters
    ----------
    scan_size_um
        Width and height, um, or one number for both.

    Raises
    ------
    InputError
        If it is not one or two positive lengths, at most 1000 um.
    """

    def __init__(self, scan_size_um: float | tuple[float, float]) -> None:
        sizes = np.atleast_1d(np.asarray(scan_size_um, dtype=object))
        if sizes.shape not in ((1,), (2,)):
            raise InputError(
                f"scan_size_um is {scan_size_um!r}; expected a length, or (width, height), in um: "
                "give what the microscope's own panel shows as scan size."
            )
        width, height = (
            finite("scan_size_um", size, 1e-4, 1e3, "um") for size in (*sizes, *sizes)[:2]
        )
        self.size: dict[Axis, float] = {"x": width, "y": height}

    def in_um(self, axis: Axis, position: float) -> float:
        """Return the um of one of AEBE's positions."""
        return (position + 1) / 2 * self.size[axis]

    def in_aebe(self, axis: Axis, position_um: float) -> float:
        """Return AEBE's position of a place in um; rounding errors never leave -1 to 1."""
        return min(1.0, max(-1.0, 2 * position_um / self.size[axis] - 1))

    def centres(self, pixels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y (pixels,) of a raster scan's pixels, um: the outer ones on the edges."""
        return np.linspace(0, self.size["x"], pixels), np.linspace(0, self.size["y"], pixels)


class AEStage:
    """`StageDriver` through AEBE.

    The position is the one that BEPyAE was last told: it offers no other. A move that was
    stopped goes on to its end, since BEPyAE has no way to end it; the next call waits for
    that. Moves of both axes asked for at the same time become one, straight.

    Parameters
    ----------
    owner
        The thread with the AEBE.
    frame
        Where the scan lies.
    transit_s
        How long the tip takes for a move, however long it is, s.

    Raises
    ------
    InputError
        If `transit_s` cannot be used.
    """

    def __init__(self, owner: AEThread, frame: ScanFrame, *, transit_s: float = 0.2) -> None:
        self._owner = owner
        self._frame = frame
        self._transit_s = finite("transit_s", transit_s, 1e-3, 60.0, "s")
        self._lock = threading.Lock()
        self._wanted: dict[Axis, float] = {}
        now = owner.call(self._told, timeout_s=10.0)
        self._position: dict[Axis, float] = {
            "x": frame.in_um("x", float(now[0])),
            "y": frame.in_um("y", float(now[1])),
        }

    def limits(self, axis: Axis) -> tuple[float, float]:
        """Lowest and highest position (um): the edges of the scan."""
        return 0.0, self._frame.size[axis]

    def position(self, axis: Axis) -> float:
        """Where the tip was last told to be (um)."""
        return self._position[axis]

    def placed(self, x: float, y: float) -> None:
        """Note where something else, a raster scan, has left the tip (um)."""
        self._position = {"x": x, "y": y}

    def move(self, axis: Axis, position: float) -> None:
        """Go to `position` (um); return once BEPyAE says that the tip is there.

        Raises
        ------
        InputError
            If the position is outside the scan.
        CallAborted
            If `stop` was called.
        """
        low, high = self.limits(axis)
        if not low - 1e-9 <= position <= high + 1e-9:
            raise InputError(
                f"{axis} = {position:g} um is outside the scan; expected {low:g} to {high:g} um: "
                "choose a position inside, or scan a larger area."
            )
        with self._lock:
            self._wanted[axis] = float(position)
        self._owner.call(self._go, kind="move", timeout_s=self._transit_s + 30.0)
        if self._position[axis] != position:
            raise RuntimeError(
                f"{axis} did not go to {position:g} um, since the move of the other axis failed: "
                "move again."
            )

    def stop(self, axis: Axis) -> None:
        """Give up waiting for a move; the tip finishes it by itself."""
        with self._lock:
            self._wanted = {}
        self._owner.abort("move")

    def move_seconds(self, axis: Axis, distance_um: float) -> float:
        """How long a move over a distance (um) takes: always the transit time, and a poll."""
        return self._transit_s + 0.1 + _TOGETHER_SECONDS if distance_um else 0.0

    @staticmethod
    def _told(aebe: Any) -> Any:
        return aebe.VI.getcontrolvalue("move_tip_control_cluster")

    def _go(self, aebe: Any) -> None:
        time.sleep(_TOGETHER_SECONDS)
        with self._lock:
            wanted, self._wanted = self._wanted, {}
        if not wanted:
            return  # the call for the other axis took this one along
        target: dict[Axis, float] = {**self._position, **wanted}
        # As soon as it is told the tip is on its way, and nothing ends that.
        self._position = target
        aebe.tip_control(
            tip_parms_dict={
                "next_x_pos_00": self._frame.in_aebe("x", target["x"]),
                "next_y_pos_01": self._frame.in_aebe("y", target["y"]),
                "transit_time_s_02": self._transit_s,
            },
            do_move_tip=True,
            do_set_setpoint=False,
            feedbackon=False,
        )


class AELiftingStage(AEStage):
    """`StageDriver` and `LiftDriver` that lifts the tip by its setpoint.

    In contact the feedback holds the deflection at the setpoint. A setpoint below what the
    free lever shows cannot be held: the feedback draws the tip back as far as it can.

    Parameters
    ----------
    owner, frame, transit_s
        As for `AEStage`.
    contact_v, lifted_v
        Setpoints with the tip down and up, V.
    settle_s
        How long the feedback takes for it, s.

    Raises
    ------
    InputError
        If the setpoints are no numbers within 10 V of either sign, or the lifted one is not
        the lower one.
    """

    def __init__(
        self,
        owner: AEThread,
        frame: ScanFrame,
        *,
        contact_v: float,
        lifted_v: float,
        settle_s: float = 0.5,
        transit_s: float = 0.2,
    ) -> None:
        self._contact_v = finite("the setpoint in contact", contact_v, -10.0, 10.0, "V")
        self._lifted_v = finite("the lifted setpoint", lifted_v, -10.0, 10.0, "V")
        self._settle_s = finite("settle_s", settle_s, 0.0, 60.0, "s")
        if self._lifted_v >= self._contact_v:
            raise InputError(
                f"the lifted setpoint is {lifted_v:g} V, in contact {contact_v:g} V; expected a "
                "lower one: the feedback draws the tip back where it cannot be reached."
            )
        super().__init__(owner, frame, transit_s=transit_s)

    @property
    def lift_seconds(self) -> float:
        """How long lifting and lowering take together, s."""
        return 2 * (self._settle_s + 0.1)

    def lift(self) -> None:
        """Draw the tip back."""
        self._hold(self._lifted_v)

    def lower(self) -> None:
        """Bring the tip into contact."""
        self._hold(self._contact_v)

    def _hold(self, setpoint_v: float) -> None:
        def set_it(aebe: Any) -> None:
            # tip_control writes the target of the last move as well, but does not go there.
            aebe.tip_control(
                tip_parms_dict={"set_point_V_00": setpoint_v},
                do_move_tip=False,
                do_set_setpoint=True,
                feedbackon=False,
            )
            has = aebe.VI.getcontrolvalue("set_setpoint_control_cluster")[0]
            if abs(float(has) - setpoint_v) > 1e-3:
                raise RuntimeError(
                    f"BEPyAE's setpoint is {has!r} V; expected {setpoint_v:g} V: look at its panel."
                )
            time.sleep(self._settle_s)

        self._owner.call(set_it, timeout_s=self._settle_s + 30.0)

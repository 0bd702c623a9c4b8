"""A stage axis as a motor record whose motion is the microscope's own."""

# What caproto's decorators make of a method, pyright cannot know.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false, reportOptionalCall=false
# pyright: reportOptionalMemberAccess=false, reportRedeclaration=false

from __future__ import annotations

import asyncio
from typing import Any

from caproto import AlarmSeverity, AlarmStatus, ChannelAlarm, SkipWrite
from caproto.server import PVGroup, PvpropertyDouble, pvproperty

from curiosity_bluesky.errors import InputError
from sim_devices.ioc.calls import in_a_thread, in_words, said
from sim_devices.microscope import Axis, SimMicroscope

_TICK = 0.05
"""How often the read-back follows a move, s."""

_ROUNDING = 1e-9
"""Positions that were computed may miss a limit by so much, um."""


class _Setpoint(PvpropertyDouble):
    """VAL: a position beyond the limits is answered by LVIO, as motor records do."""

    async def verify_value(self, value: Any) -> Any:
        """Hand the value to the putter, without caproto's own look at the limits."""
        return await self.putter(self, value)


class Motor(PVGroup):
    """A motor record: VAL, RBV, DMOV, MOVN, STOP, HLM, LLM, LVIO, EGU, VELO, DLY and the rest.

    A put to VAL is complete when the axis has settled, was stopped or has failed. Why a move
    failed is in ``<record>:Message``, ``""`` where it did not; then RBV is in alarm.

    Parameters
    ----------
    microscope
        What moves.
    axis
        Which axis of it.
    """

    motor = pvproperty(value=0.0, name="", record="motor", dtype=_Setpoint, precision=6)
    message = said(":Message", "why the last move failed")

    def __init__(self, *args: Any, microscope: SimMicroscope, axis: Axis, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.microscope = microscope
        self.axis: Axis = axis
        self._moving = self._stopped = False

    @motor.startup
    async def motor(self, instance: Any, async_lib: Any) -> None:
        """Fill in what the microscope says of the axis."""
        fields = instance.field_inst
        # Of its own: the fields share one, which a write to any of them clears.
        fields.user_readback_value.alarm = ChannelAlarm()
        low, high = self.microscope.limits(self.axis)
        await fields.engineering_units.write("um")
        await instance.write_metadata(
            units="um", precision=6, lower_ctrl_limit=low, upper_ctrl_limit=high
        )
        await fields.user_readback_value.write_metadata(units="um", precision=6)
        await fields.user_low_limit.write(low)
        await fields.user_high_limit.write(high)
        await fields.limit_violation.write(0)
        await fields.seconds_to_velocity.write(0.0)
        await self.tell_times()
        await self._tell_position()
        await instance.write(fields.user_readback_value.value, verify_value=False)

    async def tell_times(self) -> None:
        """Publish velocity and settling time, as they are on the wall."""
        fields: Any = self.motor.field_inst
        settling = self.microscope.move_seconds(self.axis, 1e-300)  # of a move that goes nowhere
        per_um = self.microscope.move_seconds(self.axis, 1.0) - settling
        await fields.readback_settle_time.write(settling)
        velocity = 1 / per_um if per_um > 0 else float("inf")
        await fields.velocity.write(velocity, verify_value=False)

    @motor.putter
    async def motor(self, instance: Any, value: float) -> None:
        """Go there; the put completes when the axis is at rest again."""
        fields = instance.field_inst
        low, high = fields.user_low_limit.value, fields.user_high_limit.value
        if not low - _ROUNDING <= value <= high + _ROUNDING:
            await fields.limit_violation.write(1)
            await self._tell(
                f"InputError: {self.axis} = {value:g} um is outside the soft limits; expected "
                f"{low:g} to {high:g} um: choose a position inside, or widen HLM and LLM."
            )
            raise SkipWrite
        if self._moving:
            await self._tell(
                f"RuntimeError: {self.axis} is moving already: wait for it or stop it."
            )
            raise SkipWrite
        # A client that goes away must not leave an axis that never stops moving.
        await asyncio.shield(asyncio.ensure_future(self._go(instance, value)))
        raise SkipWrite

    async def _go(self, instance: Any, value: float) -> None:
        fields = instance.field_inst
        self._moving, self._stopped = True, False
        try:
            if fields.limit_violation.value:
                await fields.limit_violation.write(0)
            forward = int(value >= fields.user_readback_value.value)
            if forward != fields.direction_of_travel.value:
                await fields.direction_of_travel.write(forward)
            await fields.done_moving_to_value.write(0)
            await fields.motor_is_moving.write(1)
            await instance.write(value, verify_value=False)
            move = asyncio.ensure_future(in_a_thread(self.microscope.move, self.axis, value))
            while not (await asyncio.wait([move], timeout=_TICK))[0]:
                await self._tell_position()
            error = move.exception()
            await self._tell_position()
            if self._stopped:
                await instance.write(fields.user_readback_value.value, verify_value=False)
            await self._tell("" if error is None else in_words(error), error)
        finally:
            self._moving = False
            await fields.motor_is_moving.write(0)
            await fields.done_moving_to_value.write(1)

    async def _tell_position(self) -> None:
        fields: Any = self.motor.field_inst
        position = self.microscope.position(self.axis)
        if position != fields.user_readback_value.value:
            await fields.user_readback_value.write(position)
            await fields.dial_readback_value.write(position)

    async def _tell(self, message: str, error: BaseException | None = None) -> None:
        """Publish how the last move ended."""
        if not message and not self.message.value:
            return
        lost = isinstance(error, ConnectionError)
        readback: Any = self.motor.field_inst.user_readback_value
        await self.message.write(message)
        await readback.alarm.write(
            severity=AlarmSeverity.INVALID_ALARM if lost
            else AlarmSeverity.MAJOR_ALARM if message else AlarmSeverity.NO_ALARM,
            status=AlarmStatus.COMM if lost
            else AlarmStatus.STATE if message else AlarmStatus.NO_ALARM,
        )  # fmt: skip

    @motor.fields.stop.putter
    async def motor(fields, instance: Any, value: int) -> int:
        """End a move where the axis is; the field goes back to 0 by itself."""
        self = fields.parent.group
        if value:
            self._stopped = True
            await in_a_thread(self.microscope.stop, self.axis)
        return 0

    @motor.fields.velocity.putter
    async def motor(fields, instance: Any, value: float) -> None:
        """Have the microscope move that fast (um/s on the wall), both its axes."""
        microscope = fields.parent.group.microscope
        if not value > 0:
            raise InputError(f"VELO is {value!r}; expected a positive speed in um/s")
        microscope._speed = float(value) / microscope.clock.speed

    @motor.fields.user_low_limit.putter
    async def motor(fields, instance: Any, value: float) -> None:
        """Have VAL say so, too."""
        await fields.parent.write_metadata(lower_ctrl_limit=float(value))

    @motor.fields.user_high_limit.putter
    async def motor(fields, instance: Any, value: float) -> None:
        """Have VAL say so, too."""
        await fields.parent.write_metadata(upper_ctrl_limit=float(value))

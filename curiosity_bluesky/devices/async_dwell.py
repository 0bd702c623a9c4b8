"""Dwell setting of an ophyd-async spectrometer."""

from __future__ import annotations

from typing import Any

from ophyd_async.core import AsyncStatus, StandardReadable, soft_signal_rw

from curiosity_bluesky.devices.dwell import dwell_seconds, dwell_values, not_offered


class AsyncDwellSetting(StandardReadable):
    """Cycles of a loop, averages, or integration time of the next spectrum, see `DwellSetting`.

    Parameters
    ----------
    driver
        The spectrometer's.
    name
        Name of the device, and its data key.
    """

    def __init__(self, driver: Any, name: str = "") -> None:
        self.driver = driver
        with self.add_children_as_readables():
            self.current = soft_signal_rw(float, self.values[-1], units=self.unit)
        super().__init__(name=name)

    @property
    def unit(self) -> str:
        """What it counts: ``cycles``, ``averages`` or ``s``."""
        return str(self.driver.dwell_unit)

    @property
    def values(self) -> tuple[float, ...]:
        """Settings that there are, ascending; the last is that of a full spectrum."""
        return dwell_values(self.driver)

    def seconds(self, value: float) -> float | None:
        """Seconds of one spectrum with a setting; None if the driver does not say."""
        return dwell_seconds(self.driver, value)

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name it; its signal has the same name."""
        super().set_name(name, child_name_separator=child_name_separator)
        self.current.set_name(name)

    @AsyncStatus.wrap
    async def set(self, value: float) -> None:
        """Set it; the driver is told before the next spectrum.

        Raises
        ------
        InputError
            If there is no such setting.
        """
        if value not in self.values:
            raise not_offered(self.name, value, self.values)
        await self.current.set(float(value))

"""Dwell setting of a spectrometer: how long it measures a spectrum."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ophyd.status import Status

from curiosity_bluesky.devices.driver_protocols import stated_seconds
from curiosity_bluesky.devices.measuring_device import ScalarSignal
from curiosity_bluesky.errors import InputError


class DwellSetting(ScalarSignal):
    """Cycles of a loop, averages, or integration time of the next spectrum.

    Parameters
    ----------
    driver
        The spectrometer's, with the members that `driver_protocols.SpectrometerDriver` names.
    """

    def __init__(self, driver: Any, **kwargs: Any) -> None:
        self.driver = driver
        super().__init__(value=self.values[-1], **kwargs)
        self.units = self.unit

    @property
    def unit(self) -> str:
        """What it counts: ``cycles``, ``averages`` or ``s``."""
        return str(self.driver.dwell_unit)

    @property
    def values(self) -> tuple[float, ...]:
        """Settings that there are, ascending; the last is that of a full spectrum."""
        return dwell_values(self.driver)

    def measured_points(self, points: int) -> int:
        """Return how many of the points of an axis are measured: all, but for cycles."""
        return measured_points(self.driver, points, float(self.get()))  # pyright: ignore[reportArgumentType]

    def tell_driver(self) -> None:
        """Tell the driver, which may take its time: before a measurement, in its thread."""
        self.driver.dwell = float(self.get())  # pyright: ignore[reportArgumentType]

    def seconds(self, value: float) -> float | None:
        """Seconds of one spectrum with a setting; None if the driver does not say."""
        return dwell_seconds(self.driver, value)

    def check_value(self, value: Any, **kwargs: Any) -> None:
        """Refuse what is no setting.

        Raises
        ------
        InputError
            If it is none.
        """
        if value not in self.values:
            raise not_offered(self.name, value, self.values)

    def put(self, value: Any, **kwargs: Any) -> None:
        """Set it; the driver is told before the next spectrum."""
        self.check_value(value)
        super().put(float(value), **kwargs)

    def set(self, value: Any, **kwargs: Any) -> Status:
        """Set it, at once; the driver is told before the next spectrum."""
        self.put(value)
        status = Status(self)
        status.set_finished()
        return status


def not_offered(name: str, value: Any, values: Sequence[float]) -> InputError:
    """Return the error of a setting that there is not."""
    there = ", ".join(f"{known:g}" for known in values)
    return InputError(f"{name} is set to {value!r}; expected one of {there}")


def dwell_seconds(driver: Any, value: float) -> float | None:
    """Return the seconds of one spectrum with a setting; None if the driver does not say."""
    asked = getattr(driver, "dwell_seconds", None)
    return None if asked is None else stated_seconds(asked(value), "dwell_seconds")


def measured_points(driver: Any, points: int, value: float) -> int:
    """Return how many points of an axis are measured with a setting: all, but for cycles."""
    if driver.dwell_unit != "cycles":
        return points
    return round(points * value / dwell_values(driver)[-1])


def dwell_values(driver: Any) -> tuple[float, ...]:
    """Return the dwell settings that a driver offers, none where it has no such setting.

    Raises
    ------
    InputError
        If they are not positive and ascending.
    """
    offered: Sequence[float] | None = getattr(driver, "dwell_values", None)
    values = tuple(map(float, offered or ()))
    rising = all(a < b for a, b in itertools.pairwise(values))
    if values and not (values[0] > 0 and rising):
        raise InputError(
            f"the driver's dwell_values are {list(values)}; expected settings above 0, the "
            "smallest first: correct them"
        )
    return values

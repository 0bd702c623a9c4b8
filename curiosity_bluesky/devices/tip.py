"""The tip between two points: up, or down on the sample."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ophyd import Device
from ophyd.status import DeviceStatus

from curiosity_bluesky.devices.drivers import LiftDriver, stated_seconds
from curiosity_bluesky.devices.worker import Busy, Worker, finish
from curiosity_bluesky.errors import InputError


class Tip(Device):
    """Lifts the tip and lowers it: it is set to ``up`` or ``down``.

    Parameters
    ----------
    driver
        What does it, blocking.
    name
        Name of the device.
    """

    def __init__(self, driver: LiftDriver, *, name: str = "tip", **kwargs: Any) -> None:
        super().__init__("", name=name, **kwargs)
        self.driver = driver
        # There is no way back in the middle of it: it is waited for.
        self._worker = Worker(f"{name}-lift", lambda: None)

    @property
    def seconds(self) -> float | None:
        """How long lifting and lowering take together (s); None if the driver does not say."""
        return stated_seconds(getattr(self.driver, "lift_seconds", None), "lift_seconds")

    def set(self, where: str) -> DeviceStatus:
        """Lift (``up``) or lower (``down``) the tip; return at once.

        Raises
        ------
        InputError
            If it is told anything else.
        """
        if where not in ("up", "down"):
            raise InputError(f"{self.name} is set to {where!r}; expected 'up' or 'down'")
        status = DeviceStatus(self)
        go = self.driver.lift if where == "up" else self.driver.lower
        try:
            self._worker.start(go, lambda _: finish(status), lambda error: finish(status, error))
        except Busy as busy:
            finish(status, busy)
        return status

    def read(self) -> Any:
        """Nothing: where the tip is between two points is not measured."""
        return OrderedDict()

    def describe(self) -> Any:
        """Nothing, see `read`."""
        return OrderedDict()

"""Tip device, lifted between two points."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ophyd import Device
from ophyd.log import logger
from ophyd.status import DeviceStatus

from curiosity_bluesky.devices.driver_protocols import LiftDriver, stated_seconds
from curiosity_bluesky.devices.worker import finish_status
from curiosity_bluesky.errors import InputError

_TRY_SECONDS = 2.0
"""Maximum seconds in which a pause lifts a tip that still ends a measurement."""


class Tip(Device):
    """Tip that is set to ``up`` or ``down``.

    One call to the driver at a time; the next one waits for it. A pause lifts the tip: however
    long it lasts, the sample does not drift under it.

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
        self._one_at_a_time = threading.Lock()
        self._told = 0  # how often it was set

    @property
    def seconds(self) -> float | None:
        """Seconds of lifting and lowering together; None if the driver does not say."""
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
        self._told += 1

        def go() -> None:
            try:
                with self._one_at_a_time:
                    (self.driver.lift if where == "up" else self.driver.lower)()
            except Exception as error:  # any error of the instrument belongs to the status
                finish_status(status, error)
            else:
                finish_status(status)

        self._begin(go, f"{self.name}-{where}")
        return status

    def pause(self) -> None:
        """Lift the tip and do not wait for it; the RunEngine sets it again when it resumes."""
        told, give_up = self._told, time.monotonic() + _TRY_SECONDS

        def go() -> None:
            while told == self._told:  # resumed meanwhile, it belongs to the run again
                try:
                    with self._one_at_a_time:
                        self.driver.lift()
                        return
                except Exception:  # the measurement is being broken off at this moment
                    if time.monotonic() > give_up:
                        logger.exception("%s: the tip could not be lifted for a pause", self.name)
                        return
                time.sleep(0.02)

        self._begin(go, f"{self.name}-pause")

    @staticmethod
    def _begin(go: Callable[[], None], name: str) -> None:
        # A daemon, so that an instrument that is stuck never holds the process.
        threading.Thread(target=go, name=name, daemon=True).start()

    def read(self) -> Any:
        """Nothing: where the tip is between two points is not measured."""
        return OrderedDict()

    def describe(self) -> Any:
        """Nothing, see `read`."""
        return OrderedDict()

"""Imager that takes the survey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curiosity_bluesky.devices.driver_protocols import ImagerDriver, stated_seconds
from curiosity_bluesky.devices.measuring_device import ArraySignal, MeasuringDevice


class Imager(MeasuringDevice):
    """Imager of an overview image of one or more channels.

    Data keys are ``<name>_<channel>``, each ``(y, x)``; the axes ``<name>_x`` and
    ``<name>_y`` (um), and the settings of a driver that has any, are configuration. All are
    read from the driver again by `stage`.

    Parameters
    ----------
    driver
        What takes the image.
    name
        Name of the device.

    Attributes
    ----------
    channels : dict of str to ArraySignal
        The last image of each channel.
    """

    def __init__(self, driver: ImagerDriver, *, name: str = "imager", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.driver = driver
        self.channels: dict[str, ArraySignal] = {}
        self._refresh()

    @property
    def seconds(self) -> float | None:
        """How long one image takes (s); None if the driver does not say."""
        return stated_seconds(getattr(self.driver, "scan_seconds", None), "scan_seconds")

    def _refresh(self) -> None:
        x, y = (np.array(axis) for axis in self.driver.image_axes)
        self.x_axis = self._axis("x", x, "um")
        self.y_axis = self._axis("y", y, "um")
        self.channels = self._channels(
            self.driver.image_channels,
            getattr(self.driver, "image_dtypes", {}),
            {"y": len(y), "x": len(x)},
        )
        settings = self._settings(
            getattr(self.driver, "image_settings", {}),
            getattr(self.driver, "image_setting_units", {}),
        )
        self._offer(self.channels.values(), [self.x_axis, self.y_axis, *settings])

    def _measure(self) -> Mapping[str, ArrayLike]:
        return self.driver.scan()

    def _abort(self) -> None:
        self.driver.abort()

"""The imager that takes the survey."""

from __future__ import annotations

from typing import Any

import numpy as np

from curiosity_bluesky.devices.drivers import ImagerDriver
from curiosity_bluesky.devices.signals import ArraySignal, MeasuringDevice


class Imager(MeasuringDevice):
    """Takes an overview image of one or more channels.

    Data keys are ``<name>_<channel>``, each ``(y, x)``; the axes ``<name>_x`` and
    ``<name>_y`` (um) are configuration.

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
        x, y = driver.image_axes
        self.x_axis = ArraySignal(
            name=f"{name}_x", parent=self, value=np.asarray(x), dims=["x"], units="um"
        )
        self.y_axis = ArraySignal(
            name=f"{name}_y", parent=self, value=np.asarray(y), dims=["y"], units="um"
        )
        self.channels = {
            channel: ArraySignal(
                name=f"{name}_{channel}",
                parent=self,
                value=np.full((len(y), len(x)), np.nan),
                dims=["y", "x"],
                units=units,
            )
            for channel, units in driver.image_channels.items()
        }
        self._data_signals = list(self.channels.values())
        self._configuration_signals = [self.x_axis, self.y_axis]

    def _measure(self) -> None:
        for channel, image in self.driver.scan().items():
            self.channels[channel].put(np.asarray(image))

    def _abort(self) -> None:
        self.driver.abort()

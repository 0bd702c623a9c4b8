"""The spectrometer that takes a local spectrum, for PFM a hysteresis loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.devices.drivers import SpectrometerDriver
from curiosity_bluesky.devices.signals import MeasuringDevice

Scalar = Callable[[NDArray, Mapping[str, NDArray]], float]
"""A figure of one spectrum, from the axis and the channels, each ``(points,)``."""


def finite_share(axis: NDArray, spectrum: Mapping[str, NDArray]) -> float:
    """Quality: the share of points that are numbers, 0 where a channel is constant."""
    finite = [np.isfinite(values) for values in spectrum.values()]
    for values, good in zip(spectrum.values(), finite, strict=True):
        if not good.any() or np.ptp(values[good]) == 0:
            return 0.0
    return float(np.mean(finite))


def loop_area(axis: NDArray, spectrum: Mapping[str, NDArray]) -> float:
    r"""Area that the first channel encloses, :math:`|\oint P\,dV|`, by the trapezoidal rule."""
    values = np.nan_to_num(next(iter(spectrum.values())).astype(float))
    closed, bias = np.append(values, values[0]), np.append(axis, axis[0])
    return float(abs(np.trapezoid(closed, bias)))


class Spectrometer(MeasuringDevice):
    """Takes a spectrum of one or more channels where the tip is.

    Data keys are ``<name>_<channel>``, each along the axis, and ``<name>_<scalar>``; the
    axis ``<name>_<axis>`` and the settings are configuration. All but the scalars is asked
    of the driver anew by `stage`.

    Parameters
    ----------
    driver
        What takes the spectrum.
    name
        Name of the device.
    scalars
        Figures of each spectrum by name. Default: `quality` (`finite_share`) and `area`
        (`loop_area`).

    Attributes
    ----------
    channels : dict of str to ArraySignal
        The last spectrum of each channel.
    """

    def __init__(
        self,
        driver: SpectrometerDriver,
        *,
        name: str = "spectrometer",
        scalars: Mapping[str, Scalar] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.driver = driver
        default = {"quality": finite_share, "area": loop_area}
        self._rules = dict(default if scalars is None else scalars)
        self._refresh()

    def _refresh(self) -> None:
        name, units, values = self.driver.spectrum_axis
        axis = np.array(values)
        self.axis = self._axis(name, axis, units)
        self.channels = self._channels(
            self.driver.spectrum_channels,
            getattr(self.driver, "spectrum_dtypes", {}),
            {name: len(axis)},
        )
        self.scalars = {scalar: self._soft(scalar, np.nan) for scalar in self._rules}
        settings = []
        for setting, value in self.driver.spectrum_settings.items():
            signal = self._soft(setting, value)
            signal.put(value)
            settings.append(signal)
        self._offer([*self.channels.values(), *self.scalars.values()], [self.axis, *settings])

    @property
    def hints(self) -> dict[str, list[str]]:
        """What a live table shows: the scalars."""
        return {"fields": [signal.name for signal in self.scalars.values()]}

    def _measure(self) -> None:
        spectrum = self._fill(self.driver.acquire())
        axis = np.asarray(self.axis.get())
        for scalar, rule in self._rules.items():
            self.scalars[scalar].put(float(rule(axis, spectrum)))

    def _abort(self) -> None:
        self.driver.abort()

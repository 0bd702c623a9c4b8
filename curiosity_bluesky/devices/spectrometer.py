"""Spectrometer that takes a local spectrum, for PFM a hysteresis loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from curiosity_bluesky.devices.driver_protocols import SpectrometerDriver, stated_seconds
from curiosity_bluesky.devices.dwell import DwellSetting, dwell_values
from curiosity_bluesky.devices.measuring_device import ArraySignal, MeasuringDevice
from curiosity_bluesky.errors import InputError

Scalar = Callable[[NDArray, Mapping[str, NDArray]], float]
"""A figure of one spectrum, from the axis and the channels, each ``(points,)``."""


_STUCK_POINTS = 3


def loop_quality(axis: NDArray, spectrum: Mapping[str, NDArray]) -> float:
    """Share of the points that can be trusted, in the worst channel: 1 good, 0 useless.

    A point can be trusted if it is a number and does not sit stuck at a rail. The rails are
    the channel's largest and smallest value. A point sits stuck where it equals one of them
    exactly and so do its neighbours: three such points in a row or more, at one rail or
    jumping between the two, those that are no numbers left out. A channel whose numbers are
    all equal has 0. Noise hardly ever repeats an extreme; a channel that is digitised so
    coarsely that it does (a few bits, or only two levels) needs a rule of its own.

    Parameters
    ----------
    axis
        (points,); not used.
    spectrum
        Channel name to (points,).

    Returns
    -------
    quality
        0 to 1.
    """
    return min((_trusted_share(np.asarray(values)) for values in spectrum.values()), default=0.0)


def _trusted_share(values: NDArray) -> float:
    numbers = values[np.isfinite(values)]
    if numbers.size == 0 or (numbers == numbers[0]).all():
        return 0.0
    at_a_rail = (numbers == numbers.min()) | (numbers == numbers.max())
    # Where runs of points at a rail begin and end; the padding closes those at both ends.
    edges = np.diff(np.concatenate(([False], at_a_rail, [False])).astype(np.int8))
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    stuck = int(runs[runs >= _STUCK_POINTS].sum())
    return (numbers.size - stuck) / values.size


def loop_area(axis: NDArray, spectrum: Mapping[str, NDArray]) -> float:
    r"""Area that the first channel encloses, :math:`|\oint P\,dV|`, by the trapezoidal rule."""
    values = np.nan_to_num(next(iter(spectrum.values())).astype(float))
    closed, bias = np.append(values, values[0]), np.append(axis, axis[0])
    return float(abs(np.trapezoid(closed, bias)))


DEFAULT_SCALARS: Mapping[str, tuple[str, Scalar]] = {
    "quality": ("", loop_quality),
    "area": ("", loop_area),
}
"""Default units and combination rule of the figures of a spectrum."""


def scalar_rules(
    driver: SpectrometerDriver, given: Mapping[str, Scalar] | None
) -> dict[str, tuple[str, Scalar]]:
    """Return units and rule of each figure: those given, or the driver's, or the default."""
    if given is not None:
        return {scalar: ("", rule) for scalar, rule in given.items()}
    return dict(getattr(driver, "spectrum_scalars", DEFAULT_SCALARS))


def hinted_scalars(driver: SpectrometerDriver, rules: Any, given: Any) -> list[str]:
    """Return the figures that a live table shows: all, or those of its own that a driver says."""
    chosen = getattr(driver, "hinted", rules) if given is None else rules
    return [scalar for scalar in rules if scalar in chosen]


def array_sizes(driver: SpectrometerDriver, name: str) -> dict[str, dict[str, int]]:
    """Return the size along each dimension of the arrays that a driver has besides the channels.

    Parameters
    ----------
    driver
        What takes the spectrum.
    name
        Name of the device, for messages.

    Raises
    ------
    InputError
        If the driver's axes do not fit one another, or one is missing.
    """
    sizes: dict[str, int] = {}
    for key, (dim, _, values) in getattr(driver, "spectrum_array_axes", {}).items():
        if sizes.setdefault(dim, len(values)) != len(values):
            raise InputError(
                f"the axis {key} of {name} has {len(values)} values; expected as many as "
                f"another axis along {dim} has, {sizes[dim]}: correct the driver's "
                "spectrum_array_axes"
            )
    offered = getattr(driver, "spectrum_arrays", {})
    missing = {dim for dims, _ in offered.values() for dim in dims} - set(sizes)
    if missing:
        raise InputError(
            f"the arrays of {name} lie along {', '.join(sorted(missing))}; expected an "
            "axis for each of these dimensions in the driver's spectrum_array_axes: name "
            "it there"
        )
    return {key: {dim: sizes[dim] for dim in dims} for key, (dims, _) in offered.items()}


def learned_channels(driver: SpectrometerDriver, name: str) -> list[str]:
    """Return the channels to learn from: those that a driver says, or all.

    Raises
    ------
    InputError
        If the driver names what is no channel.
    """
    channels = list(driver.spectrum_channels)
    chosen = list(getattr(driver, "learned", channels))
    if not chosen or set(chosen) - set(channels):
        raise InputError(
            f"the driver of {name} says that {', '.join(chosen) or 'nothing'} is to be "
            f"learned; expected some of its channels {', '.join(channels)}: correct its "
            "`learned`"
        )
    return chosen


class Spectrometer(MeasuringDevice):
    """Spectrometer of one or more channels, at the position of the tip.

    Data keys are ``<name>_<channel>``, each along the axis, ``<name>_<array>`` for what
    the driver offers besides, of its own dimensions, and ``<name>_<scalar>``; the axes
    ``<name>_<axis>`` and the settings, with units if the driver says them, are configuration.
    All but the scalars that were given is read from the driver again by `stage`.

    Parameters
    ----------
    driver
        What takes the spectrum.
    name
        Name of the device.
    scalars
        Figures of each spectrum by name. Default: the driver's `spectrum_scalars`; without
        such, `quality` (`loop_quality`) and `area` (`loop_area`).

    Attributes
    ----------
    channels : dict of str to ArraySignal
        The last spectrum of each channel.
    arrays : dict of str to ArraySignal
        The last of each array besides.
    dwell : DwellSetting or None
        How long the next spectrum is measured, where the driver can choose. Of fewer cycles than
        all, the rest of the spectrum is NaN, and the figures are those of what was measured.
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
        self._own_rules = None if scalars is None else dict(scalars)
        self._refresh()

    def _refresh(self) -> None:
        # Before anything is asked, so that all of it holds until the next time.
        getattr(self.driver, "refresh", lambda: None)()
        name, units, values = self.driver.spectrum_axis
        axis = np.array(values)
        self.axis = self._axis(name, axis, units)
        dtypes = getattr(self.driver, "spectrum_dtypes", {})
        self.channels = self._channels(self.driver.spectrum_channels, dtypes, {name: len(axis)})
        self.arrays, axes = self._more_arrays(dtypes)
        rules = scalar_rules(self.driver, self._own_rules)
        self._rules = {scalar: rule for scalar, (_, rule) in rules.items()}
        self.scalars = {scalar: self._number(scalar, units) for scalar, (units, _) in rules.items()}
        settings = self._settings(
            self.driver.spectrum_settings, getattr(self.driver, "spectrum_setting_units", {})
        )
        self.dwell = self._dwell_setting()
        dwell = [] if self.dwell is None else [self.dwell]
        self._offer(
            [*self.channels.values(), *self.arrays.values(), *self.scalars.values(), *dwell],
            [self.axis, *axes, *settings],
        )

    def _dwell_setting(self) -> DwellSetting | None:
        """Return the dwell setting, that of a full spectrum; None where there is none to choose."""
        if len(values := dwell_values(self.driver)) < 2:
            return None
        signal = self._known.get("dwell")
        if not isinstance(signal, DwellSetting):
            signal = DwellSetting(self.driver, name=f"{self.name}_dwell", parent=self)
            self._known["dwell"] = signal
        signal.put(values[-1])
        return signal

    def _more_arrays(
        self, dtypes: Mapping[str, DTypeLike]
    ) -> tuple[dict[str, ArraySignal], list[ArraySignal]]:
        """Make the signals of the arrays besides the channels, and of their axes."""
        sizes = array_sizes(self.driver, self.name)
        axes = []
        for key, (dim, units, values) in getattr(self.driver, "spectrum_array_axes", {}).items():
            signal = self._array(key, np.asarray(values), [dim], units)
            signal.put(np.array(values))
            axes.append(signal)
        offered = getattr(self.driver, "spectrum_arrays", {})
        arrays = {
            key: self._empty(key, units, np.dtype(dtypes.get(key, float)), sizes[key])
            for key, (_, units) in offered.items()
        }
        return arrays, axes

    @property
    def learned(self) -> list[str]:
        """Data keys of the channels to learn from: those that the driver says, or all.

        Raises
        ------
        InputError
            If the driver names what is no channel.
        """
        return [self.channels[key].name for key in learned_channels(self.driver, self.name)]

    @property
    def seconds(self) -> float | None:
        """Seconds of one spectrum; None if the driver does not say."""
        return stated_seconds(getattr(self.driver, "spectrum_seconds", None), "spectrum_seconds")

    @property
    def hints(self) -> dict[str, list[str]]:
        """Hints for a live table: the scalars, or those that the driver chooses."""
        shown = hinted_scalars(self.driver, self.scalars, self._own_rules)
        return {"fields": [self.scalars[scalar].name for scalar in shown]}

    def _measure(self) -> Mapping[str, ArrayLike]:
        if self.dwell is not None:
            self.dwell.tell_driver()
        return self.driver.acquire()

    def _take(self, measured: Mapping[str, ArrayLike]) -> None:
        filled = self._fill(measured, {**self.channels, **self.arrays})
        axis = np.asarray(self.axis.get())
        # What was not to be measured counts neither for nor against the spectrum.
        n = len(axis) if self.dwell is None else self.dwell.measured_points(len(axis))
        spectrum, axis = {channel: filled[channel][:n] for channel in self.channels}, axis[:n]
        for scalar, rule in self._rules.items():
            self.scalars[scalar].put(float(rule(axis, spectrum)))

    def _abort(self) -> None:
        self.driver.abort()

"""Signals with full descriptions, and devices that measure in a thread of their own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from ophyd import Device, Signal
from ophyd.status import DeviceStatus

from curiosity_bluesky.devices.worker import Worker, WorkerBusy, finish_status
from curiosity_bluesky.errors import InputError


class ArraySignal(Signal):
    """A soft signal whose description has shape, dims, units and numpy dtype.

    Parameters
    ----------
    value
        The first value, of the shape and dtype that all values will have.
    dims
        Names of the dimensions.
    units
        Units of the values.
    """

    def __init__(self, *, value: NDArray, dims: Sequence[str], units: str, **kwargs: Any) -> None:
        super().__init__(value=np.asarray(value), **kwargs)
        self.declare(dims, units)

    def declare(self, dims: Sequence[str], units: str) -> None:
        """Set the dimensions and the units."""
        self._dims = list(dims)
        self._units = units

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the data key."""
        value = np.asarray(self.get())
        return {
            self.name: {
                "source": f"PY:{self.name}",
                "dtype": "array",
                "dtype_numpy": value.dtype.str,
                "shape": list(value.shape),
                "dims": list(self._dims),
                "units": self._units,
            }
        }


class ScalarSignal(Signal):
    """A soft signal of a number or text, whose description has units, if there are any."""

    units: str = ""

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the data key."""
        described = super().describe()
        if self.units:
            described[self.name]["units"] = self.units
        return described


class NumberSignal(ScalarSignal):
    """A soft signal of a number, NaN until there is one, whose description has units."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(value=np.nan, **kwargs)


class MeasuringDevice(Device):
    """A device with soft signals that one blocking measurement fills.

    Subclasses make the signals of what their driver offers, and say how to measure and how
    to break off. The signals are no ophyd Components: a class declares those before there
    is a driver that could say what its channels and settings are called.

    There is one measurement at a time. `stop`, `pause` and `unstage` break it off, and none
    of them waits more than a moment for an instrument that does not obey.

    Parameters
    ----------
    name
        Name of the device, the prefix of its data keys.
    """

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__("", name=name, **kwargs)
        self._status: DeviceStatus | None = None
        self._worker = Worker(f"{name}-trigger", lambda: self._abort())
        self._data_signals: list[Signal] = []
        self._configuration_signals: list[Signal] = []
        self._known: dict[str, Signal] = {}

    def _refresh(self) -> None:
        """Ask the driver for channels, axes and settings and make the signals."""
        raise NotImplementedError

    def stage(self) -> list[object]:
        """Get ready, with the channels, axes and settings that the driver has now."""
        staged = super().stage()
        try:
            self._refresh()
        except BaseException:
            self.unstage()
            raise
        return staged

    def configure(self, d: Mapping[str, Any]) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refuse to change anything: the settings belong to the driver.

        Parameters
        ----------
        d
            Settings to change.

        Returns
        -------
        before, after
            The configuration twice, if there is nothing to change.

        Raises
        ------
        InputError
            If there is.
        """
        if d:
            known = ", ".join(signal.name for signal in self._configuration_signals)
            raise InputError(
                f"{self.name} cannot be configured with {', '.join(map(str, d))}; its "
                f"configuration ({known}) is what the driver says when the device is staged: "
                f"change the driver ({self.name}.driver) before the run"
            )
        return self.read_configuration(), self.read_configuration()

    def _offer(self, data: Iterable[Signal], configuration: Iterable[Signal]) -> None:
        """Say which signals are read, and which are configuration."""
        self._data_signals, self._configuration_signals = list(data), list(configuration)
        names = [signal.name for signal in (*self._data_signals, *self._configuration_signals)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"{', '.join(twice)} would be more than one data key of {self.name}; "
                "give the driver's channels, axes and settings different names"
            )

    def _number(self, key: str, units: str) -> NumberSignal:
        """Return the signal of a number with units, the one there is or a new one."""
        signal = self._known.get(key)
        if not isinstance(signal, NumberSignal):
            signal = self._known[key] = NumberSignal(name=f"{self.name}_{key}", parent=self)
        signal.units = units
        return signal

    def _settings(self, values: Mapping[str, Any], units: Mapping[str, str]) -> list[Signal]:
        """Return the signals of the settings, those there are or new ones."""
        signals = []
        for key, value in values.items():
            signal = self._known.get(key)
            if not isinstance(signal, ScalarSignal):
                signal = self._known[key] = ScalarSignal(
                    name=f"{self.name}_{key}", parent=self, value=value
                )
            signal.units = units.get(key, "")
            signal.put(value)
            signals.append(signal)
        return signals

    def _array(self, key: str, value: NDArray, dims: Sequence[str], units: str) -> ArraySignal:
        """Return the signal of an array, the one there is or a new one."""
        signal = self._known.get(key)
        if not isinstance(signal, ArraySignal):
            signal = self._known[key] = ArraySignal(
                name=f"{self.name}_{key}", parent=self, value=value, dims=dims, units=units
            )
        signal.declare(dims, units)
        return signal

    def _axis(self, name: str, values: NDArray, units: str) -> ArraySignal:
        """Return the signal of an axis, ``(points,)``."""
        signal = self._array(name, values, [name], units)
        signal.put(values)
        return signal

    def _channels(
        self, units: Mapping[str, str], dtypes: Mapping[str, DTypeLike], sizes: Mapping[str, int]
    ) -> dict[str, ArraySignal]:
        """Return the signals of the channels, NaN or 0 until there is a measurement."""
        return {
            channel: self._empty(channel, unit, np.dtype(dtypes.get(channel, float)), sizes)
            for channel, unit in units.items()
        }

    def _empty(
        self, channel: str, units: str, dtype: np.dtype, sizes: Mapping[str, int]
    ) -> ArraySignal:
        """Return the signal of a channel, NaN or 0 until there is a measurement."""
        shape = tuple(sizes.values())
        empty = np.full(shape, np.nan if dtype.kind in "fc" else 0, dtype)
        signal = self._array(channel, empty, list(sizes), units)
        last = np.asarray(signal.get())
        if last.shape != shape or last.dtype != dtype:
            signal.put(empty)
        return signal

    def _fill(
        self, measured: Mapping[str, ArrayLike], signals: Mapping[str, ArraySignal]
    ) -> dict[str, NDArray]:
        """Put what the driver measured into the signals, as it was declared."""
        declared = {channel: np.asarray(signal.get()) for channel, signal in signals.items()}
        arrays = as_declared(self.name, declared, measured)
        for channel, values in arrays.items():
            signals[channel].put(values)
        return arrays

    channels: dict[str, ArraySignal]

    def _measure(self) -> Mapping[str, ArrayLike]:
        """Have the driver measure, blocking; channel name to values."""
        raise NotImplementedError

    def _abort(self) -> None:
        """Have the driver break off a measurement, called from another thread."""
        raise NotImplementedError

    def _take(self, measured: Mapping[str, ArrayLike]) -> None:
        """Put a measurement into the signals."""
        self._fill(measured, self.channels)

    def trigger(self) -> DeviceStatus:
        """Start a measurement; the status is done when the signals hold it.

        It fails at once, and nothing is measured, while the instrument is still in the
        measurement before.
        """
        status = DeviceStatus(self)
        before, self._status = self._status, status

        def measure() -> Mapping[str, ArrayLike] | None:
            return None if status.done else self._measure()  # broken off before it began

        def then(measured: Mapping[str, ArrayLike] | None) -> None:
            # What comes after all once it was broken off must not pass for a measurement here.
            if measured is not None and not status.done:
                self._take(measured)
            finish_status(status)

        try:
            self._worker.start(measure, then, lambda error: finish_status(status, error))
        except WorkerBusy as busy:
            self._status = before
            finish_status(status, busy)
        return status

    def pause(self) -> None:
        """Break off a measurement quietly: the RunEngine repeats it when it resumes."""
        # First the status, so that the thread which the driver lets go cannot fail it.
        if self._status is not None:
            finish_status(self._status)
        self._worker.break_off()

    def unstage(self) -> list[object]:
        """Leave no measurement running behind."""
        self.pause()
        return super().unstage()

    def stop(self, *, success: bool = False) -> None:
        """Break off a measurement; its status fails unless `success`."""
        if self._status is not None:
            stopped = RuntimeError(f"{self.name} was stopped in the middle of a measurement")
            finish_status(self._status, None if success else stopped)
        self._worker.break_off()
        super().stop(success=success)

    def read(self) -> Any:
        """Return the last measurement."""
        return _merged(signal.read() for signal in self._data_signals)

    def describe(self) -> Any:
        """Return the data keys of a measurement."""
        return _merged(signal.describe() for signal in self._data_signals)

    def read_configuration(self) -> Any:
        """Return axes and settings."""
        return _merged(signal.read() for signal in self._configuration_signals)

    def describe_configuration(self) -> Any:
        """Return the data keys of axes and settings."""
        return _merged(signal.describe() for signal in self._configuration_signals)


def as_declared(
    name: str, declared: Mapping[str, NDArray], measured: Mapping[str, ArrayLike]
) -> dict[str, NDArray]:
    """Return copies of what a driver measured, of the dtypes that were declared.

    Parameters
    ----------
    name
        Of the device, for messages.
    declared
        Channel to an array of the shape and dtype that its values are to have.
    measured
        Channel to what the driver returned.

    Raises
    ------
    InputError
        If the channels are others, or a shape or dtype does not fit.
    """
    if set(measured) != set(declared):
        raise InputError(
            f"the driver of {name} measured {', '.join(measured) or 'nothing'}; expected "
            f"its channels {', '.join(declared)}: let it return each of them"
        )
    arrays = {}
    for channel, expected in declared.items():
        values = np.asarray(measured[channel])
        fits = np.can_cast(values.dtype, expected.dtype, "same_kind")
        if values.shape != expected.shape or not fits:
            raise InputError(
                f"{channel} of {name} has shape {values.shape} and dtype {values.dtype}; "
                f"expected {expected.shape} and {expected.dtype}: let the driver say so before "
                "the device is staged, by its axes and its dtypes"
            )
        # A copy, since a driver may fill the same array the next time.
        arrays[channel] = np.array(values, expected.dtype)
    return arrays


def _merged(parts: Iterable[dict[str, dict[str, Any]]]) -> Any:
    merged: OrderedDict[str, dict[str, Any]] = OrderedDict()
    for part in parts:
        merged.update(part)
    return merged

"""Signals that say what they hold, and devices that measure in a thread of their own."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from ophyd import Device, Signal
from ophyd.status import DeviceStatus

from curiosity_bluesky.errors import InputError

_ABORT_SECONDS = 0.2


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
        """Say anew what the dimensions and the units are."""
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


def run_in_thread(
    job: Callable[[], None], failed: Callable[[Exception], None], name: str
) -> threading.Thread:
    """Start blocking work; a daemon, so that a stuck instrument never holds the process."""

    def run() -> None:
        try:
            job()
        except Exception as error:  # whatever the instrument raises belongs to the status
            failed(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class MeasuringDevice(Device):
    """A device with soft signals that one blocking measurement fills.

    Subclasses make the signals of what their driver offers, and say how to measure and how
    to break off. The signals are no ophyd Components: a class declares those before there
    is a driver that could say what its channels and settings are called.

    Parameters
    ----------
    name
        Name of the device, the prefix of its data keys.
    """

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__("", name=name, **kwargs)
        self._status: DeviceStatus | None = None
        self._thread: threading.Thread | None = None
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

    def _soft(self, key: str, value: Any) -> Signal:
        """Return the signal of a scalar, the one there is or a new one."""
        if key not in self._known:
            self._known[key] = Signal(name=f"{self.name}_{key}", parent=self, value=value)
        return self._known[key]

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
        shape, channels = tuple(sizes.values()), {}
        for channel, unit in units.items():
            dtype = np.dtype(dtypes.get(channel, float))
            empty = np.full(shape, np.nan if dtype.kind in "fc" else 0, dtype)
            signal = channels[channel] = self._array(channel, empty, list(sizes), unit)
            last = np.asarray(signal.get())
            if last.shape != shape or last.dtype != dtype:
                signal.put(empty)
        return channels

    def _fill(self, measured: Mapping[str, ArrayLike]) -> dict[str, NDArray]:
        """Put what the driver measured into the signals, as it was declared."""
        signals = self.channels
        if set(measured) != set(signals):
            raise InputError(
                f"the driver of {self.name} measured {', '.join(measured) or 'nothing'}; expected "
                f"its channels {', '.join(signals)}: let it return each of them"
            )
        arrays = {}
        for channel, signal in signals.items():
            declared, values = np.asarray(signal.get()), np.asarray(measured[channel])
            fits = np.can_cast(values.dtype, declared.dtype, "same_kind")
            if values.shape != declared.shape or not fits:
                raise InputError(
                    f"{channel} of {self.name} has shape {values.shape} and dtype {values.dtype}; "
                    f"expected {declared.shape} and {declared.dtype}: let the driver say so before "
                    "the device is staged, by its axes and its dtypes"
                )
            # A copy, since a driver may fill the same array the next time.
            arrays[channel] = np.array(values, declared.dtype)
        for channel, values in arrays.items():
            signals[channel].put(values)
        return arrays

    channels: dict[str, ArraySignal]

    def _measure(self) -> None:
        """Measure, blocking, and fill the signals."""
        raise NotImplementedError

    def _abort(self) -> None:
        """Break off a measurement, called from another thread."""
        raise NotImplementedError

    def trigger(self) -> DeviceStatus:
        """Start a measurement; the status is done when the signals hold it."""
        status = self._status = DeviceStatus(self)

        def job() -> None:
            if status.done:  # broken off before it began
                return
            self._measure()
            if not status.done:
                status.set_finished()

        def failed(error: Exception) -> None:
            if not status.done:
                status.set_exception(error)

        self._thread = run_in_thread(job, failed, f"{self.name}-trigger")
        return status

    def _break_off(self) -> None:
        # Again until the thread has ended: an abort between "triggered" and "measuring" finds
        # nothing to abort. Not for long: an instrument that cannot be aborted measures on.
        deadline = time.monotonic() + _ABORT_SECONDS
        self._abort()
        while self._thread is not None and self._thread.is_alive():
            if time.monotonic() > deadline:
                break
            self._thread.join(0.005)
            self._abort()

    def pause(self) -> None:
        """Break off a measurement quietly: the RunEngine repeats it when it resumes."""
        if self._status is not None and not self._status.done:
            self._status.set_finished()
        self._break_off()

    def unstage(self) -> list[object]:
        """Leave no measurement running behind."""
        self.pause()
        return super().unstage()

    def stop(self, *, success: bool = False) -> None:
        """Break off a measurement."""
        self._break_off()
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


def _merged(parts: Iterable[dict[str, dict[str, Any]]]) -> Any:
    merged: OrderedDict[str, dict[str, Any]] = OrderedDict()
    for part in parts:
        merged.update(part)
    return merged

"""Signals that say what they hold, and devices that measure in a thread of their own."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Device, Signal
from ophyd.status import DeviceStatus

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
                "dims": self._dims,
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

    Subclasses make the signals and say how to measure and how to break off.

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

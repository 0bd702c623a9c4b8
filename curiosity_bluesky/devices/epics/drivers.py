"""Image and spectrum records as drivers, as those of an instrument in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, EpicsSignal, EpicsSignalRO
from ophyd.signal import EpicsSignalBase

from curiosity_bluesky.devices.epics._pyepics_compat import pv_of
from curiosity_bluesky.devices.epics.access import (
    CONNECT_SECONDS,
    as_error,
    connection_lost,
    last_value,
    put,
    read_array,
    read_now,
    read_text,
    read_texts,
)

CYCLES_MAX = "cycles_max"
"""Setting of an IOC that lets one choose the cycles of a spectrum, in the PV ``Cycles``."""


class Records(Device):
    """The process variables of a measurement, without those of its channels."""

    acquire = Component(EpicsSignal, "Acquire")
    abort = Component(EpicsSignal, "Abort")
    message = Component(EpicsSignalRO, "Message", string=True)
    counter = Component(EpicsSignalRO, "ArrayCounter_RBV", auto_monitor=True)
    duration = Component(EpicsSignalRO, "Seconds", auto_monitor=True)
    channels = Component(EpicsSignalRO, "Channels", auto_monitor=True)
    units = Component(EpicsSignalRO, "Units", auto_monitor=True)
    dtypes = Component(EpicsSignalRO, "DTypes", auto_monitor=True)


class ImageRecords(Records):
    """The process variables of the overview image."""

    x = Component(EpicsSignalRO, "X", auto_monitor=True)
    y = Component(EpicsSignalRO, "Y", auto_monitor=True)


class SpectrumRecords(Records):
    """The process variables of the spectrum."""

    axis = Component(EpicsSignalRO, "Axis", auto_monitor=True)
    axis_name = Component(EpicsSignalRO, "AxisName", auto_monitor=True)
    axis_units = Component(EpicsSignalRO, "AxisUnits", auto_monitor=True)
    settings = Component(EpicsSignalRO, "Settings", auto_monitor=True)


class RecordsDriver:
    """Base of the drivers: a blocking measurement by a put to Acquire.

    Parameters
    ----------
    records
        The process variables.
    """

    def __init__(self, records: Any) -> None:
        self.records = records
        self._others: dict[str, Any] = {}

    def _signal(
        self, suffix: str, auto_monitor: bool, kind: type[EpicsSignalBase] = EpicsSignalRO
    ) -> Any:
        """Return a signal whose name is known only from the IOC."""
        if suffix not in self._others:
            pv = f"{self.records.prefix}{suffix}"
            self._others[suffix] = kind(pv, name=pv, auto_monitor=auto_monitor)
        signal = self._others[suffix]
        if not signal.connected:
            # Asked for the first time, it has yet to be found; ophyd would wait for 1 s. Where
            # the IOC is gone, nothing is waited for.
            if not self.records.connected:
                raise connection_lost(signal.pvname)
            signal.wait_for_connection(timeout=CONNECT_SECONDS)
        return signal

    @property
    def _channels(self) -> dict[str, str]:
        names, units = read_texts(self.records.channels), read_texts(self.records.units)
        return dict(zip(names, units, strict=True))

    @property
    def _dtypes(self) -> dict[str, np.dtype]:
        dtypes = map(np.dtype, read_texts(self.records.dtypes))
        return dict(zip(self._channels, dtypes, strict=True))

    def _suffixes(self) -> set[str]:
        """Return what the names known only from the IOC end in."""
        return {f"Data{number}" for number, _ in enumerate(read_texts(self.records.channels), 1)}

    def lacking(self) -> list[EpicsSignalRO]:
        """Return the signals in use, beyond the records, without a connection.

        An IOC that is back is found again for one process variable after the other.
        """
        away = {suffix: s for suffix, s in self._others.items() if not s.connected}
        # Of what the IOC has no more, nothing is asked.
        return [away[suffix] for suffix in sorted(away.keys() & self._suffixes())] if away else []

    @property
    def connected(self) -> bool:
        """Whether the IOC answers for all that is in use."""
        return self.records.connected and not self.lacking()

    def _check_connected(self) -> None:
        if not self.records.connected:
            raise connection_lost(self.records.acquire.pvname)
        for signal in self.lacking():
            raise connection_lost(signal.pvname)

    def _measured(self, shape: tuple[int, ...]) -> dict[str, NDArray]:
        # What was told last may be of the IOC before this one.
        before = read_now(self.records.counter)["value"]
        put(self.records.acquire, 1)
        now = read_now(self.records.counter)["value"]
        if now < before:
            # It counts from the start again: libca ends a put whose IOC is gone,
            # and the IOC may be back before the loss of the connection is seen.
            raise connection_lost(self.records.acquire.pvname)
        if now == before:
            said = read_text(self.records.message, fresh=True)
            raise as_error(
                said
                or f"{self.records.acquire.pvname} ended without a measurement; "
                f"{self.records.counter.pvname} still is {before}"
            )
        return {
            channel: self._array(number, shape, dtype)
            for number, (channel, dtype) in enumerate(self._dtypes.items(), 1)
        }

    def _array(self, number: int, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        signal = self._signal(f"Data{number}", auto_monitor=False)
        values = np.atleast_1d(read_array(signal, int(np.prod(shape))))
        if values.size != np.prod(shape):
            raise RuntimeError(f"{signal.pvname} holds {values.size} values; expected {shape}")
        return values.reshape(shape).astype(dtype)

    def destroy(self) -> None:
        """Let go of the process variables."""
        for device in (self.records, *self._others.values()):
            device.destroy()
        self._others.clear()

    def sources(self) -> dict[str, str]:
        """Return the process variables of the channels by name."""
        prefix = self.records.prefix
        return {channel: f"{prefix}Data{n}" for n, channel in enumerate(self._channels, 1)}

    def abort(self) -> None:
        """Tell the IOC to end a measurement early."""
        if self.records.abort.connected:  # what cannot be reached cannot be told either
            self.records.abort.put(1, wait=False)


class EpicsImageDriver(RecordsDriver):
    """An `ImagerDriver` over Channel Access."""

    @property
    def image_channels(self) -> Mapping[str, str]:
        """Channel name to units."""
        return self._channels

    @property
    def image_dtypes(self) -> Mapping[str, np.dtype]:
        """Channel name to dtype."""
        return self._dtypes

    @property
    def image_axes(self) -> tuple[NDArray, NDArray]:
        """The grid's x (columns,) and y (rows,), um."""
        return np.atleast_1d(last_value(self.records.x)), np.atleast_1d(last_value(self.records.y))

    @property
    def scan_seconds(self) -> float:
        """How long one image takes, s."""
        return float(self.records.duration.get())

    def scan(self) -> Mapping[str, NDArray]:
        """Take one image and return each channel, (rows, columns)."""
        self._check_connected()
        x, y = self.image_axes
        return self._measured((len(y), len(x)))

    def sources(self) -> dict[str, str]:
        """Return the process variable of each data key."""
        prefix = self.records.prefix
        return {**super().sources(), "x": f"{prefix}X", "y": f"{prefix}Y"}


class EpicsSpectrumDriver(RecordsDriver):
    """A `SpectrometerDriver` over Channel Access."""

    @property
    def spectrum_channels(self) -> Mapping[str, str]:
        """Channel name to units."""
        return self._channels

    @property
    def spectrum_dtypes(self) -> Mapping[str, np.dtype]:
        """Channel name to dtype."""
        return self._dtypes

    @property
    def spectrum_axis(self) -> tuple[str, str, NDArray]:
        """Name, units and values (points,)."""
        name, units = read_texts(self.records.axis_name)[0], read_texts(self.records.axis_units)[0]
        return name, units, np.atleast_1d(last_value(self.records.axis))

    @property
    def spectrum_settings(self) -> Mapping[str, float | str]:
        """What the spectra are taken with."""
        return {name: self._setting(name) for name in read_texts(self.records.settings)}

    @property
    def spectrum_setting_units(self) -> Mapping[str, str]:
        """Setting to the units of its record (EGU)."""
        names = read_texts(self.records.settings)
        units = {name: self._setting_signal(name).metadata.get("units") for name in names}
        return {name: str(unit) for name, unit in units.items() if unit}

    def _suffixes(self) -> set[str]:
        settings = read_texts(self.records.settings)
        cycles = {"Cycles"} if CYCLES_MAX in settings else set[str]()
        return super()._suffixes() | {f"Setting:{name}" for name in settings} | cycles

    def _setting_signal(self, name: str) -> EpicsSignalRO:
        return self._signal(f"Setting:{name}", auto_monitor=True)

    def _setting(self, name: str) -> float | str:
        signal = self._setting_signal(name)
        is_text = any(kind in pv_of(signal).type for kind in ("char", "string"))
        return read_text(signal) if is_text else last_value(signal)

    @property
    def spectrum_seconds(self) -> float:
        """How long one full spectrum takes, s."""
        return float(self.records.duration.get())

    dwell_unit = "cycles"

    @property
    def dwell_values(self) -> list[float]:
        """Cycles that may be asked for, none where the IOC has no choice."""
        if CYCLES_MAX not in read_texts(self.records.settings):
            return []
        most = float(self._setting(CYCLES_MAX))
        return [float(cycles) for cycles in range(1, int(most) + 1)]

    def dwell_seconds(self, value: float) -> float:
        """How long a spectrum of so many cycles takes, s."""
        return self.spectrum_seconds * value / self.dwell_values[-1]

    @property
    def dwell(self) -> float:
        """Cycles of the next spectrum."""
        return float(read_now(self._cycles)["value"])

    @dwell.setter
    def dwell(self, value: float) -> None:
        self._check_connected()
        put(self._cycles, value)

    @property
    def _cycles(self) -> EpicsSignal:
        return self._signal("Cycles", auto_monitor=True, kind=EpicsSignal)

    def acquire(self) -> Mapping[str, NDArray]:
        """Take one spectrum and return each channel, (points,)."""
        self._check_connected()
        return self._measured((len(self.spectrum_axis[2]),))

    def sources(self) -> dict[str, str]:
        """Return the process variable of each data key."""
        prefix = self.records.prefix
        settings = {name: f"{prefix}Setting:{name}" for name in read_texts(self.records.settings)}
        return {**super().sources(), self.spectrum_axis[0]: f"{prefix}Axis", **settings}

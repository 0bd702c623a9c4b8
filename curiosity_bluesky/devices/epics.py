"""The three devices over EPICS Channel Access, on pyepics.

They talk to an IOC that has the process variables of docs/epics.md, such as ``curiosity ioc``;
stages may be any motor records. Data keys, configuration and documents are those of the
devices on drivers in Python: only the sources differ.

What waits for the instrument waits in threads. What the RunEngine's loop asks for, it is
answered from what Channel Access has told last: while the connection is lost, at once with a
`ConnectionError`.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import ophyd
from numpy.typing import NDArray
from ophyd import Component, Device, EpicsMotor, EpicsSignal, EpicsSignalRO
from ophyd.device import required_for_connection
from ophyd.positioner import PositionerBase
from ophyd.status import MoveStatus
from ophyd.status import wait as wait_for_status
from ophyd.utils import LimitError
from ophyd.utils.epics_pvs import AlarmSeverity

from curiosity_bluesky.devices.imager import Imager
from curiosity_bluesky.devices.signals import MeasuringDevice
from curiosity_bluesky.devices.spectrometer import Spectrometer
from curiosity_bluesky.devices.stage import ThreadedMoves, TwoAxes
from curiosity_bluesky.devices.worker import Worker
from curiosity_bluesky.errors import InputError

CONNECT_SECONDS = 10.0
"""How long an IOC may take to be found."""

_POLL = 0.1
"""How often a wait for an instrument looks whether the connection is still there, s."""

_READ_SECONDS = 5.0
_MICROMETRES = ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre")
_KINDS = {kind.__name__: kind for kind in (RuntimeError, ConnectionError, TimeoutError, OSError)}


def check_pyepics() -> None:
    """Make sure that ophyd speaks Channel Access through pyepics.

    Raises
    ------
    InputError
        If pyepics is not installed, or ophyd was told to use something else.
    """
    if importlib.util.find_spec("epics") is None:
        raise InputError(
            'EPICS devices need pyepics; it comes with the extra: pip install "curiosity-bluesky'
            '[epics]"'
        )
    if ophyd.get_cl().name != "pyepics":
        raise InputError(
            f"ophyd's control layer is {ophyd.get_cl().name}; expected pyepics: call "
            'ophyd.set_cl("pyepics"), or leave OPHYD_CONTROL_LAYER unset'
        )


def _lost(pv: str) -> ConnectionError:
    return ConnectionError(f"the Channel Access connection to {pv} is lost; is its IOC running?")


def _answered(device: Device, timeout: float) -> None:
    """Wait until a device is connected; say what is missing if it is not."""
    try:
        device.wait_for_connection(timeout=timeout)
    except TimeoutError:
        signals = [s.item for s in device.walk_signals(include_lazy=False)]
        missing = [s.pvname for s in signals if not s.connected]
        raise InputError(
            f"no IOC answers for {', '.join(missing[:3]) or device.prefix} within {timeout:g} s; "
            "is it running (`curiosity ioc`), is the prefix right, and does EPICS_CA_ADDR_LIST "
            "say where it is?"
        ) from None


def _put(signal: EpicsSignal, value: float) -> None:
    """Put, and wait until the IOC says that what this began has ended.

    Raises
    ------
    ConnectionError
        If the connection is lost before.
    """
    if not signal.connected:
        raise _lost(signal.pvname)
    ended = threading.Event()
    signal.put(value, force=True, use_complete=True, callback=lambda **_: ended.set())
    while not ended.wait(_POLL):
        if not signal.connected:
            raise _lost(signal.pvname)


def _now(signal: Any, count: int | None = None) -> Mapping[str, Any]:
    """Ask the IOC for value, alarm and time of a signal, whatever was told before.

    Of an array, say how many values: pyepics would ask for as many as there were the last time.
    """
    pv = signal._read_pv
    info = None
    if signal.connected:
        info = pv.get_with_metadata(
            count=count, form="time", timeout=_READ_SECONDS, use_monitor=False
        )
    if info is None:
        raise _lost(pv.pvname)
    return info


def _number(signal: Any) -> float:
    """Return a number as Channel Access has told it last."""
    return float(signal.get())


def _text(signal: Any, fresh: bool = False) -> str:
    """Return a text, which may be a string or a waveform of characters."""
    if fresh:
        value = _now(signal, count=signal._read_pv.nelm)["value"]
    else:
        value = signal.get(as_string=False)
    if isinstance(value, str):
        return value
    return bytes(np.atleast_1d(value).astype(np.uint8)).split(b"\0")[0].decode(errors="replace")


def _texts(signal: Any) -> list[str]:
    """Return an array of strings, of which pyepics makes a string if there is only one."""
    return [str(text) for text in np.atleast_1d(signal.get())]


def _as_error(message: str) -> Exception:
    """Return what the IOC says went wrong as an exception of the kind that it names."""
    kind, _, said = message.partition(": ")
    return _KINDS[kind](said) if said and kind in _KINDS else RuntimeError(message)


# --- stage ---------------------------------------------------------------------------------


class EpicsAxis(ThreadedMoves, EpicsMotor):
    """A motor record in um, with the soft limits LLM and HLM.

    A move is over when its put to VAL is complete. It has failed if RBV is in alarm then
    (MAJOR or INVALID), with the words of ``<record>:Message`` where there is one.
    """

    # Not monitored: nobody asks for them, and each update costs both sides time.
    user_setpoint = Component(EpicsSignal, ".VAL", kind="omitted")
    motor_is_moving = Component(EpicsSignalRO, ".MOVN", kind="omitted")
    direction_of_travel = Component(EpicsSignal, ".TDIR", kind="omitted")
    motor_done_move = Component(EpicsSignalRO, ".DMOV", auto_monitor=True, kind="omitted")
    settling = Component(EpicsSignalRO, ".DLY", auto_monitor=True, kind="omitted")
    message = Component(EpicsSignalRO, ":Message", lazy=True, string=True, kind="omitted")

    def __init__(self, prefix: str = "", **kwargs: Any) -> None:
        self._narrowed: tuple[float, float] | None = None
        self._worker = Worker(f"{kwargs.get('name')}-move", self._halt)
        super().__init__(prefix, configuration_attrs=[], **kwargs)

    @required_for_connection
    @motor_done_move.sub_value
    def _move_changed(self, value: Any = None, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The end of a move of ours is known from its put; this is for moves of others.
        self._moving = value != 1 or self._worker.busy

    @property
    def moving(self) -> bool:
        """Whether the axis moves, as far as it is known."""
        return self._moving

    @property
    def position(self) -> float:
        """Where the axis was when the IOC said so last (um)."""
        self._check_connected()
        return self._position  # pyright: ignore[reportReturnType]

    @property
    def limits(self) -> tuple[float, float]:  # pyright: ignore
        """The soft limits (um): LLM and HLM as they are now, or what `set_limits` left of them."""
        self._check_connected()
        low, high = (_number(s) for s in (self.low_limit_travel, self.high_limit_travel))
        if self._narrowed is None or low >= high:  # a record without limits has both 0
            return self._narrowed or (low, high)
        return max(low, self._narrowed[0]), min(high, self._narrowed[1])

    def set_limits(self, low: float, high: float) -> None:
        """Narrow the soft limits (um) here, never beyond those of the record."""
        self._narrowed = None
        reach = self.limits
        unlimited = reach[0] >= reach[1]
        if not low <= high or not (unlimited or reach[0] <= low <= high <= reach[1]):
            raise LimitError(
                f"{self.name}: limits {low:g} to {high:g} um do not lie within what the stage "
                f"reaches, {reach[0]:g} to {reach[1]:g} um"
            )
        self._narrowed = (low, high)

    def check_value(self, pos: float) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise `LimitError` if a position is outside the soft limits."""
        low, high = self.limits
        # A position computed from an axis may miss a limit by a rounding error.
        if (low, high) != (0, 0) and not low - 1e-9 <= pos <= high + 1e-9:
            raise LimitError(
                f"{self.name} = {pos:g} um is outside the soft limits {low:g} to {high:g} um"
            )

    def seconds(self, distance_um: float) -> float | None:
        """How long a move over a distance (um) takes (s), by VELO, ACCL and DLY."""
        if distance_um == 0:
            return 0.0
        self._check_connected()
        velocity = _number(self.velocity)
        if not velocity > 0:
            return None
        settling = _number(self.acceleration) + _number(self.settling)
        return float(abs(distance_um) / velocity + settling)

    def move(  # pyright: ignore[reportIncompatibleMethodOverride] (ophyd's own signatures differ)
        self, position: float, wait: bool = False, timeout: float | None = None, moved_cb=None
    ) -> MoveStatus:
        """Move to a position (um); return at once unless `wait`."""
        status = PositionerBase.move(self, position, moved_cb=moved_cb, timeout=timeout)
        self._setup_move(position, status)
        if wait:
            wait_for_status(status)
        return status

    def _drive(self, position: float) -> None:
        _put(self.user_setpoint, position)
        ended = _now(self.user_readback)
        if ended["severity"] > AlarmSeverity.MINOR:
            raise _as_error(self._why(ended))
        self._set_position(ended["value"])

    def _why(self, ended: Mapping[str, Any]) -> str:
        try:
            said = _text(self.message, fresh=True)
        except (TimeoutError, ConnectionError):  # other motor records have no such text
            said = ""
        severity = AlarmSeverity(ended["severity"]).name
        return said or f"{self.prefix} is in alarm {severity} after a move (see its MSTA)"

    def _halt(self) -> None:
        if self.motor_stop.connected:  # what cannot be reached cannot be told either
            self.motor_stop.put(1, wait=False)

    def _check_connected(self) -> None:
        if not self.connected:
            raise _lost(self.prefix)

    def _check_units(self) -> None:
        self._check_connected()
        units = _text(self.motor_egu)
        if units not in _MICROMETRES:
            raise InputError(
                f"{self.prefix} moves in {units or 'units that it does not name'}; expected um "
                "in its EGU: the plan gives positions in micrometres"
            )

    def read(self) -> Any:
        """Return where the axis is."""
        self._check_connected()
        return super().read()

    def describe(self) -> Any:
        """Return the data key of the position."""
        low, high = self.limits
        return {
            self.name: {
                "source": f"PV:{self.user_readback.pvname}",
                "dtype": "number",
                "shape": (),
                "units": "um",
                "lower_ctrl_limit": low,
                "upper_ctrl_limit": high,
            }
        }


class EpicsAFMStage(TwoAxes):
    """The tip's position over the sample: two motor records, ``<prefix>x`` and ``<prefix>y``.

    Parameters
    ----------
    prefix
        What the names of the records begin with.
    name
        Name of the device; the axes are ``<name>_x`` and ``<name>_y``.

    Raises
    ------
    InputError
        If pyepics is not there.
    """

    x = Component(EpicsAxis, "x", kind="hinted")
    y = Component(EpicsAxis, "y", kind="hinted")

    def __init__(self, prefix: str, *, name: str = "stage", **kwargs: Any) -> None:
        check_pyepics()
        super().__init__(prefix, name=name, **kwargs)

    def wait_for_connection(self, all_signals: bool = False, timeout: Any = None) -> None:
        """Wait until both records answer, 10 s if no time is given.

        Raises
        ------
        InputError
            If they do not, or do not move in um.
        """
        for axis in (self.x, self.y):
            _answered(axis, CONNECT_SECONDS if timeout is None else timeout)
            axis._check_units()

    def stage(self) -> list[object]:
        """Get ready; refuse if there is no connection, or a record does not move in um."""
        for axis in (self.x, self.y):
            axis._check_units()
        return super().stage()


# --- image and spectrum --------------------------------------------------------------------


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


class _Driver:
    """Measures by a put to Acquire, blocking; what image and spectrum have in common.

    Parameters
    ----------
    records
        The process variables.
    """

    def __init__(self, records: Any) -> None:
        self.records = records
        self._others: dict[str, EpicsSignalRO] = {}

    def _signal(self, suffix: str, auto_monitor: bool) -> EpicsSignalRO:
        """Return a signal whose name is known only from the IOC."""
        if suffix not in self._others:
            pv = f"{self.records.prefix}{suffix}"
            signal = EpicsSignalRO(pv, name=pv, auto_monitor=auto_monitor)
            signal.wait_for_connection(timeout=CONNECT_SECONDS)
            self._others[suffix] = signal
        return self._others[suffix]

    @property
    def _channels(self) -> dict[str, str]:
        names, units = _texts(self.records.channels), _texts(self.records.units)
        return dict(zip(names, units, strict=True))

    @property
    def _dtypes(self) -> dict[str, np.dtype]:
        dtypes = map(np.dtype, _texts(self.records.dtypes))
        return dict(zip(self._channels, dtypes, strict=True))

    def _check_connected(self) -> None:
        if not self.records.connected:
            raise _lost(self.records.acquire.pvname)

    def _measured(self, shape: tuple[int, ...]) -> dict[str, NDArray]:
        before = self.records.counter.get()
        _put(self.records.acquire, 1)
        if _now(self.records.counter)["value"] == before:
            said = _text(self.records.message, fresh=True)
            raise _as_error(
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
        values = np.atleast_1d(_now(signal, count=int(np.prod(shape)))["value"])
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


class EpicsImageDriver(_Driver):
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
        return np.atleast_1d(self.records.x.get()), np.atleast_1d(self.records.y.get())

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


class EpicsSpectrumDriver(_Driver):
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
        name, units = _texts(self.records.axis_name)[0], _texts(self.records.axis_units)[0]
        return name, units, np.atleast_1d(self.records.axis.get())

    @property
    def spectrum_settings(self) -> Mapping[str, float | str]:
        """What the spectra are taken with."""
        return {name: self._setting(name) for name in _texts(self.records.settings)}

    def _setting(self, name: str) -> float | str:
        signal = self._signal(f"Setting:{name}", auto_monitor=True)
        is_text = any(kind in cast(Any, signal._read_pv).type for kind in ("char", "string"))
        return _text(signal) if is_text else signal.get()

    @property
    def spectrum_seconds(self) -> float:
        """How long one spectrum takes, s."""
        return float(self.records.duration.get())

    def acquire(self) -> Mapping[str, NDArray]:
        """Take one spectrum and return each channel, (points,)."""
        self._check_connected()
        return self._measured((len(self.spectrum_axis[2]),))

    def sources(self) -> dict[str, str]:
        """Return the process variable of each data key."""
        prefix = self.records.prefix
        settings = {name: f"{prefix}Setting:{name}" for name in _texts(self.records.settings)}
        return {**super().sources(), self.spectrum_axis[0]: f"{prefix}Axis", **settings}


class _OverEpics(MeasuringDevice):
    """What becomes of a measuring device whose driver is at the end of a network."""

    driver: Any

    def _refresh(self) -> None:
        # Made before the IOC answers, as ophyd devices are, it learns its channels later.
        if self.connected:
            super()._refresh()
            self._sources = {f"{self.name}_{key}": pv for key, pv in self.driver.sources().items()}

    @property
    def connected(self) -> bool:
        """Whether the IOC answers."""
        return self.driver.records.connected

    def wait_for_connection(self, all_signals: bool = False, timeout: Any = None) -> None:
        """Wait until the IOC answers, 10 s if no time is given, and ask what it measures.

        Raises
        ------
        InputError
            If it does not.
        """
        _answered(self.driver.records, CONNECT_SECONDS if timeout is None else timeout)
        self._refresh()

    def stage(self) -> list[object]:
        """Get ready; refuse if there is no connection."""
        self.driver._check_connected()
        return super().stage()

    def destroy(self) -> None:
        """Let go of the process variables."""
        super().destroy()
        self.driver.destroy()

    def _sourced(self, described: Any) -> Any:
        for key, about in described.items():
            if key in self._sources:
                about["source"] = f"PV:{self._sources[key]}"
        return described

    _sources: Mapping[str, str] = {}

    def describe(self) -> Any:
        """Return the data keys of a measurement."""
        return self._sourced(super().describe())

    def describe_configuration(self) -> Any:
        """Return the data keys of axes and settings."""
        return self._sourced(super().describe_configuration())


class EpicsImager(_OverEpics, Imager):
    """An `Imager` over Channel Access.

    Parameters
    ----------
    prefix
        What its process variables begin with, such as ``SPM:Image:``.
    name
        Name of the device.

    Raises
    ------
    InputError
        If pyepics is not there.
    """

    def __init__(self, prefix: str, *, name: str = "imager", **kwargs: Any) -> None:
        check_pyepics()
        self.driver = EpicsImageDriver(ImageRecords(prefix, name=f"{name}_records"))
        super().__init__(self.driver, name=name, **kwargs)


class EpicsSpectrometer(_OverEpics, Spectrometer):
    """A `Spectrometer` over Channel Access.

    Parameters
    ----------
    prefix
        What its process variables begin with, such as ``SPM:Spectrum:``.
    name
        Name of the device.
    scalars
        As for `Spectrometer`.

    Raises
    ------
    InputError
        If pyepics is not there.
    """

    scalars: Mapping[str, Any] = {}

    def __init__(self, prefix: str, *, name: str = "spectrometer", **kwargs: Any) -> None:
        check_pyepics()
        self.driver = EpicsSpectrumDriver(SpectrumRecords(prefix, name=f"{name}_records"))
        super().__init__(self.driver, name=name, **kwargs)

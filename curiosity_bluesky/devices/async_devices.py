"""Devices of ophyd-async on the same drivers: stage and spectrometer.

They need the extra `async` (``pip install curiosity-bluesky[async]``) and the RunEngine's event
loop: make the RunEngine first, then the devices within ``with init_devices():``. Data keys are
those of the ophyd devices. The imager is in `curiosity_bluesky.devices.hdf5_imager`.
"""

from __future__ import annotations

import asyncio
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from ophyd.utils import LimitError
from ophyd_async.core import (
    Array1D,
    AsyncStatus,
    Device,
    DeviceMap,
    MovableLogic,
    SignalRW,
    StandardMovable,
    StandardReadable,
    StandardReadableFormat,
    soft_signal_r_and_setter,
    soft_signal_rw,
)

from curiosity_bluesky.devices.async_dwell import AsyncDwellSetting
from curiosity_bluesky.devices.driver_protocols import (
    Axis,
    SpectrometerDriver,
    StageDriver,
    stated_seconds,
)
from curiosity_bluesky.devices.dwell import dwell_values, measured_points
from curiosity_bluesky.devices.measuring_device import as_declared
from curiosity_bluesky.devices.spectrometer import (
    Scalar,
    array_sizes,
    hinted_scalars,
    learned_channels,
    scalar_rules,
)
from curiosity_bluesky.devices.worker import Worker, WorkerBusy
from curiosity_bluesky.errors import CuriosityError, InputError

T = TypeVar("T")


class CallCancelled(CuriosityError):
    """A call was cancelled, for a reason that the caller gave."""


class AsyncCalls:
    """A driver's blocking calls, awaited, one at a time; see `Worker`.

    Parameters
    ----------
    name
        Name of the threads.
    abort
        Makes a call that is under way end early; called from yet another thread.
    """

    def __init__(self, name: str, abort: Callable[[], None]) -> None:
        self._worker = Worker(name, abort)
        self._answer: asyncio.Future[Any] | None = None

    async def make(self, call: Callable[[], T]) -> T:
        """Make a call and return what it returned, or raise what it raised.

        Raises
        ------
        WorkerBusy
            If the call before is not over.
        Exception
            The `reason` of the cancellation.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(settled: Callable[[Any], None], value: Any) -> None:
            # What comes after the call was broken off is dropped.
            loop.call_soon_threadsafe(lambda: answer.done() or settled(value))

        self._worker.start(
            call,
            lambda result: settle(answer.set_result, result),
            lambda error: settle(answer.set_exception, error),
        )
        self._answer = answer
        try:
            return await answer
        except asyncio.CancelledError:
            self._worker.call_off()
            raise

    async def break_off(self, reason: Exception, *, always: bool = False) -> None:
        """End the call under way, and wait for it, but not for long.

        Parameters
        ----------
        reason
            Raised to what waits for the call.
        always
            Abort once even if no call of ours is under way.
        """
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(reason)
        deadline = self._worker.call_off(always=always)
        await asyncio.to_thread(self._worker.wait, deadline)


@dataclass
class _AxisLogic(MovableLogic[float]):
    """Move logic of an axis of the stage."""

    device: AsyncStageAxis
    moved: Callable[[float], None]

    async def check_move(self, new_position: float) -> None:
        low, high = self.device.limits
        # A position computed from an axis may miss a limit by a rounding error.
        if not low - 1e-9 <= new_position <= high + 1e-9:
            raise LimitError(
                f"{self.device.name} = {new_position:g} um is outside the soft limits "
                f"{low:g} to {high:g} um"
            )

    async def move(self, new_position: float, timeout: Any) -> None:
        device = self.device
        await self.setpoint.set(new_position)
        try:
            await device.calls.make(lambda: device.driver.move(device.axis, new_position))
        except CallCancelled:  # by `stop`, which says what becomes of the status
            pass
        except WorkerBusy:
            raise
        except Exception as error:
            # What the driver could not bring to its end may still be moving.
            await self.device.calls.break_off(error, always=True)
            raise
        self.moved(await self.readback.get_value())

    async def stop(self) -> None:
        # Also without a move of ours: what else moves the axis is to be stopped as well.
        await self.device.calls.break_off(CallCancelled(), always=True)


class AsyncStageAxis(StandardReadable, StandardMovable[float]):
    """One axis of an `AsyncAFMStage`, in um, with soft limits.

    Parameters
    ----------
    driver
        What moves the tip.
    axis
        ``x`` or ``y``.

    Attributes
    ----------
    limits : tuple of float
        Where it may be sent to (um): the driver's limits, unless you narrow them.
    """

    def __init__(self, driver: StageDriver, axis: Axis, name: str = "") -> None:
        self.driver = driver
        self.axis: Axis = axis
        self.limits = driver.limits(axis)
        self.calls = AsyncCalls(f"{axis}-move", lambda: driver.stop(axis))

        async def position() -> float:
            return float(await asyncio.to_thread(driver.position, axis))

        with self.add_children_as_readables(StandardReadableFormat.HINTED_UNCACHED_SIGNAL):
            self.readback, self._moved = soft_signal_r_and_setter(
                float, units="um", getter=position
            )
        self.setpoint = soft_signal_rw(float, units="um")
        super().__init__(name=name)

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """How it moves."""
        return _AxisLogic(self.setpoint, self.readback, self, self._moved)

    def seconds(self, distance_um: float) -> float | None:
        """How long a move over a distance (um) takes (s), or None if the driver does not say."""
        ask = getattr(self.driver, "move_seconds", None)
        return ask and stated_seconds(ask(self.axis, abs(distance_um)), "move_seconds")


class AsyncAFMStage(StandardReadable):
    """The tip's position over the sample: axes `x` and `y` in um, with soft limits.

    Parameters
    ----------
    driver
        What moves the tip.
    name
        Name of the device; the axes are ``<name>_x`` and ``<name>_y``.
    """

    def __init__(self, driver: StageDriver, name: str = "") -> None:
        with self.add_children_as_readables():
            self.x = AsyncStageAxis(driver, "x")
            self.y = AsyncStageAxis(driver, "y")
        super().__init__(name=name)

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name it and its axes, with ``_`` in between as ophyd does."""
        super().set_name(name, child_name_separator="_")


class AsyncSpectrometer(StandardReadable):
    """Spectrometer of one or more channels, at the position of the tip.

    Parameters
    ----------
    driver
        What takes the spectrum. Its channels, arrays and dtypes are asked once; the axes, the
        settings and the rules of its figures again by `stage`.
    name
        Name of the device.
    scalars
        Figures of each spectrum by name, see `Spectrometer`.

    Attributes
    ----------
    signals : DeviceMap
        Channels, arrays besides, scalars, axes and settings, the data keys being
        ``<name>_<key>``.
    """

    def __init__(
        self,
        driver: SpectrometerDriver,
        name: str = "",
        scalars: Mapping[str, Scalar] | None = None,
    ) -> None:
        self.driver = driver
        self._own_rules = None if scalars is None else dict(scalars)
        self._rules = scalar_rules(driver, self._own_rules)
        self._calls = AsyncCalls("spectrum", driver.abort)
        getattr(driver, "refresh", lambda: None)()
        self._axis, units, values = driver.spectrum_axis
        dtypes = getattr(driver, "spectrum_dtypes", {})
        self._channels = declared_arrays(driver.spectrum_channels, dtypes, (len(values),))
        more = getattr(driver, "spectrum_arrays", {})
        axes = getattr(driver, "spectrum_array_axes", {})
        keys = [*self._channels, *more, *self._rules]
        keys += [self._axis, *axes, *driver.spectrum_settings]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise InputError(
                f"{', '.join(sorted(twice))} would be more than one data key of {name}; give the "
                "driver's channels, axes and settings different names"
            )
        sizes = array_sizes(driver, name or "the spectrometer")
        self._declared = dict(self._channels)
        for key, (_, unit) in more.items():
            self._declared |= declared_arrays({key: unit}, dtypes, tuple(sizes[key].values()))
        self._dims = {
            **{key: [self._axis] for key in (self._axis, *self._channels)},
            **{key: list(along) for key, along in sizes.items()},
            **{key: [dim] for key, (dim, _, _) in axes.items()},
        }
        self._set: dict[str, Callable[[Any], None]] = {}
        data: dict[str, Device] = {}
        for key, empty in self._declared.items():
            unit = driver.spectrum_channels[key] if key in self._channels else more[key][1]
            kind = Array1D[empty.dtype.type] if empty.ndim == 1 else np.ndarray
            data[key], self._set[key] = soft_signal_r_and_setter(kind, empty, units=unit)
        self.add_readables([*data.values()], StandardReadableFormat.UNCACHED_SIGNAL)
        hinted = hinted_scalars(driver, self._rules, self._own_rules)
        for key, (unit, _) in self._rules.items():
            figure, self._set[key] = soft_signal_r_and_setter(float, np.nan, units=unit or None)
            shown = StandardReadableFormat.HINTED_UNCACHED_SIGNAL
            self.add_readables(
                [figure], shown if key in hinted else StandardReadableFormat.UNCACHED_SIGNAL
            )
            data[key] = figure
        settings: dict[str, SignalRW] = {
            self._axis: soft_signal_rw(Array1D[np.float64], np.asarray(values, float), units=units)
        }
        for key, (_, unit, along) in axes.items():
            settings[key] = soft_signal_rw(np.ndarray, np.array(along), units=unit)
        self._sizes = {self._axis: len(values), **{key: len(axes[key][2]) for key in axes}}
        setting_units = getattr(driver, "spectrum_setting_units", {})
        for key, value in driver.spectrum_settings.items():
            settings[key] = soft_signal_rw(_kind(value), value, units=setting_units.get(key))
        self._settings = settings
        self.dwell = AsyncDwellSetting(driver) if len(dwell_values(driver)) > 1 else None
        if self.dwell is not None:
            self.add_readables([self.dwell])
        self.signals = DeviceMap({**data, **settings})
        self.add_readables([*settings.values()], StandardReadableFormat.CONFIG_SIGNAL)
        super().__init__(name=name)

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name it, and its signals as the ophyd device's are."""
        super().set_name(name, child_name_separator="_")
        for key, signal in self.signals.items():
            signal.set_name(f"{name}_{key}")
        if self.dwell is not None:
            self.dwell.set_name(f"{name}_dwell")

    @property
    def learned(self) -> list[str]:
        """Data keys of the channels to learn from, see `Spectrometer`."""
        return [f"{self.name}_{key}" for key in learned_channels(self.driver, self.name)]

    @property
    def seconds(self) -> float | None:
        """How long one spectrum takes (s); None if the driver does not say."""
        return stated_seconds(getattr(self.driver, "spectrum_seconds", None), "spectrum_seconds")

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Get ready, with the axis and settings that the driver has now."""
        driver = self.driver
        getattr(driver, "refresh", lambda: None)()
        name, _, axis = driver.spectrum_axis
        more = getattr(driver, "spectrum_array_axes", {})
        axes = {name: np.asarray(axis, float), **{key: np.array(more[key][2]) for key in more}}
        now = {**axes, **driver.spectrum_settings}
        rules = scalar_rules(driver, self._own_rules)
        declared = {*driver.spectrum_channels, *getattr(driver, "spectrum_arrays", {})}
        same = (set(now), set(rules), declared) == (
            set(self._settings),
            set(self._rules),
            set(self._declared),
        )
        # A signal of integers would cut off the digits of another number.
        fit = same and all(
            (_kind(value), self._settings[key].datatype) in _FIT
            for key, value in driver.spectrum_settings.items()
        )
        if not fit or {key: len(values) for key, values in axes.items()} != self._sizes:
            raise InputError(
                f"the driver of {self.name} has other channels, other kinds of settings or "
                "another number of points than when the device was made: make the device again"
            )
        self._rules = rules
        for key, value in now.items():
            await self._settings[key].set(value)
        if self.dwell is not None:
            await self.dwell.set(self.dwell.values[-1])

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Take a spectrum."""
        value = None if self.dwell is None else await self.dwell.current.get_value()

        def acquire() -> Mapping[str, NDArray]:
            if value is not None:
                cast(Any, self.driver).dwell = value
            return self.driver.acquire()

        try:
            measured = await self._calls.make(acquire)
        except CallCancelled:
            return
        arrays = as_declared(self.name, self._declared, measured)
        axis = await self._settings[self._axis].get_value()
        for key, values in arrays.items():
            self._set[key](values)
        n = len(axis) if value is None else measured_points(self.driver, len(axis), value)
        axis, spectrum = axis[:n], {channel: arrays[channel][:n] for channel in self._channels}
        for scalar, (_, rule) in self._rules.items():
            self._set[scalar](float(rule(axis, spectrum)))

    async def stop(self, success: bool = False) -> None:
        """Break off a spectrum; its status fails unless `success`."""
        said = f"{self.name} was stopped in the middle of a measurement"
        await self._calls.break_off(CallCancelled() if success else RuntimeError(said))

    async def pause(self) -> None:
        """Break off a spectrum quietly: the RunEngine repeats it when it resumes."""
        await self._calls.break_off(CallCancelled())

    async def resume(self) -> None:
        """Do nothing: the RunEngine repeats what was broken off."""

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """Leave no measurement running behind."""
        await self.pause()

    async def describe(self) -> dict[str, Any]:
        """Return the data keys, with the dimensions of the arrays."""
        return self._with_dims(await super().describe())

    async def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of axes and settings."""
        return self._with_dims(await super().describe_configuration())

    def _with_dims(self, described: dict[str, Any]) -> dict[str, Any]:
        for key, dims in self._dims.items():
            if (about := described.get(f"{self.name}_{key}")) is not None:
                about["dims"] = dims
        return described


_FIT = [(str, str), (int, int), (int, float), (float, float)]
"""Kinds of values, and of signals that may hold them."""


def _kind(value: Any) -> type[str] | type[int] | type[float]:
    if isinstance(value, str):
        return str
    return int if isinstance(value, numbers.Integral) else float


def declared_arrays(
    units: Mapping[str, str], dtypes: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, NDArray]:
    """Return an array for each channel, NaN or 0, of its shape and dtype (default float64)."""
    arrays = {}
    for channel in units:
        dtype = np.dtype(dtypes.get(channel, float))
        arrays[channel] = np.full(shape, np.nan if dtype.kind in "fc" else 0, dtype)
    return arrays

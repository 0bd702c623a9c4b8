"""Image and spectrum as process variables: `Acquire` with put-completion, arrays, settings."""

# What caproto's decorators make of a method, pyright cannot know.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false, reportOptionalCall=false
# pyright: reportOptionalMemberAccess=false, reportRedeclaration=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from caproto import AlarmSeverity, AlarmStatus, ChannelType, SkipWrite
from caproto.server import PVGroup, pvproperty
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from sim_devices.ioc.calls import in_a_thread, in_words, said
from sim_devices.microscope import SimMicroscope

_STRING = 39  # bytes that a Channel Access string holds
_TYPES = {
    "f4": ChannelType.FLOAT,
    "f8": ChannelType.DOUBLE,
    "i2": ChannelType.INT,
    "i4": ChannelType.LONG,
}


class Measuring(PVGroup):
    """What image and spectrum have in common; made by `image` and `spectrum`.

    Attributes
    ----------
    measure : callable
        The blocking measurement, channel name to array.
    """

    measure: Callable[[], Mapping[str, NDArray]]
    abort_it: Callable[[], None]
    names: Sequence[str]

    acquire = pvproperty(name="Acquire", value=0, doc="1 measures; complete when it has ended")
    abort = pvproperty(name="Abort", value=0, doc="1 ends a measurement early")
    counter = pvproperty(
        name="ArrayCounter_RBV", value=0, read_only=True, doc="complete measurements"
    )
    message = said("Message", "why the last measurement failed")

    @acquire.putter
    async def acquire(self, instance: Any, value: int) -> None:
        """Measure; the put completes when the arrays hold the measurement, or it has failed."""
        if value:
            # It goes on if the client goes away: whoever comes next finds the truth here.
            await asyncio.shield(asyncio.ensure_future(self._measured()))
        raise SkipWrite

    async def _measured(self) -> None:
        error: BaseException | None = None
        await self.acquire.write(1, verify_value=False)
        try:
            arrays = await in_a_thread(self.measure)
            for number, name in enumerate(self.names, 1):
                await getattr(self, f"data{number}").write(np.ravel(arrays[name]))
            await self.counter.write(self.counter.value + 1)
        except Exception as raised:  # told to whoever asked for the measurement
            error = raised
        await self._tell(error)
        await self.acquire.write(0, verify_value=False)

    async def _tell(self, error: BaseException | None) -> None:
        message = "" if error is None else in_words(error)
        if not message and not self.message.value:
            return
        lost = isinstance(error, ConnectionError)
        await self.message.write(message)
        await self.acquire.alarm.write(
            severity=AlarmSeverity.INVALID_ALARM if lost
            else AlarmSeverity.MAJOR_ALARM if message else AlarmSeverity.NO_ALARM,
            status=AlarmStatus.COMM if lost
            else AlarmStatus.READ if message else AlarmStatus.NO_ALARM,
        )  # fmt: skip

    @abort.putter
    async def abort(self, instance: Any, value: int) -> int:
        """End a measurement under way."""
        if value:
            await in_a_thread(self.abort_it)
        return 0


def image(microscope: SimMicroscope, prefix: str) -> Measuring:
    """Return the PVs of the overview image, see docs/epics.md."""
    x, y = microscope.image_axes
    pvs = {
        "rows": _number("Rows", len(y), "rows of the image"),
        "columns": _number("Columns", len(x), "columns of the image"),
        "x": _array("X", x, "x of the columns", "um"),
        "y": _array("Y", y, "y of the rows", "um"),
        "seconds": _number("Seconds", microscope.scan_seconds, "how long one image takes"),
        **_channels(microscope.image_channels, microscope.image_dtypes, len(x) * len(y)),
    }
    made = type("Image", (Measuring,), pvs)(prefix=f"{prefix}Image:")
    made.measure, made.abort_it = microscope.scan, microscope.abort
    made.names = list(microscope.image_channels)
    return made


def spectrum(
    microscope: SimMicroscope, prefix: str, changed: Callable[[], Any]
) -> Measuring:  # fmt: skip
    """Return the PVs of the spectrum, see docs/epics.md.

    Parameters
    ----------
    microscope
        What measures.
    prefix
        Of all PVs of the IOC.
    changed
        Awaited when a setting has changed that others tell as well.
    """
    name, units, values = microscope.spectrum_axis
    settings = dict(microscope.spectrum_settings)
    cycles = len(microscope.dwell_values)
    if cycles > 1:
        settings["cycles_max"] = cycles

    async def put_cycles(group: Any, instance: Any, value: float) -> None:
        microscope.dwell = value

    def setter(key: str) -> Callable[..., Any]:
        async def put(group: Any, instance: Any, value: float) -> None:
            if not 0 <= value < float("inf"):
                raise InputError(f"{instance.pvname} is {value!r}; expected seconds >= 0")
            setattr(microscope, f"_{key}", float(value))
            await group.seconds.write(microscope.spectrum_seconds)
            await changed()

        return put

    pvs = {
        "points": _number("Points", len(values), "points of a spectrum"),
        "axis": _array("Axis", values, "values of the axis", units),
        "axis_name": _texts("AxisName", [name], "name of the axis"),
        "axis_units": _texts("AxisUnits", [units], "units of the axis"),
        "seconds": _number("Seconds", microscope.spectrum_seconds, "how long one spectrum takes"),
        "settings": _texts("Settings", list(settings), "names of the settings"),
        **_channels(microscope.spectrum_channels, microscope.spectrum_dtypes, len(values)),
    }
    if cycles > 1:
        pvs["cycles"] = pvproperty(
            name="Cycles", value=cycles, put=put_cycles, doc="cycles of the next spectrum"
        )
    for key, value in settings.items():
        pv = f"Setting:{key}"
        if isinstance(value, str):
            pvs[f"setting_{key}"] = said(pv, "a setting", value)
        elif key in ("spectrum_s", "settle_s"):
            pvs[f"setting_{key}"] = pvproperty(
                name=pv, value=float(value), units="s", put=setter(key)
            )
        else:
            pvs[f"setting_{key}"] = _number(pv, value, "a setting")
    made = type("Spectrum", (Measuring,), pvs)(prefix=f"{prefix}Spectrum:")
    made.measure, made.abort_it = microscope.acquire, microscope.abort
    made.names = list(microscope.spectrum_channels)
    return made


def _channels(
    units: Mapping[str, str], dtypes: Mapping[str, np.dtype], size: int
) -> dict[str, Any]:
    """Return the arrays of the channels, and what they are."""
    pvs = {
        "channels": _texts("Channels", list(units), "names of the channels"),
        "units": _texts("Units", list(units.values()), "units of the channels"),
        "dtypes": _texts("DTypes", [dtypes[c].str for c in units], "their numpy dtypes"),
    }
    for number, (channel, unit) in enumerate(units.items(), 1):
        kind = _TYPES.get(dtypes[channel].str[1:], ChannelType.DOUBLE)
        pvs[f"data{number}"] = pvproperty(
            name=f"Data{number}", value=[0] * size, max_length=size, dtype=kind,
            read_only=True, units=unit, doc=f"the last {channel}",
        )  # fmt: skip
    return pvs


def _number(name: str, value: float, doc: str) -> Any:
    plain = int(value) if isinstance(value, (int, np.integer)) else float(value)
    return pvproperty(name=name, value=plain, read_only=True, doc=doc)


def _array(name: str, values: NDArray, doc: str, units: str) -> Any:
    plain = np.asarray(values, float).tolist()
    return pvproperty(
        name=name, value=plain, max_length=len(plain), read_only=True, units=units, doc=doc
    )


def _texts(name: str, values: Sequence[str], doc: str) -> Any:
    for value in values:
        if len(value.encode()) > _STRING:
            raise InputError(
                f"{value!r} is too long for {name}: Channel Access strings hold {_STRING} bytes; "
                "give it a shorter name in the sample"
            )
    return pvproperty(
        name=name, value=list(values), max_length=len(values), dtype=ChannelType.STRING,
        string_encoding="utf-8", read_only=True, doc=doc,
    )  # fmt: skip

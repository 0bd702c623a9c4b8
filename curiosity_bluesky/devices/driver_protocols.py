"""Driver protocols of a microscope, for the ophyd devices.

A driver is plain Python and knows nothing of ophyd: its calls *block* until the
instrument is done, and the devices call them from a thread of their own. A simulated
microscope, a vendor's COM interface or a socket are drivers alike.

Positions and lengths are micrometres, times are seconds: those that the caller waits.

A driver that knows how long things take may say so, for a dry run to add them up. These
members are optional, each for itself, and no part of the protocols:

- `scan_seconds` (float): one image.
- `spectrum_seconds` (float): one full spectrum.
- `dwell_seconds(value)` (float): one spectrum with a dwell setting.
- `move_seconds(axis, distance_um)` (float): one move of an axis, settling included.
- `lift_seconds` (float): lifting the tip and lowering it, together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError

Axis = Literal["x", "y"]


@runtime_checkable
class StageDriver(Protocol):
    """Driver that moves the tip over the sample."""

    def limits(self, axis: Axis) -> tuple[float, float]:
        """Lowest and highest position (um) that the axis may be sent to."""
        ...

    def position(self, axis: Axis) -> float:
        """Where the axis is now (um)."""
        ...

    def move(self, axis: Axis, position: float) -> None:
        """Go to `position` (um) and return once settled there, or once stopped."""
        ...

    def stop(self, axis: Axis) -> None:
        """End a move of `axis` where it is; called from another thread."""
        ...


@runtime_checkable
class LiftDriver(Protocol):
    """Driver that lifts the tip; a driver of the stage may have these methods as well."""

    def lift(self) -> None:
        """Take the tip off the sample and return once it is; lifted already, do nothing."""
        ...

    def lower(self) -> None:
        """Bring the tip back to the sample and return once it is there."""
        ...


@runtime_checkable
class ImagerDriver(Protocol):
    """Driver of overview images: one or more channels on one grid.

    A driver whose images are not float64 says so with one more attribute, `image_dtypes`,
    channel name to numpy dtype; what it does not name there is converted to float64. What
    the images are taken with goes into the record from `image_settings`, name to value, and
    `image_setting_units`, name to units.
    """

    @property
    def image_channels(self) -> Mapping[str, str]:
        """Channel name to units, in the order in which they are recorded."""
        ...

    @property
    def image_axes(self) -> tuple[NDArray, NDArray]:
        """The grid's x (columns,) and y (rows,), in um."""
        ...

    def scan(self) -> Mapping[str, NDArray]:
        """Take one image and return each channel, (rows, columns)."""
        ...

    def abort(self) -> None:
        """End a scan or a spectrum early; called from another thread."""
        ...


@runtime_checkable
class SpectrometerDriver(Protocol):
    """Driver of one spectrum at the tip.

    A driver whose spectra are not float64 says so with one more attribute,
    `spectrum_dtypes`, channel name to numpy dtype; what it does not name there is converted
    to float64.

    A driver that measures more than spectra along that axis, or knows which figures describe
    them, has more of these attributes; `band_excitation.BandExcitation` has all:

    - `spectrum_arrays`: array name to dims and units, of arrays that `acquire` returns beside
      the channels, of any number of dimensions but one;
    - `spectrum_array_axes`: axis name to dim, units and values ``(size,)``. Each dim has at least
      one, and the one that is called as the dim is its coordinate;
    - `spectrum_scalars`: name to units and `spectrometer.Scalar`, the figures of a spectrum;
    - `hinted`: which of these a live table shows. Default: all;
    - `learned`: the channels to learn from. Default: all;
    - `spectrum_setting_units`: setting to units, of settings that have any. What is in ``"V"`` or
      ``"mV"`` is taken for applied to the sample: the plan compares it with its `max_bias`;
    - `dwell_values`: the settings of how long it measures, ascending, the last one that of a full
      spectrum; with `dwell_unit` (``"cycles"`` of a loop, ``"averages"``, or ``"s"`` of integration
      time) and `dwell`, which is set before `acquire` is called. A spectrum of fewer cycles has as
      many points as a full one, NaN in those that were not measured;
    - `refresh()`: called when the device is made or staged, before it asks for anything else.
      What the other members say holds from then until the next time.
    """

    @property
    def spectrum_channels(self) -> Mapping[str, str]:
        """Channel name to units, in the order in which they are recorded."""
        ...

    @property
    def spectrum_axis(self) -> tuple[str, str, NDArray]:
        """Name, units and values (points,) of the axis, for PFM ``("bias", "V", ...)``."""
        ...

    @property
    def spectrum_settings(self) -> Mapping[str, float | str]:
        """What the spectra are taken with, for the record."""
        ...

    def acquire(self) -> Mapping[str, NDArray]:
        """Take one spectrum and return each channel, (points,)."""
        ...

    def abort(self) -> None:
        """End a scan or a spectrum early; called from another thread."""
        ...


def stated_seconds(said: Any, by: str) -> float | None:
    """Check a time that a driver states.

    Parameters
    ----------
    said
        Seconds, or None.
    by
        The member that says so, for the message.

    Returns
    -------
    seconds
        None if nothing was said.

    Raises
    ------
    InputError
        If it is no finite time >= 0.
    """
    if said is None:
        return None
    try:
        seconds = float(said)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(
            f"the driver's {by} is {said!r}; expected seconds, finite and >= 0: let the driver "
            "say so, or None if it does not know."
        )
    return seconds

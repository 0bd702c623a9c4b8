"""Arrays with named axes, as files of other programs hold them; read only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.lengths import UM

Kind = Literal["spatial", "spectral", "points", "other"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hf5")
VENDOR_SUFFIXES = (".ibw", ".3ds", ".sxm", ".gwy")
SUFFIXES = (*HDF5_SUFFIXES, *VENDOR_SUFFIXES)
"""Files that `read_fields` reads."""


NOT_MEASURED = ("prediction", "deviation")
"""Roles of cubes that are no spectra to replay."""


@dataclass(frozen=True)
class Dim:
    """One axis of a field.

    Parameters
    ----------
    name, units
        As in the file; units are "" where it names none.
    values
        (size,).
    kind
        ``spatial``, ``spectral`` (what a spectrum is taken against), ``points``
        (scattered positions) or ``other``.
    """

    name: str
    units: str
    values: NDArray
    kind: Kind


@dataclass(frozen=True)
class Field:
    """An array in a file.

    Parameters
    ----------
    name
        Short and the only one of its kind in the file.
    path
        Where it lies in the file.
    units
        Units of its values, "" where the file names none.
    dims
        One for each axis.
    dtype
        What `read` returns.
    read
        Reads the array, whose shape is that of `dims`. Nothing is read before. What was never
        measured is NaN; whole numbers become float64 where there is such.
    role
        What `curiosity_bluesky.exchange` wrote it as: ``survey``, ``spectra``, ``mask``,
        ``prediction``, another word, or "" in a file of another program.
    """

    name: str
    path: str
    units: str
    dims: tuple[Dim, ...]
    dtype: np.dtype
    read: Callable[[], NDArray]
    role: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        return tuple(len(dim.values) for dim in self.dims)

    def sizes(self) -> str:
        """Name, axes and sizes in words, for messages."""
        axes = " x ".join(f"{dim.name} {len(dim.values)}" for dim in self.dims)
        return f"{self.name!r} ({axes})"

    @property
    def is_image(self) -> bool:
        """Whether it has two spatial axes, and others of one value at most."""
        return self._grid and not self.spectral_dims

    @property
    def is_cube(self) -> bool:
        """Whether it has a measured spectrum at each pixel of a grid: a predicted one is none."""
        return self._grid and bool(self.spectral_dims) and self.role not in NOT_MEASURED

    @property
    def _grid(self) -> bool:
        return (
            len(self.spatial_dims) == 2
            and not any(dim.kind == "points" for dim in self.dims)
            and self.dtype.kind in "fiub"
        )

    @property
    def spatial_dims(self) -> list[Dim]:
        """Its spatial axes of more than one value."""
        return [dim for dim in self.dims if dim.kind == "spatial" and len(dim.values) > 1]

    @property
    def spectral_dims(self) -> list[Dim]:
        """Its other axes of more than one value."""
        return [dim for dim in self.dims if dim.kind != "spatial" and len(dim.values) > 1]

    @property
    def y_and_x(self) -> tuple[Dim, Dim]:
        """The axes that count rows and columns: by their names, else in their order."""
        first, second = self.spatial_dims
        return (second, first) if _is_x(first.name) or _is_y(second.name) else (first, second)


def _is_x(name: str) -> bool:
    return name.lower().startswith(("x", "col", "fast"))


def _is_y(name: str) -> bool:
    return name.lower().startswith(("y", "row", "slow"))


def kind_of(dimension_type: str, name: str, units: str) -> Kind:
    """Tell what an axis is from its sidpy dimension type, else from its name and units."""
    word = dimension_type.rsplit(".", 1)[-1].upper()
    if word in ("SPATIAL", "SPECTRAL"):
        return "spatial" if word == "SPATIAL" else "spectral"
    if word == "POINT_CLOUD":
        return "points"
    if word == "UNKNOWN" and (name.lower() in ("x", "y") or units.lower() in UM):
        return "spatial"
    return "spectral" if word == "UNKNOWN" and units.lower() == "v" else "other"


def plain_units(units: Any) -> str:
    """Units as text; "" for the words that say that there are none known."""
    text = str(units).strip()
    return "" if text.lower() in ("", "generic", "none", "unknown") else text


def named(fields: list[Field]) -> list[Field]:
    """Call each field by its short name where that is the only one, else by its path.

    Where the path is no other, as in the files of vendors, all but the first are numbered.
    """
    names = [field.name for field in fields]
    called: list[Field] = []
    for field in fields:
        one = field.name and names.count(field.name) == 1
        name = base = field.name if one else field.path or "channel"
        count = 1
        while name in {other.name for other in called}:
            count += 1
            name = f"{base} {count}"
        called.append(replace(field, name=name))
    return called


def read_fields(path: str | Path) -> list[Field]:
    """Find the arrays in a file; what they hold is read when it is asked for.

    Parameters
    ----------
    path
        HDF5 in the layouts NSID and USID (``.h5``, ``.hdf5``, ``.hf5``), Asylum's Igor
        waves (``.ibw``), Nanonis' grids and scans (``.3ds``, ``.sxm``), Gwyddion (``.gwy``).

    Raises
    ------
    InputError
        If it is none of these, cannot be read or holds no such array, or if what reads it
        is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: nothing here reads {suffix or 'files without a suffix'!r}; expected one of "
            f"{', '.join(SUFFIXES)}: convert it with SciFiReaders and pyNSID (docs/pycroscopy.md)."
        )
    if not path.is_file():
        raise InputError(
            f"there is no file {path}; expected recorded data: check the path and the working "
            "directory."
        )
    if suffix in HDF5_SUFFIXES:
        from curiosity_bluesky.exchange.hdf5 import hdf5_fields as reader
    else:
        from curiosity_bluesky.exchange.vendors import vendor_fields as reader
    fields = reader(path)
    if not fields:
        raise InputError(
            f"{path} holds no array with axes; expected NSID or USID main datasets (for a file of "
            "a vendor: images or a grid of spectra): write it with pyNSID or pyUSID, or save an "
            ".npz file (docs/samples.md)."
        )
    return named(fields)

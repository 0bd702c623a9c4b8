"""Arrays in the files of microscope vendors.

Igor waves are read here. Nanonis and Gwyddion files are opened by SciFiReaders 0.12.7 and
gwyfile, but their axes are taken from the header, since what the readers of SciFiReaders
make of them is not to be relied on: pixel numbers called nm for Nanonis grids (and square
grids only), x and y exchanged for Nanonis scans (square ones only) and for square Gwyddion
images, the units of the channel for the axes of Igor images.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.missing import unscanned
from curiosity_bluesky.exchange.readers import Dim, Field, plain_units

_NANONIS = "SciFiReaders.readers.microscopy.spm.stm.nanonis_base"


def vendor_fields(path: Path) -> list[Field]:
    """Find the channels in a vendor's file, by its suffix.

    Raises
    ------
    InputError
        If the file cannot be read, or what reads it is not installed.
    """
    readers: dict[str, Callable[[Path], list[Field]]] = {
        ".ibw": _igor,
        ".3ds": _nanonis_grid,
        ".sxm": _nanonis_scan,
        ".gwy": _gwyddion,
    }
    try:
        return readers[path.suffix.lower()](path)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(
            f"{path} needs the package {error.name}, which is not installed: "
            'pip install "curiosity-bluesky[pycroscopy]".'
        ) from None
    except Exception as error:  # any that the other package's reader raises
        raise InputError(
            f"{path} cannot be read as {path.suffix} ({type(error).__name__}: {error}); expected "
            "a whole file of a recent version: check that it was copied whole, or convert it with "
            "the vendor's software."
        ) from error


def _axes(x: NDArray, y: NDArray, units: str) -> tuple[Dim, Dim]:
    return Dim("y", units, y, "spatial"), Dim("x", units, x, "spatial")


def _centres(
    counts: Sequence[int], sizes: Sequence[float], units: str
) -> tuple[NDArray, NDArray, str]:
    """Pixel centres x and y from 0; the size has the border pixels whole, so it is one step more.

    So it is for Gwyddion, and in a recorded Nanonis grid the positions that are stored with
    each spectrum say the same. Where the file knows no size, pixels are counted, without units.
    """
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        return np.arange(counts[0]), np.arange(counts[1]), ""
    x, y = (np.arange(n) * (size / n) for n, size in zip(counts, sizes, strict=True))
    return x, y, units


def _held(values: NDArray) -> Callable[[], NDArray]:
    return lambda: values


def _field(name: str, units: str, dims: Sequence[Dim], values: NDArray) -> Field:
    native = values.dtype.newbyteorder("=")
    return Field(
        name,
        name,
        plain_units(units),
        tuple(dims),
        native,
        _held(values.astype(native, copy=False)),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the readers print to themselves."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _nanonis_grid(path: Path) -> list[Field]:
    """Read a grid of spectra; the height at which each was taken is its image ``topo``.

    A grid that was stopped ends early: what is not in the file is NaN.
    """
    # A header without these is refused otherwise; nothing here uses them.
    absent = {"Delay before measuring (s)": 0.0, "Start time": 0.0, "End time": 0.0, "Comment": ""}
    with _quiet():
        grid = import_module(_NANONIS).Grid(str(path), header_override=absent)
    _check_names(path, grid.header["channels"])
    cols, rows = grid.header["dim_px"]
    points, channels = grid.header["num_sweep_signal"], grid.header["channels"]
    numbers = grid.header["num_parameters"] + points * len(channels)
    stored = path.stat().st_size - grid.byte_offset
    whole = min(stored // (4 * numbers), rows * cols)
    # Zeros come where the file ends; one of full length has zeros where nothing was measured.
    measured = np.arange(rows * cols).reshape(rows, cols) < whole
    arrays = [grid.signals["params"], *(grid.signals[channel] for channel in channels)]
    measured &= np.logical_or.reduce(
        [((array != 0) & np.isfinite(array)).any(axis=2) for array in arrays]
    )
    if not measured.any():
        raise InputError(
            f"{path} holds no whole pixel of its grid of {rows} x {cols}: after the header it has "
            f"{stored} bytes, and a pixel takes {4 * numbers}; expected at least one: check that "
            "it was copied whole, or choose a grid that was not stopped at its start."
        )
    axes = _axes(*_centres((cols, rows), grid.header["size_xy"], "m"))
    label, units = _label_and_units(grid.header["sweep_signal"])
    row, col = np.argwhere(measured)[0]
    start, end = grid.signals["params"][row, col, :2]
    sweep = Dim(label, units, np.linspace(start, end, points, dtype=float), "spectral")
    fields = [
        _field(
            *_label_and_units(channel),
            (*axes, sweep),
            np.where(measured[..., None], grid.signals[channel], np.nan),
        )
        for channel in channels
    ]
    parameters = [*grid.header["fixed_parameters"], *grid.header["experimental_parameters"]]
    if "Z (m)" in parameters:
        topo = grid.signals["params"][:, :, parameters.index("Z (m)")]
        fields.append(_field("topo", "m", axes, np.where(measured, topo, np.nan)))
    return fields


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse channels of one name: their reader keeps the last of them alone."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(
            f"{path} has several channels {', '.join(map(repr, twice))}; expected a name for each: "
            "save the one that you want alone."
        )


def _nanonis_scan(path: Path) -> list[Field]:
    """Read a scan, both directions of each channel, drawn as it lies on the surface.

    Lines that were not begun when it was stopped are NaN.
    """
    with _quiet():
        scan = import_module(_NANONIS).Scan(str(path))
    axes = _axes(*_centres(scan.header["scan_pixels"], scan.header["scan_range"], "m"))
    about = scan.header["data_info"]
    _check_names(path, about["Name"])
    planes = {
        (name, direction): values
        for name in about["Name"]
        for direction, values in scan.signals[name].items()
    }
    never = unscanned(planes.values())
    if never.all():
        raise InputError(
            f"{path} holds no line of its scan of {len(never)} lines, only zeros or NaN; expected "
            "at least one: choose a scan that was not stopped at its start."
        )
    fields = []
    for name, units in zip(about["Name"], about["Unit"], strict=True):
        for direction in scan.signals[name]:
            values = np.where(never[:, None], np.nan, planes[name, direction])
            # Lines come as they were scanned; row 0 is the lowest y here.
            values = values if scan.header["scan_dir"] == "up" else values[::-1]
            values = values[:, ::-1] if direction == "backward" else values
            label = name if direction == "forward" else f"{name} backward"
            fields.append(_field(label, units, axes, values))
    return fields


def _gwyddion(path: Path) -> list[Field]:
    """Read the images in a Gwyddion file."""
    gwyfile = import_module("gwyfile")
    with path.open("rb") as file:
        if (magic := file.read(4)) != b"GWYP":
            raise InputError(
                f"{path} starts with {magic!r}; expected the present Gwyddion format, GWYP: open "
                "it in Gwyddion and save it again."
            )
        # gwyfile never comes back from a file that ends within an object.
        name, _, rest = file.read(4096).partition(b"\0")
    length = 4 + len(name) + 1 + 4 + int.from_bytes(rest[:4], "little")
    stored = path.stat().st_size
    if len(rest) < 4 or stored < length:
        raise InputError(
            f"{path} ends after {stored} bytes, within its {name.decode('latin-1')!r}; expected a "
            "whole file: copy it again."
        )
    content = gwyfile.load(str(path))
    fields = []
    for key in content:
        parts = key.split("/")
        if len(parts) != 3 or not parts[1].isdecimal() or parts[2] != "data":
            continue
        image = content[key]
        rows, cols = image.data.shape
        sizes = image["xreal"], image["yreal"]
        units = {
            unit: image[unit]["unitstr"] if unit in image else ""
            for unit in ("si_unit_xy", "si_unit_z")
        }
        title = content[f"{key}/title"] if f"{key}/title" in content else f"image_{parts[1]}"
        axes = _axes(*_centres((cols, rows), sizes, plain_units(units["si_unit_xy"])))
        fields.append(_field(str(title), units["si_unit_z"], axes, np.array(image.data)))
    return fields


def _label_and_units(text: str) -> tuple[str, str]:
    """Take "Current (A)" apart."""
    label, _, units = str(text).rstrip(") ").rpartition("(")
    return (label.strip(), units) if label else (str(text), "")


_IGOR_TYPES = {2: "f4", 4: "f8", 8: "i1", 16: "i2", 32: "i4", 72: "u1", 80: "u2", 96: "u4"}
_IGOR_COMPLEX = 1  # added to the type
_IGOR_HEADER = 64 + 320  # BinHeader5 and WaveHeader5


def _igor(path: Path) -> list[Field]:
    """Read an Igor binary wave, version 5, such as Asylum's microscopes write.

    The layout is that of WaveMetrics' Technical Note 3, "Igor Binary Format". Axis 0 is x,
    axis 1 is y, axis 2 the channels, whose names are the labels of that axis.
    """
    raw = path.read_bytes()
    little = raw[:2] == b"\x05\x00"
    if not little and raw[:2] != b"\x00\x05":
        raise InputError(
            f"{path} starts with {raw[:2]!r}; expected an Igor binary wave of version 5: save it "
            "again from Igor Pro 6 or later."
        )
    order = "<" if little else ">"
    _, _, _, formula, note, data_units, *sizes = struct.unpack(f"{order}hh12i", raw[:52])
    dim_units, labels = sizes[:4], sizes[4:]
    header = raw[64:_IGOR_HEADER]
    points, kind = struct.unpack(f"{order}ih", header[12:18])
    shape = [n for n in struct.unpack(f"{order}4i", header[68:84]) if n]
    steps = struct.unpack(f"{order}4d", header[84:116])
    starts = struct.unpack(f"{order}4d", header[116:148])
    unit = _c_text(header[148:152])
    axis_units = [_c_text(header[152 + 4 * i : 156 + 4 * i]) for i in range(4)]
    _check_wave(path, kind, points, shape)
    dtype = np.dtype(order + _IGOR_TYPES[kind])
    end = _IGOR_HEADER + points * dtype.itemsize
    if len(raw) < end:
        raise InputError(
            f"{path} ends after {len(raw)} of {end} bytes; expected a whole file: copy it again."
        )
    values = np.frombuffer(raw, dtype, points, _IGOR_HEADER).reshape(shape, order="F")
    if len(shape) not in (2, 3) or axis_units[0] != "m":
        raise InputError(
            f"{path} is a wave {' x '.join(map(str, shape))} along {axis_units[0] or 'nothing'!r}, "
            "such as a single curve; expected images, (x, y, channels) in m: choose a scan."
        )
    after = [formula, note, data_units, *dim_units, *labels]
    places = [end, *(end + int(total) for total in np.cumsum(after))]
    blocks = [raw[a:b] for a, b in pairwise(places)]
    # Each label has 32 bytes; the first is that of the axis itself.
    if places[-1] > len(raw):
        raise InputError(
            f"{path} ends after {len(raw)} of {places[-1]} bytes, within the names of its "
            "channels; expected a whole file: copy it again."
        )
    text = blocks[-2] if len(shape) == 3 else b""
    found = [_c_text(text[i : i + 32]) for i in range(32, len(text), 32)]
    known = all(np.isfinite([starts[i], steps[i]]).all() and steps[i] for i in (0, 1))
    x, y = (
        starts[i] + steps[i] * np.arange(shape[i]) if known else np.arange(shape[i]) for i in (0, 1)
    )
    planes = values.reshape(shape[0], shape[1], -1)
    name = _c_text(header[28:60])
    names = [
        (found[i] if i < len(found) else "") or (f"{name}_{i}" if len(shape) == 3 else name)
        for i in range(planes.shape[-1])
    ]
    axes = _axes(x, y, "m" if known else "")
    return [
        # Asylum states the units of the first channel only; these are those of the others.
        _field(label, _asylum_units(label, unit), axes, np.array(planes[:, :, i].T))
        for i, label in enumerate(names)
    ]


def _check_wave(path: Path, kind: int, points: int, shape: Sequence[int]) -> None:
    """Refuse a wave that holds no real numbers, and say what it holds."""
    size = " x ".join(map(str, shape))
    if kind == 0:
        raise InputError(
            f"{path} is a wave of text; expected images, real numbers (x, y, channels): choose "
            "the wave of a scan."
        )
    if points == 0 or not shape:
        raise InputError(
            f"{path} is an empty wave; expected images, real numbers (x, y, channels): choose "
            "the wave of a scan, or save it again when it is filled."
        )
    if kind & _IGOR_COMPLEX:
        raise InputError(
            f"{path} is a wave of complex numbers, {size}; expected real ones: save its real and "
            "imaginary parts as waves of their own."
        )
    if kind not in _IGOR_TYPES:
        raise InputError(
            f"{path} is a wave of type {kind}, {size}, which is not read here; expected one of "
            "single or double precision, or integers of up to 32 bits: convert it in Igor Pro."
        )
    if points != np.prod(shape):
        raise InputError(
            f"{path} is damaged: its header says {points} points and {size}; expected as many "
            "points as the dimensions make: copy it again."
        )


def _asylum_units(label: str, unit: str) -> str:
    small = label.lower()
    words = {"phase": "deg", "freq": "Hz", "current": "A", "userin": "V", "bias": "V"}
    return next((units for word, units in words.items() if word in small), unit)


def _c_text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1")

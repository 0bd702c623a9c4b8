"""Samples from files of other programs: which array is the image, which are the spectra."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.missing import FileChannel, usable
from curiosity_bluesky.exchange.readers import SUFFIXES, UM, Dim, Field, read_fields
from curiosity_bluesky.exchange.recorded import RecordedSample
from curiosity_bluesky.exchange.sample import pixel_centres

MEAN = "mean"
"""Image that is made of the spectra: asked for by this name, never taken by itself."""

_DIGEST_LIMIT = 2**30  # bytes; the hash of a larger file takes longer than reading its part
_REPEATS = ("cycle", "field", "forc", "repeat", "sweep")
_OFF_FIELD = 0.0  # the BEPS translators of pycroscopy: 0 is out of field, 1 is in field


def sample_from_file(
    path: str | Path, image: str | None = None, spectra: str | None = None
) -> RecordedSample:
    """Read a sample from an HDF5 file (NSID, USID) or the file of a vendor.

    Only the arrays that are chosen are read; each is in memory twice while it is copied.

    Parameters
    ----------
    path
        See `curiosity_bluesky.exchange.readers.read_fields`.
    image
        Names of the image channels, ``"height,phase"``; of those in another file
        ``"scan.ibw::HeightRetrace"`` or all of them, ``"scan.ibw"``; or ``"mean"``, the mean
        over the spectrum, which leaks what is to be predicted. Default: every image on the
        grid of the spectra.
    spectra
        Names of the spectral channels. What is kept of further axes comes after @:
        ``"Amplitude,Phase@CleanedImage=1@Cycle=0"``. Default: the only cube, or all cubes with the
        same axes; of the results of a SHO fit, amplitude and phase. Of an axis called
        Field, 0 (off-field) is kept unless said otherwise. Repeats (Cycle, ...) follow one
        another along the axis.

    Raises
    ------
    InputError
        If the file cannot be read, there is no such array, or none fits without a word.
    """
    path = Path(path)
    fields = read_fields(path)
    cubes = [field for field in fields if field.is_cube]
    if not cubes:
        raise _nothing_to_replay(path, fields)
    names, kept = _kept(spectra)
    chosen = _named(cubes, names, "spectra") if names else _usual_cubes(path, cubes)
    first = chosen[0]
    _check_positions(path, first)
    notes: list[str] = []
    curves = [_curves(field, kept) for field in chosen]
    for field, (curve, _) in zip(chosen, curves, strict=True):
        if not _same(curve.axis, curves[0][0].axis) or not _same_grid(field, first):
            raise InputError(
                f"{path}: {field.sizes()} and {first.sizes()} have different axes; expected "
                "channels of one spectrum: choose one of them with spectra=."
            )
    if curves[0][1]:
        notes.append(f"kept {curves[0][1]}")
    x, y, order, where = _positions(first)
    notes += where
    if image == MEAN:
        planes = [FileChannel(MEAN, _mean(curves[0][0].values)[order], first.units)]
        notes.append("the image is the mean of the spectra and leaks what is to be predicted")
    else:
        planes = [
            FileChannel(field.name, _on_grid(field, field.read())[order], field.units)
            for field in _images(path, fields, image, first)
        ]
    mask = _mask(fields, first)
    measured = [
        FileChannel(field.name, curve.values[order], field.units)
        for field, (curve, _) in zip(chosen, curves, strict=True)
    ]
    axis = curves[0][0].axis
    source = "; ".join([f"file {path.name}, {_digest(path)}", *notes])
    return RecordedSample(
        name=path.stem,
        axis=axis.values,
        x=x,
        y=y,
        axis_units=axis.units,
        **usable(
            path.name, planes, measured, axis.name, source, None if mask is None else mask[order]
        ),
    )


@dataclass(frozen=True)
class _SpectrumCube:
    values: NDArray
    """(rows, cols, points)."""

    axis: Dim


def _mean(cube: NDArray) -> NDArray:
    """Mean of each spectrum over its finite values, NaN where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of spectra without any
        return np.nanmean(np.where(np.isinf(cube), np.nan, cube), axis=2)


def _listed(fields: list[Field]) -> str:
    return ", ".join(field.sizes() for field in fields) or "none"


def _nothing_to_replay(path: Path, fields: list[Field]) -> InputError:
    images = [field for field in fields if field.is_image]
    if images:
        return InputError(
            f"{path} holds images only ({', '.join(field.name for field in images)}) and no "
            "spectrum at each pixel, so there is nothing to replay; expected a cube (rows, cols, "
            "points) too: give a file with spectra and this one as its image (image=...), or read "
            "the images alone with curiosity_bluesky.exchange.read_images."
        )
    complexes = [field.name for field in fields if field.dtype.kind == "c"]
    more = f" {', '.join(complexes)} is complex: choose or save its fit." if complexes else ""
    return InputError(
        f"{path} holds no spectra on a grid of pixels, only {_listed(fields)}; expected two "
        f"spatial axes and a spectral one: set the dimension types with sidpy.{more}"
    )


def _kept(spectra: str | None) -> tuple[str, dict[str, float]]:
    """Take "names@Axis=value@..." apart."""
    names, *conditions = (spectra or "").split("@")
    kept = {}
    for condition in conditions:
        axis, equals, value = condition.partition("=")
        try:
            if not equals:
                raise ValueError
            kept[axis.strip().lower()] = float(value)
        except ValueError:
            raise InputError(
                f"spectra {spectra!r} cannot be read at {condition!r}; expected "
                "NAMES@AXIS=VALUE: for example Amplitude,Phase@Field=1."
            ) from None
    return names.strip(), kept


def _named(fields: list[Field], names: str, what: str) -> list[Field]:
    """Fields with these names, in this order."""
    chosen = []
    for name in (part.strip() for part in names.split(",")):
        hits = [f for f in fields if name in (f.name, f.path)] or [
            f for f in fields if name.lower() == f.name.lower()
        ]
        if len(hits) != 1:
            raise InputError(
                f"there are {len(hits)} {what} {name!r}; expected one of {_listed(fields)}: choose "
                "by these names."
            )
        chosen += hits
    return chosen


def _usual_cubes(path: Path, cubes: list[Field]) -> list[Field]:
    """Choose the spectra where none are named."""
    cubes = [f for f in cubes if f.role == "spectra"] or cubes
    # A folder with a fit of band excitation: what is measured of the loop is these two.
    fits = [f for f in cubes if f.path.rsplit("/", 1)[-1] in ("Amplitude", "Phase")]
    if len(fits) == 2 and len({f.path.rsplit("/", 1)[0] for f in fits}) == 1:
        return fits
    alike = [f for f in cubes if f.shape == cubes[0].shape and _same_dims(f, cubes[0])]
    if len(alike) < len(cubes):
        raise InputError(
            f"{path} holds spectra along different axes: {_listed(cubes)}; expected to be told "
            f"which: for example spectra={cubes[0].name!r} (command: --spectra)."
        )
    return cubes


def _images(path: Path, fields: list[Field], image: str | None, cube: Field) -> list[Field]:
    """Find the image channels, which lie on the grid of the spectra."""
    other, _, names = (image or "").partition("::")
    if Path(other).suffix.lower() in SUFFIXES:
        path, fields = Path(other), read_fields(other)
    else:
        names = image or ""
    images = [field for field in fields if field.is_image and field.role != "mask"]
    if names:
        chosen = _named(images, names, "images")
    else:
        ours = [field for field in images if field.role == "survey"] or images
        chosen = [field for field in ours if _shape(field) == _shape(cube)]
    rows, cols = _shape(cube)
    if not chosen:
        raise InputError(
            f"{path} has no image of {rows} x {cols} pixels, the grid of {cube.name!r}, only "
            f"{_listed(images)}; expected one that was taken beside the spectra: give a file with "
            'image="scan.ibw", or image="mean" for the mean of the spectra themselves, which '
            "leaks what is to be predicted."
        )
    for field in chosen:
        _check_positions(path, field)
        if _shape(field) != (rows, cols):
            raise InputError(
                f"image {field.sizes()} is not on the grid of the spectra, {rows} x {cols}; "
                "expected the same pixels: resample it, and save both to one file."
            )
        if not _same_grid(field, cube) and all(map(_in_um, (*field.y_and_x, *cube.y_and_x))):
            raise InputError(
                f"image {field.name!r} and spectra {cube.name!r} have {rows} x {cols} pixels each, "
                "but of other sizes; expected one area: correct the axes in one of the files."
            )
    return chosen


def _check_positions(path: Path, field: Field) -> None:
    """Refuse pixels without a position."""
    for dim in field.y_and_x:
        if not np.isfinite(dim.values).all():
            raise InputError(
                f"{path}: axis {dim.name} of {field.name!r} holds NaN or infinite positions; "
                "expected where each pixel lies: correct the axis in the file."
            )


def _mask(fields: list[Field], cube: Field) -> NDArray[np.bool_] | None:
    for field in fields:
        if field.role == "mask" and field.is_image and _shape(field) == _shape(cube):
            return _on_grid(field, field.read()).astype(bool)
    return None


def _shape(field: Field) -> tuple[int, int]:
    y, x = field.y_and_x
    return len(y.values), len(x.values)


def _same(a: Dim, b: Dim) -> bool:
    return np.array_equal(a.values, b.values, equal_nan=True) and a.units == b.units


def _same_dims(a: Field, b: Field) -> bool:
    return all(_same(p, q) for p, q in zip(a.spectral_dims, b.spectral_dims, strict=True))


def _same_grid(a: Field, b: Field) -> bool:
    """Whether the pixels lie at the same places, to a hundredth of a pixel."""
    if _shape(a) != _shape(b):
        return False
    pairs = zip(a.y_and_x, b.y_and_x, strict=True)
    return all(
        np.allclose(_um(p) - _um(p)[0], _um(q) - _um(q)[0], rtol=0, atol=0.01 * _step(p))
        for p, q in pairs
    )


def _in_um(dim: Dim) -> bool:
    return dim.units.lower() in UM


def _um(dim: Dim) -> NDArray[np.float64]:
    factor = UM.get(dim.units.lower(), 1.0)
    values = np.asarray(dim.values, dtype=np.float64)
    return values if factor == 1.0 else values * factor


def _step(dim: Dim) -> float:
    return float(np.abs(np.diff(_um(dim))).min())


def _on_grid(field: Field, values: NDArray) -> NDArray:
    """Turn (..., axes in any order) into (rows, cols, others...), without axes of one value."""
    kept = [dim for dim in field.dims if len(dim.values) > 1]
    values = values.reshape([len(dim.values) for dim in kept])
    y, x = (next(i for i, dim in enumerate(kept) if dim is want) for want in field.y_and_x)
    return np.moveaxis(values, (y, x), (0, 1))


def _positions(field: Field) -> tuple[NDArray, NDArray, tuple[slice, slice], list[str]]:
    """Pixel centres in um from 0, how to order the pixels for that, and notes."""
    y, x = field.y_and_x
    notes, order, centres = [], [], []
    if not (_in_um(x) and _in_um(y)):
        given = f"{x.units or 'no units'} and {y.units or 'no units'}"
        square, tall = pixel_centres(_shape(field))
        note = f"size not recorded (axes in {given}), 1 um on the longer side assumed"
        return square, tall, (slice(None), slice(None)), [note]
    for dim in (y, x):
        values = _um(dim)
        down = values[-1] < values[0]
        order.append(slice(None, None, -1) if down else slice(None))
        values = values[::-1] if down else values
        if values[0] != 0:
            notes.append(f"{dim.name} began at {values[0]:g} um")
            values = values - values[0]
        centres.append(values)
    return centres[1], centres[0], (order[0], order[1]), notes


def _curves(field: Field, kept: dict[str, float]) -> tuple[_SpectrumCube, str]:
    """Bring the spectra to (rows, cols, points) along one axis, and say what was kept."""
    dims = field.spectral_dims
    values = _on_grid(field, field.read())
    said = []
    wanted = dict(kept)
    for dim in list(dims):
        name, repeats = dim.name.lower(), dim.name.lower().startswith("field")
        if name not in wanted and repeats and _OFF_FIELD in dim.values:
            wanted[name] = _OFF_FIELD
        if name not in wanted:
            continue
        hits = np.flatnonzero(np.isclose(dim.values, wanted.pop(name)))
        if len(hits) != 1:
            raise InputError(
                f"axis {dim.name} of {field.name!r} has no single value {kept.get(name)}; expected "
                f"one of {', '.join(f'{v:g}' for v in dim.values[:12])}: choose one."
            )
        values = values.take(int(hits[0]), axis=2 + dims.index(dim))
        dims = [other for other in dims if other is not dim]
        said.append(f"{dim.name} = {dim.values[hits[0]]:g}")
    if wanted:
        raise InputError(
            f"{field.sizes()} has no axis {', '.join(wanted)}; expected one of "
            f"{', '.join(dim.name for dim in field.spectral_dims)}."
        )
    swept = [d for d in dims if not d.name.lower().startswith(_REPEATS)]
    if len(swept) != 1:
        raise InputError(
            f"{field.sizes()} is swept along {len(swept)} axes; expected one, such as a bias: keep "
            f"one value of the others, spectra={field.name + '@NAME=VALUE'!r}."
        )
    axis = swept[0]
    values = np.moveaxis(values, 2 + dims.index(axis), -1)  # the others are slower
    repeats = int(np.prod([len(d.values) for d in dims if d is not axis], dtype=int))
    flat = values.reshape(*values.shape[:2], -1)
    along = np.tile(axis.values, repeats) if repeats > 1 else axis.values
    return _SpectrumCube(flat, Dim(axis.name, axis.units, along, "spectral")), ", ".join(said)


def _digest(path: Path) -> str:
    """Enough of the file's hash to tell one version from another."""
    size = path.stat().st_size
    if size > _DIGEST_LIMIT:
        return f"{size} bytes"
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"

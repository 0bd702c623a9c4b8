"""Pixels that were never measured in a recording: found, masked and reported."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.names import LONGEST_IMAGE, legal_axis, legal_names, renamed

logger = logging.getLogger(__name__)

_SCALARS = ("quality", "area")
_SETTINGS = ("spectrum_s", "settle_s", "noise", "noise_seed", "sample", "sample_source")
"""Data and settings that a simulated spectrometer has beside the channels."""


@dataclass(frozen=True)
class FileChannel:
    """A channel as it lies in a file.

    Parameters
    ----------
    name, units
        As in the file.
    values
        (rows, cols) or (rows, cols, points); NaN where nothing was measured.
    """

    name: str
    values: NDArray
    units: str = ""


def usable(
    where: str,
    images: Sequence[FileChannel],
    spectra: Sequence[FileChannel],
    axis_name: str,
    source: str,
    mask: NDArray | None = None,
) -> dict[str, Any]:
    """Return what a file holds as a `Sample` wants it, and say what had to change.

    A pixel where a spectral channel has no finite value was never measured: it is masked. Where
    the image has none either, it gets that of the nearest pixel; where a pixel was measured, an
    image without a value is left to be refused. Names that a run cannot hold
    become others, see `legal_names`.

    Parameters
    ----------
    where
        The file, for messages.
    images, spectra
        Its channels.
    axis_name
        Of the axis of the spectra.
    source
        Where the data comes from, in words.
    mask
        (rows, cols), True where the file itself says that no spectrum may be taken.

    Returns
    -------
    dict
        Arguments of `Sample`: images, spectra, their units, axis_name, mask and source.

    Raises
    ------
    InputError
        If no pixel is left.
    """
    axis = legal_axis(axis_name)
    planes = legal_names([c.name for c in images], (), ("x", "y"), "image", LONGEST_IMAGE)
    curves = legal_names([c.name for c in spectra], _SCALARS, (axis, *_SETTINGS), "spectrum")
    said = [
        renamed("image channels", [c.name for c in images], planes),
        renamed("spectral channels", [c.name for c in spectra], curves),
        renamed("the axis", [axis_name], [axis]),
    ]
    filled = [channel.values for channel in images]
    lost = _lost(images, spectra)
    barred = None if lost is None else _barred(mask, lost.shape)
    if lost is not None and barred is not None and (lost | barred).any():
        if (lost | barred).all() and lost.any():
            raise InputError(
                f"{where}: no pixel of {lost.size} was measured (NaN, infinite, or not in the "
                "file); expected at least one with a spectrum: choose other channels, or another "
                "recording."
            )
        mask = lost | barred
        filled = [_filled(values, mask) for values in filled]
        if count := int(np.count_nonzero(lost & ~barred)):
            said.insert(0, f"{count} of {lost.size} pixels were never measured; masked")
    elif mask is None and (zeros := _zeros(spectra)):
        said.insert(
            0,
            f"{zeros} pixels along its border hold nothing but zeros; if the recording ended "
            "early, mask them, or they are learned as spectra",
        )
    said = [text for text in said if text]
    if said:
        logger.warning("%s: %s", where, "; ".join(said))
    made: dict[str, Any] = {
        "images": dict(zip(planes, filled, strict=True)),
        "spectra": {name: c.values for name, c in zip(curves, spectra, strict=True)},
        "image_units": {name: c.units for name, c in zip(planes, images, strict=True)},
        "spectrum_units": {name: c.units for name, c in zip(curves, spectra, strict=True)},
        "axis_name": axis,
        "source": "; ".join([source, *said]),
    }
    return made if mask is None else {**made, "mask": mask}


def _lost(
    images: Sequence[FileChannel], spectra: Sequence[FileChannel]
) -> NDArray[np.bool_] | None:
    """Return where a spectrum has no value; None if sizes differ, which the sample refuses."""
    shape = spectra[0].values.shape[:2]
    fits = {channel.values.shape[:2] for channel in (*images, *spectra)} == {shape}
    ranks = {c.values.ndim for c in images} == {2} and {c.values.ndim for c in spectra} == {3}
    if not fits or not ranks:
        return None
    lost = np.zeros(shape, bool)
    for channel in spectra:
        if channel.values.dtype.kind == "f" and channel.values.shape[2]:
            lost |= ~np.isfinite(channel.values).any(axis=2)
    return lost


def _barred(mask: NDArray | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask as flags; what is no mask is refused by the sample."""
    if mask is None:
        return np.zeros(shape, bool)
    if np.shape(mask) != shape or not np.isin(mask, (0, 1)).all():
        raise InputError(
            f"mask has shape {np.shape(mask)} and dtype {mask.dtype}; expected one flag a pixel, "
            f"{shape}: give booleans, True where no spectrum may be taken."
        )
    return mask.astype(bool)


def _filled(image: NDArray, mask: NDArray[np.bool_]) -> NDArray:
    """Give each masked pixel without a finite value that of the nearest one that has it."""
    bad = ~np.isfinite(image) if image.dtype.kind == "f" else np.zeros(image.shape, bool)
    if not (bad & mask).any() or bad.all():
        return image
    nearest: Any = distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.where(bad & mask, image[tuple(nearest)], image)


def _zeros(spectra: Sequence[FileChannel]) -> int:
    """Count pixels from one end of the recording on whose spectra are zeros in all channels."""
    shape = spectra[0].values.shape[:2]
    for values in (channel.values for channel in spectra):
        if values.ndim != 3 or values.shape[:2] != shape or values.dtype.kind not in "biuf":
            return 0
    zero = np.logical_and.reduce([~c.values.any(axis=2) for c in spectra])
    return 0 if zero.all() else max(_run(zero), _run(zero[::-1]))


def _run(flags: NDArray[np.bool_]) -> int:
    """Length of the last run of flags that are set, row by row, 0 if it is one alone."""
    flat = flags.ravel()[::-1]
    length = len(flat) if flat.all() else int(np.argmin(flat))
    return length if length > 1 else 0


def not_measured(values: NDArray) -> str:
    """Say in words how much of an image was never measured, "" if all of it was."""
    count = int(np.count_nonzero(~np.isfinite(values))) if values.dtype.kind == "f" else 0
    if count:
        return f"{count} of {values.size} pixels were never measured; masked (NaN)"
    rows = _blank_rows(values)
    if rows:
        return (
            f"{rows} of {len(values)} rows hold nothing but zeros at its border; if the scan ended "
            "early, cut them off"
        )
    return ""


def _blank_rows(values: NDArray) -> int:
    zero = np.all(values == 0, axis=1)
    if zero.all():
        return 0
    return max(int(np.argmin(zero)), int(np.argmin(zero[::-1])))


def unscanned(planes: Iterable[NDArray]) -> NDArray[np.bool_]:
    """Return (rows,): which lines of a scan, in the order of scanning, were not begun.

    Parameters
    ----------
    planes
        (rows, cols) of each channel and direction. A line at the end that is zero, or NaN, in all
        of them was not scanned.
    """
    blank = np.logical_and.reduce(
        [np.all((plane == 0) | np.isnan(plane), axis=1) for plane in planes]
    )
    begun = np.flatnonzero(~blank)
    return np.arange(len(blank)) > (begun[-1] if len(begun) else -1)

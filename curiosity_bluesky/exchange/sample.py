"""Sample: images of a surface and the spectrum at every pixel."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.cycles import cycles_of
from curiosity_bluesky.utils.masked import fill_values_in_words, filled_with_nan

logger = logging.getLogger(__name__)

_AN_ATOM_UM = 2e-4
"""What is smaller is no scan; an extent in metres is, up to 200 um."""


def pixel_centres(
    shape: tuple[int, int], extent_um: tuple[float, float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel centres of a grid: the first pixel at 0, the last at the extent.

    Parameters
    ----------
    shape
        (rows, cols).
    extent_um
        (width, height) in um, between the first and the last pixel centre. Default:
        square pixels, 1 um on the longer side.

    Returns
    -------
    x, y
        (cols,) and (rows,), um.

    Raises
    ------
    InputError
        If the extent is not two positive, finite lengths.
    """
    rows, cols = shape
    if extent_um is None:
        longest = max(rows, cols, 2) - 1
        extent_um = ((cols - 1) / longest, (rows - 1) / longest)
    else:
        given = extent_um
        try:
            extent_um = (float(given[0]), float(given[1]))
        except (TypeError, ValueError, IndexError):
            extent_um = (math.nan, math.nan)
        if np.size(given) != 2 or not all(math.isfinite(e) and e > 0 for e in extent_um):
            raise InputError(
                f"extent_um is {given!r}; expected two positive lengths (width, height) in um: "
                "give both, for example (1.0, 1.0)."
            )
    return np.linspace(0.0, extent_um[0], cols), np.linspace(0.0, extent_um[1], rows)


def _frozen(values: ArrayLike, what: str, ndim: int) -> NDArray:
    """Make a read-only floating copy that keeps float32 and float64 as they are."""
    array = np.array(filled_with_nan(values))
    if array.ndim != ndim:
        raise InputError(
            f"{what} has {array.ndim} dimensions, shape {array.shape}; expected {ndim}: "
            "reshape it or name the right array."
        )
    if array.dtype.kind not in "iufb":
        raise InputError(
            f"{what} has dtype {array.dtype}; expected real numbers: "
            "convert it to float32 or float64 first."
        )
    if array.size == 0:
        raise InputError(
            f"{what} is empty, shape {array.shape}; expected at least one value: "
            "check which part of the file was read."
        )
    keep = array.dtype.newbyteorder("=") in (np.dtype(np.float32), np.dtype(np.float64))
    array = array.astype(array.dtype.newbyteorder("=") if keep else np.float64, copy=False)
    array.flags.writeable = False
    return array


def _units(units: Mapping[str, str], channels: Mapping[str, object], what: str) -> dict[str, str]:
    """One unit for each channel, in the order of the channels; missing ones are empty."""
    unknown = sorted(set(units) - set(channels))
    if unknown:
        raise InputError(
            f"{what} names {unknown}, which are no channels; expected some of "
            f"{list(channels)}: correct the names."
        )
    return {name: _printable(units.get(name, "")) for name in channels}


def _printable(units: object) -> str:
    """Return units without characters that steer a terminal."""
    return "".join(character for character in str(units) if character.isprintable())


@dataclass(frozen=True, eq=False)
class Sample:
    """A surface: its images, and the spectrum that would be measured at each pixel.

    All arrays are copied and set read-only. Float32 and float64 stay what they are,
    other real numbers become float64; nothing is ever normalised.

    Parameters
    ----------
    name
        Short name of the sample.
    images
        Channel name to (rows, cols); finite.
    spectra
        Channel name to (rows, cols, points). At a pixel that is not masked at least one
        value of each channel is finite.
    axis
        (points,), what the spectra were taken against, in `axis_units`; finite, and not the
        same everywhere.
    x, y
        (cols,) and (rows,): pixel centres in um, increasing. Pixel (0, 0) is at (0, 0),
        the last one at (width, height).
    axis_name, axis_units
        Name and units of `axis`.
    image_units, spectrum_units
        Channel name to units; a channel left out has the units "".
    mask
        (rows, cols) of bool, True where no spectrum may be taken (as in ``numpy.ma``).
        Default: none.
    source
        Where the data comes from, in words.

    Raises
    ------
    InputError
        If the arrays do not belong together or hold values that cannot be used.
    """

    name: str
    images: dict[str, NDArray]
    spectra: dict[str, NDArray]
    axis: NDArray
    x: NDArray
    y: NDArray
    axis_name: str = "bias"
    axis_units: str = "V"
    image_units: dict[str, str] = field(default_factory=dict)
    spectrum_units: dict[str, str] = field(default_factory=dict)
    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    source: str = ""

    def __post_init__(self) -> None:
        """Copy, freeze and check."""
        for what in ("images", "spectra"):
            if not getattr(self, what):
                raise InputError(
                    f"sample {self.name!r} has no {what}; expected at least one channel: "
                    "give a dict of channel name to array."
                )
        images = {n: _frozen(a, f"image {n!r}", 2) for n, a in self.images.items()}
        spectra = {n: _frozen(a, f"spectra {n!r}", 3) for n, a in self.spectra.items()}
        axis = _frozen(self.axis, "axis", 1)
        x, y = _frozen(self.x, "x", 1), _frozen(self.y, "y", 1)
        shape = next(iter(images.values())).shape
        mask = np.array(self.mask)
        if mask.shape == (0, 0):
            mask = np.zeros(shape, dtype=bool)
        if mask.shape != shape:
            raise InputError(
                f"mask has shape {mask.shape} but the images have {shape}; expected one flag "
                "a pixel: give (rows, cols), True where no spectrum may be taken."
            )
        if not np.isin(mask, (0, 1)).all():
            raise InputError(
                f"mask has values other than True and False (dtype {mask.dtype}); expected "
                "True where no spectrum may be taken: give booleans."
            )
        mask = mask.astype(bool)
        mask.flags.writeable = False
        values = {
            "images": images,
            "spectra": spectra,
            "axis": axis,
            "x": x,
            "y": y,
            "mask": mask,
            "axis_units": _printable(self.axis_units),
            "image_units": _units(self.image_units, images, "image_units"),
            "spectrum_units": _units(self.spectrum_units, spectra, "spectrum_units"),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)
        self._check_sizes()
        self._check_values()
        self._hint()

    def _check_sizes(self) -> None:
        rows, cols = self.shape
        for name, image in self.images.items():
            if image.shape != (rows, cols):
                raise InputError(
                    f"image {name!r} is {image.shape} but the first image is {(rows, cols)}; "
                    "expected the same size: bring all channels onto one grid."
                )
        for name, cube in self.spectra.items():
            if cube.shape[:2] != (rows, cols):
                raise InputError(
                    f"spectra {name!r} are on {cube.shape[0]} x {cube.shape[1]} pixels but the "
                    f"images on {rows} x {cols}; expected the same size: crop or resample one."
                )
            if cube.shape[2] != self.axis.size:
                raise InputError(
                    f"axis has {self.axis.size} values but spectra {name!r} have "
                    f"{cube.shape[2]} points; expected one value a point: give the axis of "
                    "these spectra."
                )
        for name, centres, size in (("x", self.x, cols), ("y", self.y, rows)):
            rising = np.isfinite(centres).all() and bool(np.all(np.diff(centres) > 0))
            if centres.size != size or not rising:
                raise InputError(
                    f"{name} has {centres.size} values from {centres[0]:g} to {centres[-1]:g} um; "
                    f"expected {size} increasing pixel centres: sort or recompute them."
                )

    def _check_values(self) -> None:
        checked = {f"image {n!r}": a for n, a in self.images.items()}
        for what, array in {**checked, "axis": self.axis, "x": self.x, "y": self.y}.items():
            bad = int(np.count_nonzero(~np.isfinite(array)))
            if bad:
                raise InputError(
                    f"{what} has {bad} NaN or infinite values of {array.size}; expected finite "
                    "numbers: fill them in first (to bar pixels from spectra, use mask)."
                )
        if self.axis.size > 1 and (self.axis == self.axis[0]).all():
            raise InputError(
                f"axis is {self.axis[0]:g} at all its {self.axis.size} points; expected what the "
                f"spectra were taken against, such as a bias in {self.axis_units or 'V'}: give the "
                "values, or 0, 1, 2, ... if they are not known."
            )
        for name, cube in self.spectra.items():
            bad = ~np.isfinite(cube).any(axis=2) & ~self.mask
            if bad.any():
                row, col = (int(i) for i in np.argwhere(bad)[0])
                raise InputError(
                    f"spectra {name!r} have no finite value at {int(bad.sum())} unmasked pixels, "
                    f"the first (row {row}, col {col}); expected a spectrum: mask these pixels."
                )

    def _hint(self) -> None:
        """Say what is allowed, but can hardly be meant."""
        for name, image in self.images.items():
            if image.size > 1 and (image == image.flat[0]).all():
                logger.warning(
                    "image %r of sample %r is %g everywhere: it teaches nothing; leave it out, or "
                    "give another image",
                    *(name, self.name, image.flat[0]),
                )
        if self.mask.all():
            logger.warning(
                "the mask of sample %r covers every pixel: no spectrum can be taken", self.name
            )
        channels = {f"image {n!r}": a[~self.mask] for n, a in self.images.items()}
        channels |= {f"spectra {n!r}": a[~self.mask] for n, a in self.spectra.items()}
        for what, values in channels.items():
            if filled := fill_values_in_words(values):
                logger.warning("%s of sample %r: %s; mask them", what, self.name, filled)
        width, height = self.extent_um
        if 0 < max(width, height) <= _AN_ATOM_UM:
            logger.warning(
                "sample %r is %.3g x %.3g um large, less than an atom: are these metres? Lengths "
                "are in um here; multiply them by 1e6",
                *(self.name, width, height),
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        rows, cols = next(iter(self.images.values())).shape
        return rows, cols

    @property
    def cycles(self) -> int:
        """Equal cycles that a spectrum consists of, see `cycles_of`."""
        return cycles_of(self.axis)

    @property
    def extent_um(self) -> tuple[float, float]:
        """(width, height) between the first and the last pixel centre, um."""
        return float(self.x[-1] - self.x[0]), float(self.y[-1] - self.y[0])

    def pixel(self, x_um: float, y_um: float) -> tuple[int, int]:
        """Find the pixel nearest to a position.

        Parameters
        ----------
        x_um, y_um
            Position, um.

        Returns
        -------
        row, col

        Raises
        ------
        InputError
            If the position is more than half a pixel outside the scanned area.
        """
        indices = []
        for name, centres, value in (("y", self.y, y_um), ("x", self.x, x_um)):
            # A rounding error must not make the border pixel unreachable.
            reach = 0.5 * float(np.diff(centres).max(initial=0.0)) + 1e-9
            if not centres[0] - reach <= value <= centres[-1] + reach:
                raise InputError(
                    f"{name} = {value:g} um is outside the scanned area; expected "
                    f"{centres[0]:g} to {centres[-1]:g} um: choose a position inside."
                )
            indices.append(int(np.argmin(np.abs(centres - value))))
        return indices[0], indices[1]

    def target(self) -> NDArray[np.float64]:
        """Return what is to be predicted, (rows, cols, channels * points) in order.

        NaN where nothing is: also where a value is infinite.
        """
        target = np.concatenate([c.astype(np.float64) for c in self.spectra.values()], axis=2)
        target[np.isinf(target)] = np.nan
        return target

"""The survey: the overview image that says where one could measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.masked import filled_with_nan, hidden

Pixel = tuple[int, int]
"""``(row, col)`` of the survey grid."""

LARGEST_VALUE = 1e16
"""Largest absolute value that is learned from: what lies beyond is an overload.

The sum of the squares of a million such values is still a float32 (up to 3.4e38), in which
networks learn and maps are kept. Instruments say 9.9e37 (SCPI) or 1e300 where they overflowed."""


@dataclass(frozen=True, eq=False)
class Survey:
    """One or more image channels on one grid, with axes in micrometres.

    Parameters
    ----------
    channels
        Channel name to image, each ``(rows, cols)``, finite where it is not masked. A masked
        pixel without a finite value gets that of the nearest pixel that has one, for the patches
        of its neighbours; a pixel that is masked in an array of `numpy.ma` is masked.
    x, y
        Positions of the columns ``(cols,)`` and of the rows ``(rows,)`` in um, each
        strictly monotonic. Default: the pixel numbers.
    mask
        ``(rows, cols)``, True where nothing may be measured (the convention of
        `numpy.ma`). Default: nowhere.

    Raises
    ------
    InputError
        If there is no channel, if shapes differ, or if a channel holds NaN, infinity or more than
        `LARGEST_VALUE` where it is not masked.
    """

    channels: Mapping[str, NDArray]
    x: NDArray = None  # pyright: ignore[reportAssignmentType] (filled in below)
    y: NDArray = None  # pyright: ignore[reportAssignmentType]
    mask: NDArray[np.bool_] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        if not self.channels:
            raise InputError("the survey has no image channel; at least one is needed")
        for name, image in self.channels.items():
            if np.iscomplexobj(image):
                raise InputError(
                    f"survey channel {name!r} is complex; give two channels in its place, such as "
                    "amplitude and phase"
                )
        covered = [hidden(image) for image in self.channels.values()]
        channels = {
            name: np.asarray(filled_with_nan(image), dtype=float)
            for name, image in self.channels.items()
        }
        first, image = next(iter(channels.items()))
        if image.ndim != 2 or not image.size:
            raise InputError(
                f"survey channel {first!r} has shape {image.shape}; expected (rows, cols)"
            )
        for name, other in channels.items():
            if other.shape != image.shape:
                raise InputError(
                    f"survey channel {name!r} has shape {other.shape} but {first!r} has "
                    f"{image.shape}; all channels must lie on one grid"
                )
        object.__setattr__(self, "x", _axis("x", self.x, image.shape[1]))
        object.__setattr__(self, "y", _axis("y", self.y, image.shape[0]))
        mask = np.zeros(image.shape, bool) if self.mask is None else np.asarray(self.mask, bool)
        if mask.shape != image.shape:
            raise InputError(f"the mask has shape {mask.shape}, the survey {image.shape}")
        mask = np.logical_or.reduce([mask, *covered])
        channels = {name: _whole(name, image, mask) for name, image in channels.items()}
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "mask", mask)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y), len(self.x)

    @property
    def stack(self) -> NDArray:
        """All channels, ``(channels, rows, cols)``."""
        return np.stack(list(self.channels.values()))

    def position(self, pixel: Pixel) -> tuple[float, float]:
        """Return the position ``(x, y)`` in um of a pixel ``(row, col)``."""
        row, col = pixel
        return float(self.x[col]), float(self.y[row])

    def pixel(self, x: float, y: float) -> Pixel:
        """Return the pixel ``(row, col)`` nearest to a position ``(x, y)`` in um."""
        return int(np.argmin(np.abs(self.y - y))), int(np.argmin(np.abs(self.x - x)))

    def pixel_inside(self, x: float, y: float, names: Sequence[str] = ("x", "y")) -> Pixel:
        """Return the pixel nearest to a position (um) that must be inside the survey.

        Raises
        ------
        InputError
            If it is outside; `names` are those of `x` and `y` in the message.
        """
        for name, value, axis in zip(names, (x, y), (self.x, self.y), strict=True):
            half = abs(axis[-1] - axis[0]) / max(1, len(axis) - 1) / 2
            low, high = axis.min() - half, axis.max() + half
            if not low <= value <= high:
                raise InputError(
                    f"{name} = {value:g} um is outside the survey; "
                    f"expected {low:.4g} to {high:.4g} um"
                )
        return self.pixel(x, y)


def fill_masked(image: NDArray, mask: NDArray[np.bool_]) -> NDArray:
    """Give each masked pixel that holds no usable number that of the nearest pixel with one.

    Parameters
    ----------
    image
        ``(rows, cols)``.
    mask
        ``(rows, cols)``, True where it may be filled.
    """
    bad = ~(np.abs(image) <= LARGEST_VALUE)  # NaN is not, either
    if not (bad & mask).any() or bad.all():
        return image
    from scipy.ndimage import distance_transform_edt  # seldom needed

    nearest: Any = distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.where(bad & mask, image[tuple(nearest)], image)


def _whole(name: str, image: NDArray, mask: NDArray[np.bool_]) -> NDArray:
    """Return an image with a number at each pixel, or say where it has none."""
    image = fill_masked(image, mask)
    if bad := int(np.count_nonzero(~np.isfinite(image))):
        raise InputError(
            f"survey channel {name!r} has {bad} NaN or infinite pixels of {image.size}; "
            "fill or crop the image before the run, or mask these pixels (mask=)"
        )
    if (largest := float(np.abs(image).max())) > LARGEST_VALUE:
        raise InputError(
            f"survey channel {name!r} reaches {largest:g}, and up to {LARGEST_VALUE:g} can be "
            "learned from; if that is no overload, give it in other units, else mask these pixels "
            "(mask=)"
        )
    return image


def _axis(name: str, values: ArrayLike | None, size: int) -> NDArray:
    if values is None:
        return np.arange(size, dtype=float)
    axis = np.asarray(values, dtype=float)
    if axis.shape != (size,):
        raise InputError(
            f"the survey's {name} axis has shape {axis.shape}, the image needs ({size},)"
        )
    steps = np.diff(axis)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise InputError(f"the survey's {name} axis (um) has to rise or fall strictly")
    return axis

"""Image for descriptors: values on a grid, with scale and kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError

SMALLEST = 16
"""Minimum pixels along the shorter side."""


@dataclass(frozen=True)
class Image:
    """One channel of one scan.

    Parameters
    ----------
    values
        (rows, cols), NaN where nothing was measured.
    um_per_pixel
        Size of a pixel along y and x, um; None if it is not known.
    period
        Of values that go round in a circle (360 for a phase in degrees); None for others.
    """

    values: NDArray[np.float64]
    um_per_pixel: tuple[float, float] | None = None
    period: float | None = None

    @classmethod
    def checked(
        cls,
        values: ArrayLike,
        um_per_pixel: tuple[float, float] | None = None,
        period: float | None = None,
        *,
        what: str = "the image",
    ) -> Image:
        """Return an image after checks.

        Parameters
        ----------
        values, um_per_pixel, period
            As for `Image`; colours, (rows, cols, 3 or 4), become grey. An axis may fall; a step
            of 0 or NaN says nothing of the scale.
        what
            What it is called in an error.

        Raises
        ------
        InputError
            If it is no image: not two-dimensional, smaller than 16 pixels, all of one value, or
            more than half of it not measured.
        """
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{what} holds {array.dtype}; expected real numbers")
        if array.ndim == 3 and array.shape[2] in (3, 4):
            # ITU-R BT.709 luma; the fourth is transparency.
            array = array[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
        if array.ndim != 2 or min(array.shape) < SMALLEST:
            raise InputError(
                f"{what} has the shape {array.shape}; expected (rows, cols), at least {SMALLEST} "
                "pixels each, or colours (rows, cols, 3)"
            )
        array = array.astype(float)
        array[~np.isfinite(array)] = np.nan
        missing = float(np.isnan(array).mean())
        if missing > 0.5:
            raise InputError(f"{missing:.0%} of {what} is not a number; expected at most half")
        if np.nanmax(array) == np.nanmin(array):
            raise InputError(f"{what} is {np.nanmin(array):g} everywhere; there is nothing in it")
        if um_per_pixel is not None:
            steps = np.abs(np.asarray(um_per_pixel, float))
            known = bool(np.isfinite(steps).all() and steps.all())
            um_per_pixel = (float(steps[0]), float(steps[1])) if known else None
        return cls(array, um_per_pixel, period)

"""Drift: the sample creeps away under the stage, and images show it line by line."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from curiosity_bluesky.errors import InputError


class UnderTip(NamedTuple):
    """What the tip really did, which no real instrument would tell.

    Parameters
    ----------
    what
        ``scan`` or ``spectrum``.
    seconds
        When, on the microscope's clock: the middle of the scan or spectrum.
    x, y
        Where the stage was, um; of a scan, where the tip waited.
    drift_x, drift_y
        How far the sample had drifted, um: under the tip lay the sample's place
        ``(x - drift_x, y - drift_y)``.
    """

    what: str
    seconds: float
    x: float
    y: float
    drift_x: float
    drift_y: float


def askew(nm_per_min: float) -> tuple[float, float]:
    """Return a drift of so many nm/min along no axis, 37 degrees off x, as (x, y) in um/min."""
    return 0.8e-3 * nm_per_min, 0.6e-3 * nm_per_min


class Drift:
    """A drift of constant velocity, zero when the first scan begins.

    So a first survey shows the sample as it was recorded. Without a scan it is zero when the
    microscope's clock begins.

    Parameters
    ----------
    um_per_min
        Velocity along x and y, um/min.

    Raises
    ------
    InputError
        If it is not two finite numbers.
    """

    def __init__(self, um_per_min: tuple[float, float] = (0.0, 0.0)) -> None:
        try:
            x, y = (float(v) for v in um_per_min)
        except (TypeError, ValueError):
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InputError(
                f"drift_um_per_min is {um_per_min!r}; expected two finite velocities (x, y) in "
                "um/min: (0.02, 0) is 20 nm/min along x."
            )
        self.um_per_s = (x / 60, y / 60)
        self.began: float | None = None
        """When the first scan began, on the clock, s."""

    def __bool__(self) -> bool:
        return self.um_per_s != (0.0, 0.0)

    def at(self, seconds: float) -> tuple[float, float]:
        """Return how far the sample has drifted (x, y) at a time of the clock (s), um."""
        since = seconds - (self.began or 0.0)
        return self.um_per_s[0] * since, self.um_per_s[1] * since


def drifting_image(
    image: NDArray, x: NDArray, y: NDArray, drift: Drift, began: float, line_s: float
) -> NDArray:
    """Draw an image line by line while the sample drifts.

    Each line is drawn at the middle of its own time, by cubic interpolation of the recorded
    image. Beyond its border the image goes on as its own mirror image.

    Parameters
    ----------
    image
        (rows, cols), as recorded.
    x, y
        (cols,) and (rows,): pixel centres, um, evenly spaced.
    drift
        How the sample drifts.
    began, line_s
        When the scan began, on the clock, and the time of one line, s.

    Returns
    -------
    (rows, cols)
        With the dtype of `image`.
    """
    rows, cols = image.shape
    when = began + (np.arange(rows) + 0.5) * line_s
    along_x, along_y = np.array([drift.at(float(t)) for t in when]).T
    at_row = np.arange(rows) - along_y / _step(y)
    at_col = np.arange(cols)[None, :] - (along_x / _step(x))[:, None]
    where = [np.broadcast_to(at_row[:, None], image.shape), at_col]
    drawn = map_coordinates(image.astype(float), where, order=3, mode="mirror")
    return drawn.astype(image.dtype)


def pixel_under(position: float, centres: NDArray) -> int:
    """Return the number of the pixel nearest to a place, beyond the border mirrored as images are.

    Parameters
    ----------
    position
        Place on the sample, um.
    centres
        Pixel centres along the axis, um, evenly spaced.
    """
    last = len(centres) - 1
    if last == 0:
        return 0
    number = round((position - float(centres[0])) / _step(centres))
    number = abs(number) % (2 * last)
    return min(number, 2 * last - number)


def _step(centres: NDArray) -> float:
    return float(centres[-1] - centres[0]) / max(1, len(centres) - 1) or 1.0

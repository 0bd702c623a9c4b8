"""Extent of an image of pixels, for matplotlib's `imshow`."""

from __future__ import annotations

from numpy.typing import NDArray


def extent_of(x: NDArray, y: NDArray) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of an image whose first row is at the top.

    Pixels reach half a step beyond their centres, along axes that descend as well.

    Parameters
    ----------
    x, y
        ``(cols,)`` and ``(rows,)``, centres of the pixels in um.
    """
    half_x, half_y = ((a[-1] - a[0]) / max(1, len(a) - 1) / 2 for a in (x, y))
    sides = x[0] - half_x, x[-1] + half_x, y[-1] + half_y, y[0] - half_y
    left, right, bottom, top = map(float, sides)
    return left, right, bottom, top

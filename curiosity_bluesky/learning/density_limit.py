"""No more spectra on one spot than the sample, or the tip, can take."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.survey import Pixel, Survey


class DensityLimit:
    """Limit of the spectra within a distance of each other, see `Strategy.max_per_area`.

    Each spectrum is a dose: bias and contact change what lies under the tip.

    Parameters
    ----------
    survey
        Where the pixels lie.
    limit
        Most spectra, and the distance in um of each other within which they count. None: no
        limit.
    pixels
        Where spectra were taken, or will be; each as often as it was.

    Attributes
    ----------
    full : NDArray
        ``(rows, cols)``, True where no spectrum may be taken any more.
    """

    def __init__(
        self, survey: Survey, limit: tuple[int, float] | None, pixels: Iterable[Pixel] = ()
    ) -> None:
        self._survey = survey
        self._limit = limit
        self._counts = np.zeros(survey.shape, dtype=np.int32)
        self._dosed = np.zeros(survey.shape, dtype=bool)
        self.full: NDArray[np.bool_] = np.zeros(survey.shape, dtype=bool)
        for pixel in pixels:
            self.add(pixel)

    def add(self, pixel: Pixel) -> None:
        """Know of one more spectrum."""
        if self._limit is None:
            return
        most, _ = self._limit
        block, near = self._near(pixel)
        self._counts[block] += near
        self._dosed[pixel] = True
        self.full[block] |= near & (self._counts[block] >= most)
        # Nor may any spectrum there is get one neighbour too many.
        rows, cols = np.nonzero(near & self._dosed[block] & (self._counts[block] >= most))
        for row, col in zip(block[0].ravel()[rows], block[1].ravel()[cols], strict=True):
            around, close = self._near((int(row), int(col)))
            self.full[around] |= close

    def _near(self, pixel: Pixel) -> tuple[tuple[NDArray, NDArray], NDArray]:
        """Return the block round a pixel, as indices, and what of it lies within the radius."""
        assert self._limit is not None
        x, y = self._survey.position(pixel)
        # Positions are computed; one that lies on the rim shall not depend on rounding.
        reach = self._limit[1] * (1 + 1e-9)
        rows = np.flatnonzero(np.abs(self._survey.y - y) <= reach)
        cols = np.flatnonzero(np.abs(self._survey.x - x) <= reach)
        near = np.hypot(self._survey.y[rows, None] - y, self._survey.x[cols] - x) <= reach
        return (rows[:, None], cols[None, :]), near

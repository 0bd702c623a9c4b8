"""Patches: squares of survey pixels round each pixel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.survey import Pixel, Survey

if TYPE_CHECKING:
    from curiosity_bluesky.learning.prior_run import PriorRun


Rim = Literal["reflect", "omit"]
"""What becomes of the pixels whose patch reaches beyond the image, see `Patches`."""


@dataclass(frozen=True, eq=False)
class Patches:
    """The candidates, numbered row by row, and the patch of each.

    The patch of pixel ``(r, c)`` with side ``p`` covers rows ``r - p // 2`` to
    ``r - p // 2 + p - 1`` and the same columns, so that an even patch reaches one pixel
    less far down and right.

    Parameters
    ----------
    survey
        The overview image.
    size
        Side of a patch in pixels.
    rim
        ``reflect``: every pixel is a candidate, and what its patch lacks beyond the border is
        the image reflected there. ``omit``: only pixels with a whole patch are.
    truth
        ``(rows, cols, points)``, the spectra everywhere, where a benchmark lets a strategy
        know them.
    earlier
        An earlier run to start from, None for a cold start.

    Raises
    ------
    InputError
        If a patch is larger than the image.
    """

    survey: Survey
    size: int
    rim: Rim = "reflect"
    truth: NDArray | None = None
    earlier: PriorRun | None = None

    def __post_init__(self) -> None:
        rows, cols = self.survey.shape
        if not 1 <= self.size <= min(rows, cols):
            raise InputError(
                f"patch_size is {self.size} but the survey has {rows} x {cols} pixels; "
                f"choose a patch_size from 1 to {min(rows, cols)}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Number of patches down and across."""
        rows, cols = self.survey.shape
        if self.rim == "reflect":
            return rows, cols
        return rows - self.size + 1, cols - self.size + 1

    @property
    def first(self) -> int:
        """Row, and column, of the first candidate."""
        return 0 if self.rim == "reflect" else self.size // 2

    def __len__(self) -> int:
        down, across = self.grid
        return down * across

    def windows(self, stack: NDArray) -> NDArray:
        """Return the patches of ``(channels, rows, cols)``, ``(*grid, channels, size, size)``."""
        if self.rim == "reflect":
            before = self.size // 2
            beyond = (before, self.size - 1 - before)
            stack = np.pad(stack, ((0, 0), beyond, beyond), mode="reflect")
        windows = sliding_window_view(stack, (self.size, self.size), axis=(1, 2))
        return windows.transpose(1, 2, 0, 3, 4)

    def images(self, limits: tuple[float, float] | None = None) -> NDArray[np.float32]:
        """Return the patches, ``(candidates, channels, size, size)``, scaled to -1 ... 1.

        Parameters
        ----------
        limits
            Values that become -1 and 1. Default: the extremes of each channel, so that
            what is learned does not depend on its units; a constant channel becomes 0.
        """
        stack = self.survey.stack
        if limits is None:
            low, high = stack.min(axis=(1, 2)), stack.max(axis=(1, 2))
        else:
            low, high = (np.full(len(stack), limit) for limit in limits)
        half = (high - low) / 2
        middle, half = ((low + high) / 2)[:, None, None], half[:, None, None]
        scaled = (stack - middle) / np.where(half > 0, half, 1.0)
        shape = (len(self), len(stack), self.size, self.size)
        return np.ascontiguousarray(self.windows(scaled).reshape(shape), dtype=np.float32)

    @cached_property
    def allowed(self) -> NDArray[np.bool_]:
        """``(candidates,)``: True where the survey's mask allows a measurement."""
        return ~self.flatten(self.survey.mask)

    def pixel(self, index: int) -> Pixel:
        """Return the pixel ``(row, col)`` of candidate number `index`."""
        row, col = divmod(int(index), self.grid[1])
        return row + self.first, col + self.first

    def index(self, pixel: Pixel) -> int | None:
        """Return the candidate number of a pixel, None where it is no candidate."""
        row, col = pixel[0] - self.first, pixel[1] - self.first
        down, across = self.grid
        return row * across + col if 0 <= row < down and 0 <= col < across else None

    def indices(self, pixels: Collection[Pixel]) -> NDArray[np.intp]:
        """Return the candidate number of each pixel, -1 where it is no candidate."""
        row, col = np.array([*pixels], dtype=np.intp).reshape(-1, 2).T - self.first
        down, across = self.grid
        inside = (row >= 0) & (row < down) & (col >= 0) & (col < across)
        return np.where(inside, row * across + col, -1)

    def flatten(self, image: NDArray) -> NDArray:
        """Take the candidates out of an image: ``(rows, cols, ...)`` to ``(candidates, ...)``."""
        down, across = self.grid
        inner = image[self.first : self.first + down, self.first : self.first + across]
        return inner.reshape(len(self), *image.shape[2:])

    def unflatten(self, values: NDArray) -> NDArray:
        """Put ``(candidates, ...)`` back on the survey, ``(rows, cols, ...)``, NaN outside."""
        down, across = self.grid
        out = np.full((*self.survey.shape, *values.shape[1:]), np.nan, dtype=float)
        inner = values.reshape(down, across, *values.shape[1:])
        out[self.first : self.first + down, self.first : self.first + across] = inner
        return out

"""Preprocessing of images for descriptors: filled, square pixels, levelled, normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from curiosity_bluesky.similarity.image import Image

LONGEST = 256
"""Maximum pixels along the longer side; larger images are averaged down to it."""

_SPIKE = 0.005
_LINES = -0.2


@dataclass(frozen=True)
class CleanedImage:
    """Image without artefacts of the instrument.

    Parameters
    ----------
    values
        (rows, cols), float32, or complex64 for a circular channel; square pixels, mean 0,
        mean square 1.
    um_per_pixel
        Size of these pixels, um; None if it is not known.
    """

    values: NDArray
    um_per_pixel: float | None


def preprocess(image: Image, longest: int = LONGEST) -> CleanedImage:
    """Return the field of an image.

    Circular values become points on the unit circle, so that neither the wrap nor an offset of
    the phase is seen. Others lose their plane, the offsets of single lines if there are such,
    and spikes. What was not measured is filled from around it. Pixels become square, those of
    the finer axis, and at most so many that the limit is kept. All of it commutes with turns by
    90 degrees and reflections.

    Parameters
    ----------
    image
        As `Image.checked` returns it.
    longest
        Pixels along the longer side, at most.
    """
    values = image.values
    if image.period is not None:
        values = np.exp(2j * np.pi * (values / image.period))
    values = _filled(values)
    values, pixel = _squared(values, image.um_per_pixel, longest)
    if image.period is None:
        # Instruments measure in metres and hertz: float32 is for what is left of their numbers.
        values = values - np.median(values)
        values = (values / np.abs(values).max()).astype(np.float32)
        values = _despiked(_unlined(_level(values)))
    values = values - values.mean()
    size = float(np.sqrt(np.mean(np.abs(values) ** 2)))
    kind = np.complex64 if image.period is not None else np.float32
    return CleanedImage((values / max(size, 1e-12)).astype(kind), pixel)


def along_one_axis(values: NDArray) -> NDArray:
    """Return a real field: of a circular channel the part along the axis on which it varies most.

    Parameters
    ----------
    values
        As in `CleanedImage`.
    """
    if not np.iscomplexobj(values):
        return values
    # The second moment turns by twice the offset of the phase.
    axis = np.exp(-0.5j * np.angle(np.mean(values**2)))
    return (values * axis).real


def _filled(values: NDArray) -> NDArray:
    """Fill NaN with the mean of the nearest known neighbourhood."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    values = np.where(missing, 0, values)
    known = (~missing).astype(float)
    width = 1.0
    while missing.any():
        weight = gaussian_filter(known, width, mode="nearest", truncate=3.0)
        total = gaussian_filter(values * known, width, mode="nearest", truncate=3.0)
        near = missing & (weight > 1e-3)
        values[near] = (total[near] / weight[near]).astype(values.dtype)
        missing &= ~near
        width *= 2
    return values


def _squared(
    values: NDArray, um_per_pixel: tuple[float, float] | None, longest: int
) -> tuple[NDArray, float | None]:
    """Make pixels square, and few enough; return their size, um."""
    steps = np.abs(np.array(um_per_pixel if um_per_pixel else (1.0, 1.0)))
    extent = np.array(values.shape) * steps
    pixel = max(float(steps.min()), float(extent.max()) / longest)
    shape = np.maximum(np.round(extent / pixel).astype(int), 8)
    if tuple(shape) != values.shape:
        if np.iscomplexobj(values):
            values = _resized(np.real(values), shape) + 1j * _resized(np.imag(values), shape)
        else:
            values = _resized(values, shape)
    return values, pixel if um_per_pixel else None


def _resized(values: NDArray, shape: NDArray) -> NDArray:
    smaller: Any = resize(values, tuple(shape), order=1, mode="reflect", anti_aliasing=True)
    return smaller


def _level(values: NDArray) -> NDArray:
    """Subtract the mean plane of the bulk: a particle must not tilt its surroundings."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape)
    inside = np.ones(values.shape, np.float32)
    level = values
    for _ in range(3):
        ones, used = (np.ones_like(y), np.ones_like(x)), inside * values
        # The sums over the grid of products of 1, x and y are sums over its rows and columns.
        terms = [ones, (y, ones[1]), (ones[0], x)]
        normal = [[(a[0] * b[0]) @ inside @ (a[1] * b[1]) for b in terms] for a in terms]
        right = [a[0] @ used @ a[1] for a in terms]
        c, along_y, along_x = np.linalg.lstsq(np.array(normal), np.array(right), rcond=None)[0]
        level = values - (c + along_y * y)[:, None] - along_x * x
        squares = level**2
        bulk = float(np.vdot(inside, squares)) / float(inside.sum())
        inside = (squares <= 9 * bulk).astype(np.float32)
    return level


def _unlined(values: NDArray) -> NDArray:
    """Subtract offsets that single rows, or columns, have of their own."""
    rows = _offsets(values)[:, None]
    cols = _offsets(values.T)[None, :]
    return values - rows - cols


def _offsets(values: NDArray) -> NDArray:
    """Return the offset of each row, 0 for all if they look like the sample's.

    Medians of the steps from row to row see through most structure. Steps of offsets without
    memory are anticorrelated by -1/2; those of a surface, stripes along the rows included,
    follow one another.
    """
    steps = np.median(np.diff(values, axis=0), axis=1)
    spread = float(np.sum(steps**2))
    if spread == 0 or float(np.sum(steps[1:] * steps[:-1])) / spread > _LINES:
        return np.zeros(len(values))
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    return heights - gaussian_filter(heights, 2.0, mode="nearest")


def _despiked(values: NDArray) -> NDArray:
    """Clip values far outside the range of 99 % of them."""
    last = values.size - 1
    ranks = round(_SPIKE * last), round((1 - _SPIKE) * last)
    # Of float32 it is quicker to sort all than to look for two.
    low, high = np.sort(values, axis=None)[list(ranks)]
    room = 0.25 * (high - low)
    return np.clip(values, low - room, high + room) if high > low else values

"""How far a new image of a surface lies from an old one, to a part of a pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as interpolated

from curiosity_bluesky.errors import InputError

MIN_CORRELATION = 0.7
"""Of less than this, two images are not trusted to show the same; measured, see docs/drift.md."""

MIN_OVERLAP = 0.2
"""Share of the area that both images must show to be trusted."""

MIN_SIDE = 8
"""Pixels that both images must share along each axis."""

_SMOOTHING = 0.7
"""Standard deviation (pixels) of the Gaussian that keeps the noise of single pixels out."""

_UPSAMPLE = 50
"""Steps in a pixel that the phase correlation distinguishes."""

_BETTER = 0.05
"""By so much a shift found from scratch must correlate better than the expected one."""


@dataclass(frozen=True)
class Registration:
    """Where the new image's features are, compared with the old one.

    Parameters
    ----------
    dx, dy
        What is at (x, y) in the old image is at (x + dx, y + dy) in the new one, um.
    residual
        1 - normalised correlation of both images over their overlap, after alignment,
        slightly smoothed and without their mean planes: 0 is the same, 1 nothing in common;
        several channels count by how well each correlates. NaN where nothing could be
        compared.
    overlap
        Share of the area that both images show, 0 to 1.
    trusted
        Whether they correlate well enough, on enough of the area.
    """

    dx: float
    dy: float
    residual: float
    overlap: float
    trusted: bool


def register(
    reference: Mapping[str, NDArray],
    image: Mapping[str, NDArray],
    step_um: tuple[float, float] = (1.0, 1.0),
    guess_um: tuple[float, float] = (0.0, 0.0),
) -> Registration:
    """Find the shift between two images of one surface on one grid.

    Tried are the expected shift and, from scratch, the best whole-pixel shift of each channel
    by the normalised correlation of what overlaps [1]_, which is good for up to about half
    the area. Each is refined to a part of a pixel: phase correlation by an upsampled DFT [2]_
    of the crop that both images show, under a Hann window and without its mean plane, since
    neither image is periodic; again until the crop stays the same. What correlates best
    counts, and of nearly equal ones the expected one: a periodic surface fits at many shifts.

    Parameters
    ----------
    reference, image
        Channel name to (rows, cols), the old and the new image; channels that both have count.
    step_um
        Length of a pixel (x, y), um; negative where an axis falls.
    guess_um
        Expected shift (x, y), um.

    Returns
    -------
    Registration
        Not trusted, with the expected shift, where there is nothing to compare: flat images.

    Raises
    ------
    InputError
        If the images have no channel or size in common, hold NaN, or are too small.

    References
    ----------
    .. [1] D. Padfield, IEEE Trans. Image Process. 21, 2706 (2012).
    .. [2] M. Guizar-Sicairos, S. T. Thurman and J. R. Fienup, Opt. Lett. 33, 156 (2008).
    """
    pairs = _comparable(reference, image)
    step = np.array([step_um[1], step_um[0]], float)
    guess = np.array([guess_um[1], guess_um[0]], float)
    if not (np.isfinite(step).all() and step.all() and np.isfinite(guess).all()):
        raise InputError(
            f"pixels of {step_um} um and an expected shift of {guess_um} um were given; expected "
            "finite numbers, and pixels of some length"
        )
    shape = next(iter(reference.values())).shape
    expected = guess / step
    if not pairs:
        overlap = _overlap(expected, shape)
        return Registration(float(guess_um[0]), float(guess_um[1]), np.nan, overlap, False)
    best, score = _refined(pairs, _inside(expected, shape))
    for pair in pairs:
        found, other = _refined(pairs, _from_scratch(*pair))
        if other > score + _BETTER:
            best, score = found, other
    overlap = _overlap(best, shape)
    dy, dx = best * step
    # At the limit of what is looked at, the truth may lie beyond.
    within = np.all(np.abs(best) < np.array(shape) - MIN_SIDE)
    trusted = bool(score >= MIN_CORRELATION and overlap >= MIN_OVERLAP and within)
    return Registration(float(dx), float(dy), float(1 - score), overlap, trusted)


def _comparable(
    reference: Mapping[str, NDArray], image: Mapping[str, NDArray]
) -> list[tuple[NDArray, NDArray]]:
    """Return old and new image of each channel that shows something in both."""
    names = [name for name in reference if name in image]
    if not names:
        raise InputError(
            f"the images have no channel in common: {', '.join(reference) or 'none'} and "
            f"{', '.join(image) or 'none'}; register images of one imager"
        )
    shapes = {np.shape(images[name]) for images in (reference, image) for name in names}
    if len(shapes) > 1 or len(min(shapes)) != 2 or min(min(shapes)) < MIN_SIDE:
        raise InputError(
            f"the images have the shapes {sorted(shapes)}; expected one shape (rows, cols), at "
            f"least {MIN_SIDE} each: register images of one grid"
        )
    pairs = []
    for name in names:
        old, new = (np.asarray(images[name], float) for images in (reference, image))
        if bad := int(np.count_nonzero(~(np.isfinite(old) & np.isfinite(new)))):
            raise InputError(
                f"channel {name!r} has {bad} NaN or infinite pixels of {old.size}; "
                "fill them or leave the channel out"
            )
        if _varies(old) and _varies(new):
            pairs.append((_smooth(old), _smooth(new)))
    return pairs


def _varies(image: NDArray) -> bool:
    return bool(np.ptp(_levelled(image)) > 1e-9 * np.abs(image).max())


def _smooth(image: NDArray) -> NDArray:
    # Scaled, since currents of 1e-12 A squared are lost in sums.
    return gaussian_filter((image - image.mean()) / np.ptp(image), _SMOOTHING)


def _levelled(image: NDArray) -> NDArray:
    """Subtract the mean plane."""
    rows, cols = image.shape
    along = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, cols)[None, :]
    level = image - image.mean()
    for axis in along:  # orthogonal on a grid, so one after the other
        level = level - axis * (level * axis).sum() / (np.ones_like(image) * axis**2).sum()
    return level


def _inside(shift: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Return the nearest shift that leaves enough of the images to compare."""
    most = np.array(shape) - MIN_SIDE
    return np.clip(shift, -most, most)


def _overlap(shift: NDArray, shape: tuple[int, ...]) -> float:
    return float(np.prod(np.clip(1 - np.abs(shift) / shape, 0, 1)))


def _crops(old: NDArray, new: NDArray, shift: NDArray) -> tuple[NDArray, NDArray]:
    """Return the part that both show, for a shift of whole pixels (rows, cols)."""
    places = [
        (max(0, -int(d)), n - max(0, int(d)), int(d)) for d, n in zip(shift, old.shape, strict=True)
    ]
    here = tuple(slice(low, high) for low, high, _ in places)
    there = tuple(slice(low + d, high + d) for low, high, d in places)
    return old[here], new[there]


def _from_scratch(old: NDArray, new: NDArray) -> NDArray:
    """Return the best shift of whole pixels, as far as half the area overlaps or nearly so."""
    from skimage.registration import phase_cross_correlation

    everywhere = np.ones(old.shape, bool)
    found, *_ = phase_cross_correlation(
        _levelled(old), _levelled(new),
        reference_mask=everywhere, moving_mask=everywhere, overlap_ratio=0.25,
    )  # fmt: skip
    return _inside(-np.asarray(found, float), old.shape)


def _refined(pairs: list[tuple[NDArray, NDArray]], shift: NDArray) -> tuple[NDArray, float]:
    """Refine a shift in all channels; return it with its correlation."""
    each = [_refined_in(*pair, shift) for pair in pairs]
    weights = [max(_correlation(*pair, s), 0.0) ** 2 for pair, s in zip(pairs, each, strict=True)]
    best = each[int(np.argmax(weights))]
    # Channels that agree make it more exact; one that went astray must not pull.
    agreeing = [(s, w) for s, w in zip(each, weights, strict=True) if np.abs(s - best).max() < 1]
    if sum(w for _, w in agreeing) > 0:
        best = np.average([s for s, _ in agreeing], axis=0, weights=[w for _, w in agreeing])
    found = np.array([max(_correlation(*pair, best), 0.0) for pair in pairs])
    return best, float((found**2).sum() / found.sum()) if found.any() else 0.0


def _refined_in(old: NDArray, new: NDArray, shift: NDArray) -> NDArray:
    # Here, since a plan that corrects no drift need not wait for scikit-image.
    from skimage.filters import window
    from skimage.registration import phase_cross_correlation

    for _ in range(8):
        whole = np.round(shift)
        a, b = _crops(old, new, whole)
        hann = window("hann", a.shape)
        with np.errstate(all="ignore"):  # a crop may be flat
            rest, *_ = phase_cross_correlation(
                _levelled(a) * hann, _levelled(b) * hann,
                upsample_factor=_UPSAMPLE,
                normalization=None,  # pyright: ignore[reportArgumentType] (as documented)
            )  # fmt: skip
        shift = _inside(whole - rest, old.shape)
        if np.array_equal(np.round(shift), whole):
            break
    return shift


def _correlation(old: NDArray, new: NDArray, shift: NDArray) -> float:
    """Return the normalised correlation over the overlap, for any shift (rows, cols)."""
    whole = np.round(shift)
    a, b = _crops(old, new, whole)
    a = interpolated(a, shift - whole, order=3, mode="nearest")
    a, b = (_levelled(image[1:-1, 1:-1]) for image in (a, b))
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0

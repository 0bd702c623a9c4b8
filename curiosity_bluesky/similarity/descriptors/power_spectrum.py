"""Power spectrum and autocorrelation in polar coordinates, invariant to place and rotation.

Translations drop out with the phase of the spectrum. On rings around the centre, a rotation
shifts the phase of the angular harmonics and a reflection conjugates it: moduli stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.signal.windows import tukey
from scipy.sparse import csr_array

from curiosity_bluesky.similarity.fourier import fast, irfft2, rfft2

HARMONICS = (0, 2, 4, 6)
"""Angular harmonics; odd ones are 0, since a spectrum is the same at k and -k."""

STEP = 0.25
"""Distance of two neighbouring rings, octaves."""

_LOWEST, _HIGHEST = -8.0, -1.0  # log2 of cycles per pixel
_RINGS = np.arange(_LOWEST, _HIGHEST + 1e-9, STEP)
_TAPER = 0.3
_FLOOR = 3e-3
_ANGLES = 32
_REACH = 0.4


@dataclass(frozen=True)
class RadialSpectrum:
    """Power spectrum of a field, on rings, and its autocorrelation.

    Parameters
    ----------
    rings
        Power of each ring in each harmonic, (rings, harmonics), complex; the whole power is 1.
    power
        Power of each ring without white noise, (rings,); in all 1.
    noise
        What part of the power is white.
    log_length
        log2 of the characteristic length, pixels: the geometric mean wavelength.
    correlation
        Autocorrelation, (rows, cols), zero lag in the corner; 1 there without noise.
    reach
        Largest lag that is known well, pixels.
    """

    rings: NDArray[np.complex128]
    power: NDArray[np.float64]
    noise: float
    log_length: float
    correlation: NDArray[np.float32]
    reach: float


@lru_cache(maxsize=16)
def _window(shape: tuple[int, int], padded: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Return the taper of a field, and its autocorrelation."""
    taper = np.outer(*(tukey(n + 2, _TAPER)[1:-1] for n in shape)).astype(np.float32)
    taper /= np.sqrt(np.mean(taper**2))
    overlap = irfft2(np.abs(rfft2(taper, padded)) ** 2, padded)
    return taper, (overlap / overlap[0, 0]).astype(np.float32)


@lru_cache(maxsize=6)
def _polar(padded: tuple[int, int]) -> tuple[csr_array, NDArray, NDArray, NDArray]:
    """Return the weights of a half spectrum's pixels in rings.

    Also cosines and sines of its angle in all harmonics, how often each pixel counts, and how
    many pixels a ring has.
    """
    rows, cols = padded
    ky, kx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(cols)[None, :]
    k = np.hypot(ky, kx)
    # The half of the spectrum that is left out is the same again, but for the columns that are
    # their own mirror images.
    twice = np.full(k.shape, 2.0)
    twice[:, 0] = 1
    if cols % 2 == 0:
        twice[:, -1] = 1
    # The corners beyond the Nyquist frequency look in four directions only.
    inside = np.flatnonzero((k > 0) & (k <= 2**_HIGHEST))
    place = (np.log2(k.ravel()[inside]) - _LOWEST) / STEP
    # Each pixel goes to the rings around it, with the weight of a quadratic spline: smooth,
    # so that little changes when a peak moves from ring to ring.
    nearest = np.round(place).astype(int)
    off = place - nearest
    weights = np.stack([(0.5 - off) ** 2 / 2, 0.75 - off**2, (0.5 + off) ** 2 / 2])
    targets = np.clip(np.stack([nearest - 1, nearest, nearest + 1]), 0, len(_RINGS) - 1)
    shares = weights * twice.ravel()[inside]
    matrix: Any = csr_array(
        (shares.ravel(), (targets.ravel(), np.tile(inside, 3))), shape=(len(_RINGS), k.size)
    ).astype(np.float32)
    angle = np.arctan2(ky, kx + 0 * ky).ravel()[:, None] * np.array(HARMONICS)
    turns = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return matrix, turns, matrix.sum(axis=0), matrix.sum(axis=1)


def spectrum(values: NDArray, *, periodic: bool = False) -> RadialSpectrum:
    """Return the spectrum of a field.

    Parameters
    ----------
    values
        (rows, cols), real or complex, mean 0 and mean square 1, as `preprocess` makes it.
    periodic
        Whether the field goes on at the other side: then nothing is tapered or padded, and
        every translation gives the same.
    """
    shape = (int(values.shape[0]), int(values.shape[1]))
    padded, overlap = shape, np.ones(1, np.float32)
    if not periodic:
        padded = fast(shape[0] * 3 // 2), fast(shape[1] * 3 // 2)
        taper, overlap = _window(shape, padded)
        values = values * taper
        values = values - taper * (values.mean() / taper.mean())
    parts = [np.real(values), np.imag(values)] if np.iscomplexobj(values) else [values]
    # The spectrum of a complex field is not the same at k and -k; the mean of both is the sum
    # over its real and imaginary parts, and does not change with the sign of a phase.
    power = np.sum([np.abs(rfft2(part, padded)) ** 2 for part in parts], axis=0)
    matrix, turns, often, count = _polar(padded)
    total = float(often @ power.ravel())
    power = power / max(total, 1e-30)
    parts = matrix @ (turns * power.ravel()[:, None])
    rings = parts[:, : len(HARMONICS)] + 1j * parts[:, len(HARMONICS) :]
    floor = _white(rings[:, 0].real, count)
    signal = np.maximum(rings[:, 0].real - floor * count, 0)
    left = max(float(signal.sum()), 1e-30)
    signal /= left
    # Weighted as the power of the gradient is: what is larger than half the image comes and
    # goes with the place, and would decide otherwise.
    weights = signal * 2.0 ** (_RINGS / 2)
    weights = weights / max(float(weights.sum()), 1e-30)
    log_length = -float(weights @ _RINGS)
    correlation = irfft2(np.maximum(power - floor, 0) if floor else power, padded)
    correlation = correlation / np.maximum(overlap, 0.05)
    correlation = (correlation / max(float(correlation[0, 0]), 1e-30)).astype(np.float32)
    return RadialSpectrum(rings, signal, 1 - left, log_length, correlation, _REACH * min(shape))


def _white(power: NDArray, count: NDArray) -> float:
    """Return the density of white noise: the least of any ring that is wide enough to know."""
    known = count > 200
    return float(np.min(power[known] / count[known])) if known.any() else 0.0


def spectral_block(
    found: RadialSpectrum, log_length: float, places: NDArray
) -> NDArray[np.float64]:
    """Return power and anisotropy of rings, at frequencies relative to a length.

    Parameters
    ----------
    found
        The spectrum.
    log_length
        log2 of the length, pixels.
    places
        Where: log2 of frequency times length.

    Returns
    -------
    ndarray
        (4 n,): the logarithm of the power per ring, then harmonics 2, 4 and 6 relative to it.
    """
    columns = (found.power, *found.rings.T)
    power, *rings = (np.interp(places - log_length, _RINGS, column) for column in columns)
    # Noise, too, makes a ring rounder: so what it adds counts here, and the shares stay below 1.
    shares = np.abs(rings[1:]) / (rings[0].real + _FLOOR)
    return np.concatenate([np.log(power + _FLOOR), shares.ravel()])


def correlation_block(
    found: RadialSpectrum, log_length: float, places: NDArray
) -> NDArray[np.float64]:
    """Return harmonics of the autocorrelation, at lags relative to a length.

    Parameters
    ----------
    found
        The spectrum.
    log_length
        log2 of the length, pixels.
    places
        Where: log2 of lag over length. Beyond the reach of the image it stays as it is there.

    Returns
    -------
    ndarray
        (4 n,): the mean on each circle, then the moduli of harmonics 2, 4 and 6.
    """
    radii = np.minimum(2.0 ** (places + log_length), found.reach)
    angles = np.pi * np.arange(_ANGLES) / _ANGLES
    where = radii[None, :, None] * np.stack([np.sin(angles), np.cos(angles)])[:, None, :]
    on_circles = map_coordinates(found.correlation, where, order=1, mode="grid-wrap")
    harmonics = np.fft.rfft(on_circles, axis=1)[:, : len(HARMONICS)] / _ANGLES
    return np.concatenate([harmonics[:, 0].real, *np.abs(harmonics[:, 1:]).T])

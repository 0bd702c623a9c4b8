"""Wavelet scattering, invariant to translations, rotations and reflections of the plane.

Morlet wavelets, modulus, again, mean over the plane (Bruna and Mallat, IEEE Trans. Pattern Anal.
Mach. Intell. 35, 1872 (2013)). The angles of both wavelets turn together with the image: moduli
of Fourier coefficients over the joint angle do not (Sifre and Mallat, CVPR 2013, eq. 15, with
the modulus in place of further wavelets), and the mean over an angle between both and its
opposite does not know left from right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.fourier import fft2, ifft2

ANGLES = 8
"""Directions of wavelets, over half a turn."""

SCALES = 5
"""Octaves: wavelengths from 2.7 pixels, doubled each time."""

_XI = 0.75 * np.pi  # centre of the finest, radians a pixel
_SIGMA = 0.8  # its width in space, pixels
_SLANT = 0.5  # how much wider it is across
_TINY = 1e-12

OCTAVES = (1, 2, 3)
"""Octaves by which the second wavelet is coarser than the first."""

_SECOND = 2  # the finest scale of a second wavelet
_COARSE = SCALES - 1
_LARGEST = 160


@dataclass(frozen=True)
class Scattered:
    """Means over the plane, and their harmonics over the joint angle.

    Parameters
    ----------
    wavelengths
        log2 of that of each scale, pixels of the image, (scales,).
    first
        Harmonics 0, 1 and 2 of the angle, per scale, (scales, 3).
    local
        How the moduli vary over the plane, and with each other, per scale, (scales, 10).
    second
        By octaves between both wavelets: scales of the first, and (scales, 2 harmonics, 5
        angles between both).
    """

    wavelengths: NDArray[np.float64]
    first: NDArray[np.float64]
    local: NDArray[np.float64]
    second: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]


@lru_cache(maxsize=64)
def _bank(shape: tuple[int, int], small: tuple[int, int], scale: int) -> NDArray[np.float32]:
    """Return wavelets of one scale, (angles, rows, cols).

    They lie on the low frequencies, `small`, of the Fourier grid of an image of a shape, and
    are scaled so that values on the coarser grid are those on the finer one.
    """
    ky, kx = (2 * np.pi * np.fft.fftfreq(m) * m / n for n, m in zip(shape, small, strict=True))
    ky, kx = ky[:, None], kx[None, :]
    xi, sigma = _XI / 2**scale, _SIGMA * 2**scale
    angles = np.pi * np.arange(ANGLES)[:, None, None] / ANGLES
    along = kx * np.cos(angles) + ky * np.sin(angles)
    across = (ky * np.cos(angles) - kx * np.sin(angles)) / _SLANT
    bank = np.exp(-(sigma**2) * ((along - xi) ** 2 + across**2) / 2)
    bank -= np.exp(-(sigma**2) * (along**2 + across**2 + xi**2) / 2)
    # The Nyquist frequency has no opposite on an even grid: a reflection would not find it.
    for axis, m in enumerate(small):
        if m % 2 == 0:
            np.moveaxis(bank, axis + 1, 0)[m // 2] = 0
    return (bank * (small[0] * small[1] / (shape[0] * shape[1]))).astype(np.float32)


def _small(shape: tuple[int, int], scale: int) -> tuple[int, int]:
    """Return the number of frequencies of the wavelets of a scale."""
    down = 2 ** max(scale - 1, 0)
    return max(-(-shape[0] // down), 2), max(-(-shape[1] // down), 2)


def _low(spectra: NDArray, small: tuple[int, int]) -> NDArray:
    """Keep the low frequencies of spectra, (..., rows, cols)."""
    for axis, m in zip((-2, -1), small, strict=True):
        n = spectra.shape[axis]
        if m < n:
            kept = np.r_[0 : m - m // 2, n - m // 2 : n]
            spectra = np.take(spectra, kept, axis=axis)
    return spectra


def _moduli(spectra: NDArray, shape: tuple[int, int], scale: int) -> NDArray:
    """Return moduli of fields, (..., rows, cols), under wavelets, (..., angles, rows, cols)."""
    small = _small(shape, scale)
    factor = spectra.shape[-2] * spectra.shape[-1] / (shape[0] * shape[1])
    low = _low(spectra, small)[..., None, :, :] * np.float32(1 / factor)
    return np.abs(ifft2(low * _bank(shape, small, scale)))


def periodic_part(values: NDArray) -> NDArray:
    """Return a field without its jump from one side to the other.

    The smooth part that carries the jump is subtracted: L. Moisan, J. Math. Imaging Vis. 39, 161
    (2011). Nothing is lost at the edges, as under a window.

    Parameters
    ----------
    values
        (rows, cols), real or complex.
    """
    edges = np.zeros_like(values)
    edges[0] += values[-1] - values[0]
    edges[-1] += values[0] - values[-1]
    edges[:, 0] += values[:, -1] - values[:, 0]
    edges[:, -1] += values[:, 0] - values[:, -1]
    rows, cols = (np.cos(2 * np.pi * np.fft.fftfreq(n)) for n in values.shape)
    laplacian = (2 * rows[:, None] + 2 * cols[None, :] - 4).astype(np.float32)
    laplacian[0, 0] = 1
    jump = fft2(edges) / laplacian
    jump[0, 0] = 0
    smooth = ifft2(jump)
    return values - (smooth if np.iscomplexobj(values) else np.real(smooth))


def scattered(values: NDArray) -> Scattered:
    """Return the scattering of a field.

    Parameters
    ----------
    values
        (rows, cols), real or complex, mean 0 and mean square 1, as `preprocess` makes
        it. Those of more than 160 pixels are averaged over 2 x 2 first.
    """
    halved = 0
    while max(values.shape) > _LARGEST:
        rows, cols = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
        values = values[:rows, :cols].reshape(rows // 2, 2, cols // 2, 2).mean(axis=(1, 3))
        halved += 1
    shape = (int(values.shape[0]), int(values.shape[1]))
    values = periodic_part(values)
    # Seen from the middle, so that coarser grids lie the same in a reflected image.
    middle = [np.exp(1j * np.pi * np.fft.fftfreq(n) * (n - 1)).astype(np.complex64) for n in shape]
    centred = middle[0][:, None] * middle[1][None, :]
    spectra = [fft2(values) * centred]
    if np.iscomplexobj(values):
        # A complex field has waves that go one way only; those of its conjugate go the other.
        spectra.append(fft2(values.conj()) * centred)
    first = np.zeros((SCALES, ANGLES))
    second: dict[int, list[NDArray]] = {octaves: [] for octaves in OCTAVES}
    scales: dict[int, list[int]] = {octaves: [] for octaves in OCTAVES}
    coarse = _small(shape, _COARSE)
    maps: list[NDArray] = []
    for a in range(SCALES):
        parts = [_moduli(spectrum, shape, a) for spectrum in spectra]
        moduli = parts[0] if len(parts) == 1 else np.sqrt((parts[0] ** 2 + parts[1] ** 2) / 2)
        first[a] = moduli.mean(axis=(-2, -1))
        again = fft2(moduli)
        maps.append(_low(again, coarse) * (np.prod(coarse) / np.prod(again.shape[-2:])))
        for b in range(max(a + 1, _SECOND), min(a + OCTAVES[-1], SCALES - 1) + 1):
            # A real field has the same moduli in both directions.
            means = _moduli(again, shape, b).mean(axis=(-2, -1))
            second[b - a].append(_joint(means))
            scales[b - a].append(a)
    harmonics = np.abs(np.fft.rfft(first, axis=1)[:, :3]) / ANGLES
    wavelengths = np.log2(2 * np.pi / _XI) + np.arange(SCALES) + halved
    return Scattered(
        wavelengths,
        harmonics,
        _local(_low(spectra[0], coarse), np.array(maps)),
        {o: (np.array(scales[o], int), np.array(second[o])) for o in OCTAVES},
    )


def _joint(means: NDArray) -> NDArray[np.float64]:
    """Return harmonics 0 and 1 over the joint angle, by the angle between, (2, 5).

    Parameters
    ----------
    means
        (angles of the first, angles of the second).
    """
    angles = np.arange(ANGLES)
    between = np.stack([means[angles, (angles + d) % ANGLES] for d in range(ANGLES)])
    harmonics = np.abs(np.fft.rfft(between, axis=1)[:, :2].T) / ANGLES
    # Left and right of the first; 0 and a quarter turn are their own opposites.
    half = ANGLES // 2
    opposite = (-np.arange(ANGLES)) % ANGLES
    # The square root of a mean of squares does not mind that moduli have lost their sign.
    return np.sqrt((harmonics**2 + harmonics[:, opposite] ** 2) / 2)[:, : half + 1]


def _local(field: NDArray, maps: NDArray) -> NDArray[np.float64]:
    """Return how moduli vary over the plane, (scales, 10).

    Parameters
    ----------
    field
        Spectrum of the field itself on a coarse grid, (rows, cols); overwritten.
    maps
        Spectra of moduli on that grid, (scales, angles, rows, cols); overwritten.
    """
    for axis in (-2, -1):  # not in the wavelets either: see `_bank`
        if maps.shape[axis] % 2 == 0:
            for spectra in (field, maps):
                np.moveaxis(spectra, axis, 0)[maps.shape[axis] // 2] = 0
    field = ifft2(field)
    turn = np.exp(2j * np.pi * np.arange(ANGLES) / ANGLES)
    level = np.maximum(np.real(ifft2(maps.mean(axis=1))), 0)
    # The modulus of the second moment over the angles: how much of a direction there is.
    directed = ifft2(np.einsum("sarc,a->src", maps, turn / ANGLES))
    floor = 0.05 * level.mean(axis=(1, 2), keepdims=True) + _TINY
    share = np.abs(directed) / (level + floor)
    logs = np.log(level + floor)
    logs = logs - logs.mean(axis=(1, 2), keepdims=True)
    spread = logs.std(axis=(1, 2)) + 1e-6
    shares = share - share.mean(axis=(1, 2), keepdims=True)
    field = (field - field.mean()) / (np.sqrt(np.mean(np.abs(field - field.mean()) ** 2)) + 1e-9)
    product = np.mean(directed[:-1] * directed[1:].conj(), axis=(1, 2)).real
    sizes = np.sqrt(np.mean(np.abs(directed) ** 2, axis=(1, 2))) + _TINY
    columns = [
        share.mean(axis=(1, 2)),
        spread,
        np.mean(logs**3, axis=(1, 2)) / spread**3,
        _last_again(np.mean(logs[:-1] * logs[1:], axis=(1, 2)) / (spread[:-1] * spread[1:])),
        _last_again(np.mean(logs[:-2] * logs[2:], axis=(1, 2)) / (spread[:-2] * spread[2:])),
        np.mean(logs * shares, axis=(1, 2)) / spread,
        shares.std(axis=(1, 2)),
        np.abs(np.mean(field * logs, axis=(1, 2))) / spread,
        np.mean(np.abs(field) ** 2 * logs, axis=(1, 2)) / spread,
        _last_again(product / (sizes[:-1] * sizes[1:])),
    ]
    return np.stack(columns, axis=1)


def _last_again(values: NDArray) -> NDArray:
    """Fill up to the number of scales with the last value."""
    return np.concatenate([values, np.repeat(values[-1], SCALES - len(values))])


def scattering_block(
    found: Scattered, log_length: float, places: NDArray, first_places: NDArray
) -> NDArray[np.float64]:
    """Return logarithms of the scattering, at wavelengths relative to a length.

    Parameters
    ----------
    found
        The scattering.
    log_length
        log2 of the length, pixels.
    places
        Where the first of two wavelets is: log2 of wavelength over length.
    first_places
        Where single wavelets are.
    """
    where = found.wavelengths - log_length
    power = found.first[:, 0] / np.sqrt(np.sum(found.first[:, 0] ** 2) + _TINY)
    table = [np.log(power + 1e-2), *(found.first[:, 1:] / (found.first[:, :1] + 1e-2)).T]
    table += list(found.local.T)
    out = [np.interp(first_places, where, column) for column in table]
    for scales, harmonics in found.second.values():
        level = found.first[scales, 0][:, None] + 1e-2
        mean = harmonics[:, 0]
        both = np.concatenate(
            [np.log(mean / level + 1e-2), harmonics[:, 1] / (mean + 1e-2 * level)], axis=1
        )
        out += [np.interp(places, where[scales], column) for column in both.T]
    return np.concatenate(out)

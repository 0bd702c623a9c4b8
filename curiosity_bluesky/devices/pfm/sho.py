r"""The simple harmonic oscillator, fitted to all spectra of a band excitation at once.

.. math:: H(f) = \frac{A f_0^2 e^{i\varphi}}{f^2 - i f f_0 / Q - f_0^2}

is the response of a driven oscillator in the convention of pycroscopy (``SHOfunc`` of its BE-SHO
fit; Jesse, Kalinin, Proksch, Baddorf and Rodriguez, Nanotechnology 18, 435503 (2007)) and of
numpy's FFT. A is the response far below the resonance, not at its top, which is A Q. The phase of
the response is :math:`\varphi + \pi` far below the resonance, :math:`\varphi + \pi/2` on it and
:math:`\varphi` far above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError

FEWEST = 5
"""Minimum values of a spectrum: one more complex value than would always fit."""
_CHUNK = 256
_STEPS = 40
_PRECISION = 1e-7


@dataclass(frozen=True)
class SHOFit:
    """Oscillators fitted to spectra, all ``(...)``: NaN where a spectrum holds none.

    Parameters
    ----------
    amplitude
        A, in the units of the spectra: >= 0.
    frequency
        Resonance frequency, in the units of the frequencies.
    quality_factor
        Q.
    phase
        rad, in (-pi, pi].
    r_squared
        Share of the variance that the oscillator explains, adjusted for its four numbers: 1
        where the fit is perfect, 0 where it is worth nothing, or there is no fit.
    at_limit
        True where resonance or quality factor ended at a limit of the search: they are
        not known then, only that they lie there or beyond.
    """

    amplitude: NDArray[np.float64]
    frequency: NDArray[np.float64]
    quality_factor: NDArray[np.float64]
    phase: NDArray[np.float64]
    r_squared: NDArray[np.float64]
    at_limit: NDArray[np.bool_]

    @property
    def response(self) -> NDArray[np.complex128]:
        r""":math:`A e^{i\varphi}`, the oscillator's response without its resonance."""
        return np.asarray(self.amplitude * np.exp(1j * self.phase), np.complex128)


def sho_response(
    frequencies: ArrayLike,
    amplitude: ArrayLike,
    frequency: ArrayLike,
    quality_factor: ArrayLike,
    phase: ArrayLike,
) -> NDArray[np.complex128]:
    """Return the spectra of oscillators.

    Parameters
    ----------
    frequencies
        ``(frequencies,)``.
    amplitude, frequency, quality_factor, phase
        Of the oscillators, see `SHOFit`; they broadcast to ``(...)``. NaN gives NaN.

    Returns
    -------
    spectra
        ``(..., frequencies)``.
    """
    f = np.asarray(frequencies, float)
    size, f0, q, phi = (
        np.asarray(a, float)[..., None] for a in (amplitude, frequency, quality_factor, phase)
    )
    with np.errstate(invalid="ignore"):  # NaN in, NaN out
        return size * f0**2 * np.exp(1j * phi) / (f**2 - 1j * f * f0 / q - f0**2)


def fit_sho(frequencies: ArrayLike, spectra: ArrayLike) -> SHOFit:
    r"""Fit an oscillator to each spectrum by least squares.

    Of the four numbers only :math:`f_0` and Q have to be searched for: with both, H is a known
    shape g times a complex number, which linear regression finds (variable projection, Golub and
    Pereyra, SIAM J. Numer. Anal. 10, 413 (1973), in Kaufman's form, BIT 15, 49 (1975)). The
    search starts at the best of a grid of shapes (a matched filter: one matrix product for all
    spectra) and goes on with Levenberg's steps of two unknowns, all spectra side by side.

    The resonance is searched for in the band and up to half its width beyond, Q between that of
    a resonance as wide as twice the band and that of one a quarter as wide as the frequencies
    are apart. NaN points are left out.

    Parameters
    ----------
    frequencies
        ``(frequencies,)``, positive and increasing.
    spectra
        ``(..., frequencies)``, complex.

    Returns
    -------
    SHOFit
        Arrays ``(...)``.

    Raises
    ------
    InputError
        If the frequencies are not positive and increasing, or the spectra do not fit them.
    """
    f, data = np.asarray(frequencies, float), np.asarray(spectra)
    if f.ndim != 1 or len(f) < FEWEST or not (f > 0).all() or not (np.diff(f) > 0).all():
        raise InputError(
            f"frequencies have shape {f.shape}; expected at least {FEWEST} of them, finite, "
            "positive and increasing: give the frequencies of the bins inside the band"
        )
    if data.ndim < 1 or data.shape[-1] != len(f):
        raise InputError(
            f"spectra have shape {data.shape} for {len(f)} frequencies; expected "
            f"(..., {len(f)}): a spectrogram (frequencies, steps) has to be transposed"
        )
    # Frequencies near 1 and spectra near 1: nothing over- or underflows.
    centre = float(np.sqrt(f[0] * f[-1]))
    rows = data.reshape(-1, len(f)).astype(np.complex128)
    found = np.full((5, len(rows)), np.nan)
    at_limit = np.zeros(len(rows), bool)
    search = _Search(f / centre)
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        found[:, part], at_limit[part] = search(rows[part])
    found[1] *= centre
    amplitude, frequency, q, phase, r_squared = found.reshape(5, *data.shape[:-1])
    return SHOFit(
        amplitude, frequency, q, phase, np.nan_to_num(r_squared), at_limit.reshape(q.shape)
    )


class _Search:
    """The search on one set of frequencies ``(m,)``, near 1."""

    def __init__(self, f: NDArray) -> None:
        self.f = f
        band = f[-1] - f[0]
        self.low = np.array([max(f[0] - band / 2, f[0] / 4), np.log(0.5 / band)])
        self.high = np.array([f[-1] + band / 2, np.log(4.0 / np.median(np.diff(f)))])
        # Each width is half of the one before, resonances are one width apart.
        widths = np.exp(-np.arange(self.low[1], self.high[1], np.log(2.0)))
        grid = [
            (f0, np.log(f0 / width))
            for width in widths
            for f0 in np.arange(self.low[0] + width / 2, self.high[0], max(width, band / len(f)))
        ]
        self.starts = np.clip(np.array(grid), self.low, self.high)
        self.shapes = self.shape(self.starts)[0]

    def shape(self, at: NDArray) -> tuple[NDArray, NDArray]:
        """Shapes ``(n, m)`` of resonances ``(n, 2)``: f0 and log Q, with a top of 1; and 1/D."""
        f0, q = at[:, :1], np.exp(at[:, 1:])
        inverse = 1.0 / (self.f**2 - f0**2 - 1j * self.f * f0 / q)
        return (f0**2 / q) * inverse, inverse

    def __call__(self, spectra: NDArray) -> tuple[NDArray, NDArray]:
        """Amplitude, resonance, Q, phase and R^2, ``(5, n)``, of spectra ``(n, m)``; at a limit."""
        known = np.isfinite(spectra)
        data = np.where(known, spectra, 0.0)
        count = known.sum(axis=1)
        size = np.abs(data).max(axis=1)
        data = data / np.where(size > 0, size, 1.0)[:, None]
        mean = data.sum(axis=1) / np.maximum(count, 1)
        variance = (np.abs(data - mean[:, None]) ** 2 * known).sum(axis=1)
        # A constant spectrum has no more variance than rounding gives it.
        use = np.flatnonzero((count >= FEWEST) & (variance > 1e-20 * count))
        found, at_limit = np.full((5, len(data)), np.nan), np.zeros(len(data), bool)
        if not len(use):
            return found, at_limit
        at, factor, misfit = self._descend(data[use], known[use].astype(float))
        q = np.exp(at[:, 1])
        numbers = 2.0 * count[use]
        unexplained = (misfit / (numbers - 4)) / (variance[use] / (numbers - 2))
        found[0, use] = np.abs(factor) * size[use] / q
        found[1, use], found[2, use], found[3, use] = at[:, 0], q, np.angle(factor)
        found[4, use] = np.clip(1.0 - unexplained, 0.0, 1.0)
        at_limit[use] = ((at <= self.low) | (at >= self.high)).any(axis=1)
        return found, at_limit

    def _start(self, data: NDArray, known: NDArray) -> NDArray:
        """Best of the grid, ``(n, 2)``: what explains most of the sum of squares."""
        shapes = self.shapes.astype(np.complex64)
        projected = np.abs(data.astype(np.complex64) @ shapes.conj().T) ** 2
        power = known.astype(np.float32) @ (np.abs(shapes) ** 2).T
        return self.starts[(projected / np.maximum(power, 1e-12)).argmax(axis=1)]

    def _descend(self, data: NDArray, known: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Resonances ``(n, 2)``, complex factors and sums of squares ``(n,)`` at the minimum."""
        at = self._start(data, known)
        factor, misfit, normal, gradient = self._linearised(at, data, known)
        damping = np.full(len(data), 1e-3)
        active = np.arange(len(data))
        for _ in range(_STEPS):
            step = _solved(normal[active], gradient[active], damping[active])
            trial = np.clip(at[active] + step, self.low, self.high)
            moved = np.abs(trial - at[active])
            # Far along the resonance's own width is far; so is far in log Q.
            width = np.exp(-at[active, 1]) * at[active, 0]
            small = (moved[:, 0] < _PRECISION * width) & (moved[:, 1] < _PRECISION)
            new = self._linearised(trial, data[active], known[active])
            better = new[1] < misfit[active]
            taken = active[better]
            at[taken] = trial[better]
            for old, values in zip((factor, misfit, normal, gradient), new, strict=True):
                old[taken] = values[better]
            damping[active] *= np.where(better, 0.2, 5.0)
            active = active[~small & (damping[active] < 1e8)]
            if not len(active):
                break
        return at, factor, misfit

    def _linearised(
        self, at: NDArray, data: NDArray, known: NDArray
    ) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Factor and misfit ``(n,)``, normal matrix ``(n, 2, 2)``, gradient ``(n, 2)``."""
        f0, q = at[:, :1], np.exp(at[:, 1:])
        shape, inverse = self.shape(at)
        shape = shape * known
        power = np.maximum(np.real(_inner(shape, shape)), 1e-300)
        factor = _inner(shape, data) / power
        residual = data - factor[:, None] * shape
        # Derivatives of the shape by f0 and log Q; what the factor can follow is taken out.
        slopes = [
            shape * (2.0 / f0 + (2.0 * f0 + 1j * self.f / q) * inverse),
            shape * (-1.0 - 1j * self.f * (f0 / q) * inverse),
        ]
        along = [_inner(shape, slope) for slope in slopes]
        scale = np.abs(factor) ** 2
        normal, gradient = np.empty((len(at), 2, 2)), np.empty((len(at), 2))
        for i in range(2):
            gradient[:, i] = (factor.conj() * _inner(slopes[i], residual)).real
            for j in range(i + 1):
                product = _inner(slopes[i], slopes[j]) - along[i].conj() * along[j] / power
                normal[:, i, j] = normal[:, j, i] = scale * product.real
        return factor, np.real(_inner(residual, residual)), normal, gradient


def _inner(a: NDArray, b: NDArray) -> NDArray:
    """Inner products of rows, ``(n,)``."""
    return np.einsum("nm,nm->n", a.conj(), b)


def _solved(normal: NDArray, gradient: NDArray, damping: NDArray) -> NDArray:
    """Levenberg-Marquardt steps ``(n, 2)``: 2 x 2 systems by Cramer's rule."""
    a = normal[:, 0, 0] * (1.0 + damping) + 1e-300
    d = normal[:, 1, 1] * (1.0 + damping) + 1e-300
    b = normal[:, 0, 1]
    determinant = np.maximum(a * d - b * b, 1e-14 * a * d + 1e-300)
    u, v = gradient[:, 0], gradient[:, 1]
    step = np.stack([(d * u - b * v) / determinant, (a * v - b * u) / determinant], axis=1)
    # A factor of 2 in Q and no more at once.
    longest = np.maximum(np.abs(step[:, 1]) / 0.7, 1.0)
    return np.nan_to_num(step / longest[:, None])

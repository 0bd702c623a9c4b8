"""A pattern with the symmetry of a wallpaper group, and what of a higher one it nearly has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from curiosity_bluesky.similarity.symmetry.groups import LATTICES, operations
from curiosity_bluesky.similarity.symmetry.lattice import OPERATIONS, reduction, strains


@dataclass(frozen=True)
class Pattern:
    """A real function of the plane with the symmetry of a wallpaper group.

    Parameters
    ----------
    group
        One of `GROUPS`.
    cell
        Lattice vectors as columns, (2, 2), rows x and y, pixels.
    waves
        Indices of the waves, (n, 2).
    amplitudes
        Their complex amplitudes, (n,).
    """

    group: str
    cell: NDArray[np.float64]
    waves: NDArray[np.int64]
    amplitudes: NDArray[np.complex128]

    def at(self, x: NDArray, y: NDArray) -> NDArray[np.float64]:
        """Return its values at points given in pixels, in the shape of `x`.

        Parameters
        ----------
        x, y
            Where, of one shape.
        """
        points = np.linalg.solve(self.cell, np.stack([np.ravel(x), np.ravel(y)]))
        phase = np.exp(2j * np.pi * (self.waves @ points))
        return np.real(self.amplitudes @ phase).reshape(np.shape(x))

    def drawn(
        self, side: int, offset: Sequence[float] = (0.0, 0.0), shear: float = 0.0
    ) -> NDArray[np.float64]:
        """Return an image of it, (side, side).

        Parameters
        ----------
        side
            Pixels along each side.
        offset
            Where its corner lies, (x, y), pixels.
        shear
            How far x creeps a row, pixels: what drift does to a slow scan.
        """
        rows, cols = np.mgrid[:side, :side].astype(float)
        # A wave on a grid is a product of two: 2 n side exponentials, not n side^2.
        wave = 2 * np.pi * (self.waves @ np.linalg.inv(self.cell))  # (n, 2), radians a pixel
        along_x = np.exp(1j * np.outer(wave[:, 0], cols[0] + offset[0]))
        slow = wave[:, 1] + shear * wave[:, 0]
        start = wave[:, 1] * offset[1]
        along_y = np.exp(1j * (np.outer(slow, rows[:, 0]) + start[:, None]))
        return np.real((along_y * self.amplitudes[:, None]).T @ along_x)


@dataclass(frozen=True)
class Shape:
    """A pointwise non-linearity: smooth, domain-like, or inverted. It keeps the group.

    Parameters
    ----------
    gain
        Slope of a tanh; 0 for none.
    threshold
        Value that becomes 0.
    sign
        1, or -1 to invert.
    """

    gain: float = 0.0
    threshold: float = 0.0
    sign: float = 1.0

    def __call__(self, values: NDArray) -> NDArray[np.float64]:
        """Return the values shaped, of mean 0 and standard deviation 1.

        Parameters
        ----------
        values
            Of mean 0 and standard deviation 1, of any shape.
        """
        if self.gain:
            values = np.tanh(self.gain * (values - self.threshold))
        values = self.sign * values
        return (values - values.mean()) / max(float(values.std()), 1e-9)


FALSE = 0.8
"""Correlation from which on a motif counts as having an operation."""

_GRID = 48
_TOLERATED = 0.2


def pseudosymmetry(pattern: Pattern, shape: Shape | None = None, enough: float = np.inf) -> float:
    """Return the best correlation with itself under an operation that its group lacks.

    Tried are all point operations that the lattice has to within 20 % of its metric, with any
    translation. An operation that differs from one of the group's by a translation only (a
    mirror where there is a glide line) is the same as that translation: tried are those to other
    peaks of the autocorrelation, and by a half and a third of a lattice vector.

    Parameters
    ----------
    pattern
        The motif.
    shape
        What is done to its values first.
    enough
        Correlation from which on no better one is looked for.
    """
    basis = (
        np.array([[0.5, 0.5], [-0.5, 0.5]]) if LATTICES[pattern.group] == "centred" else np.eye(2)
    )
    basis = basis @ reduction(pattern.cell @ basis)
    grid = np.zeros((_GRID, _GRID), complex)
    waves = np.rint(pattern.waves @ basis).astype(int) % _GRID
    np.add.at(grid, tuple(waves.T), pattern.amplitudes)
    values = np.real(np.fft.ifft2(grid)) * _GRID**2
    power = np.fft.fft2(shape(values) if shape else values)
    power[0, 0] = 0
    norm = np.sum(np.abs(power) ** 2)
    own = np.real(np.fft.ifft2(np.abs(power) ** 2)) * _GRID**2 / norm
    peaks = own >= maximum_filter(own, 3, mode="wrap")
    peaks[0, 0] = False
    a, b = _GRID // 2, _GRID // 3
    parts = np.array([(a, 0), (0, a), (a, a), (b, 0), (0, b), (b, b), (b, -b)])
    worst = max(float(own[tuple(parts.T)].max()), float(own[peaks].max(initial=-1)))
    back = np.linalg.inv(basis)
    mine = {np.rint(back @ r @ basis).astype(int).tobytes() for r, _ in operations(pattern.group)}
    h = np.fft.fftfreq(_GRID, 1 / _GRID).astype(int)
    h = np.stack(np.meshgrid(h, h, indexing="ij"), -1)
    for r in OPERATIONS[strains(pattern.cell @ basis) < _TOLERATED]:
        if worst >= enough:
            break
        if r.tobytes() not in mine:
            turned = h @ r % _GRID
            both = power[turned[..., 0], turned[..., 1]] * power.conj()
            worst = max(worst, float(np.abs(np.fft.ifft2(both)).max() * _GRID**2 / norm))
    return worst

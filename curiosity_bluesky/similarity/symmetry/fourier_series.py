"""An image as a Fourier series on a lattice, whose vectors are refined with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STRAY = 0.2
_POWERS = np.array([(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)])


@dataclass(frozen=True)
class FourierFit:
    """An image as a Fourier series on a lattice.

    Parameters
    ----------
    cell
        Reduced lattice vectors as columns, (2, 2), rows x and y, pixels.
    waves
        Indices (h, k) of the waves, (n, 2); each with its opposite.
    amplitudes
        Their complex amplitudes about the centre of the image, (n,).
    explained
        Share of the image's variance (without background and lines) that the series is.
    residual
        What is left, (rows, cols).
    """

    cell: NDArray[np.float64]
    waves: NDArray[np.int64]
    amplitudes: NDArray[np.complex128]
    explained: float
    residual: NDArray[np.float64]


class Series:
    """Least squares of Fourier series on lattices, beside a background and offsets of the rows.

    Offsets are a random effect: their share of a row's mean is known from a first fit.

    Parameters
    ----------
    values
        (rows, cols), finite.
    limit
        Longest wave vector, 1/pixel. Where that allows it, blocks of pixels are taken together.
    """

    def __init__(self, values: NDArray, limit: float) -> None:
        self.limit = limit
        self.block = max(1, min(int(0.22 / limit), min(values.shape) // 32))
        rows, cols = (n // self.block for n in values.shape)
        values = values[: rows * self.block, : cols * self.block]
        values = values.reshape(rows, self.block, cols, self.block).mean((1, 3))
        self.values = values
        self.x = self.block * (np.arange(cols) - (cols - 1) / 2)
        self.y = self.block * (np.arange(rows) - (rows - 1) / 2)
        # Less weight at the edges: what is not modelled leaks less into the waves.
        self.wx, self.wy = (
            0.3 + 0.7 * np.cos(np.pi * np.arange(-n + 1, n, 2) / (2 * n)) ** 2 for n in (cols, rows)
        )
        self.px = (self.x / np.ptp(self.x)) ** _POWERS[:, :1]
        self.py = (self.y / np.ptp(self.y)) ** _POWERS[:, 1:]
        self.lines = 0.0  # share of a row's mean residual that is its offset
        self._row_means = values @ self.wx / self.wx.sum()

    def _offsets(self, residual: NDArray) -> float:
        """Share of the rows' mean residuals that is row offsets, not pixel noise."""
        means = residual.mean(1)
        noise = float(np.median((residual - means[:, None]).var(1))) / residual.shape[1]
        return float(np.clip(1 - noise / max(float(np.diff(means).var()) / 2, 1e-30), 0, 0.99))

    def _power(self, residual: NDArray) -> float:
        return float(self.wy @ (residual**2) @ self.wx)

    def _solved(self, k: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Coefficients of the background, of the waves, of their opposites; and the waves."""
        ex = np.exp(2j * np.pi * np.outer(k[:, 0], self.x))
        ey = np.exp(2j * np.pi * np.outer(k[:, 1], self.y))
        fx = np.concatenate([self.px, ex, ex.conj()])
        fy = np.concatenate([self.py, ey, ey.conj()])
        gx, gy = (fx.conj() * self.wx) @ fx.T, (fy.conj() * self.wy) @ fy.T
        s = fx @ self.wx
        gx = gx - self.lines * np.outer(s.conj(), s) / self.wx.sum()
        gram = gx * gy
        gram[np.diag_indices(len(gram))] *= 1 + 1e-4
        half = np.concatenate([self.px, ex]), np.concatenate([self.py, ey])
        right = (((half[1].conj() * self.wy) @ self.values) * half[0].conj()) @ self.wx
        means = (half[1].conj() * self.wy) @ self._row_means
        right = right - self.lines * means * s[: len(right)].conj()
        right = np.concatenate([right, right[len(self.px) :].conj()])
        return np.linalg.solve(gram, right), ex, ey

    def _residual(self, coefficients: NDArray, ex: NDArray, ey: NDArray) -> NDArray:
        n, p = len(ex), len(self.px)
        model = (self.py * np.real(coefficients[:p, None])).T @ self.px
        model = model + 2 * np.real((ey * coefficients[p : p + n, None]).T @ ex)
        residual = self.values - model
        return residual - self.lines * (residual @ self.wx / self.wx.sum())[:, None]

    def fit(self, cell: NDArray, steps: int = 4) -> FourierFit:
        """Return the series on a lattice whose vectors are refined.

        Parameters
        ----------
        cell
            Lattice vectors as columns, (2, 2), pixels, good to some percent.
        steps
            Gauss-Newton steps of the lattice vectors; the first with long waves only.
        """
        inverse = np.linalg.inv(cell)
        self.lines = 0.0
        for step in range(steps):
            last = step == steps - 1
            inverse = self._improved(inverse, self.limit if step > 1 else 0.55 * self.limit, last)
            if np.abs(inverse @ cell - np.eye(2)).max() > _STRAY:
                # Where there is no lattice, least squares may run anywhere.
                return self.fit(cell, 0)
        waves = _half_plane(inverse, self.limit)
        k = waves @ inverse
        coefficients, ex, ey = self._solved(k)
        residual = self._residual(coefficients, ex, ey)
        total = self._power(self._residual(*self._solved(np.zeros((0, 2)))))
        explained = 1 - self._power(residual) / max(total, 1e-30)
        # The mean over a block weakens a wave.
        weakened = np.sinc(self.block * k).prod(1)
        amplitudes = coefficients[len(self.px) : len(self.px) + len(k)] / weakened
        return FourierFit(
            np.linalg.inv(inverse).astype(float),
            np.concatenate([waves, -waves]),
            np.concatenate([amplitudes, amplitudes.conj()]),
            float(explained),
            residual,
        )

    def _improved(self, inverse: NDArray, reach: float, last: bool) -> NDArray:
        """One Gauss-Newton step of the reciprocal lattice; with the last come the offsets."""
        waves = _half_plane(inverse, reach)
        k = waves @ inverse
        coefficients, ex, ey = self._solved(k)
        residual = self._residual(coefficients, ex, ey)
        if last:
            self.lines = self._offsets(residual)
        a = 2j * np.pi * coefficients[len(self.px) : len(self.px) + len(k)]
        slopes = []
        for j in (0, 1):
            slope = 2 * np.real((ey * (a * waves[:, j])[:, None]).T @ ex)
            slopes += [(slope * self.x).ravel(), (slope * self.y[:, None]).ravel()]
        jacobian = np.stack(slopes)
        weighted = jacobian * np.outer(self.wy, self.wx).ravel()
        normal = weighted @ jacobian.T
        normal[np.diag_indices(4)] *= 1 + 1e-6
        change = np.linalg.solve(normal + 1e-12 * np.eye(4), weighted @ residual.ravel())
        return inverse + change.reshape(2, 2)


def _half_plane(inverse: NDArray, limit: float) -> NDArray[np.int64]:
    """Return indices of waves up to a limit, one of each with its opposite, (n, 2)."""
    cell = np.linalg.inv(inverse)
    h, k = (int(limit * np.hypot(*v)) + 1 for v in cell.T)
    grid = np.stack(np.meshgrid(np.arange(-h, h + 1), np.arange(-k, k + 1), indexing="ij"), -1)
    waves = grid.reshape(-1, 2)
    upper = (waves[:, 0] > 0) | ((waves[:, 0] == 0) & (waves[:, 1] > 0))
    return waves[upper & (np.hypot(*(waves @ inverse).T) <= limit)]

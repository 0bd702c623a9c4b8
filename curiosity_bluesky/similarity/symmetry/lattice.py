"""Plane lattices: shortest bases, operations that nearly keep the metric, lattices in images."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from curiosity_bluesky.similarity.fourier import fast, irfft2, rfft2

_ALL = np.array(list(product((-1, 0, 1), repeat=4))).reshape(-1, 2, 2)
OPERATIONS: NDArray[np.int64] = _ALL[np.abs(np.round(np.linalg.det(_ALL))) == 1]
"""Integer matrices of determinant 1 and -1 with entries from -1 to 1, (n, 2, 2).

In a reduced basis, all point operations of a plane lattice are among them.
"""


def reduction(cell: NDArray) -> NDArray[np.int64]:
    """Return the integer matrix M for which ``cell @ M`` is the shortest basis, (2, 2).

    Gauss's algorithm: the two vectors are the shortest of the lattice that are independent.

    Parameters
    ----------
    cell
        Lattice vectors as columns, (2, 2).
    """
    m = np.eye(2, dtype=np.int64)
    for _ in range(100):
        a, b = (cell @ m).T
        if a @ a > b @ b:
            m = m[:, ::-1]
            a, b = b, a
        times = round(float(a @ b / (a @ a)))
        if times == 0:
            break
        m = np.stack([m[:, 0], m[:, 1] - times * m[:, 0]], axis=1)
    return m


def strains(cell: NDArray) -> NDArray[np.float64]:
    """Return the deviation of each of `OPERATIONS` from preserving a cell's metric, (n,).

    The largest entry of ``R^T G R - G`` (G: the metric tensor), relative to the geometric mean
    of the squared lengths: 0 for an operation of the lattice, about twice a shear.

    Parameters
    ----------
    cell
        Reduced lattice vectors as columns, (2, 2).
    """
    metric = cell.T @ cell
    moved = np.swapaxes(OPERATIONS, 1, 2) @ metric @ OPERATIONS
    return np.abs(moved - metric).max((1, 2)) / np.sqrt(metric[0, 0] * metric[1, 1])


_LAG = 0.6
_LEVELS = (0.95, 0.88, 0.78, 0.65)


def autocorrelation(values: NDArray) -> tuple[NDArray[np.float64], float]:
    """Return the autocorrelation at lags of up to 60 % of the image, and the share that is signal.

    Each lag is normalised by what overlaps. The peak of white noise at no lag, and the ridge of
    line noise along the rows, are taken off.

    Parameters
    ----------
    values
        (rows, cols), finite.

    Returns
    -------
    autocorrelation
        (2 m + 1, 2 n + 1), no lag in the middle, the lag along y first.
    signal
        Its value at no lag without the noise, 0 to 1.
    """
    rows, cols = values.shape
    m, n = int(_LAG * rows), int(_LAG * cols)
    values = values - values.mean()
    size = fast(rows + m), fast(cols + n)
    product = irfft2(np.abs(rfft2(values, size)) ** 2, size)
    product = np.roll(product, (m, n), (0, 1))[: 2 * m + 1, : 2 * n + 1]
    # Power of the part that overlaps with the part at each lag: corners of an integral image.
    power = np.zeros((rows + 1, cols + 1))
    power[1:, 1:] = np.cumsum(np.cumsum(values**2, 0), 1)
    y, x = np.arange(-m, m + 1), np.arange(-n, n + 1)
    top, left = np.maximum(y, 0), np.maximum(x, 0)
    bottom, right = np.minimum(rows + y, rows), np.minimum(cols + x, cols)
    inside = (
        power[np.ix_(bottom, right)]
        - power[np.ix_(top, right)]
        - power[np.ix_(bottom, left)]
        + power[np.ix_(top, left)]
    )
    found = product / np.sqrt(inside * inside[::-1, ::-1] + 1e-30)
    ridge = found[m] - (found[m - 1] + found[m + 1]) / 2
    found[m] -= max(float(np.median(ridge)), 0.0)
    found[m, n] = (found[m, n - 1] + found[m, n + 1]) / 2
    found = gaussian_filter(found, 1.0)
    return found, float(found[m, n])


def candidates(found: NDArray, largest: float) -> list[NDArray[np.float64]]:
    """Return reduced cells that peaks of the autocorrelation span.

    The two shortest of the highest peaks, where "the highest" is taken more and more widely.

    Parameters
    ----------
    found
        As `autocorrelation` returns it.
    largest
        Largest area of a cell, pixels.
    """
    m, n = found.shape[0] // 2, found.shape[1] // 2
    peaks = found == maximum_filter(found, 3)
    peaks[:m] = False
    peaks[m, : n + 1] = False
    peaks[[0, -1]], peaks[:, [0, -1]] = False, False
    at = np.argwhere(peaks)
    lag = at - (m, n)
    at = at[np.hypot(*lag.T) > 3]
    if len(at) < 2:
        return []
    heights = found[tuple(at.T)]
    order = np.argsort(-heights)[:24]
    at, heights = at[order], heights[order]
    around = np.stack([found[r - 1 : r + 2, c - 1 : c + 2] for r, c in at], axis=-1)
    vectors = (at - (m, n) + _summits(around))[:, ::-1]  # (x, y)
    lengths = np.hypot(*vectors.T)
    cells: list[NDArray[np.float64]] = []
    for level in _LEVELS:
        high = np.flatnonzero(heights >= level * heights[0])
        high = high[np.argsort(lengths[high])]
        first = vectors[high[0]]
        for other in vectors[high[1:]]:
            cell = np.stack([first, other], axis=1)
            area = abs(np.linalg.det(cell))
            if 0.2 * lengths[high[0]] * np.hypot(*other) < area < largest:
                cell = cell @ reduction(cell)
                if not any(_same(cell, old) for old in cells):
                    cells.append(cell)
                break
    return cells


def order(found: NDArray, cell: NDArray) -> tuple[float, float]:
    """Return the mean and the least autocorrelation at the lattice points within its map.

    Parameters
    ----------
    found
        As `autocorrelation` returns it.
    cell
        Lattice vectors as columns, (2, 2), pixels.
    """
    m, n = found.shape[0] // 2, found.shape[1] // 2
    reach = int(np.hypot(m, n) / np.abs(np.linalg.svd(cell)[1]).min()) + 1
    steps = np.arange(-reach, reach + 1)
    points = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    x, y = np.rint(cell @ points[(points != 0).any(1)].T).astype(int)
    inside = (np.abs(x) <= n) & (y >= 0) & (y <= m)
    values = found[m + y[inside], n + x[inside]]
    return (float(values.mean()), float(values.min())) if len(values) else (0.0, 0.0)


def _same(cell: NDArray, other: NDArray) -> bool:
    change = np.linalg.solve(other, cell)
    return bool(
        np.abs(change - np.rint(change)).max() < 0.15
        and abs(abs(np.linalg.det(np.rint(change))) - 1) < 0.1
    )


def _summits(around: NDArray) -> NDArray[np.float64]:
    """Maxima of parabolas through 3 x 3 values, (row, col), within a pixel, (n, 2).

    Parameters
    ----------
    around
        (3, 3, n).
    """
    slope_y, slope_x = (around[2, 1] - around[0, 1]) / 2, (around[1, 2] - around[1, 0]) / 2
    across = (around[2, 2] - around[2, 0] - around[0, 2] + around[0, 0]) / 4
    yy = around[2, 1] + around[0, 1] - 2 * around[1, 1]
    xx = around[1, 2] + around[1, 0] - 2 * around[1, 1]
    determinant = xx * yy - across**2
    known = determinant >= 1e-12
    tops = np.stack([across * slope_x - xx * slope_y, across * slope_y - yy * slope_x], axis=1)
    return np.where(
        known[:, None], np.clip(tops / np.where(known, determinant, 1)[:, None], -1, 1), 0.0
    )

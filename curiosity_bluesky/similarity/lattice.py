"""Plane lattices: the shortest basis, and which integer operations nearly keep their metric."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

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
    """Return how far each of `OPERATIONS` is from keeping the metric of a cell, (n,).

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

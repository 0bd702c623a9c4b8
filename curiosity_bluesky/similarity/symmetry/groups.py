"""The 17 wallpaper groups: International Tables for Crystallography A, plane groups 1 to 17."""

from __future__ import annotations

import numpy as np

Operation = tuple[tuple[tuple[int, int], tuple[int, int]], tuple[float, float]]
"""x' = R x + t in fractions of the conventional cell."""

_C2: Operation = (((-1, 0), (0, -1)), (0.0, 0.0))
_C4: Operation = (((0, -1), (1, 0)), (0.0, 0.0))
_C3: Operation = (((0, -1), (1, -1)), (0.0, 0.0))
_C6: Operation = (((1, -1), (1, 0)), (0.0, 0.0))
_CENTRE: Operation = (((1, 0), (0, 1)), (0.5, 0.5))


def _mirror(tx: float = 0.0, ty: float = 0.0) -> Operation:
    return (((-1, 0), (0, 1)), (tx, ty))


_GENERATORS: dict[str, tuple[str, list[Operation]]] = {
    "p1": ("oblique", []),
    "p2": ("oblique", [_C2]),
    "pm": ("rectangular", [_mirror()]),
    "pg": ("rectangular", [_mirror(0.0, 0.5)]),
    "cm": ("centred", [_mirror(), _CENTRE]),
    "pmm": ("rectangular", [_C2, _mirror()]),
    "pmg": ("rectangular", [_C2, _mirror(0.5, 0.0)]),
    "pgg": ("rectangular", [_C2, _mirror(0.5, 0.5)]),
    "cmm": ("centred", [_C2, _mirror(), _CENTRE]),
    "p4": ("square", [_C4]),
    "p4m": ("square", [_C4, _mirror()]),
    "p4g": ("square", [_C4, _mirror(0.5, 0.5)]),
    "p3": ("hexagonal", [_C3]),
    "p3m1": ("hexagonal", [_C3, (((0, -1), (-1, 0)), (0.0, 0.0))]),
    "p31m": ("hexagonal", [_C3, (((0, 1), (1, 0)), (0.0, 0.0))]),
    "p6": ("hexagonal", [_C6]),
    "p6m": ("hexagonal", [_C6, (((0, 1), (1, 0)), (0.0, 0.0))]),
}

GROUPS: tuple[str, ...] = tuple(_GENERATORS)
"""Short Hermann-Mauguin symbols, in the order of their lattices."""

ORDERS: dict[str, int] = dict(
    zip(GROUPS, (1, 2, 2, 2, 4, 4, 4, 4, 8, 4, 8, 8, 3, 6, 6, 6, 12), strict=True)
)
"""Operations in the conventional cell, translations by its centring included."""


LATTICES: dict[str, str] = {group: lattice for group, (lattice, _) in _GENERATORS.items()}
"""Lattice of each group: oblique, rectangular, centred (rectangular), square, hexagonal."""


def operations(group: str) -> list[Operation]:
    """Return all operations of a group, in fractions of the conventional cell.

    Parameters
    ----------
    group
        One of `GROUPS`.
    """
    generators = _GENERATORS[group][1]
    found: dict[Operation, None] = {(((1, 0), (0, 1)), (0.0, 0.0)): None}
    frontier = list(found)
    while frontier:
        products = [_product(a, b) for a in frontier for b in generators]
        frontier = [operation for operation in dict.fromkeys(products) if operation not in found]
        found |= dict.fromkeys(frontier)
    return list(found)


def _product(a: Operation, b: Operation) -> Operation:
    rotation = np.array(a[0]) @ np.array(b[0])
    shift = (np.array(a[0]) @ np.array(b[1]) + np.array(a[1])) % 1.0
    rows = tuple((int(row[0]), int(row[1])) for row in rotation)
    return (rows[0], rows[1]), (float(shift[0]), float(shift[1]))

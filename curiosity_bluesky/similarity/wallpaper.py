"""Images of all 17 wallpaper groups, exact to rounding, and textures that have none of them.

A pattern is a random Fourier series on a lattice, averaged over its group in reciprocal space
(International Tables for Crystallography A, plane groups 1 to 17), and drawn at any rotation,
offset and cell size without interpolation. A pointwise non-linearity afterwards keeps the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


_LIMIT = 4
_FALSE = 0.8
_TRIES = 50


def random_pattern(
    group: str, rng: np.random.Generator, side: int = 128, cells: tuple[float, float] = (2.5, 5.0)
) -> Pattern:
    """Return a random motif on a random lattice of a group.

    Metrics that belong to a higher lattice by accident are not drawn, nor are motifs that nearly
    have an operation that their group lacks (a correlation above 0.8).

    Parameters
    ----------
    group
        One of `GROUPS`.
    rng
        Where chance comes from.
    side
        Pixels along the image that it is for.
    cells
        How many primitive cells (the square root of their number) lie along the image, from and to.
    """
    waves = np.array(
        [(h, k) for h in range(-_LIMIT, _LIMIT + 1) for k in range(-_LIMIT, _LIMIT + 1)]
    )
    pattern = None
    for _ in range(_TRIES):
        cell = _random_cell(_GENERATORS[group][0], rng, side / rng.uniform(*cells))
        length = np.linalg.norm(waves @ np.linalg.inv(cell), axis=1)
        length /= np.sqrt(1 / abs(np.linalg.det(cell)))
        spread = rng.uniform(0.8, 1.8)
        raw = rng.normal(size=(len(waves), 2)) @ (1, 1j) * np.exp(-((length / spread) ** 2) / 2)
        raw[(waves == 0).all(1)] = 0
        amplitudes = _averaged(group, waves, raw)
        scale = np.sqrt(np.sum(np.abs(amplitudes) ** 2) / 2)
        if scale < 1e-9:
            continue
        pattern = Pattern(group, cell, waves, amplitudes / scale)
        if _falsely(pattern) < _FALSE:
            return pattern
    assert pattern is not None
    return pattern


def _averaged(group: str, waves: NDArray, raw: NDArray) -> NDArray:
    """F'(k) = sum over (R, t) of exp(-2 pi i k.t) F(R^T k); waves beyond the limit are 0."""
    index = {tuple(wave): n for n, wave in enumerate(waves.tolist())}
    total = np.zeros(len(waves), complex)
    # Hexagonal operations take waves out of the square of indices: those are dropped with all
    # that are their images, or the group would not be exact.
    kept = np.ones(len(waves), bool)
    for rotation, shift in operations(group):
        turned = waves @ np.array(rotation)
        where = np.array([index.get(tuple(wave), -1) for wave in turned.tolist()])
        kept &= where >= 0
        total += np.exp(-2j * np.pi * (waves @ np.array(shift))) * raw[where]
    total[~kept] = 0
    return total / ORDERS[group]


def _random_cell(lattice: str, rng: np.random.Generator, size: float) -> NDArray[np.float64]:
    """Return conventional lattice vectors as columns; the primitive cell has the area size^2."""
    if lattice == "square":
        a, b, angle = 1.0, 1.0, np.pi / 2
    elif lattice == "hexagonal":
        a, b, angle = 1.0, 1.0, 2 * np.pi / 3
    elif lattice == "oblique":
        while True:
            a, b, angle = 1.0, rng.uniform(1.0, 1.6), np.deg2rad(rng.uniform(65, 115))
            if not _is_special(a, b, angle):
                break
    else:
        while True:
            # Both ways round: the mirror lies along the short side, or along the long one.
            a, b, angle = 1.0, float(np.exp(rng.uniform(-0.6, 0.6))), np.pi / 2
            near = (1.0, np.sqrt(3)) if lattice == "centred" else (1.0,)
            if all(abs(np.log(max(a / b, b / a) / ratio)) > 0.12 for ratio in near):
                break
    cell = np.array([[a, b * np.cos(angle)], [0.0, b * np.sin(angle)]])
    primitive = np.linalg.det(cell) / (2 if lattice == "centred" else 1)
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rotation @ cell * size / np.sqrt(primitive)


def _is_special(a: float, b: float, angle: float) -> bool:
    """Whether an oblique cell is nearly rectangular, rhombic, square or hexagonal."""
    vectors = [np.array([a, 0.0]), b * np.array([np.cos(angle), np.sin(angle)])]
    vectors += [vectors[0] + vectors[1], vectors[0] - vectors[1]]
    lengths = [np.linalg.norm(v) for v in vectors]
    rhombic = any(abs(np.log(lengths[i] / lengths[j])) < 0.08 for i in range(4) for j in range(i))
    return bool(rhombic or abs(np.cos(angle)) < 0.12)


def _falsely(pattern: Pattern) -> float:
    """Return the best correlation with a point operation that the group lacks, over all shifts."""
    mine = {rotation for rotation, _ in operations(pattern.group)}
    table = {tuple(wave): n for n, wave in enumerate(pattern.waves.tolist())}
    metric = pattern.cell.T @ pattern.cell
    norm = np.sum(np.abs(pattern.amplitudes) ** 2)
    worst = 0.0
    entries = (-1, 0, 1)
    for m in np.stack(np.meshgrid(entries, entries, entries, entries), -1).reshape(-1, 2, 2):
        rotation = tuple(map(tuple, m.tolist()))
        if abs(np.linalg.det(m)) < 0.5 or rotation in mine:
            continue
        if np.abs(m.T @ metric @ m - metric).max() > 0.2 * metric.max():
            continue
        where = np.array([table.get(tuple(w), -1) for w in (pattern.waves @ m).tolist()])
        product = np.where(where >= 0, pattern.amplitudes[where], 0) * pattern.amplitudes.conj()
        size = 32
        grid = np.zeros((size, size), complex)
        np.add.at(grid, tuple(pattern.waves.T % size), product)
        worst = max(worst, float(np.abs(np.fft.ifft2(grid) * size**2).max() / norm))
    return worst


def random_texture(
    rng: np.random.Generator, side: int = 128, grain: float | None = None
) -> NDArray[np.float64]:
    """Return an aperiodic texture like domains, (side, side): a filtered random field.

    Parameters
    ----------
    rng
        Where chance comes from.
    side
        Pixels along each side.
    grain
        Size of its features, pixels; by chance if None.
    """
    grain = float(np.exp(rng.uniform(np.log(5), np.log(side / 6)))) if grain is None else grain
    padded = 2 * side
    ky, kx = np.meshgrid(np.fft.fftfreq(padded), np.fft.fftfreq(padded), indexing="ij")
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 1.2))
    u = (kx * np.cos(turn) + ky * np.sin(turn)) * stretch
    v = (ky * np.cos(turn) - kx * np.sin(turn)) / stretch
    k = np.hypot(u, v) * grain
    # From a power law to a ring: from scale-free roughness to labyrinths of one width.
    width = rng.uniform(0.15, 1.0)
    filtered = np.exp(-(((k - 1) / width) ** 2) / 2) * (k > 0)
    noise = np.fft.fft2(rng.normal(size=(padded, padded)))
    field = np.real(np.fft.ifft2(noise * filtered))[:side, :side]
    return (field - field.mean()) / field.std()


@dataclass(frozen=True)
class Spoiling:
    """What an instrument does to an image.

    Parameters
    ----------
    noise
        Standard deviation of white noise, relative to that of the image.
    shear
        Drift during the scan: x creeps so much of a pixel a row, up to.
    lines
        Standard deviation of an offset that each row has of its own, relative to the image's.
    """

    noise: float = 0.15
    shear: float = 0.0
    lines: float = 0.0


def shaped(values: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return values after a random pointwise non-linearity: smooth, domain-like, or inverted.

    Parameters
    ----------
    values
        Of mean 0 and standard deviation 1.
    rng
        Where chance comes from.
    """
    kind = rng.integers(3)
    if kind == 1:
        values = np.tanh(values * rng.uniform(1, 4))
    elif kind == 2:
        values = np.tanh((values - rng.uniform(-0.5, 0.5)) * 12)
    values = values * rng.choice((-1.0, 1.0))
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def spoilt(values: NDArray, rng: np.random.Generator, spoiling: Spoiling) -> NDArray[np.float64]:
    """Return an image with noise and line noise added; shear is up to who draws it.

    Parameters
    ----------
    values
        (rows, cols).
    rng
        Where chance comes from.
    spoiling
        How much.
    """
    scale = float(values.std())
    noise = rng.normal(size=values.shape) * spoiling.noise
    lines = rng.normal(size=(len(values), 1)) * spoiling.lines
    return values + scale * (noise + lines)


def random_image(
    group: str | None, rng: np.random.Generator, side: int = 128, spoiling: Spoiling | None = None
) -> NDArray[np.float64]:
    """Return an image of a group, at free rotation, or of a texture that has none.

    Parameters
    ----------
    group
        One of `GROUPS`; None for an aperiodic texture.
    rng
        Where chance comes from.
    side
        Pixels along each side.
    spoiling
        What the instrument does to it; default: noise of 0.15.
    """
    spoiling = spoiling or Spoiling()
    if group is None:
        clean = random_texture(rng, side)
    else:
        pattern = random_pattern(group, rng, side)
        shear = rng.uniform(-spoiling.shear, spoiling.shear)
        clean = pattern.drawn(side, rng.uniform(0, side, 2).tolist(), shear)
    return spoilt(shaped(clean, rng), rng, spoiling)

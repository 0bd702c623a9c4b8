"""Images of all 17 wallpaper groups, exact to rounding, and textures that have none of them.

A pattern is a random Fourier series on a lattice, averaged over its group in reciprocal space
(International Tables for Crystallography A, plane groups 1 to 17), and drawn at any rotation,
offset and cell size without interpolation. A pointwise non-linearity afterwards keeps the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.symmetry.groups import (
    GROUPS,
    LATTICES,
    ORDERS,
    operations,
)
from synthetic.pattern import (
    FALSE,
    Pattern,
    Shape,
    pseudosymmetry,
)


def random_shape(rng: np.random.Generator) -> Shape:
    """Return a non-linearity: none, a soft one, or almost a threshold, in equal parts.

    Parameters
    ----------
    rng
        Where chance comes from.
    """
    kind, sign = rng.integers(3), float(rng.choice((-1.0, 1.0)))
    if kind == 0:
        return Shape(sign=sign)
    if kind == 1:
        return Shape(float(rng.uniform(1, 4)), 0.0, sign)
    return Shape(12.0, float(rng.uniform(-0.5, 0.5)), sign)


_LIMIT = 4
_TRIES = 10_000
_WAVES = np.array(list(product(range(-_LIMIT, _LIMIT + 1), repeat=2)))


def random_pattern(
    group: str,
    rng: np.random.Generator,
    side: int = 128,
    cells: tuple[float, float] = (2.5, 5.0),
    shape: Shape | None = None,
    limit: float = FALSE,
) -> Pattern:
    """Return a random motif on a random lattice of a group.

    Not drawn are metrics of a higher lattice, and motifs that nearly have an operation that
    their group lacks (`pseudosymmetry`).

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
    shape
        What will be done to its values, and what of its symmetry must not pass for a higher one.
        Default: nothing.
    limit
        Correlation from which on it counts as having an operation that its group lacks.

    Raises
    ------
    InputError
        If there is no such group.
    """
    if group not in GROUPS:
        raise InputError(f"{group!r} is no wallpaper group; expected one of {', '.join(GROUPS)}")
    for _ in range(_TRIES):
        cell = _random_cell(LATTICES[group], rng, side / rng.uniform(*cells))
        length = np.linalg.norm(_WAVES @ np.linalg.inv(cell), axis=1)
        length /= np.sqrt(1 / abs(np.linalg.det(cell)))
        spread = rng.uniform(0.8, 1.8)
        raw = rng.normal(size=(len(_WAVES), 2)) @ (1, 1j) * np.exp(-((length / spread) ** 2) / 2)
        raw[(_WAVES == 0).all(1)] = 0
        amplitudes = _averaged(group, raw)
        # Waves h and -h of a real function: its part that is imaginary is not drawn.
        amplitudes = (amplitudes + amplitudes[::-1].conj()) / 2
        scale = np.sqrt(np.sum(np.abs(amplitudes) ** 2))
        if scale < 1e-9:
            continue
        pattern = Pattern(group, cell, _WAVES, amplitudes / scale)
        if pseudosymmetry(pattern, shape, limit) < limit:
            return pattern
    raise RuntimeError(f"none of {_TRIES} motifs of {group} lacks all operations of higher groups")


def _averaged(group: str, raw: NDArray) -> NDArray:
    """F'(k) = sum over (R, t) of exp(-2 pi i k.t) F(R^T k); waves beyond the limit are 0."""
    total = np.zeros(len(_WAVES), complex)
    kept, turned = _turned_waves(group)
    for where, phase in turned:
        total += phase * raw[where]
    total[~kept] = 0
    return total / ORDERS[group]


@cache
def _turned_waves(group: str) -> tuple[NDArray, list[tuple[NDArray, NDArray]]]:
    """Return which waves are kept, and where each operation takes them, with what phase."""
    index = {tuple(wave): n for n, wave in enumerate(_WAVES.tolist())}
    # Hexagonal operations take waves out of the square of indices: those are dropped with all
    # that are their images, or the group would not be exact.
    kept, turned = np.ones(len(_WAVES), bool), []
    for rotation, shift in operations(group):
        images = (_WAVES @ np.array(rotation)).tolist()
        where = np.array([index.get(tuple(wave), -1) for wave in images])
        kept &= where >= 0
        turned.append((where, np.exp(-2j * np.pi * (_WAVES @ np.array(shift)))))
    return kept, turned


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
class Degradation:
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


def apply_shape(values: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return values after a `random_shape`.

    Parameters
    ----------
    values
        Of mean 0 and standard deviation 1.
    rng
        Where chance comes from.
    """
    return random_shape(rng)(values)


def degrade(
    values: NDArray, rng: np.random.Generator, spoiling: Degradation
) -> NDArray[np.float64]:
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
    group: str | None,
    rng: np.random.Generator,
    side: int = 128,
    spoiling: Degradation | None = None,
    cells: tuple[float, float] = (2.5, 5.0),
    limit: float = FALSE,
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
    cells, limit
        As for `random_pattern`.
    """
    spoiling = spoiling or Degradation()
    shape = random_shape(rng)
    if group is None:
        clean = random_texture(rng, side)
    else:
        pattern = random_pattern(group, rng, side, cells, shape, limit)
        shear = rng.uniform(-spoiling.shear, spoiling.shear)
        clean = pattern.drawn(side, rng.uniform(0, side, 2).tolist(), shear)
    return degrade(shape(clean), rng, spoiling)

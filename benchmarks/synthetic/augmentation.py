"""The same structure at other places: pairs of views that a descriptor should bring together.

A structure is a function of the plane. Its views are drawn from it at any rotation and scale
without interpolating what is sharp, do not overlap, and each has a contrast and noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from synthetic.wallpaper import (
    GROUPS,
    Pattern,
    apply_shape,
    random_pattern,
    random_texture,
)

KINDS = ("domains", "wallpaper", "rough", "grains", "particles", "mixed")
"""What structures there are; only the first two are judged by, the others are learned from."""

_PLACES = 4
_GAMMA = 0.35


@dataclass(frozen=True)
class ViewSettings:
    """How views of a structure differ.

    Parameters
    ----------
    side
        Pixels along each side.
    scales
        Factor of magnification, from and to.
    noise
        Standard deviation of white noise relative to that of the image, from and to.
    turned
        Whether they are rotated and mirrored.
    """

    side: int = 128
    scales: tuple[float, float] = (1.0, 1.0)
    noise: tuple[float, float] = (0.15, 0.15)
    turned: bool = True


@dataclass(frozen=True)
class Structure:
    """A structure with places that do not overlap.

    Parameters
    ----------
    kind
        One of `KINDS`.
    at
        Its values, of points (x, y) in pixels relative to the middle of a place, (2, ...).
    """

    kind: str
    at: Callable[[int, NDArray], NDArray]

    def view(self, place: int, rng: np.random.Generator, how: ViewSettings) -> NDArray[np.float64]:
        """Return an image of a place, rotated, mirrored, and in a contrast of its own, by chance.

        Parameters
        ----------
        place
            0 to 3.
        rng
            Where chance comes from.
        how
            What differs.
        """
        scale = float(np.exp(rng.uniform(*np.log(how.scales))))
        turn, mirror = rng.uniform(0, 2 * np.pi), rng.choice((-1.0, 1.0))
        if not how.turned:
            turn, mirror = 0.0, 1.0
        y, x = (np.mgrid[: how.side, : how.side] - (how.side - 1) / 2) / scale
        rotated = np.stack(
            [mirror * (np.cos(turn) * x - np.sin(turn) * y), np.sin(turn) * x + np.cos(turn) * y]
        )
        values = change_contrast(self.at(place, rotated), rng)
        return values + values.std() * rng.uniform(*how.noise) * rng.normal(size=values.shape)


def change_contrast(values: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return an image with another gain, offset, gamma (0.7 to 1.4) and sign.

    Parameters
    ----------
    values
        The image.
    rng
        Where chance comes from.
    """
    low, high = np.quantile(values, [0.001, 0.999])
    unit = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    if rng.random() < 0.5:
        unit = 1 - unit
    unit = unit ** np.exp(rng.uniform(-_GAMMA, _GAMMA))
    return np.exp(rng.uniform(-2, 2)) * (unit + rng.uniform(-1, 1))


@dataclass(frozen=True)
class Reacquisition:
    """How an image is taken again.

    Parameters
    ----------
    area
        What part of the area is seen, from and to; less where that much does not fit once
        rotated: a square turned by 45 degrees holds one of half its area.
    scales
        Factor of magnification, from and to.
    noise
        Standard deviation of white noise relative to that of the image, from and to.
    """

    area: tuple[float, float] = (0.6, 0.8)
    scales: tuple[float, float] = (0.7, 1.4)
    noise: tuple[float, float] = (0.1, 0.2)


def reacquire(
    values: NDArray, rng: np.random.Generator, how: Reacquisition, period: float | None = None
) -> NDArray[np.float64]:
    """Return part of an image, rotated and mirrored by chance, at another scale, with noise.

    Parameters
    ----------
    values
        (rows, cols).
    rng
        Where chance comes from.
    how
        What differs.
    period
        As of `Image`.
    """
    rows, cols = values.shape
    turn, scale = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(*np.log(how.scales)))
    cos, sin = np.cos(turn), np.sin(turn)
    size = np.sqrt(rng.uniform(*how.area)) * np.array([rows, cols])
    box = np.array([[abs(cos), abs(sin)], [abs(sin), abs(cos)]]) @ size
    fits = min(1.0, *((np.array([rows, cols]) - 1) / box))
    size, box = size * fits, box * fits
    y0, x0 = rng.uniform(box / 2, np.array([rows, cols]) - box / 2) - 0.5
    n, m = (size * scale).astype(int)
    y = (np.arange(n)[:, None] - (n - 1) / 2) / scale
    x = (np.arange(m)[None, :] - (m - 1) / 2) / scale * rng.choice((-1.0, 1.0))
    where = [y0 + cos * y + sin * x, x0 - sin * y + cos * x]

    def seen(part: NDArray) -> NDArray:
        return map_coordinates(part, where, order=3, mode="reflect")

    if period is None:
        out = seen(values)
        spread = float(out.std())
    else:
        circle = np.exp(2j * np.pi * values / period)
        out = np.angle(seen(np.real(circle)) + 1j * seen(np.imag(circle))) * period / (2 * np.pi)
        spread = float(np.sqrt(1 - np.abs(circle.mean()) ** 2)) * period / (2 * np.pi)
    return out + rng.uniform(*how.noise) * spread * rng.normal(size=out.shape)


def random_structure(kind: str, rng: np.random.Generator, side: int = 128) -> Structure:
    """Return a structure by chance.

    Parameters
    ----------
    kind
        One of `KINDS`.
    rng
        Where chance comes from.
    side
        Pixels along the views that it is for.
    """
    seed = int(rng.integers(2**31))
    if kind == "wallpaper":
        pattern = random_pattern(str(rng.choice(GROUPS)), rng, side)
        size = float(np.sqrt(np.sum(np.abs(pattern.amplitudes) ** 2)))
        starts = rng.uniform(-1, 1, (_PLACES, 2)) * side + 10 * side * np.arange(_PLACES)[:, None]
        pattern = replace(pattern, amplitudes=pattern.amplitudes / size)

        def lattice(place: int, points: NDArray) -> NDArray:
            values = _on_grid(pattern, points, starts[place])
            return apply_shape(values, np.random.default_rng(seed))

        return Structure(kind, lattice)
    # Four places side by side in a square, each with room to turn, and to be seen smaller.
    room = int(2 * side)
    field = _field(kind, rng, 2 * room, side)
    middles = room * np.array([(0.5, 0.5), (1.5, 1.5), (0.5, 1.5), (1.5, 0.5)])

    def sampled(place: int, points: NDArray) -> NDArray:
        x, y = points + middles[place][:, None, None]
        values = map_coordinates(field, [y, x], order=3, mode="reflect")
        return apply_shape(values, np.random.default_rng(seed))

    return Structure(kind, sampled)


def _field(kind: str, rng: np.random.Generator, size: int, side: int) -> NDArray:
    if kind == "domains":
        grain = float(np.exp(rng.uniform(np.log(5), np.log(side / 6))))
        return random_texture(rng, size, grain)
    if kind == "rough":
        return _rough(rng, size)
    if kind == "mixed":
        # Two phases of a sample side by side, or one on top of the other.
        kinds = rng.choice([k for k in KINDS if k not in ("wallpaper", "mixed")], 2)
        one, other = (_field(str(k), rng, size, side) for k in kinds)
        mask = 1 / (1 + np.exp(-rng.uniform(1, 8) * (_rough(rng, size) + rng.normal())))
        return _standard(
            one * mask + np.exp(rng.normal()) * other * (1 - mask) + rng.normal() * mask
        )
    return _cells(rng, size, side, filled=kind == "particles")


def _on_grid(pattern: Pattern, points: NDArray, start: NDArray) -> NDArray:
    """Draw a pattern on a grid that is rotated and scaled: waves are products on it, too."""
    wave = 2 * np.pi * (pattern.waves @ np.linalg.inv(pattern.cell))  # (n, 2), radians a pixel
    corner = points[:, 0, 0] + start
    along_row, along_col = points[:, 0, 1] - points[:, 0, 0], points[:, 1, 0] - points[:, 0, 0]
    rows, cols = points.shape[1:]
    right = np.exp(1j * np.outer(wave @ along_row, np.arange(cols)))
    down = np.exp(1j * (np.outer(wave @ along_col, np.arange(rows)) + (wave @ corner)[:, None]))
    return np.real((down * pattern.amplitudes[:, None]).T @ right)


def _standard(field: NDArray) -> NDArray:
    return (field - field.mean()) / field.std()


def _rough(rng: np.random.Generator, side: int) -> NDArray:
    """Return a field with a power law: a rough surface, perhaps with a cut-off and a grain."""
    ky, kx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.8))
    u = (kx * np.cos(turn) + ky * np.sin(turn)) * stretch
    v = (ky * np.cos(turn) - kx * np.sin(turn)) / stretch
    k = np.hypot(u, v) + 1e-9
    corner = np.exp(rng.uniform(np.log(0.005), np.log(0.08)))
    law = (1 + (k / corner) ** 2) ** (-rng.uniform(0.8, 2.5) / 2 - 0.25)
    if rng.random() < 0.5:
        law = law + rng.uniform(0.1, 1) * np.exp(-((k * rng.uniform(6, 20) - 1) ** 2) / 0.1)
    waves = np.fft.fft2(rng.normal(size=(side, side)))
    return _standard(np.real(np.fft.ifft2(waves * law)))


def _cells(rng: np.random.Generator, side: int, view: int, *, filled: bool) -> NDArray:
    """Return grains with their boundaries, or particles of one size or many."""
    size = float(np.exp(rng.uniform(np.log(6), np.log(view / 5))))
    stretch = float(np.exp(rng.uniform(0, 0.6)))
    number = int((side / size) ** 2)
    seeds = rng.uniform(0, side, (number, 2)) * (stretch, 1 / stretch)
    y, x = np.mgrid[:side, :side].astype(float)
    points = np.stack([x.ravel() * stretch, y.ravel() / stretch], axis=1)
    distance, which = map(np.asarray, KDTree(seeds).query(points, k=2))
    if filled:
        radii = size * rng.uniform(0.2, 0.5) * np.exp(rng.uniform(0, 0.5) * rng.normal(size=number))
        field = np.sqrt(np.maximum(1 - (distance[:, 0] / radii[which[:, 0]]) ** 2, 0))
    else:
        edge = np.tanh((distance[:, 1] - distance[:, 0]) / size * rng.uniform(2, 8))
        field = edge + rng.uniform(0, 1) * rng.normal(size=number)[which[:, 0]]
    return _standard(field.reshape(side, side))

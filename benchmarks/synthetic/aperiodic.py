"""Images that have no wallpaper group, some of which look as if they had one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthetic.pattern import Pattern
from synthetic.wallpaper import (
    GROUPS,
    Degradation,
    degrade,
    random_pattern,
    random_shape,
    random_texture,
)

KINDS: tuple[str, ...] = ("texture", "noise", "stripes", "quasicrystal", "warped", "grains", "dots")
"""What `aperiodic` draws."""


def aperiodic(
    kind: str, rng: np.random.Generator, side: int = 128, spoiling: Degradation | None = None
) -> NDArray[np.float64]:
    """Return an image without two independent periods, (side, side).

    Parameters
    ----------
    kind
        One of `KINDS`: a random field like domains; white noise, perhaps smoothed; stripes, which
        have one period only; a sum of waves in 5, 7 or more directions; a wallpaper that is
        bent by a third of a cell and more; two wallpapers side by side; dots anywhere.
    rng
        Where chance comes from.
    side
        Pixels along each side.
    spoiling
        What the instrument does to it; default: noise of 0.15.
    """
    values = {
        "texture": random_texture,
        "noise": _noise,
        "stripes": _stripes,
        "quasicrystal": _quasicrystal,
        "warped": _warped,
        "grains": _grains,
        "dots": _dots,
    }[kind](rng, side)
    values = (values - values.mean()) / max(float(values.std()), 1e-9)
    return degrade(random_shape(rng)(values), rng, spoiling or Degradation())


def _plane(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:side, :side].astype(float)
    return x, y


def _noise(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    return gaussian_filter(rng.normal(size=(side, side)), float(rng.choice((0.0, 1.0, 3.0))))


def _stripes(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    x, y = _plane(side)
    turn, period = rng.uniform(0, np.pi), side / rng.uniform(2.5, 10)
    phase = 2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period
    heights, starts = rng.normal(size=4) / np.arange(1, 5), rng.uniform(0, 2 * np.pi, 4)
    return sum(
        (h * np.cos(n * phase + s) for n, h, s in zip(range(1, 5), heights, starts, strict=True)),
        np.zeros((side, side)),
    )


def _quasicrystal(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    x, y = _plane(side)
    waves, turn = int(rng.choice((4, 5, 7, 9))), rng.uniform(0, np.pi)
    values = np.zeros((side, side))
    for times in (1.0, float(rng.uniform(1.3, 1.9))):
        k = 2 * np.pi * rng.uniform(4, 9) / side * times
        height = rng.uniform(0.3, 1)
        for n in range(waves):
            # Waves at n pi / 4: the eightfold one; 5, 7, 9: ten-, fourteen-, eighteenfold.
            angle = turn + n * np.pi / waves
            start = rng.uniform(0, 2 * np.pi)
            values += height * np.cos(k * (x * np.cos(angle) + y * np.sin(angle)) + start)
    return values


def _some_pattern(rng: np.random.Generator, side: int) -> Pattern:
    return random_pattern(str(rng.choice(GROUPS)), rng, side)


def _warped(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    pattern = _some_pattern(rng, side)
    size = np.sqrt(abs(np.linalg.det(pattern.cell)))
    x, y = _plane(side)
    bent = []
    for axis in (x, y):
        field = gaussian_filter(rng.normal(size=(2 * side, 2 * side)), rng.uniform(0.5, 1.0) * size)
        field = field[:side, :side]
        bent.append(axis + field / field.std() * size * rng.uniform(0.3, 0.6))
    return pattern.at(*bent)


def _grains(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    x, y = _plane(side)
    turn = rng.uniform(0, 2 * np.pi)
    across = (x - side / 2) * np.cos(turn) + (y - side / 2) * np.sin(turn)
    one, other = (_some_pattern(rng, side).drawn(side) for _ in range(2))
    return np.where(across < rng.uniform(-0.15, 0.15) * side, one, other)


def _dots(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    values = np.zeros((side, side))
    at = rng.integers(0, side, (int(rng.integers(8, 60)), 2))
    values[tuple(at.T)] = rng.uniform(0.7, 1.3, len(at))
    return gaussian_filter(values, side * rng.uniform(0.015, 0.05))

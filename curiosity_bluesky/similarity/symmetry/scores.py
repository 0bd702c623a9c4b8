"""Scores of an image for each wallpaper group, and other features of the classifier.

Crystallographic image processing as in electron crystallography [1]_ [2]_: the lattice from the
autocorrelation, refined by least squares; structure factors; for each group the share of their
power that its average about one common origin keeps [3]_ [4]_.

References
----------
.. [1] S. Hovmöller, Ultramicroscopy 41, 121 (1992), CRISP.
.. [2] X. Zou, S. Hovmöller, P. Oleynikov, Electron Crystallography, Oxford (2011).
.. [3] Y. Liu, R. T. Collins, Y. Tsin, IEEE Trans. Pattern Anal. 26, 354 (2004).
.. [4] P. Moeck, Symmetry 10, 133 (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.symmetry.fourier_series import FourierFit, Series
from curiosity_bluesky.similarity.symmetry.groups import GROUPS, LATTICES, operations
from curiosity_bluesky.similarity.symmetry.lattice import (
    OPERATIONS,
    autocorrelation,
    candidates,
    order,
    reduction,
    strains,
)

_SIDE = 128
_GRID = 48
TOLERATED = 0.25
"""Maximum strain of the metric under an operation: a shear of 4 % makes up to 0.1."""

_ENOUGH = 0.95
_REACH, _FURTHEST = 3.5, 9.0
_LARGEST = 0.3


@dataclass(frozen=True)
class GroupSetting:
    """A group on a reduced basis: which operations, and the translations of each.

    Parameters
    ----------
    group
        Its symbol.
    members
        Rows of `OPERATIONS`, (n,).
    cells
        Where, in a map over all translations, each has to be for each origin, (n, grid * grid).
    """

    group: str
    members: NDArray[np.int64]
    cells: NDArray[np.int64]


@cache
def settings() -> tuple[GroupSetting, ...]:
    """Return all groups except p1 in all their orientations on a reduced basis."""
    index = {r.tobytes(): n for n, r in enumerate(OPERATIONS)}
    origins = np.stack(np.meshgrid(*[np.arange(_GRID)] * 2, indexing="ij")).reshape(2, -1)
    found = []
    for group in GROUPS[1:]:
        basis = np.array([[0.5, 0.5], [-0.5, 0.5]]) if LATTICES[group] == "centred" else np.eye(2)
        seen = set()
        for m in OPERATIONS:
            to = basis @ m
            back = np.linalg.inv(to)
            members = set()
            for r, t in operations(group):
                turned = np.rint(back @ np.array(r) @ to).astype(np.int64)
                shift = np.rint(_GRID * (back @ np.array(t))).astype(int) % _GRID
                members.add((index.get(turned.tobytes(), -1), int(shift[0]), int(shift[1])))
            key = frozenset(members)
            if key in seen or any(n < 0 for n, _, _ in members):
                continue
            seen.add(key)
            rows = sorted(members)
            where = []
            for n, *shift in rows:
                t = (np.eye(2, dtype=int) - OPERATIONS[n]) @ origins + np.array(shift)[:, None]
                where.append(np.ravel_multi_index(tuple(t % _GRID), (_GRID, _GRID)))
            found.append(GroupSetting(group, np.array([n for n, _, _ in rows]), np.array(where)))
    return tuple(found)


def operation_maps(
    fit: FourierFit, stretch: tuple[float, float] = (1.0, 1.0)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how well the cell agrees with itself after each operation, at any translation.

    f(R x + t) = f(x) if F(R^T h) = F(h) exp(2 pi i h.t) for all h: the correlation of the two
    sides is, as a function of t, one inverse Fourier transform.

    Parameters
    ----------
    fit
        The structure factors.
    stretch
        Size of a pixel along x and y, in any unit.

    Returns
    -------
    maps
        Correlations, (n operations, grid, grid); zero for what is not an operation of the lattice.
    strained
        How far each operation is from keeping the metric, (n operations,).
    """
    cell = np.array(stretch)[:, None] * fit.cell
    basis = reduction(cell)
    waves = fit.waves @ basis
    grid = np.zeros((_GRID, _GRID), complex)
    at = tuple(waves.T % _GRID)
    grid[at] = fit.amplitudes
    strained = strains(cell @ basis)
    maps = np.zeros((len(OPERATIONS), _GRID, _GRID))
    for n in np.flatnonzero(strained < TOLERATED):
        turned = grid[tuple((waves @ OPERATIONS[n]).T % _GRID)]
        both = np.zeros((_GRID, _GRID), complex)
        both[at] = fit.amplitudes * turned.conj()
        shared = turned != 0
        norm = np.sqrt(np.sum(np.abs(turned) ** 2) * np.sum(np.abs(fit.amplitudes[shared]) ** 2))
        maps[n] = np.real(np.fft.ifft2(both)) * (_GRID**2 / max(norm, 1e-30))
    return maps, strained


def group_scores(fit: FourierFit, stretch: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Return score, worst operation and strain of each group but p1, (16, 3).

    The score is the mean correlation over all operations of the group about the best origin:
    the share of the power that averaging over the group keeps. 0, 0 and 1 where the lattice
    is too far from the group's.

    Parameters
    ----------
    fit
        The structure factors.
    stretch
        Size of a pixel along x and y, in any unit.
    """
    maps, strained = operation_maps(fit, stretch)
    flat = maps.reshape(len(maps), -1)
    best = np.tile([0.0, 0.0, 1.0], (len(GROUPS), 1))
    for setting in settings():
        strain = strained[setting.members].max()
        if strain >= TOLERATED:
            continue
        values = flat[setting.members[:, None], setting.cells]
        mean = values.mean(0)
        origin = int(np.argmax(mean))
        row = GROUPS.index(setting.group)
        if mean[origin] - strain > best[row, 0] - best[row, 2]:
            best[row] = mean[origin], values[:, origin].min(), strain
    return best[1:]


def for_lattice_search(image: Image) -> tuple[NDArray[np.float64], int]:
    """Return an image prepared for the lattice search, and the side of its blocks of pixels.

    It is small (the shorter side 85 to 191 pixels, or all there are), finite, level and about 0.

    Parameters
    ----------
    image
        Any. Of values that go round, the direction in which they vary most is taken.
    """
    values = image.values
    if image.period:
        z = np.exp(2j * np.pi * values / image.period)
        z = z - np.nanmean(z)
        values = np.real(z * np.exp(-0.5j * np.angle(np.nansum(z**2))))
    rows, cols = values.shape
    k = max(1, round(min(rows, cols) / _SIDE))
    # A long strip costs time and says little more: at most two squares of it.
    rows, cols = (min(n, 2 * min(rows, cols)) // k * k for n in (rows, cols))
    top, left = (values.shape[0] - rows) // 2, (values.shape[1] - cols) // 2
    values = values[top : top + rows, left : left + cols]
    values = _levelled(values)
    if k > 1:
        values = values.reshape(rows // k, k, cols // k, k).mean((1, 3))
    middle = np.median(values)
    spread = float(np.median(np.abs(values - middle)))
    if spread > 0:
        # Spikes: 8 times the median absolute deviation is 5 standard deviations.
        values = np.clip(values, middle - 8 * spread, middle + 8 * spread)
    values = values - values.mean()
    return values / max(float(values.std()), 1e-30), k


def _levelled(values: NDArray) -> NDArray[np.float64]:
    """Return values without their mean plane, and 0 where there are none."""
    known = np.isfinite(values)
    rows, cols = (np.linspace(-1, 1, n) for n in values.shape)
    plane = np.stack([np.ones(values.shape), *np.meshgrid(rows, cols, indexing="ij")])
    used = plane * known
    gram = np.einsum("aij,bij->ab", used, plane)
    right = np.einsum("aij,ij->a", used, np.where(known, values, 0.0))
    fitted = np.tensordot(np.linalg.lstsq(gram, right, rcond=None)[0], plane, 1)
    return np.where(known, values - fitted, 0.0)


def found_lattice(values: NDArray) -> tuple[FourierFit | None, list[float]]:
    """Return the series on the lattice of an image, and how far its order goes.

    Of lattices that explain as much as the best one, to 5 %, the finest. The order is the mean
    and the least of the autocorrelation at the lattice points, relative to its value at none.

    Parameters
    ----------
    values
        (rows, cols), finite.
    """
    correlation, signal = autocorrelation(values)
    cells = candidates(correlation, _LARGEST * values.size)
    if not cells:
        return None, [0.0, 0.0, signal]
    areas = [abs(float(np.linalg.det(cell))) for cell in cells]
    # No further than the pixels go; and a large cell beside a small one has too many waves.
    reach = min(_REACH / np.sqrt(min(areas)), _FURTHEST / np.sqrt(max(areas)), 0.45)
    series = Series(values, reach)
    fits = [series.fit(cell) for cell in cells]
    best = max(fit.explained for fit in fits)
    good = [fit for fit in fits if fit.explained >= _ENOUGH * best]
    fit = min(good, key=lambda fit: abs(float(np.linalg.det(fit.cell))))
    mean, least = order(correlation, fit.cell)
    return fit, [mean / max(signal, 0.05), least / max(signal, 0.05), signal]


@dataclass(frozen=True)
class SymmetryEvidence:
    """Features that the classifier decides by.

    Parameters
    ----------
    features
        Numbers for the network, (n,).
    scores
        Of each group but p1 how well it fits: score, worst operation, strain, (16, 3).
    periodicity
        Mean autocorrelation at the lattice points, relative to that at no lag.
    cell
        Reduced lattice vectors as columns, (2, 2), pixels of the image; None if none were found.
    """

    features: NDArray[np.float64]
    scores: NDArray[np.float64]
    periodicity: float
    cell: NDArray[np.float64] | None


def symmetry_evidence(image: Image) -> SymmetryEvidence:
    """Return the lattice and the symmetry of an image.

    Parameters
    ----------
    image
        Any.
    """
    values, block = for_lattice_search(image)
    fit, ordered = found_lattice(values)
    if fit is None:
        scores = np.tile([0.0, 0.0, 1.0], (len(GROUPS) - 1, 1))
        return SymmetryEvidence(np.zeros(scores.size + 8), scores, 0.0, None)
    y, x = image.um_per_pixel or (1.0, 1.0)
    scores = group_scores(fit, (x, y))
    # What is left beside white noise: neighbouring pixels have it in common.
    residual = fit.residual - fit.residual.mean()
    power = max(float(residual.var()), 1e-12)
    smooth = float(np.mean(residual[:, 1:] * residual[:, :-1])) / power
    missed = max(smooth, 0.0) * (1 - fit.explained)
    general = [
        fit.explained,
        fit.explained / max(fit.explained + missed, 1e-9),
        smooth,
        *ordered,
        np.log(values.size / abs(float(np.linalg.det(fit.cell)))),
        -np.log(1.01 - _in_one_direction(fit)),
    ]
    kept = -np.log(1.01 - np.minimum(scores[:, :2], 1.0))
    features = np.concatenate([kept.ravel(), scores[:, 2], general])
    cell = block * fit.cell @ reduction(np.array([[x], [y]]) * fit.cell)
    return SymmetryEvidence(features, scores, ordered[0], cell)


def _in_one_direction(fit: FourierFit) -> float:
    """Share of the power in waves along one line: all of it where there are only stripes."""
    power = np.abs(fit.amplitudes) ** 2
    waves = fit.waves // np.gcd(*fit.waves.T)[:, None]
    flip = (waves[:, 0] < 0) | ((waves[:, 0] == 0) & (waves[:, 1] < 0))
    waves = np.where(flip[:, None], -waves, waves)
    lines = np.unique(waves, axis=0, return_inverse=True)[1]
    return float(np.bincount(lines.ravel(), power).max() / max(power.sum(), 1e-30))

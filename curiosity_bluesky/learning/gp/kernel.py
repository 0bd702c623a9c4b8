r"""A Gaussian process for spectra: one kernel on patch, position and level, for all outputs.

.. math::
    k = k_p + b\,k_x + c\,k_p k_x + (d + e\,k_x) \sum_q r_q u_q u_q' + s\,\delta

with a rational quadratic :math:`k_p = (1 + D^2 / 2 \alpha \ell_p^2)^{-\alpha}` on the distance
between patches, an exponential :math:`k_x = e^{-d_x / \ell_x}` on that between positions
(Rasmussen and Williams 2006, sections 4.2 and 2.3), and a linear kernel on the levels, the
values *u* of the channels at the pixel itself: where a spectrum grows with what the image
shows there, its shape may still change slowly from place to place. The distance between patches

.. math:: D^2 = \sum_q r_q \sum_o w_o (p_{qo} - p'_{qo})^2,
    \qquad w_o \propto e^{-|o|^2 / 2\omega^2}

sees them through a soft window whose width :math:`\omega` is found from the spectra, as is the
relevance :math:`r_q` of each channel q. Because the kernel is shared by all outputs, the cost
does not depend on how many points a spectrum has.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # strategies are listed and checked without it
    torch = lazy_module("torch")

PRIOR = {
    # Mean and standard deviation of each logarithm: shares of the variance in units of that of
    # k_p, lengths in units of the features. It keeps 30 points from saying absurd things.
    "position": (0.0, 2.0),
    "both": (0.0, 2.0),
    "level": (-2.0, 2.0),
    "level_position": (-2.0, 2.0),
    "noise": (-2.0, 2.0),
    "window": (float(np.log(1.5)), 1.0),
    "patch_length": (0.0, 2.0),
    "alpha": (0.0, 2.0),
    "position_length": (-1.0, 2.0),
}
RELEVANCE = (0.0, 1.0)
"""The same for the relevance of each channel, where there are several."""
NAMES = tuple(PRIOR)
ITERATIONS = 40
"""Steps of a search for the hyper-parameters at most."""
SETTLED = 250
"""With more observations a search goes on from where the last one ended, and nowhere else."""
EVALUATIONS = 60
"""Evaluations of such a search, after which it takes no further step."""
EVALUATIONS_OF_LARGE = 20
"""The same from `LARGE` observations on, where each takes longest."""
BLOCK = 2**20
"""Elements of a covariance that are computed at once, where there are many."""
CACHED = 2**15
"""Elements of a covariance that are computed from distances at once."""
COPIED = 2**22
"""Elements that are copied at once of a matrix that grows with the observations."""


LARGE = 500
"""Most observations of which all are used where the cost grows with their cube."""


def evenly_spread(n: int) -> NDArray[np.intp]:
    """Return which of `n` observations stand for all: every one, or `LARGE` evenly spread ones."""
    return np.linspace(0, n - 1, min(n, LARGE)).round().astype(np.intp)


def blocks(indices: NDArray[np.intp], width: int) -> list[NDArray[np.intp]]:
    """Cut candidates so that a covariance with `width` others does not take much memory."""
    rows = max(1, BLOCK // max(1, width))
    return [indices[k : k + rows] for k in range(0, len(indices), rows)]


def column_blocks(n: int, width: int) -> list[slice]:
    """Cut `n` columns of `width` rows so that a copy of one part does not take much memory."""
    columns = max(1, COPIED // max(1, width))
    return [slice(k, min(n, k + columns)) for k in range(0, n, columns)]


class KernelInputs:
    """Inputs of the kernel: patch, position and level of every candidate.

    Parameters
    ----------
    patches
        The candidates.

    Attributes
    ----------
    position : (candidates, 2)
        The longer side of the area is 1.
    level : (candidates, channels)
        Value of each channel at the pixel, its mean square over all candidates 1; zero stays
        zero.
    squared_radius : (size * size,)
        Of each pixel of a patch, from the middle one, in pixels squared.
    """

    def __init__(self, patches: Patches) -> None:
        survey = patches.survey
        self._grid = patches.grid
        middle = patches.flatten(np.moveaxis(survey.stack, 0, -1)).astype(float)
        self.level = middle / _or_one(np.sqrt((middle**2).mean(axis=0)))
        # A constant channel tells nothing: rounding is not to be taken for structure.
        spread = middle.std(axis=0)
        spread[spread < 1e-9 * np.abs(middle).max(axis=0)] = np.inf
        scaled = survey.stack - middle.mean(axis=0)[:, None, None]
        scaled /= _or_one(spread)[:, None, None]
        self._windows = patches.windows(scaled)
        offset = np.arange(patches.size) - patches.size // 2
        self.squared_radius = (offset[:, None] ** 2 + offset**2).ravel().astype(float)
        place = patches.flatten(np.stack(np.meshgrid(survey.x, survey.y), axis=-1)).astype(float)
        extent = float(np.ptp(place, axis=0).max())
        self.position = place / (extent if extent > 0 else 1.0)

    def __len__(self) -> int:
        return len(self.position)

    @property
    def channels(self) -> int:
        """Number of channels of the survey."""
        return self.level.shape[1]

    def windows(self, indices: NDArray[np.intp]) -> NDArray:
        """Patches of some candidates, each channel scaled, ``(n, channels, size * size)``."""
        row, col = np.divmod(indices, self._grid[1])
        return self._windows[row, col].reshape(
            len(indices), self.channels, len(self.squared_radius)
        )


def _or_one(values: NDArray) -> NDArray:
    return np.where(values > 0, values, 1.0)


@dataclass(frozen=True)
class Kernel:
    """Hyper-parameters, as logarithms.

    Parameters
    ----------
    logs
        In the order of `PRIOR`, then the relevance of each channel where there are several.
    fixed
        Names of those in `PRIOR` that are never searched.
    """

    logs: tuple[float, ...]
    fixed: tuple[str, ...] = ()

    @staticmethod
    def start(channels: int, *, window: bool = True, level: bool = True) -> Kernel:
        """Return the hyper-parameters before any spectrum.

        Parameters
        ----------
        channels
            How many channels the survey has.
        window
            False: all pixels of a patch count alike.
        level
            False: without the linear kernel.
        """
        logs = {name: mean for name, (mean, _) in PRIOR.items()}
        fixed: list[str] = []
        if not window:
            logs["window"] = 9.0
            fixed.append("window")
        if not level:
            logs["level"] = logs["level_position"] = -40.0
            fixed += ["level", "level_position"]
        relevance = (RELEVANCE[0],) * (channels if channels > 1 else 0)
        return Kernel((*logs.values(), *relevance), tuple(fixed))

    def __getitem__(self, name: str) -> float:
        return float(np.exp(self.logs[NAMES.index(name)]))

    @property
    def noise(self) -> float:
        """Variance of the noise."""
        return self["noise"] + 1e-6

    def _relevance(self, channels: int) -> NDArray:
        return _relevances(torch.tensor(self.logs, dtype=torch.float64), channels).numpy()

    def features(self, inputs: KernelInputs, indices: NDArray[np.intp]) -> NDArray:
        """Patches through the window: their squared distances are those of the kernel."""
        window = np.exp(-inputs.squared_radius / (2 * self["window"] ** 2))
        window /= window.sum()
        seen = window > 1e-6 * window.max()
        weights = np.sqrt(self._relevance(inputs.channels)[:, None] * window[seen])
        return (inputs.windows(indices)[:, :, seen] * weights).reshape(len(indices), weights.size)

    def variance(self, inputs: KernelInputs, indices: NDArray[np.intp]) -> NDArray:
        """Prior variance of some candidates, without noise, ``(n,)``."""
        square = (inputs.level[indices] ** 2) @ self._relevance(inputs.channels)
        level = self["level"] + self["level_position"]
        return 1.0 + self["position"] + self["both"] + level * square

    def covariance(
        self,
        inputs: KernelInputs,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        out: NDArray | None = None,
    ) -> NDArray:
        """Prior covariance between candidates, without noise, ``(rows, columns)``.

        It is written to `out` where that is given.
        """
        from scipy.spatial.distance import cdist

        logs = torch.tensor(self.logs, dtype=torch.float64)
        relevance = self._relevance(inputs.channels)
        across = self.features(inputs, columns)
        level = inputs.level[columns] * relevance
        out = np.empty((len(rows), len(columns))) if out is None else out
        done = 0
        for some in blocks(rows, len(columns)):
            patch = _squared_distances(self.features(inputs, some), across)
            position = cdist(inputs.position[some], inputs.position[columns])
            both = inputs.level[some] @ level.T
            # What is kept in between shall fit into the cache, and be no memory that malloc
            # asks the system for each time.
            flat = [torch.as_tensor(m.ravel()).split(CACHED) for m in (patch, position, both)]
            for one, two, three in zip(*flat, strict=True):
                one.copy_(_combine(logs, one, two, three))
            out[done : done + len(some)] = patch
            done += len(some)
        return out

    def fitted(
        self,
        inputs: KernelInputs,
        indices: NDArray[np.intp],
        outputs: NDArray,
        on_epoch: EpochHook = lambda model, epoch, epochs: None,
        noise: tuple[NDArray, NDArray] | None = None,
    ) -> Kernel:
        """Return the hyper-parameters of the largest marginal likelihood, with the prior.

        The scale of each output is profiled out; an output counts by its share of the
        variance, so that noise in the small principal components says little. Up to `SETTLED`
        observations it is searched from the start as well, for there may be several maxima;
        later once, from where the last search ended, with at most `EVALUATIONS`: what a
        search takes grows with the cube of the observations.

        Parameters
        ----------
        inputs, indices
            Where was measured.
        outputs
            ``(n, outputs)`` principal components of the spectra.
        on_epoch
            Called before every evaluation; what it raises ends the search.
        noise
            ``(n,)`` each: the noise of an observation is the first times the kernel's noise, plus
            the second. Default: all have the kernel's.
        """
        from scipy.optimize import minimize

        weights = (outputs**2).sum(axis=0)
        if len(indices) < 3 or not weights.sum() > 0:
            return dataclasses.replace(self)  # another one, as after every search
        evidence = _Evidence(inputs, indices, outputs, weights / weights.sum(), on_epoch, noise)
        free = np.array([name not in self.fixed for name in NAMES])
        free = np.r_[free, np.ones(len(self.logs) - len(NAMES), bool)]
        first = Kernel.start(inputs.channels).logs
        again = np.where(free, first, self.logs)
        starts, options = [self.logs, tuple(map(float, again))], {"maxiter": ITERATIONS}
        if len(indices) > SETTLED:
            most = EVALUATIONS_OF_LARGE if len(indices) >= LARGE else EVALUATIONS
            starts, options = starts[:1], options | {"maxfun": most}
        best = (np.inf, self.logs)
        for start in dict.fromkeys(starts):
            found = minimize(
                evidence, np.array(start), args=(free,), jac=True, method="L-BFGS-B",
                bounds=[(-9.0, 9.0) if f else (v, v) for f, v in zip(free, start, strict=True)],
                options=options,
            )  # fmt: skip
            if found.fun < best[0]:
                best = (float(found.fun), tuple(map(float, found.x)))
        return dataclasses.replace(self, logs=best[1])


def _squared_distances(rows: NDArray, columns: NDArray) -> NDArray:
    """Squared distances, many times faster than pair by pair where there are many features."""
    of_rows, of_columns = (rows**2).sum(axis=1)[:, None], (columns**2).sum(axis=1)
    products = rows @ columns.T
    few = max(1, CACHED // max(1, len(columns)))
    for k in range(0, len(rows), few):
        some = products[k : k + few]
        np.maximum(of_rows[k : k + few] + of_columns - 2 * some, 0.0, out=some)
    return products


def _relevances(logs: Tensor, channels: int) -> Tensor:
    """Relevance of each channel, 1 in the sum."""
    if channels == 1:
        return torch.ones(1, dtype=logs.dtype)
    return torch.softmax(logs[len(NAMES) :], dim=0)


def _combine(logs: Tensor, patch: Tensor, position: Tensor, level: Tensor) -> Tensor:
    """Combine squared patch distances, position distances and level products to the kernel."""
    b, c, d, e, _, _, length, alpha, reach = logs[: len(NAMES)].exp()
    k_patch = torch.exp(-alpha * torch.log1p(patch / (2 * alpha * length**2)))
    k_position = torch.exp(-position / reach)
    return k_patch * (1 + c * k_position) + k_position * (b + e * level) + d * level


class _Evidence:
    """Negative logarithm of marginal likelihood times prior, and its gradient."""

    def __init__(
        self,
        inputs: KernelInputs,
        indices: NDArray[np.intp],
        outputs: NDArray,
        weight: NDArray,
        on_epoch: EpochHook,
        noise: tuple[NDArray, NDArray] | None = None,
    ) -> None:
        from scipy.spatial.distance import cdist

        self._on_epoch, self._asked = on_epoch, 0
        windows = inputs.windows(indices)
        radii, ring = np.unique(inputs.squared_radius, return_inverse=True)
        n, channels = windows.shape[:2]
        # Pixels at one distance from the middle have one weight: their distances are summed.
        self._rings = torch.empty((channels, len(radii), n, n), dtype=torch.float64)
        for q in range(channels):
            for k in range(len(radii)):
                some = windows[:, q, ring == k]
                self._rings[q, k] = torch.as_tensor(cdist(some, some, "sqeuclidean"))
        self._radii = torch.as_tensor(radii)
        self._pixels = torch.as_tensor(np.bincount(ring).astype(float))
        where = inputs.position[indices]
        self._position = torch.as_tensor(cdist(where, where))
        level = torch.as_tensor(inputs.level[indices]).T
        self._level = level[:, :, None] * level[:, None, :]
        # Of many, half of what is symmetric is computed; up to `LARGE` it is as in earlier runs.
        self._half: Tensor | None = None
        if n >= LARGE:
            row, column = self._half = torch.tril_indices(n, n)
            self._rings = self._rings[:, :, row, column]
            self._position, self._level = self._position[row, column], self._level[:, row, column]
        self._y, self._weight = torch.as_tensor(outputs), torch.as_tensor(weight)
        prior = [*PRIOR.values(), *[RELEVANCE] * (channels if channels > 1 else 0)]
        self._times, self._more = (None, 0.0) if noise is None else map(torch.as_tensor, noise)
        self._mean, self._width = torch.tensor(prior, dtype=torch.float64).T

    def __call__(self, logs: NDArray, free: NDArray[np.bool_]) -> tuple[float, NDArray]:
        self._asked += 1
        self._on_epoch("Gaussian process", self._asked, max(self._asked, 2 * ITERATIONS))
        variables = torch.tensor(logs, dtype=torch.float64, requires_grad=True)
        loss = self._loss(variables, torch.as_tensor(free))
        loss.backward()
        assert variables.grad is not None
        return float(loss.detach()), np.where(free, variables.grad.numpy(), 0.0)

    def _loss(self, logs: Tensor, free: Tensor) -> Tensor:
        n = len(self._y)
        relevance = _relevances(logs, len(self._rings))
        window = torch.exp(-self._radii / (2 * logs[NAMES.index("window")].exp() ** 2))
        window = window / (window * self._pixels).sum()
        patch = torch.einsum("q,k,qk...->...", relevance, window, self._rings)
        level = torch.einsum("q,q...->...", relevance, self._level)
        covariance = _combine(logs, patch, self._position, level)
        if self._half is not None:
            row, column = self._half
            covariance = torch.where(row == column, 0.5 * covariance, covariance)
            lower = covariance.new_zeros(n, n).index_put((row, column), covariance)
            covariance = lower + lower.T
        noise = logs[NAMES.index("noise")].exp() + 1e-6
        if self._times is None:
            diagonal = noise * torch.eye(n, dtype=logs.dtype)
        else:
            diagonal = torch.diag(noise * self._times + self._more)
        factor = torch.linalg.cholesky(covariance + diagonal)
        whitened = torch.linalg.solve_triangular(factor, self._y, upper=False)
        scale = (whitened**2).sum(dim=0) / n
        fit = 0.5 * n * (self._weight * torch.log(scale + 1e-300)).sum()
        prior = (((logs - self._mean) / self._width)[free] ** 2).sum()
        return fit + torch.log(torch.diagonal(factor)).sum() + 0.5 * prior


def principal_components(rows: NDArray, components: int) -> tuple[NDArray, NDArray]:
    """Scores and axes of the leading principal components of centred rows.

    Returns
    -------
    scores, axes
        ``(n, k)`` and ``(k, columns)`` with k at most `components`; their product
        approximates the rows.
    """
    from scipy.linalg import eigh

    columns = rows.shape[1]
    if len(rows) > max(LARGE, columns):
        # The same from the square of the columns, which does not grow with the rows.
        _, axes = eigh(rows.T @ rows, subset_by_index=(max(0, columns - components), columns - 1))
        axes = axes[:, ::-1].T * _sign(axes[:, ::-1].T)[:, None]
        return rows @ axes.T, axes
    left, values, axes = np.linalg.svd(rows, full_matrices=False)
    k = min(components, len(values))
    sign = _sign(axes[:k])
    return left[:, :k] * values[:k] * sign, axes[:k] * sign[:, None]


def _sign(axes: NDArray) -> NDArray:
    """Sign of the largest entry of each axis: it is arbitrary, and shall be the same everywhere."""
    sign = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    sign[sign == 0] = 1.0
    return sign

r"""A Gaussian process for spectra: one kernel on patch and position, shared by all outputs.

.. math:: k(i, j) = a\,k_p(i, j) + b\,k_x(i, j) + c\,k_p(i, j)\,k_x(i, j) + s\,\delta_{ij}

with a rational quadratic :math:`k_p = (1 + d_p^2 / 2 \alpha \ell_p^2)^{-\alpha}` on the
distance between patches and an exponential :math:`k_x = e^{-d_x / \ell_x}` on that between
positions (Rasmussen and Williams 2006, sections 4.2 and 2.3). Because the kernel is shared,
the cost does not depend on how many points a spectrum has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from torch import Tensor

PRIOR_MEAN = {
    # Logarithms: shares of the variance in units of a, lengths in units of the features.
    "position": 0.0,
    "both": 0.0,
    "noise": -2.0,
    "patch_length": 0.0,
    "alpha": 0.0,
    "position_length": -1.0,
}
PRIOR_WIDTH = 2.0
"""Normal prior on each logarithm: keeps 30 points from saying absurd things."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Where every candidate lies.

    Parameters
    ----------
    patch
        ``(candidates, components)``, total variance 1.
    position
        ``(candidates, 2)``, the longer side of the survey is 1.
    """

    patch: NDArray
    position: NDArray

    def distances(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[NDArray, ...]:
        """Squared patch distances and position distances, ``(rows, columns)`` each."""
        return (
            cdist(self.patch[rows], self.patch[columns], "sqeuclidean"),
            cdist(self.position[rows], self.position[columns]),
        )


@dataclass(frozen=True)
class Kernel:
    """Hyper-parameters, as logarithms in the order of `PRIOR_MEAN`."""

    logs: tuple[float, ...] = tuple(PRIOR_MEAN.values())

    @property
    def variance(self) -> float:
        """Prior variance of a candidate, without noise."""
        return 1.0 + float(np.exp(self.logs[0]) + np.exp(self.logs[1]))

    @property
    def noise(self) -> float:
        """Variance of the noise."""
        return float(np.exp(self.logs[2])) + 1e-6

    def __call__(self, patch: NDArray, position: NDArray) -> NDArray:
        """Covariance from squared patch distances and position distances, without noise."""
        b, c, _, length, alpha, reach = np.exp(self.logs)
        k_patch = np.exp(-alpha * np.log1p(patch / (2 * alpha * length**2)))
        k_position = np.exp(-position / reach)
        return k_patch + b * k_position + c * k_patch * k_position

    def fitted(self, inputs: Inputs, indices: NDArray[np.intp], outputs: NDArray) -> Kernel:
        """Return the hyper-parameters of the largest marginal likelihood, with the prior.

        The scale of each output is profiled out; an output counts by its share of the
        variance, so that noise in the small principal components says little.

        Parameters
        ----------
        inputs, indices
            Where was measured.
        outputs
            ``(n, outputs)`` principal components of the spectra.
        """
        weights = (outputs**2).sum(axis=0)
        if len(indices) < 3 or not weights.sum() > 0:
            return self
        patch, position = (torch.as_tensor(d) for d in inputs.distances(indices, indices))
        y, weight = torch.as_tensor(outputs), torch.as_tensor(weights / weights.sum())

        def objective(logs: NDArray) -> tuple[float, NDArray]:
            variables = torch.tensor(logs, dtype=torch.float64, requires_grad=True)
            loss = _negative_log_posterior(variables, patch, position, y, weight)
            loss.backward()
            assert variables.grad is not None
            return float(loss.detach()), variables.grad.numpy()

        best: tuple[float, tuple[float, ...]] = (np.inf, self.logs)
        for start in dict.fromkeys([self.logs, Kernel().logs]):
            found = minimize(
                objective, np.array(start), jac=True, method="L-BFGS-B",
                bounds=[(-9.0, 9.0)] * len(start), options={"maxiter": 40},
            )  # fmt: skip
            if found.fun < best[0]:
                best = (float(found.fun), tuple(map(float, found.x)))
        return Kernel(best[1])


def _negative_log_posterior(
    logs: Tensor, patch: Tensor, position: Tensor, y: Tensor, weight: Tensor
) -> Tensor:
    n = len(y)
    b, c, noise, length, alpha, reach = logs.exp()
    k_patch = torch.exp(-alpha * torch.log1p(patch / (2 * alpha * length**2)))
    k_position = torch.exp(-position / reach)
    covariance = k_patch + b * k_position + c * k_patch * k_position
    factor = torch.linalg.cholesky(covariance + (noise + 1e-6) * torch.eye(n, dtype=y.dtype))
    whitened = torch.linalg.solve_triangular(factor, y, upper=False)
    scale = (whitened**2).sum(dim=0) / n
    fit = 0.5 * n * (weight * torch.log(scale + 1e-300)).sum()
    prior = ((logs - logs.new_tensor(list(PRIOR_MEAN.values()))) / PRIOR_WIDTH) ** 2
    return fit + torch.log(torch.diagonal(factor)).sum() + 0.5 * prior.sum()


class Posterior:
    """What is known after some observations, under one kernel.

    Parameters
    ----------
    kernel
        The hyper-parameters.
    inputs
        Where every candidate lies.
    indices
        ``(n,)`` observed candidates.
    """

    def __init__(self, kernel: Kernel, inputs: Inputs, indices: NDArray[np.intp]) -> None:
        self.kernel = kernel
        self._inputs = inputs
        self._indices = indices
        prior = kernel(*inputs.distances(indices, indices))
        self._factor = cholesky(prior + kernel.noise * np.eye(len(indices)), lower=True)

    def mean(self, outputs: NDArray, candidates: NDArray[np.intp]) -> NDArray:
        """Return the expected outputs of some candidates, ``(candidates, outputs)``."""
        weights = cho_solve((self._factor, True), outputs)
        return self.covariance(candidates) @ weights

    def covariance(self, candidates: NDArray[np.intp]) -> NDArray:
        """Prior covariance between candidates and observations, ``(candidates, n)``."""
        return self.kernel(*self._inputs.distances(candidates, self._indices))

    def prior(self, columns: NDArray[np.intp]) -> NDArray:
        """Prior covariance between every candidate and some, ``(candidates, columns)``."""
        everyone = np.arange(len(self._inputs.patch))
        return self.kernel(*self._inputs.distances(everyone, columns))

    @cached_property
    def variance(self) -> NDArray:
        """Variance of every candidate before the noise, ``(candidates,)``."""
        whitened = solve_triangular(self._factor, self.prior(self._indices).T, lower=True)
        return np.maximum(self.kernel.variance - (whitened**2).sum(axis=0), 0.0)

    def leave_one_out(self, outputs: NDArray) -> NDArray:
        """Return outputs minus what the other observations predict, ``(n, outputs)``.

        In closed form (Rasmussen and Williams 2006, equation 5.12).
        """
        inverse = cho_solve((self._factor, True), np.eye(len(self._indices)))
        return inverse @ outputs / np.diag(inverse)[:, None]


def principal_components(rows: NDArray, components: int) -> tuple[NDArray, NDArray]:
    """Scores and axes of the leading principal components of centred rows.

    Returns
    -------
    scores, axes
        ``(n, k)`` and ``(k, columns)`` with k at most `components`; their product
        approximates the rows.
    """
    left, values, axes = np.linalg.svd(rows, full_matrices=False)
    k = min(components, len(values))
    # The sign of a component is arbitrary; make it the same on every machine.
    sign = np.sign(axes[np.arange(k), np.abs(axes[:k]).argmax(axis=1)])
    sign[sign == 0] = 1.0
    return left[:, :k] * values[:k] * sign, axes[:k] * sign[:, None]

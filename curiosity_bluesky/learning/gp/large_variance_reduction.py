"""What the next spectrum would teach, after thousands of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.large_posterior import LargePosterior
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.gp.variance_reduction import (
    GrowingMatrix,
    VarianceReduction,
    subtract_outer,
)


@dataclass(frozen=True)
class _Supposed:
    """A candidate that counts as measured: what it takes from the covariances of all others."""

    index: NDArray[np.intp]
    weights: NDArray
    before: NDArray
    own: float
    pool: NDArray
    references: NDArray


class LargeVarianceReduction(VarianceReduction):
    """`VarianceReduction` by a `LargePosterior`: one matrix over the pool, and nothing is copied.

    Parameters
    ----------
    posterior, pool, references
        As for `VarianceReduction`.
    """

    posterior: LargePosterior

    def __init__(
        self, posterior: LargePosterior, pool: NDArray[np.intp], references: NDArray[np.intp]
    ) -> None:
        kernel, inputs = posterior.kernel, posterior.inputs
        self.pool, self.references, self.posterior = pool, references, posterior
        n = len(posterior.indices)
        self._cross = GrowingMatrix(len(pool))
        kernel.covariance(inputs, posterior.indices, pool, out=self._cross.more(n))
        known = kernel.covariance(inputs, posterior.indices, references)
        self._reference_cross = GrowingMatrix.of(known)
        self._prior = kernel.variance(inputs, pool)
        self._reference_prior = kernel.variance(inputs, references)
        pulled = posterior.precision @ known
        self.variance = posterior.variance_at(pool, self._cross.rows)
        left = self._reference_prior - np.einsum("ij,ij->j", known, pulled)
        self.reference_variance = np.maximum(left, 0.0)
        self._between = kernel.covariance(inputs, references, pool)
        self._between -= pulled.T @ self._cross.rows
        self._supposed: tuple[_Supposed, ...] = ()

    def grow(self, posterior: GPPosterior) -> None:
        """Follow a posterior that was extended by one observation, in O(n candidates)."""
        assert isinstance(posterior, LargePosterior) and posterior.newest is not None
        weights, own = posterior.newest
        kernel, inputs, new = posterior.kernel, posterior.inputs, posterior.indices[-1:]
        column = kernel.covariance(inputs, self.pool, new)[:, 0]
        reference = kernel.covariance(inputs, self.references, new)[:, 0]
        in_pool = column - weights @ self._cross.rows
        at_references = reference - weights @ self._reference_cross.rows
        self._cross.append(column)
        self._reference_cross.append(reference)
        self.posterior = posterior
        self._take(in_pool, at_references, own)

    def _take(self, in_pool: NDArray, at_references: NDArray, own: float) -> None:
        """Take off what a measurement explains."""
        self.variance = np.maximum(self.variance - in_pool**2 / own, 0.0)
        left = self.reference_variance - at_references**2 / own
        self.reference_variance = np.maximum(left, 0.0)
        subtract_outer(self._between, at_references, in_pool / own)

    def fantasize(self, index: int) -> LargeVarianceReduction:
        """Return what it would be with a candidate measured, whatever is found there."""
        posterior, new = self.posterior, np.array([index], dtype=np.intp)
        kernel, inputs = posterior.kernel, posterior.inputs
        column = kernel.covariance(inputs, posterior.indices, new)[:, 0]
        weights = posterior.precision @ column
        in_pool = kernel.covariance(inputs, self.pool, new)[:, 0] - weights @ self._cross.rows
        at_references = kernel.covariance(inputs, self.references, new)[:, 0]
        at_references -= weights @ self._reference_cross.rows
        own = float(kernel.variance(inputs, new)[0] - weights @ column)
        before = np.zeros(len(self._supposed))
        for k, other in enumerate(self._supposed):
            shared = kernel.covariance(inputs, new, other.index)[0, 0] - other.weights @ column
            for m, earlier in enumerate(self._supposed[:k]):
                shared -= before[m] * other.before[m] / earlier.own
            before[k] = shared
            in_pool -= other.pool * (shared / other.own)
            at_references -= other.references * (shared / other.own)
            own -= shared**2 / other.own
        own = max(own + kernel.noise, 1e-9)
        there = copy.copy(self)
        there._between = self._between.copy()
        there._take(in_pool, at_references, own)
        added = _Supposed(new, weights, before, own, in_pool, at_references)
        there._supposed = (*self._supposed, added)
        return there

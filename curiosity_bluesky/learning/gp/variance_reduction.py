"""Reduction of the posterior variance over the whole area by the next spectrum."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.kernel import blocks, column_blocks, evenly_spread
from curiosity_bluesky.learning.gp.posterior import GPPosterior


@dataclass(frozen=True)
class _Fantasy:
    """A candidate that counts as measured: what it takes from the covariances of all others."""

    index: NDArray[np.intp]
    weights: NDArray
    before: NDArray
    own: float
    pool: NDArray
    references: NDArray


class VarianceReduction:
    r"""Posterior variance over a pool of candidates, and how it would fall.

    A spectrum at candidate j takes from the variance at a reference i

    .. math:: \Delta_{ij} = \frac{c_{ij}^2}{v_j + s}

    with the posterior covariance c, the variance v and the noise s. Summed over references
    that stand for the area it is what active learning after Cohn (1996) maximises (Seo et
    al. 2000, ALC).

    Parameters
    ----------
    posterior
        What is known.
    pool
        ``(candidates,)`` that may be chosen.
    references
        ``(references,)`` candidates that stand for the area.

    Attributes
    ----------
    variance, reference_variance : (candidates,), (references,)
        Posterior variance of pool and references, before the noise.
    """

    def __init__(
        self, posterior: GPPosterior, pool: NDArray[np.intp], references: NDArray[np.intp]
    ) -> None:
        kernel, inputs = posterior.kernel, posterior.inputs
        self.pool, self.references, self.posterior = pool, references, posterior
        # A row for each observation. That over the pool is most of the memory that learning
        # takes: it is filled where it stays, and is never copied.
        self._pool_rows = GrowingMatrix(len(pool))
        rows = self._pool_rows.more(len(posterior.indices))
        kernel.covariance(inputs, posterior.indices, pool, out=rows)
        at_references = kernel.covariance(inputs, posterior.indices, references)
        self._reference_rows = GrowingMatrix.of(at_references)
        self._prior = kernel.variance(inputs, pool)
        self._reference_prior = kernel.variance(inputs, references)
        weights = posterior.precision @ at_references
        self.variance = posterior.variance_at(pool, rows)
        left = self._reference_prior - np.einsum("ij,ij->j", at_references, weights)
        self.reference_variance = np.maximum(left, 0.0)
        self._covariance = kernel.covariance(inputs, references, pool)
        self._covariance -= weights.T @ rows
        self._fantasies: tuple[_Fantasy, ...] = ()

    def grow(self, posterior: GPPosterior) -> None:
        """Follow a posterior that was conditioned on one observation more.

        In O(n candidates).
        """
        assert posterior.newest is not None and not self._fantasies
        weights, own = posterior.newest
        kernel, inputs, new = posterior.kernel, posterior.inputs, posterior.indices[-1:]
        column = kernel.covariance(inputs, self.pool, new)[:, 0]
        reference = kernel.covariance(inputs, self.references, new)[:, 0]
        in_pool = column - weights @ self._pool_rows.rows
        at_references = reference - weights @ self._reference_rows.rows
        self._pool_rows.append(column)
        self._reference_rows.append(reference)
        self.posterior = posterior
        self._subtract(in_pool, at_references, own)

    def _subtract(self, in_pool: NDArray, at_references: NDArray, own: float) -> None:
        """Subtract what a measurement explains.

        Parameters
        ----------
        in_pool, at_references
            ``(candidates,)`` and ``(references,)``, posterior covariance with it.
        own
            Its variance with the noise.
        """
        self.variance = np.maximum(self.variance - in_pool**2 / own, 0.0)
        left = self.reference_variance - at_references**2 / own
        self.reference_variance = np.maximum(left, 0.0)
        in_pool = in_pool / own
        for some in blocks(np.arange(len(at_references)), len(in_pool)):
            self._covariance[some[0] : some[-1] + 1] -= at_references[some, None] * in_pool

    def fantasize(self, index: int) -> VarianceReduction:
        """Return it with a candidate counted as measured, whatever its spectrum.

        The variance of a Gaussian process does not depend on what is observed. Nothing that
        grows with the observations is copied: what is returned is of use until this one grows.
        """
        posterior, new = self.posterior, np.array([index], dtype=np.intp)
        kernel, inputs = posterior.kernel, posterior.inputs
        column = kernel.covariance(inputs, posterior.indices, new)[:, 0]
        weights = posterior.precision @ column
        in_pool = kernel.covariance(inputs, self.pool, new)[:, 0] - weights @ self._pool_rows.rows
        at_references = kernel.covariance(inputs, self.references, new)[:, 0]
        at_references -= weights @ self._reference_rows.rows
        own = float(kernel.variance(inputs, new)[0] - weights @ column)
        before = np.zeros(len(self._fantasies))
        for k, other in enumerate(self._fantasies):
            shared = kernel.covariance(inputs, new, other.index)[0, 0] - other.weights @ column
            for m, earlier in enumerate(self._fantasies[:k]):
                shared -= before[m] * other.before[m] / earlier.own
            before[k] = shared
            in_pool -= other.pool * (shared / other.own)
            at_references -= other.references * (shared / other.own)
            own -= shared**2 / other.own
        own = max(own + kernel.noise, 1e-9)
        there = copy.copy(self)
        there._covariance = self._covariance.copy()
        there._subtract(in_pool, at_references, own)
        added = _Fantasy(new, weights, before, own, in_pool, at_references)
        there._fantasies = (*self._fantasies, added)
        return there

    def total(self, weights: NDArray) -> NDArray:
        """Sum the expected fall of the variance over the references by their weights.

        Parameters
        ----------
        weights
            ``(references,)``.

        Returns
        -------
        NDArray
            ``(candidates,)`` of the pool.
        """
        total = np.einsum("i,ij,ij->j", weights, self._covariance, self._covariance)
        return total / (self.variance + self.posterior.kernel.noise)

    def weighted_correlations(self, weights: NDArray) -> tuple[NDArray, NDArray]:
        """Weights of the observations times their prior correlation with all others.

        Parameters
        ----------
        weights
            ``(n,)``, of those observations that stand for all, see `evenly_spread`.

        Returns
        -------
        tuple of NDArray
            ``(candidates,)`` of the pool, and ``(references,)``.
        """
        some = evenly_spread(len(self.posterior.indices))
        kernel, inputs = self.posterior.kernel, self.posterior.inputs
        own = np.sqrt(kernel.variance(inputs, self.posterior.indices[some]))[:, None]
        found = []
        for grown, prior in (
            (self._pool_rows, self._prior),
            (self._reference_rows, self._reference_prior),
        ):
            sums, deviation = np.empty(len(prior)), np.sqrt(prior)
            for k in column_blocks(len(prior), len(some)):
                part = grown.rows[some, k]  # a copy
                part /= own
                part /= deviation[k]
                sums[k] = weights @ part
            found.append(sums)
        return found[0], found[1]


class GrowingMatrix:
    """A matrix that grows by rows without being copied each time.

    Parameters
    ----------
    columns
        Columns of each row.
    """

    def __init__(self, columns: int) -> None:
        self._n, self._buffer = 0, np.empty((0, columns))

    @staticmethod
    def of(rows: NDArray) -> GrowingMatrix:
        """Return one that begins with some rows."""
        grown = GrowingMatrix(rows.shape[1])
        grown.append(rows)
        return grown

    @property
    def rows(self) -> NDArray:
        """The matrix."""
        return self._buffer[: self._n]

    def more(self, n: int) -> NDArray:
        """Append `n` rows, and return them to be filled."""
        known = self.rows
        if (total := self._n + n) > len(self._buffer):
            # What is not written to takes no memory yet.
            self._buffer = np.empty((total + total // 8 + 32, known.shape[1]))
            self._buffer[: self._n] = known
        self._n = total
        return self._buffer[total - n : total]

    def append(self, rows: NDArray) -> None:
        """Append one row, or some."""
        rows = np.atleast_2d(rows)
        self.more(len(rows))[:] = rows

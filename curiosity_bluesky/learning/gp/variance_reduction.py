"""What the next spectrum would teach about the whole area."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from curiosity_bluesky.learning.gp.kernel import blocks, column_blocks, evenly_spread
from curiosity_bluesky.learning.gp.posterior import GPPosterior, Posterior


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
    """

    def __init__(
        self, posterior: Posterior, pool: NDArray[np.intp], references: NDArray[np.intp]
    ) -> None:
        kernel, inputs = posterior.kernel, posterior.inputs
        self.pool = pool
        self.references = references
        self.posterior = posterior
        # A row for each observation; whatever grows has room for some more. The two over the
        # pool are most of the memory that learning takes: they are filled where they stay.
        n = len(posterior.indices)
        self._cross, self._whitened = GrowingMatrix(len(pool)), GrowingMatrix(len(pool))
        cross, whitened = self._cross.more(n), self._whitened.more(n)
        kernel.covariance(inputs, posterior.indices, pool, out=cross)
        for some in column_blocks(len(pool), n):
            whitened[:, some] = solve_triangular(posterior.factor, cross[:, some], lower=True)
        at_references = kernel.covariance(inputs, posterior.indices, references)
        self._reference_cross = GrowingMatrix.of(at_references)
        known = solve_triangular(posterior.factor, at_references, lower=True)
        self._known = GrowingMatrix.of(known)
        self._prior = kernel.variance(inputs, pool)
        self._reference_prior = kernel.variance(inputs, references)
        squares = np.einsum("nj,nj->j", whitened, whitened)
        self.variance = np.maximum(self._prior - squares, 0.0)
        self.reference_variance = np.maximum(self._reference_prior - (known**2).sum(axis=0), 0.0)
        self._between = kernel.covariance(inputs, references, pool)
        self._between -= known.T @ whitened

    def grow(self, posterior: GPPosterior) -> None:
        """Follow a posterior that was extended by one observation, in O(n candidates)."""
        assert isinstance(posterior, Posterior)
        kernel, inputs, new = posterior.kernel, posterior.inputs, posterior.indices[-1:]
        row, own = posterior.factor[-1, :-1], posterior.factor[-1, -1]
        column = kernel.covariance(inputs, self.pool, new)[:, 0]
        whitened = (column - row @ self._whitened.rows) / own
        reference = kernel.covariance(inputs, self.references, new)[:, 0]
        known = (reference - row @ self._known.rows) / own
        self._cross.append(column)
        self._reference_cross.append(reference)
        self._whitened.append(whitened)
        self._known.append(known)
        self.variance = np.maximum(self.variance - whitened**2, 0.0)
        self.reference_variance = np.maximum(self.reference_variance - known**2, 0.0)
        subtract_outer(self._between, known, whitened)
        self.posterior = posterior

    def fantasize(self, index: int) -> VarianceReduction:
        """Return what it would be with a candidate measured, whatever is found there.

        The covariances stay where they are: until this one grows or supposes another.
        """
        other = copy.copy(self)
        other._cross, other._whitened = self._cross.fork(), self._whitened.fork()
        other._known, other._between = self._known.fork(), self._between.copy()
        other._reference_cross = self._reference_cross.fork()
        other.grow(self.posterior.condition_on(index))
        return other

    def drop(self, weights: NDArray) -> NDArray:
        """Return the expected fall of the variance, summed over the references by their weights.

        Parameters
        ----------
        weights
            ``(references,)``.

        Returns
        -------
        NDArray
            ``(candidates,)`` of the pool.
        """
        total = np.einsum("i,ij,ij->j", weights, self._between, self._between)
        return total / (self.variance + self.posterior.kernel.noise)

    def correlated(self, weights: NDArray) -> tuple[NDArray, NDArray]:
        """Return weights of the observations times their prior correlation with all others.

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
            (self._cross, self._prior),
            (self._reference_cross, self._reference_prior),
        ):
            sums, deviation = np.empty(len(prior)), np.sqrt(prior)
            for k in column_blocks(len(prior), len(some)):
                part = grown.rows[some, k]  # a copy
                part /= own
                part /= deviation[k]
                sums[k] = weights @ part
            found.append(sums)
        return found[0], found[1]


def subtract_outer(between: NDArray, at_references: NDArray, in_pool: NDArray) -> None:
    """Take an outer product off a covariance between references and pool, in place."""
    for some in blocks(np.arange(len(between)), between.shape[1]):
        between[some[0] : some[-1] + 1] -= at_references[some, None] * in_pool


class GrowingMatrix:
    """A matrix that grows by rows without being copied each time.

    Parameters
    ----------
    columns
        Of each row.
    """

    def __init__(self, columns: int) -> None:
        self._n, self._room = 0, np.empty((0, columns))
        self._shared: int | None = None
        # Who wrote last below the rows that all have, and who it was when this one did.
        self._last: list[object] = [None]
        self._mine: object = None

    @staticmethod
    def of(rows: NDArray) -> GrowingMatrix:
        """Return one that begins with some rows."""
        grown = GrowingMatrix(rows.shape[1])
        grown.append(rows)
        return grown

    @property
    def rows(self) -> NDArray:
        """The matrix."""
        if self._shared is not None and self._n > self._shared and self._last[0] != self._mine:
            raise RuntimeError("these rows were written over: another fork has grown")
        return self._room[: self._n]

    def more(self, n: int) -> NDArray:
        """Append `n` rows, and return them to be filled."""
        known = self.rows
        if (total := self._n + n) > len(self._room):
            # What is not written to takes no memory yet.
            self._room = np.empty((total + total // 8 + 32, known.shape[1]))
            self._room[: self._n] = known
            self._shared, self._last = None, [None]
        self._last[0] = self._mine = object()
        self._n = total
        return self._room[total - n : total]

    def append(self, rows: NDArray) -> None:
        """Append one row, or some."""
        rows = np.atleast_2d(rows)
        self.more(len(rows))[:] = rows

    def fork(self) -> GrowingMatrix:
        """Return another one with the same rows, which grows into the same memory.

        What it grows by is lost when this one grows, or another fork of it.
        """
        other = copy.copy(self)
        if self._shared is None:
            other._shared = self._n
        return other

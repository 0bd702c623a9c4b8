"""What the next spectrum would teach about the whole area."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from curiosity_bluesky.learning.posterior import Conditioned, Posterior


class Coverage:
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
        # A row for each observation; whatever grows has room for some more.
        self._cross = GrowingRows(kernel.covariance(inputs, posterior.indices, pool))
        self._whitened = GrowingRows(
            solve_triangular(posterior.factor, self._cross.rows, lower=True)
        )
        self._reference_cross = GrowingRows(
            kernel.covariance(inputs, posterior.indices, references)
        )
        known = solve_triangular(posterior.factor, self._reference_cross.rows, lower=True)
        self._known = GrowingRows(known)
        self._prior = kernel.variance(inputs, pool)
        self._reference_prior = kernel.variance(inputs, references)
        squares = np.einsum("nj,nj->j", self._whitened.rows, self._whitened.rows)
        self.variance = np.maximum(self._prior - squares, 0.0)
        self.reference_variance = np.maximum(self._reference_prior - (known**2).sum(axis=0), 0.0)
        self._between = kernel.covariance(inputs, references, pool)
        self._between -= known.T @ self._whitened.rows

    def grow(self, posterior: Conditioned) -> None:
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
        self._between -= known[:, None] * whitened
        self.posterior = posterior

    def supposing(self, index: int) -> Coverage:
        """Return what it would be with a candidate measured, whatever is found there."""
        other = copy.copy(self)
        other._cross, other._whitened = self._cross.copy(), self._whitened.copy()
        other._known, other._between = self._known.copy(), self._between.copy()
        other._reference_cross = self._reference_cross.copy()
        other.grow(self.posterior.extended(index))
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

    def correlations(self) -> tuple[NDArray, NDArray]:
        """Prior correlation of the observations with pool and references, ``(n, ...)`` each."""
        own = self.posterior.kernel.variance(self.posterior.inputs, self.posterior.indices)
        return (
            self._cross.rows / np.sqrt(own)[:, None] / np.sqrt(self._prior),
            self._reference_cross.rows / np.sqrt(own)[:, None] / np.sqrt(self._reference_prior),
        )


class GrowingRows:
    """A matrix that grows by rows without being copied each time.

    Parameters
    ----------
    rows
        What it begins with.
    spare
        Room for so many more, each time that there is none left.
    """

    def __init__(self, rows: NDArray, spare: int = 32) -> None:
        self._n, self._spare = len(rows), spare
        self._room = np.empty((self._n + spare, rows.shape[1]))
        self._room[: self._n] = rows

    @property
    def rows(self) -> NDArray:
        """The matrix."""
        return self._room[: self._n]

    def append(self, rows: NDArray) -> None:
        """Append one row, or some."""
        rows = np.atleast_2d(rows)
        if (n := self._n + len(rows)) > len(self._room):
            self._room = np.vstack([self.rows, np.empty((len(rows) + self._spare, rows.shape[1]))])
        self._room[self._n : n] = rows
        self._n = n

    def copy(self) -> GrowingRows:
        """Return a copy."""
        return GrowingRows(self.rows)

"""What is known after thousands of observations: exact, and O(n^2) for each further one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.blas import get_blas_funcs
from scipy.linalg.lapack import get_lapack_funcs

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs, blocks
from curiosity_bluesky.learning.gp.posterior import GPPosterior

_inverse: Any = get_lapack_funcs("potri")  # of a matrix, from its Cholesky factor
_triangular: Any = get_blas_funcs("trmm")  # times a triangular matrix
ROWS = 128
"""Rows of the precision matrix that are changed at once."""


@dataclass(frozen=True, eq=False)
class LargePosterior(GPPosterior):
    """What is known after some observations, by their precision matrix, which grows in place.

    The same as `Posterior`, which copies its matrices for each observation and inverts them
    anew. Rounding adds up while it grows; a new search for hyper-parameters starts afresh.

    Parameters
    ----------
    kernel, inputs, indices, noise
        As for `Posterior`.
    room
        The precision matrix in its upper left corner, with room to grow.
    newest
        ``(n - 1,)`` and a number: what the observations before the newest one count in its
        prediction, and the variance of that; None if all came at once.
    """

    room: NDArray = field(repr=False)
    newest: tuple[NDArray, float] | None = None

    @staticmethod
    def after(
        kernel: Kernel,
        inputs: KernelInputs,
        indices: NDArray[np.intp],
        doubt: NDArray | None = None,
    ) -> LargePosterior:
        """Condition on some observations; the parameters are those of `Posterior.after`."""
        n = len(indices)
        noise = kernel.noise * (np.ones(n) if doubt is None else doubt)
        covariance = kernel.covariance(inputs, indices, indices)
        covariance[np.diag_indices(n)] += noise
        # Symmetric, so that the transpose is the same, in the order that LAPACK wants.
        factor = cholesky(covariance.T, lower=True, overwrite_a=True, check_finite=False)
        lower, failed = _inverse(factor, lower=1, overwrite_c=1)
        if failed:
            raise LinAlgError("the covariance of the observations has no inverse")
        room = _room(n)
        for k in range(0, n, ROWS):
            end = min(n, k + ROWS)
            some = np.tril(lower[k:end, :end], k)
            room[k:end, :end], room[:k, k:end] = some, some[:, :k].T
            room[k:end, k:end] += np.tril(some[:, k:], -1).T
        return LargePosterior(kernel, inputs, indices, noise, room)

    @cached_property
    def precision(self) -> NDArray:
        """Inverse of the covariance of the observations, ``(n, n)``; only to look at."""
        n = len(self.indices)
        return self.room[:n, :n]

    def condition_on(self, index: int) -> LargePosterior:
        """Condition on one candidate more; this posterior is not to be used any more.

        By the inverse of a bordered matrix: with the column k of the new one, the weights
        :math:`u = Q k` and the variance v of what they predict, :math:`Q + u u^T / v` and
        :math:`-u / v` and :math:`1 / v` round it.
        """
        new = np.array([index], dtype=np.intp)
        column = self.kernel.covariance(self.inputs, self.indices, new)[:, 0]
        weights = self.precision @ column
        own = self.kernel.variance(self.inputs, new)[0] + self.kernel.noise - weights @ column
        own = max(float(own), 1e-9)
        n, room = len(weights), self.room
        if n == len(room):
            room = _room(n)
            room[:n, :n] = self.room
        for k in range(0, n, ROWS):
            some = weights[k : k + ROWS]
            room[k : k + len(some), :n] += some[:, None] * (weights / own)
        room[n, :n] = room[:n, n] = -weights / own
        room[n, n] = 1.0 / own
        return LargePosterior(
            self.kernel,
            self.inputs,
            np.append(self.indices, new),
            np.append(self.noise, self.kernel.noise),
            room,
            (weights, own),
        )

    def doubted(self, outputs: NDArray, freedom: float = 4.0) -> LargePosterior:
        """Trust those observations less that the others contradict: one step of `Posterior`'s.

        The noise that it comes with is where the steps of the last time led.
        """
        doubt = self.noise_scale(outputs, freedom)
        if doubt is None:
            return self
        return LargePosterior.after(self.kernel, self.inputs, self.indices, doubt)

    def mean(self, outputs: NDArray, candidates: NDArray[np.intp]) -> NDArray:
        """Return the expected outputs of some candidates, ``(candidates, outputs)``."""
        across = self.kernel.covariance(self.inputs, candidates, self.indices)
        return across @ self.pulled(outputs)

    def between(self, some: NDArray[np.intp]) -> NDArray:
        """Prior covariance of some of the observations, ``(some, some)``."""
        return self.kernel.covariance(self.inputs, self.indices[some], self.indices[some])

    def variance_at(self, candidates: NDArray[np.intp], across: NDArray) -> NDArray:
        """Variance of some candidates before the noise, ``(candidates,)``.

        Parameters
        ----------
        candidates
            Which.
        across
            ``(n, candidates)``, their prior covariance with the observations.
        """
        variance = self.kernel.variance(self.inputs, candidates)
        # Of an observed one it follows from the precision matrix alone.
        at = np.full(len(self.inputs), -1)
        at[self.indices] = np.arange(len(self.indices))
        seen = at[candidates]
        noise, own = self.noise[seen], np.diag(self.precision)[seen]
        known = noise - noise**2 * own
        # The precision matrix is symmetric: half of it, with half of its diagonal, is enough.
        half = np.tril(self.precision)
        half[np.diag_indices_from(half)] /= 2
        for some in blocks(np.flatnonzero(seen < 0), len(self.indices)):
            part = np.ascontiguousarray(across[:, some]).T
            product = _triangular(1.0, half.T, part, side=1)
            variance[some] -= 2 * np.einsum("ji,ji->j", part, product)
        return np.maximum(np.where(seen < 0, variance, known), 0.0)

    @cached_property
    def variance(self) -> NDArray:
        """Variance of every candidate before the noise, ``(candidates,)``."""
        parts = []
        for some in blocks(np.arange(len(self.inputs)), len(self.indices)):
            parts.append(self.variance_at(some, self.kernel.covariance(
                self.inputs, self.indices, some)))  # fmt: skip
        return np.concatenate(parts)


def _room(n: int) -> NDArray:
    """Return room for a matrix of n observations, and for the tenth more that follow."""
    return np.empty((n + n // 8 + 64,) * 2)

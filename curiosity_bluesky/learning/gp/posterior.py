"""Posterior of the Gaussian process after n observations: exact, and it grows in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs, blocks

ROWS = 128
"""Rows of the precision matrix that are changed at once."""


class _Buffer:
    """Memory of a precision matrix, with room to grow.

    Parameters
    ----------
    n
        Observations that it holds at first; an eighth more, and some, fit in.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.matrix = np.empty((n + n // 8 + 64,) * 2)  # what is not written takes no memory yet


@dataclass(frozen=True, eq=False)
class GPPosterior:
    """Gaussian process conditioned on n observations, by their precision matrix.

    The precision matrix is computed once for the observations that are known at the start
    (`after`), and then grows by one observation at a time, in O(n^2) and without a copy
    (`condition_on`). Rounding errors add up while it grows; every search for the
    hyper-parameters computes it from the start.

    Parameters
    ----------
    kernel
        The hyper-parameters.
    inputs
        Where every candidate lies.
    indices
        ``(n,)`` observed candidates.
    noise
        ``(n,)`` variance of the noise of each.
    newest
        ``(n - 1,)`` and a number: what the observations before the newest one count in its
        prediction, and the variance of that; None if all came at once.
    """

    kernel: Kernel
    inputs: KernelInputs
    indices: NDArray[np.intp]
    noise: NDArray
    _buffer: _Buffer = field(repr=False)
    newest: tuple[NDArray, float] | None = None

    @staticmethod
    def after(
        kernel: Kernel,
        inputs: KernelInputs,
        indices: NDArray[np.intp],
        noise_scale: NDArray | None = None,
    ) -> GPPosterior:
        """Condition on some observations, in O(n^3).

        Parameters
        ----------
        kernel, inputs, indices
            As for the class.
        noise_scale
            ``(n,)`` how many times the usual noise each has; default 1.

        Raises
        ------
        LinAlgError
            If the covariance of the observations has no inverse.
        """
        scale = np.ones(len(indices)) if noise_scale is None else noise_scale
        covariance = kernel.covariance(inputs, indices, indices)
        return GPPosterior._of(kernel, inputs, indices, kernel.noise * scale, covariance)

    @staticmethod
    def _of(
        kernel: Kernel,
        inputs: KernelInputs,
        indices: NDArray[np.intp],
        noise: NDArray,
        covariance: NDArray,
    ) -> GPPosterior:
        """Invert the covariance of the observations, ``(n, n)``, which is written over."""
        from scipy.linalg import cholesky  # strategies are listed without it
        from scipy.linalg.lapack import get_lapack_funcs

        n = len(indices)
        covariance[np.diag_indices(n)] += noise
        # Symmetric, so that the transpose is the same, in the order that LAPACK wants.
        factor = cholesky(covariance.T, lower=True, overwrite_a=True, check_finite=False)
        inverse: Any = get_lapack_funcs("potri")  # of a matrix, from its Cholesky factor
        lower, failed = inverse(factor, lower=1, overwrite_c=1)
        if failed:
            raise np.linalg.LinAlgError("the covariance of the observations has no inverse")
        buffer = _Buffer(n)
        for k in range(0, n, ROWS):
            end = min(n, k + ROWS)
            some = np.tril(lower[k:end, :end], k)
            buffer.matrix[k:end, :end], buffer.matrix[:k, k:end] = some, some[:, :k].T
            buffer.matrix[k:end, k:end] += np.tril(some[:, k:], -1).T
        return GPPosterior(kernel, inputs, indices, noise, buffer)

    @property
    def precision(self) -> NDArray:
        """Inverse of the covariance of the observations, ``(n, n)``; not to be written to.

        Raises
        ------
        RuntimeError
            If `condition_on` was called: the matrix belongs to the posterior that it returned.
        """
        n = len(self.indices)
        if self._buffer.n != n:
            raise RuntimeError("this posterior was conditioned on one observation more: use that")
        return self._buffer.matrix[:n, :n]

    def condition_on(self, index: int, noise_scale: float = 1.0) -> GPPosterior:
        """Condition on one candidate more, in O(n^2); this posterior is used up by it.

        By the inverse of a bordered matrix: with the column k of the new one, the weights
        :math:`u = Q k` and the variance v of what they predict, :math:`Q + u u^T / v` with
        :math:`-u / v` and :math:`1 / v` round it.
        """
        new, noise = np.array([index], dtype=np.intp), self.kernel.noise * noise_scale
        precision = self.precision
        column = self.kernel.covariance(self.inputs, self.indices, new)[:, 0]
        weights = precision @ column
        own = self.kernel.variance(self.inputs, new)[0] + noise - weights @ column
        own = max(float(own), 1e-9)
        n, buffer = len(weights), self._buffer
        if n == len(buffer.matrix):
            buffer = _Buffer(n)
            buffer.matrix[:n, :n] = precision
        matrix = buffer.matrix
        for k in range(0, n, ROWS):
            some = weights[k : k + ROWS]
            matrix[k : k + len(some), :n] += some[:, None] * (weights / own)
        matrix[n, :n] = matrix[:n, n] = -weights / own
        matrix[n, n] = 1.0 / own
        buffer.n = n + 1
        return GPPosterior(
            self.kernel,
            self.inputs,
            np.append(self.indices, new),
            np.append(self.noise, noise),
            buffer,
            (weights, own),
        )

    def with_robust_noise(
        self,
        outputs: NDArray,
        freedom: float = 4.0,
        steps: int = 5,
        usual: NDArray | float = 1.0,
    ) -> GPPosterior:
        r"""Raise the noise of those observations that the others contradict.

        The noise of each becomes :math:`s\,(\nu + z^2) / (\nu + 1)`, never less than s, with its
        leave-one-out error z in units of what is expected: steps of the fixed point of
        a likelihood that is Student's t with nu degrees of freedom (Lange, Little and Taylor
        1989). One spoilt spectrum then does not spoil what is predicted around it.

        Parameters
        ----------
        outputs
            ``(n, outputs)`` that were observed.
        freedom
            Degrees of freedom, nu.
        steps
            Steps of the fixed point, from the noise as it is; each inverts a matrix.
        usual
            ``(n,)`` how many times the kernel's noise each has that is not contradicted.
        """
        covariance = self.kernel.covariance(self.inputs, self.indices, self.indices)
        posterior = self
        for step in range(steps):
            if (scale := posterior.noise_scale(outputs, freedom)) is None:
                return self
            last = step == steps - 1
            posterior = GPPosterior._of(
                self.kernel,
                self.inputs,
                self.indices,
                self.kernel.noise * usual * scale,
                covariance if last else covariance.copy(),
            )
        return posterior

    def noise_scale(self, outputs: NDArray, freedom: float) -> NDArray | None:
        """Multiple of the usual noise by the errors, see `with_robust_noise`, ``(n,)``.

        None where there are no errors.
        """
        error = self.leave_one_out(outputs)
        z2 = (error**2).sum(axis=1) / self.leave_one_out_variance
        if not (typical := float(np.median(z2))) > 0:
            return None
        # The median of what is expected to be 1 in the mean is about 0.6.
        return np.maximum(1.0, (freedom + 0.6 * z2 / typical) / (freedom + 1))

    def representer_weights(self, outputs: NDArray) -> NDArray:
        """Precision times outputs, ``(n, outputs)``; those of the last outputs are kept."""
        known = vars(self).get("_weights")
        if known is None or known[0] is not outputs:
            known = vars(self)["_weights"] = outputs, self.precision @ outputs
        return known[1]

    def mean(self, outputs: NDArray, candidates: NDArray[np.intp]) -> NDArray:
        """Return the expected outputs of some candidates, ``(candidates, outputs)``."""
        across = self.kernel.covariance(self.inputs, candidates, self.indices)
        return across @ self.representer_weights(outputs)

    def observed_covariance(self, some: NDArray[np.intp]) -> NDArray:
        """Prior covariance of some of the observations, ``(some, some)``."""
        return self.kernel.covariance(self.inputs, self.indices[some], self.indices[some])

    def prior_covariance(self, columns: NDArray[np.intp]) -> NDArray:
        """Prior covariance between every candidate and some, ``(candidates, columns)``."""
        return self.kernel.covariance(self.inputs, np.arange(len(self.inputs)), columns)

    @cached_property
    def variance(self) -> NDArray:
        """Variance of every candidate before the noise, ``(candidates,)``."""
        half, parts = self._half_precision(), []
        for some in blocks(np.arange(len(self.inputs)), len(self.indices)):
            across = self.kernel.covariance(self.inputs, self.indices, some)
            parts.append(self._variance_at(some, across, half))
        return np.concatenate(parts)

    def variance_at(self, candidates: NDArray[np.intp], across: NDArray) -> NDArray:
        """Variance of some candidates before the noise, ``(candidates,)``.

        Parameters
        ----------
        candidates
            Which.
        across
            ``(n, candidates)``, their prior covariance with the observations.
        """
        return self._variance_at(candidates, across, self._half_precision())

    def _half_precision(self) -> NDArray:
        """Lower half of the precision matrix with half of its diagonal: it is symmetric."""
        half = np.tril(self.precision)
        half[np.diag_indices_from(half)] /= 2
        return half

    def _variance_at(self, candidates: NDArray[np.intp], across: NDArray, half: NDArray) -> NDArray:
        from scipy.linalg.blas import get_blas_funcs

        triangular: Any = get_blas_funcs("trmm")  # times a triangular matrix
        variance = self.kernel.variance(self.inputs, candidates)
        # Of an observed one it follows from the precision matrix alone.
        at = np.full(len(self.inputs), -1)
        at[self.indices] = np.arange(len(self.indices))
        seen = at[candidates]
        noise, own = self.noise[seen], np.diag(self.precision)[seen]
        known = noise - noise**2 * own
        for some in blocks(np.flatnonzero(seen < 0), len(self.indices)):
            part = np.ascontiguousarray(across[:, some]).T
            product = triangular(1.0, half.T, part, side=1)
            variance[some] -= 2 * np.einsum("ji,ji->j", part, product)
        return np.maximum(np.where(seen < 0, variance, known), 0.0)

    @property
    def leave_one_out_variance(self) -> NDArray:
        """Variance of what is left out, with its noise, ``(n,)`` (equation 5.12 as below)."""
        return 1.0 / np.diag(self.precision)

    def leave_one_out(self, outputs: NDArray) -> NDArray:
        """Return outputs minus what the other observations predict, ``(n, outputs)``.

        In closed form (Rasmussen and Williams 2006, equation 5.12).
        """
        return self.representer_weights(outputs) * self.leave_one_out_variance[:, None]

    def leave_groups_out(
        self, outputs: NDArray, groups: NDArray[np.intp]
    ) -> tuple[NDArray, NDArray]:
        r"""Error and variance of observations that are predicted without their group.

        With the precision matrix Q, the error of a group G that is left out is
        :math:`Q_{GG}^{-1} (Q y)_G` and its covariance :math:`Q_{GG}^{-1}`: the block form of
        leaving one out.

        Parameters
        ----------
        outputs
            ``(n, outputs)``.
        groups
            ``(n, members)``: what is left out when an observation is predicted; the first is
            the observation itself.

        Returns
        -------
        errors, variances
            ``(n, outputs)`` and ``(n,)``, of the first of each group.
        """
        covariance = np.empty(groups.shape)
        for some in blocks(np.arange(len(groups)), groups.shape[1] ** 2):
            members = groups[some]
            inner = self.precision[members[:, :, None], members[:, None, :]]
            covariance[some] = np.linalg.inv(inner)[:, 0]
        weights = self.representer_weights(outputs)[groups]
        return np.einsum("nm,nmk->nk", covariance, weights), covariance[:, 0]

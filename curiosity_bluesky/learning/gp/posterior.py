"""What is known after some observations: the Gaussian process, conditioned on them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs, blocks


@dataclass(frozen=True, eq=False)
class GPPosterior(ABC):
    """A kernel and what was observed: all that follows from the precision matrix.

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
    """

    kernel: Kernel
    inputs: KernelInputs
    indices: NDArray[np.intp]
    noise: NDArray

    @cached_property
    @abstractmethod
    def precision(self) -> NDArray:
        """Inverse of the covariance of the observations, ``(n, n)``."""
        raise NotImplementedError  # no class is kept from being one by an abstract cached property

    @abstractmethod
    def condition_on(self, index: int) -> GPPosterior:
        """Condition on one candidate more."""

    @abstractmethod
    def doubted(self, outputs: NDArray, freedom: float = 4.0) -> GPPosterior:
        """Trust those observations less that the others contradict."""

    @abstractmethod
    def mean(self, outputs: NDArray, candidates: NDArray[np.intp]) -> NDArray:
        """Return the expected outputs of some candidates, ``(candidates, outputs)``."""

    @abstractmethod
    def between(self, some: NDArray[np.intp]) -> NDArray:
        """Prior covariance of some of the observations, ``(some, some)``."""

    @cached_property
    @abstractmethod
    def variance(self) -> NDArray:
        """Variance of every candidate before the noise, ``(candidates,)``."""
        raise NotImplementedError

    def pulled(self, outputs: NDArray) -> NDArray:
        """Precision times outputs, ``(n, outputs)``; of those asked for last it is kept."""
        known = vars(self).get("_pulled")
        if known is None or known[0] is not outputs:
            known = vars(self)["_pulled"] = outputs, self.precision @ outputs
        return known[1]

    def noise_scale(self, outputs: NDArray, freedom: float) -> NDArray | None:
        """How many times the usual noise each deserves by its error, see `doubted`, ``(n,)``.

        None where there are no errors.
        """
        error = self.leave_one_out(outputs)
        z2 = (error**2).sum(axis=1) / self.leave_one_out_variance
        if not (typical := float(np.median(z2))) > 0:
            return None
        # The median of what is expected to be 1 in the mean is about 0.6.
        return np.maximum(1.0, (freedom + 0.6 * z2 / typical) / (freedom + 1))

    def prior(self, columns: NDArray[np.intp]) -> NDArray:
        """Prior covariance between every candidate and some, ``(candidates, columns)``."""
        return self.kernel.covariance(self.inputs, np.arange(len(self.inputs)), columns)

    @property
    def leave_one_out_variance(self) -> NDArray:
        """Variance of what is left out, with its noise, ``(n,)`` (equation 5.12 as below)."""
        return 1.0 / np.diag(self.precision)

    def leave_one_out(self, outputs: NDArray) -> NDArray:
        """Return outputs minus what the other observations predict, ``(n, outputs)``.

        In closed form (Rasmussen and Williams 2006, equation 5.12).
        """
        return self.pulled(outputs) * self.leave_one_out_variance[:, None]

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
            ``(n, members)``: who is left out when an observation is predicted; the first is
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
        pulled = self.pulled(outputs)[groups]
        return np.einsum("nm,nmk->nk", covariance, pulled), covariance[:, 0]


@dataclass(frozen=True, eq=False)
class Posterior(GPPosterior):
    """What is known after some observations, by the Cholesky factor of their covariance.

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
    factor
        ``(n, n)`` lower Cholesky factor of their covariance with the noise.
    """

    factor: NDArray

    @staticmethod
    def after(
        kernel: Kernel,
        inputs: KernelInputs,
        indices: NDArray[np.intp],
        doubt: NDArray | None = None,
    ) -> Posterior:
        """Condition on some observations.

        Parameters
        ----------
        kernel, inputs, indices
            As for the class.
        doubt
            ``(n,)`` how many times the usual noise each has; default 1.
        """
        prior = kernel.covariance(inputs, indices, indices)
        noise = kernel.noise * (np.ones(len(indices)) if doubt is None else doubt)
        return Posterior(
            kernel, inputs, indices, noise, cholesky(prior + np.diag(noise), lower=True)
        )

    def condition_on(self, index: int) -> Posterior:
        """Condition on one candidate more, in O(n^2)."""
        new = np.array([index], dtype=np.intp)
        column = self.kernel.covariance(self.inputs, self.indices, new)[:, 0]
        row = solve_triangular(self.factor, column, lower=True)
        own = self.kernel.variance(self.inputs, new)[0] + self.kernel.noise - row @ row
        n = len(row)
        factor = np.zeros((n + 1, n + 1))
        factor[:n, :n], factor[n, :n] = self.factor, row
        factor[n, n] = np.sqrt(max(own, 1e-9))
        return Posterior(
            self.kernel,
            self.inputs,
            np.append(self.indices, new),
            np.append(self.noise, self.kernel.noise),
            factor,
        )

    def doubted(self, outputs: NDArray, freedom: float = 4.0) -> Posterior:
        r"""Trust those observations less that the others contradict.

        The noise of each becomes :math:`s\,(\nu + z^2) / (\nu + 1)`, never less than s, with its
        leave-one-out error z in units of what is expected: five steps of the fixed point of
        a likelihood that is Student's t with nu degrees of freedom (Lange, Little and Taylor
        1989). One spoilt spectrum then does not spoil what is predicted around it.
        """
        prior = self.kernel.covariance(self.inputs, self.indices, self.indices)
        posterior = self
        for _ in range(5):
            if (doubt := posterior.noise_scale(outputs, freedom)) is None:
                return self
            noise = self.kernel.noise * doubt
            factor = cholesky(prior + np.diag(noise), lower=True)
            posterior = dataclasses.replace(self, noise=noise, factor=factor)
        return posterior

    @cached_property
    def precision(self) -> NDArray:
        """Inverse of the covariance of the observations, ``(n, n)``."""
        return cho_solve((self.factor, True), np.eye(len(self.indices)))

    def mean(self, outputs: NDArray, candidates: NDArray[np.intp]) -> NDArray:
        """Return the expected outputs of some candidates, ``(candidates, outputs)``."""
        weights = cho_solve((self.factor, True), outputs)
        return self.kernel.covariance(self.inputs, candidates, self.indices) @ weights

    def between(self, some: NDArray[np.intp]) -> NDArray:
        """Prior covariance of some of the observations, ``(some, some)``."""
        return (self.factor @ self.factor.T - np.diag(self.noise))[np.ix_(some, some)]

    @cached_property
    def variance(self) -> NDArray:
        """Variance of every candidate before the noise, ``(candidates,)``."""
        everyone = np.arange(len(self.inputs))
        variance = self.kernel.variance(self.inputs, everyone)
        for some in blocks(everyone, len(self.indices)):
            across = self.kernel.covariance(self.inputs, self.indices, some)
            variance[some] -= (solve_triangular(self.factor, across, lower=True) ** 2).sum(axis=0)
        return np.maximum(variance, 0.0)

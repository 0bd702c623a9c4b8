"""Calibration of the Gaussian process by its errors out of sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.kernel import LARGE, evenly_spread
from curiosity_bluesky.learning.gp.posterior import GPPosterior

SHARES = np.linspace(0.0, 0.9, 10)
NEIGHBOURS = 5
"""Observations nearby that are left out with an observation."""
REACH = 8
"""Observations that the local averages reach about as far as."""


@dataclass(frozen=True, eq=False)
class ErrorInflation:
    r"""Ratio of the leave-one-out errors to what the Gaussian process expects.

    The logarithm of the ratio of the squared error to its expected variance is smoothed by
    the kernel's own correlation R: a Gaussian process with covariance
    :math:`\sigma^2 (\rho R + (1 - \rho) 1)`. The share rho that depends on structure and
    position is the mean of its posterior over a grid, with the scale profiled out; where
    the errors are noise it is small, and every candidate has the same ratio.

    Parameters
    ----------
    mean
        Of the logarithm.
    share
        rho.
    weights
        ``(n,)``: the logarithm at a candidate is ``mean + weights @ correlation``; of many
        observations those that stand for all, see `evenly_spread`.
    loss
        Mean square of what is left of the logarithms.
    """

    mean: float
    share: float
    weights: NDArray
    loss: float

    @staticmethod
    def of(
        posterior: GPPosterior,
        squared_errors: NDArray,
        share: float | None = None,
        expected: NDArray | None = None,
    ) -> ErrorInflation:
        """Learn from errors.

        Parameters
        ----------
        posterior
            Whose errors they are.
        squared_errors
            ``(n,)``, in units of the kernel's variance.
        share
            rho, where it is known already.
        expected
            ``(n,)`` what they are in units of; default the leave-one-out variance.
        """
        from scipy.linalg import solve

        expected = posterior.leave_one_out_variance if expected is None else expected
        some = evenly_spread(len(expected))
        squared_errors, expected = squared_errors[some], expected[some]
        floor = max(1e-12 * float(squared_errors.max()), 1e-300)
        squared_errors = np.maximum(squared_errors, floor)
        logs = np.log(squared_errors / expected)
        prior = posterior.observed_covariance(some)
        deviation = np.sqrt(np.diag(prior))
        correlation = prior / np.outer(deviation, deviation)
        if share is None:
            share = _share(correlation, logs)
        covariance = share * correlation + (1 - share) * np.eye(len(logs))
        ones = np.ones(len(logs))
        both = solve(covariance, np.stack([ones, logs], axis=1), assume_a="pos")
        mean = float(ones @ both[:, 1] / (ones @ both[:, 0]))
        pull = both[:, 1] - mean * both[:, 0]
        # The mean of a logarithm is not the logarithm of the mean: on average it shall be right.
        smooth = mean + share * (correlation @ pull)
        mean += float(np.log(squared_errors.sum() / (np.exp(smooth) * expected).sum()))
        return ErrorInflation(mean, share, share * pull, float((((1 - share) * pull) ** 2).mean()))

    def factor(self, correlated: NDArray) -> NDArray:
        """Ratio at candidates, from ``weights @ correlation``, ``(candidates,)``."""
        return np.exp(self.mean + correlated)


def _share(correlation: NDArray, logs: NDArray) -> float:
    """Posterior mean of rho over `SHARES`, all equally likely beforehand."""
    eigenvalues, vectors = np.linalg.eigh(correlation)
    ones, y = vectors.sum(axis=0), vectors.T @ logs
    evidence = []
    for share in SHARES:
        spectrum = np.maximum(share * eigenvalues + 1 - share, 1e-9)
        mean = (ones * y / spectrum).sum() / (ones**2 / spectrum).sum()
        variance = ((y - mean * ones) ** 2 / spectrum).mean()
        evidence.append(-0.5 * len(y) * np.log(variance + 1e-12) - 0.5 * np.log(spectrum).sum())
    weights = np.exp(np.array(evidence) - max(evidence))
    return float(weights @ SHARES / weights.sum())


def nearest_neighbours(position: NDArray, others: int) -> NDArray[np.intp]:
    """Each of some places ``(n, 2)``, then the others nearest to it, ``(n, 1 + others)``."""
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    if len(position) > LARGE:
        found = np.asarray(KDTree(position).query(position, 1 + others)[1])
        itself = np.arange(len(position))[:, None]
        crowded = ~(found == itself).any(axis=1)  # too many at the same place
        found[crowded, -1] = itself[crowded, 0]
        first = np.argsort(found != itself, axis=1, kind="stable")
        return np.take_along_axis(found, first, axis=1)
    apart = cdist(position, position)
    np.fill_diagonal(apart, -1.0)  # itself first, whatever lies at the same place
    return np.argsort(apart, axis=1, kind="stable")[:, : 1 + others]


@dataclass(frozen=True, eq=False)
class NeighbourErrors:
    """Squared errors with and without the observations nearby.

    Parameters
    ----------
    position
        ``(n, 2)`` of the observations.
    with_, without
        ``(n,)`` squared errors of each observation that is predicted by all others, and by
        all but the nearest, in units of the kernel's variance.
    variance_with, variance_without
        ``(n,)`` what the Gaussian process expects of them.
    """

    position: NDArray
    with_: NDArray
    without: NDArray
    variance_with: NDArray
    variance_without: NDArray

    @staticmethod
    def of(posterior: GPPosterior, outputs: NDArray, scale: float) -> NeighbourErrors:
        """Leave each observation out alone, and with its nearest neighbours.

        Parameters
        ----------
        posterior
            What is known.
        outputs
            ``(n, outputs)`` that were observed.
        scale
            Squared output that a variance of 1 stands for, summed over the outputs.
        """
        position = posterior.inputs.position[posterior.indices]
        groups = nearest_neighbours(position, NEIGHBOURS)
        without, variance = posterior.leave_groups_out(outputs, groups)
        alone = posterior.leave_one_out(outputs)
        return NeighbourErrors(
            position,
            (alone**2).sum(axis=1) / scale,
            (without**2).sum(axis=1) / scale,
            posterior.leave_one_out_variance,
            variance,
        )

    def learnable(self, position: NDArray) -> NDArray:
        """Share of what the neighbours are expected to explain that they do explain.

        Local averages; about 1 where the Gaussian process is right, 0 where neighbours do not
        help: noise, or a structure finer than what can be measured.

        Parameters
        ----------
        position
            ``(places, 2)``.

        Returns
        -------
        NDArray
            ``(places,)``, neither negative nor bounded by 1 where it is noisy itself.
        """
        from scipy.spatial.distance import cdist

        apart = cdist(position, self.position)
        k = min(REACH, apart.shape[1] - 1)
        reach = np.partition(apart, k, axis=1)[:, k : k + 1] / 1.5
        weights = np.exp(-0.5 * (apart / np.maximum(reach, 1e-12)) ** 2)
        averaged = weights @ np.stack(
            [self.with_, self.without, self.variance_with, self.variance_without], axis=1
        )
        used = 1 - averaged[:, 0] / np.maximum(averaged[:, 1], 1e-300)
        expected = 1 - averaged[:, 2] / averaged[:, 3]
        return used / np.maximum(expected, 0.02)

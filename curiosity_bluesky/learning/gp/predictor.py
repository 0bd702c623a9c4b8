"""A predictor that interpolates between what was measured: the Gaussian process at work."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning._numbers import mean_square
from curiosity_bluesky.learning.gp.kernel import (
    LARGE,
    Kernel,
    KernelInputs,
    blocks,
    evenly_spread,
    principal_components,
)
from curiosity_bluesky.learning.gp.large_posterior import LargePosterior
from curiosity_bluesky.learning.gp.posterior import GPPosterior, Posterior
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import Training, TrainingData

DOUBT = 2.0
"""So many standard errors of the share of what an earlier run lets expect count as chance."""


class GaussianProcessPredictor:
    """Spectra by a Gaussian process on patch, position and level.

    The outputs are the leading principal components of the measured spectra. The
    hyper-parameters are those of the largest marginal likelihood, found anew after so many
    further spectra; in between the posterior grows by one observation at a time. After `LARGE`
    spectra they are searched whenever there are a tenth more, by spectra that stand for all.

    Parameters
    ----------
    inputs
        Where every candidate lies.
    outputs
        Principal components of the spectra at most.
    refit_every
        Further spectra between two searches for the hyper-parameters.
    robust
        Whether spectra that the others contradict are trusted less.
    window, level
        Whether the kernel has its soft window and its linear part, see `Kernel.start`.
    on_epoch
        Called while hyper-parameters are searched; what it raises ends the search.
    expected
        Returns what an earlier run makes one expect, ``(candidates, points)``: asked once, when
        there is something to learn. A share of it, found with the hyper-parameters, is taken
        off the spectra, and the Gaussian process learns the rest. None: all of them.

    Attributes
    ----------
    posterior : Conditioned
        What is known where.
    anew : int
        With so many spectra it will learn from all of them, whatever it knew before but the
        hyper-parameters: who replays a run need not stop in between.
    scores : (n, outputs)
        Principal components of the spectra.
    points : int
        Points of a spectrum that were ever recorded.
    searches : int
        How often hyper-parameters were searched.
    left_over : float
        Mean square of what the outputs leave of a spectrum's point.
    share : float
        How much of what is expected is taken off, 0 for nothing.
    """

    def __init__(
        self,
        inputs: KernelInputs,
        outputs: int = 8,
        refit_every: int = 20,
        *,
        robust: bool = True,
        window: bool = True,
        level: bool = True,
        on_epoch: EpochHook = lambda model, epoch, epochs: None,
        expected: Callable[[], NDArray] | None = None,
    ) -> None:
        self.inputs = inputs
        self._outputs = outputs
        self._refit_every = refit_every
        self._robust = robust
        self._on_epoch = on_epoch
        self._ask = expected
        self._expected: NDArray | None = None
        self._first_kernel = Kernel.start(inputs.channels, window=window, level=level)

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        self._kernel = self._first_kernel
        self.searches = 0
        self.anew = len(observed)
        self._doubt = np.ones(0)
        self.share = 0.0
        if self._ask is not None and self._expected is None:
            self._expected = self._ask()
        return self.update(observed)

    def update(self, observed: TrainingData) -> Training:
        """Take in all observations; now and then look for better hyper-parameters."""
        started = time.perf_counter()
        n = len(observed)
        refits = n == self.anew
        if refits:
            few = n + self._refit_every
            self.anew = max(few, n + n // 10) if n > LARGE else min(few, max(n, LARGE) + 1)
            self.searches += 1
            self.share = 0.0
            self._centre(observed)
            self._search(observed)
            if self._expected is not None:
                self.share = self._found_share(observed)
            if self.share:
                self._centre(observed)
                self._search(observed)
        else:
            self._centre(observed)
            self.posterior = self.posterior.condition_on(int(observed.indices[-1]))
        recorded = np.isfinite(observed.spectra)
        # What the prediction leaves of each spectrum.
        residual = self.posterior.noise[:, None] * self.posterior.pulled(self.scores)
        return Training(
            model="gp",
            architecture=f"kernel on patch, position and level, {self.scores.shape[1]} outputs",
            epochs=int(refits),
            loss=float((residual**2).sum() / max(1, recorded.sum())),
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    def _rest(self, observed: TrainingData) -> NDArray:
        """Spectra less the share of them that an earlier run explains, ``(n, points)``."""
        if not self.share or self._expected is None:
            return observed.spectra
        return observed.spectra - self.share * self._expected[observed.indices]

    def _centre(self, observed: TrainingData) -> None:
        """Find mean and principal components of what is to be learned."""
        rest = self._rest(observed)
        recorded = np.isfinite(rest)
        seen = recorded.any(axis=0)
        filled = np.where(recorded, rest, 0.0)
        # Where nothing was ever recorded nothing is predicted.
        self._mean = np.where(seen, filled.sum(axis=0) / np.maximum(recorded.sum(axis=0), 1), 0)
        centred = np.where(recorded, rest - self._mean, 0.0)
        self._gaps = np.where(seen, 0.0, np.nan)
        self.scores, self._axes = principal_components(centred, self._outputs)
        self.points = max(1, int(seen.sum()))
        left_over = ((centred - self.scores @ self._axes)[recorded] ** 2).sum()
        self.left_over = float(left_over / max(1, recorded.sum()))

    def _search(self, observed: TrainingData) -> None:
        """Find the hyper-parameters, and condition on all observations."""
        n = len(observed)
        some = evenly_spread(n)
        self._kernel = self._kernel.fitted(
            self.inputs, observed.indices[some], self.scores[some], self._on_epoch
        )
        if n > LARGE:
            doubt = np.append(self._doubt, np.ones(n - len(self._doubt)))
            posterior = LargePosterior.after(self._kernel, self.inputs, observed.indices, doubt)
        else:
            posterior = Posterior.after(self._kernel, self.inputs, observed.indices)
        self.posterior: GPPosterior = posterior.doubted(self.scores) if self._robust else posterior
        self._doubt = self.posterior.noise / self._kernel.noise

    def _found_share(self, observed: TrainingData) -> float:
        r"""Return the share of what is expected that the spectra bear out.

        Generalised least squares with the mean as a nuisance (Rasmussen and Williams 2006,
        section 2.7), :math:`\hat\rho = \sum_k g_k^T C y_k / \sum_k g_k^T C g_k` with the
        precision C of the spectra, drawn towards 0 by what chance alone would bring: what is
        not larger than `DOUBT` standard errors is 0.
        """
        assert self._expected is not None
        g = self._expected[observed.indices]
        precision = self.posterior.precision
        weight = precision.sum(axis=0)
        precision = precision - np.outer(weight, weight) / weight.sum()
        size = float((g * (precision @ g)).sum())
        if not size > 0:
            return 0.0
        g_k = g @ self._axes.T
        found = float((g_k * (precision @ self.scores)).sum()) / size
        each = (self.scores * (precision @ self.scores)).sum(axis=0) / len(observed)
        variance = float(each @ (g_k * (precision @ g_k)).sum(axis=0)) / size**2
        if not found > 0:
            return 0.0
        return min(2.0, found * max(0.0, 1.0 - DOUBT**2 * variance / found**2))

    @property
    def scale(self) -> float:
        """Mean square of a spectrum's point that a variance of 1 in the kernel stands for.

        The outputs' own, by the marginal likelihood: :math:`y^T K^{-1} y / n`, summed over
        the outputs and divided by the points of a spectrum; never quite 0.
        """
        energy = (self.scores * self.posterior.pulled(self.scores)).sum()
        return max(float(energy / len(self.scores) / self.points), 1e-300)

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        asked = np.arange(len(self.inputs)) if indices is None else indices
        scores = [np.zeros((0, len(self._axes)))]
        for some in blocks(asked, len(self.scores)):
            scores.append(self.posterior.mean(self.scores, some))
        found = self._mean + np.concatenate(scores) @ self._axes + self._gaps
        if self.share and self._expected is not None:
            found += self.share * self._expected[asked]
        return found

    def errors(self, observed: TrainingData) -> NDArray:
        """Mean squared leave-one-out error of each observation, ``(n,)``."""
        left_out = self.posterior.leave_one_out(self.scores) @ self._axes
        predicted = self._mean + self.scores @ self._axes - left_out
        return mean_square(predicted - self._rest(observed))

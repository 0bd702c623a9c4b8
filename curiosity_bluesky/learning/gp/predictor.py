"""A predictor that interpolates between what was measured: the Gaussian process at work."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.learning._numbers import mean_square
from curiosity_bluesky.learning.gp.completion import ShortSpectra
from curiosity_bluesky.learning.gp.kernel import (
    LARGE,
    Kernel,
    KernelInputs,
    blocks,
    evenly_spread,
    principal_components,
)
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.gp.transfer import PriorMean
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.records import Training, TrainingData

STEPS = 5
"""Steps in which the noise of spectra that the others contradict is found, of a few spectra."""


class GaussianProcessPredictor:
    """Spectra by a Gaussian process on patch, position and level.

    The outputs are the leading principal components of the measured spectra. The
    hyper-parameters are those of the largest marginal likelihood, searched again after every
    `refit_every` further spectra; in between the posterior grows by one observation at a time.
    After `LARGE` spectra they are searched whenever there are a tenth more, by spectra that stand
    for all.

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
    prior_mean
        What an earlier run predicts: a share of it, found with the hyper-parameters, is taken
        off the spectra, and the Gaussian process learns the rest. None: all of them.
    dwells
        Dwell settings of the detector, the last one that of a full spectrum. What is predicted is
        the full spectrum: short ones are completed, and trusted less, see `ShortSpectra`.

    Attributes
    ----------
    posterior : GPPosterior
        What is known where.
    next_refit : int
        Number of spectra at which all of them are learned again, whatever was known before but
        the hyper-parameters: a replay need not stop in between.
    scores : (n, outputs)
        Principal components of the spectra.
    points : int
        Points of a spectrum that were ever recorded.
    searches : int
        How often hyper-parameters were searched.
    left_over : float
        Mean square of what the outputs leave of a spectrum's point.
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
        prior_mean: PriorMean | None = None,
        dwells: Sequence[float] = (),
    ) -> None:
        self.inputs = inputs
        self.short = ShortSpectra(dwells) if len(dwells) > 1 else None
        self._outputs = outputs
        self._refit_every = refit_every
        self._robust = robust
        self._on_epoch = on_epoch
        self._prior_mean = prior_mean
        self._first_kernel = Kernel.start(inputs.channels, window=window, level=level)

    def start(self, observed: TrainingData) -> Training:
        """Forget everything and learn from these observations."""
        self._kernel = self._first_kernel
        self.searches = 0
        self.next_refit = len(observed)
        self._noise_scale = np.ones(0)
        if self._prior_mean is not None:
            self._prior_mean.start()
        return self.update(observed)

    def update(self, observed: TrainingData) -> Training:
        """Learn from all observations; now and then search the hyper-parameters again."""
        started = time.perf_counter()
        n = len(observed)
        refits = n == self.next_refit
        if refits:
            few = n + self._refit_every
            self.next_refit = max(few, n + n // 10) if n > LARGE else min(few, max(n, LARGE) + 1)
            self.searches += 1
            self._refit(observed)
        else:
            self._centre(observed)
            usual = 1.0 if self.short is None else self.noise_scale(self.short.dwell[-1:])[0]
            self.posterior = self.posterior.condition_on(int(observed.indices[-1]), usual)
        recorded = np.isfinite(observed.spectra)
        # What the prediction leaves of each spectrum.
        residual = self.posterior.noise[:, None] * self.posterior.representer_weights(self.scores)
        return Training(
            model="gp",
            architecture=f"kernel on patch, position and level, {self.scores.shape[1]} outputs",
            epochs=int(refits),
            loss=float((residual**2).sum() / max(1, recorded.sum())),
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    def _refit(self, observed: TrainingData) -> None:
        """Find the hyper-parameters and, with an earlier run, the share of it that is borne out."""
        if self._prior_mean is None:
            self._centre(observed)
            self._search(observed)
            return
        self._prior_mean.share = 0.0
        self._centre(observed)
        self._search(observed)
        self._prior_mean.fit(observed.indices, self.posterior.precision, self.scores, self._axes)
        if self._prior_mean.share:
            self._centre(observed)
            self._search(observed)

    def _rest(self, observed: TrainingData) -> NDArray:
        """Spectra less the share of them that an earlier run explains, ``(n, points)``."""
        spectra = observed.spectra if self.short is None else self.short.complete(observed)
        if self._prior_mean is None or not self._prior_mean.share:
            return spectra
        return spectra - self._prior_mean(observed.indices)

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
        squares = np.where(recorded, centred - self.scores @ self._axes, 0.0) ** 2
        self.left_over = float(squares[recorded].sum() / max(1, recorded.sum()))
        self._left_over = squares.sum(axis=0) / np.maximum(recorded.sum(axis=0), 1)

    def _search(self, observed: TrainingData) -> None:
        """Find the hyper-parameters, and condition on all observations."""
        n, noise = len(observed), None
        usual = np.ones(n)
        some = evenly_spread(n)
        if self.short is not None:
            self.short.learn_errors(self._axes)
            # Before the search the scale is known roughly.
            prior = self._kernel.variance(self.inputs, observed.indices).mean()
            self._unit = max(float((self.scores**2).sum(axis=1).mean() / prior), 1e-300)
            noise = self.short.noise(self.short.dwell[some], self._unit)
        self._kernel = self._kernel.fitted(
            self.inputs, observed.indices[some], self.scores[some], self._on_epoch, noise
        )
        if self.short is not None:
            usual = self.noise_scale(self.short.dwell)
            rough = GPPosterior.after(self._kernel, self.inputs, observed.indices, usual)
            energy = (self.scores * rough.representer_weights(self.scores)).sum() / n
            self._unit = max(float(energy), 1e-300)
            usual = self.noise_scale(self.short.dwell)
        scale, steps = usual.copy(), STEPS
        if n > LARGE:
            # Each step inverts a large matrix: one a search, from where those before have led.
            scale[: len(self._noise_scale)], steps = self._noise_scale, 1
        posterior = GPPosterior.after(self._kernel, self.inputs, observed.indices, scale)
        if self._robust:
            posterior = posterior.with_robust_noise(self.scores, steps=steps, usual=usual)
        self.posterior = posterior
        self._noise_scale = posterior.noise / self._kernel.noise

    def noise_scale(self, dwells: NDArray) -> NDArray:
        """How many times the noise of a full spectrum those of some settings have, ``(n,)``."""
        assert self.short is not None
        times, more = self.short.noise(dwells, self._unit)
        return times + more / self._kernel.noise

    @property
    def scale(self) -> float:
        """Mean square of a spectrum's point that a variance of 1 in the kernel stands for.

        The outputs' own, by the marginal likelihood: :math:`y^T K^{-1} y / n`, summed over
        the outputs and divided by the points of a spectrum; never quite 0.
        """
        energy = (self.scores * self.posterior.representer_weights(self.scores)).sum()
        return max(float(energy / len(self.scores) / self.points), 1e-300)

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        asked = np.arange(len(self.inputs)) if indices is None else indices
        scores = [np.zeros((0, len(self._axes)))]
        for some in blocks(asked, len(self.scores)):
            scores.append(self.posterior.mean(self.scores, some))
        found = self._mean + np.concatenate(scores) @ self._axes + self._gaps
        if self._prior_mean is not None and self._prior_mean.share:
            found += self._prior_mean(asked)
        return found

    def deviation(self) -> NDArray:
        r"""Return the standard deviation of measured spectra, ``(candidates, points)``.

        With the variance v of a candidate, the noise s, the principal axes a and the scale
        :math:`\sigma_k^2 = y_k^T K^{-1} y_k / n` of each output,
        :math:`\sum_k \sigma_k^2 a_{kp}^2 (v + s)` and what the outputs leave at the point p.
        """
        noisy = self.posterior.variance + self.posterior.kernel.noise
        squares = noisy[:, None] * (self._energy @ self._axes**2) + self._left_over
        return np.sqrt(squares) + self._gaps

    def draws(self, n: int, rng: Generator, indices: NDArray[np.intp]) -> NDArray:
        """Draws of measured spectra of some candidates, ``(n, candidates, points)``.

        Their standard deviation is that of `deviation`: each output is drawn by itself, so that a
        spectrum moves along its principal axes, and what the outputs leave at each point.
        """
        return self.predict(indices) + self._drawn(n, rng, indices)

    def _drawn(self, n: int, rng: Generator, indices: NDArray[np.intp]) -> NDArray:
        """Draw what spectra differ by from the prediction."""
        noisy = self.posterior.variance[indices] + self.posterior.kernel.noise
        outputs = rng.standard_normal((n, len(indices), len(self._axes)))
        outputs *= np.sqrt(noisy[:, None] * self._energy)
        rest = rng.standard_normal((n, len(indices), len(self._left_over)))
        return outputs @ self._axes + rest * np.sqrt(self._left_over)

    @property
    def _energy(self) -> NDArray:
        """Scale of each output by the marginal likelihood, see `deviation`, ``(outputs,)``."""
        weights = self.posterior.representer_weights(self.scores)
        return np.maximum((self.scores * weights).mean(axis=0), 0.0)

    def errors(self, observed: TrainingData) -> NDArray:
        """Mean squared leave-one-out error of each observation, ``(n,)``."""
        left_out = self.posterior.leave_one_out(self.scores) @ self._axes
        predicted = self._mean + self.scores @ self._axes - left_out
        return mean_square(predicted - self._rest(observed))

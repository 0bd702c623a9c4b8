"""A predictor that interpolates between what was measured: the Gaussian process at work."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gaussian_process import (
    Inputs,
    Kernel,
    Posterior,
    blocks,
    principal_components,
)
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.predictors import mean_square
from curiosity_bluesky.learning.records import Observed, Training


class GaussianProcessPredictor:
    """Spectra by a Gaussian process on patch, position and level.

    The outputs are the leading principal components of the measured spectra. The
    hyper-parameters are those of the largest marginal likelihood, found anew after so many
    further spectra; in between the posterior grows by one observation at a time.

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

    Attributes
    ----------
    posterior : Posterior
        What is known where.
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
        inputs: Inputs,
        outputs: int = 8,
        refit_every: int = 20,
        *,
        robust: bool = True,
        window: bool = True,
        level: bool = True,
        on_epoch: EpochHook = lambda model, epoch, epochs: None,
    ) -> None:
        self.inputs = inputs
        self._outputs = outputs
        self._refit_every = refit_every
        self._robust = robust
        self._on_epoch = on_epoch
        self._first_kernel = Kernel.start(inputs.channels, window=window, level=level)

    def start(self, observed: Observed) -> Training:
        """Forget everything and learn from these observations."""
        self._kernel = self._first_kernel
        self.searches = 0
        self._first = len(observed)
        return self.update(observed)

    def update(self, observed: Observed) -> Training:
        """Take in all observations; now and then look for better hyper-parameters."""
        started = time.perf_counter()
        recorded = np.isfinite(observed.spectra)
        seen = recorded.any(axis=0)
        spectra = np.where(recorded, observed.spectra, 0.0)
        # Where nothing was ever recorded nothing is predicted.
        self._mean = np.where(seen, spectra.sum(axis=0) / np.maximum(recorded.sum(axis=0), 1), 0)
        centred = np.where(recorded, observed.spectra - self._mean, 0.0)
        self._gaps = np.where(seen, 0.0, np.nan)
        self.scores, self._axes = principal_components(centred, self._outputs)
        self.points = max(1, int(seen.sum()))
        left_over = ((centred - self.scores @ self._axes)[recorded] ** 2).sum()
        self.left_over = float(left_over / max(1, recorded.sum()))
        refits = (len(observed) - self._first) % self._refit_every == 0
        if refits:
            self.searches += 1
            self._kernel = self._kernel.fitted(
                self.inputs, observed.indices, self.scores, self._on_epoch
            )
            self.posterior = Posterior.after(self._kernel, self.inputs, observed.indices)
            if self._robust:
                self.posterior = self.posterior.doubted(self.scores)
        else:
            self.posterior = self.posterior.extended(int(observed.indices[-1]))
        # What the prediction leaves of each spectrum.
        residual = self.posterior.noise[:, None] * (self.posterior.precision @ self.scores)
        return Training(
            model="gp",
            architecture=f"kernel on patch, position and level, {self.scores.shape[1]} outputs",
            epochs=int(refits),
            loss=float((residual**2).sum() / max(1, recorded.sum())),
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    @property
    def scale(self) -> float:
        """Mean square of a spectrum's point that a variance of 1 in the kernel stands for.

        The outputs' own, by the marginal likelihood: :math:`y^T K^{-1} y / n`, summed over
        the outputs and divided by the points of a spectrum; never quite 0.
        """
        energy = (self.scores * (self.posterior.precision @ self.scores)).sum()
        return max(float(energy / len(self.scores) / self.points), 1e-300)

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        asked = np.arange(len(self.inputs)) if indices is None else indices
        scores = [np.zeros((0, len(self._axes)))]
        for some in blocks(asked, len(self.scores)):
            scores.append(self.posterior.mean(self.scores, some))
        return self._mean + np.concatenate(scores) @ self._axes + self._gaps

    def errors(self, observed: Observed) -> NDArray:
        """Mean squared leave-one-out error of each observation, ``(n,)``."""
        left_out = self.posterior.leave_one_out(self.scores) @ self._axes
        predicted = self._mean + self.scores @ self._axes - left_out
        return mean_square(predicted - observed.spectra)

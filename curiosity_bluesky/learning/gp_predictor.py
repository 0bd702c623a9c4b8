"""A predictor that interpolates between what was measured: the Gaussian process at work."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gaussian_process import (
    Inputs,
    Kernel,
    Posterior,
    principal_components,
)
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.predictors import mean_square
from curiosity_bluesky.learning.records import Observed, Training


def gp_inputs(patches: Patches, components: int) -> Inputs:
    """Principal components of all patches, relative scale kept, and the positions.

    Parameters
    ----------
    patches
        The candidates.
    components
        How many components at most.
    """
    images = patches.images().reshape(len(patches), -1).astype(float)
    scores, _ = principal_components(images - images.mean(axis=0), components)
    total = np.sqrt((scores**2).sum(axis=1).mean())
    # A constant image tells nothing: rounding is not to be taken for structure.
    patch = scores / total if total > 1e-6 else np.zeros((len(patches), 1))
    survey = patches.survey
    grid = np.stack(np.meshgrid(survey.x, survey.y), axis=-1)
    position = patches.flatten(grid).astype(float)
    extent = float(np.ptp(position, axis=0).max())
    return Inputs(patch, position / (extent if extent > 0 else 1.0))


class GaussianProcessPredictor:
    """Spectra by a Gaussian process on patch and position.

    The outputs are the leading principal components of the measured spectra. The
    hyper-parameters are those of the largest marginal likelihood, found anew after so many
    further spectra.

    Parameters
    ----------
    inputs
        Where every candidate lies.
    outputs
        Principal components of the spectra at most.
    refit_every
        Further spectra between two searches for the hyper-parameters.
    """

    def __init__(self, inputs: Inputs, outputs: int, refit_every: int) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._refit_every = refit_every

    def start(self, observed: Observed) -> Training:
        """Forget everything and learn from these observations."""
        self._kernel = Kernel()
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
        self._scores, self._axes = principal_components(centred, self._outputs)
        refits = (len(observed) - self._first) % self._refit_every == 0
        if refits:
            self._kernel = self._kernel.fitted(self._inputs, observed.indices, self._scores)
        self.posterior = Posterior(self._kernel, self._inputs, observed.indices)
        residual = observed.spectra - self.predict(observed.indices)
        return Training(
            model="gp",
            architecture=f"{self._inputs.patch.shape[1]} patch components and position, "
            f"{self._scores.shape[1]} outputs",
            epochs=int(refits),
            loss=float(np.nanmean(residual**2)),
            seconds=time.perf_counter() - started,
            n_observed=len(observed),
        )

    def predict(self, indices: NDArray[np.intp] | None = None) -> NDArray:
        """Spectra of some candidates (default all), ``(candidates, points)``."""
        asked = np.arange(len(self._inputs.patch)) if indices is None else indices
        return self._mean + self.posterior.mean(self._scores, asked) @ self._axes + self._gaps

    def errors(self, observed: Observed) -> NDArray:
        """Mean squared leave-one-out error of each observation, ``(n,)``."""
        left_out = self.posterior.leave_one_out(self._scores) @ self._axes
        predicted = self._mean + self._scores @ self._axes - left_out
        return mean_square(predicted - observed.spectra)

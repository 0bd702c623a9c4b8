"""Warm start: an earlier run as the prior mean of the Gaussian process on a new survey.

Strategies ask for it by `prior_mean`; the predictor takes it off the spectra that it learns. All
else of a strategy is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.gp.kernel import Kernel, KernelInputs, principal_components
from curiosity_bluesky.learning.gp.posterior import GPPosterior
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.prior_run import PriorRun
from curiosity_bluesky.learning.protocols import EpochHook

MOST = 300
"""Most spectra of an earlier run that are used, the first ones: learning takes their cube."""
CHANCE = 2.0
"""Standard errors of the share of an earlier run that count as chance."""


class PriorMean:
    """A share of what an earlier run predicts, as the mean of the Gaussian process.

    Parameters
    ----------
    predict
        Predicts the spectrum of every candidate, ``(candidates, points)``; it is called once,
        when there is something to learn.

    Attributes
    ----------
    share : float
        How much of the prediction the spectra bear out, from 0 for nothing.
    """

    def __init__(self, predict: Callable[[], NDArray]) -> None:
        self._predict = predict
        self._predicted: NDArray | None = None
        self.share = 0.0

    def start(self) -> None:
        """Forget the share, and predict where that was not done yet."""
        self.share = 0.0
        if self._predicted is None:
            self._predicted = self._predict()

    def __call__(self, indices: NDArray[np.intp]) -> NDArray:
        """Prior mean of the spectra of some candidates, ``(candidates, points)``."""
        assert self._predicted is not None
        return self.share * self._predicted[indices]

    def fit(
        self, indices: NDArray[np.intp], precision: NDArray, scores: NDArray, axes: NDArray
    ) -> None:
        r"""Find the share that the spectra bear out.

        Generalised least squares with the mean as a nuisance (Rasmussen and Williams 2006,
        section 2.7), :math:`\hat\rho = \sum_k g_k^T C y_k / \sum_k g_k^T C g_k` with the
        precision C of the spectra, drawn towards 0 by what chance alone would bring: what is
        not larger than `CHANCE` standard errors is 0.

        Parameters
        ----------
        indices
            ``(n,)`` observed candidates.
        precision
            ``(n, n)``, of their spectra, by a Gaussian process without a prior mean.
        scores, axes
            ``(n, outputs)`` and ``(outputs, points)``, principal components of the spectra.
        """
        assert self._predicted is not None
        g = self._predicted[indices]
        weight = precision.sum(axis=0)
        precision = precision - np.outer(weight, weight) / weight.sum()
        size = float((g * (precision @ g)).sum())
        if not size > 0:
            return
        g_k = g @ axes.T
        found = float((g_k * (precision @ scores)).sum()) / size
        each = (scores * (precision @ scores)).sum(axis=0) / len(indices)
        variance = float(each @ (g_k * (precision @ g_k)).sum(axis=0)) / size**2
        if found > 0:
            self.share = min(2.0, found * max(0.0, 1.0 - CHANCE**2 * variance / found**2))


def prior_mean(
    patches: Patches,
    outputs: int,
    kernel: Kernel,
    on_epoch: EpochHook = lambda model, epoch, epochs: None,
) -> PriorMean | None:
    """Return the prior mean by the run that a survey starts from; None for a cold start.

    The parameters are those of `predict_from_prior`.
    """
    earlier = patches.earlier
    if earlier is None:
        return None
    return PriorMean(lambda: predict_from_prior(earlier, patches, outputs, kernel, on_epoch))


def predict_from_prior(
    earlier: PriorRun,
    patches: Patches,
    outputs: int,
    kernel: Kernel,
    on_epoch: EpochHook = lambda model, epoch, epochs: None,
) -> NDArray:
    """Predict the spectrum of every candidate of a new survey by its structure alone.

    A Gaussian process on the earlier spectra: their hyper-parameters are those of the
    largest marginal likelihood in their own run, where position counts too; between the
    runs it does not.

    Parameters
    ----------
    earlier
        The earlier run.
    patches
        The candidates.
    outputs
        Principal components of the earlier spectra at most.
    kernel
        Where the search for the hyper-parameters begins.
    on_epoch
        Called in it; what it raises ends it.

    Returns
    -------
    NDArray
        ``(candidates, points)``; 0 where the earlier run never recorded anything.
    """
    used = earlier.first(MOST)
    inputs = JointInputs(patches, used)
    indices = np.arange(len(patches), len(inputs))
    recorded = np.isfinite(used.spectra)
    spectra = np.where(recorded, used.spectra, 0.0)
    mean = spectra.sum(axis=0) / np.maximum(recorded.sum(axis=0), 1)
    scores, axes = principal_components(np.where(recorded, spectra - mean, 0.0), outputs)
    found = kernel.fitted(inputs, indices, scores, on_epoch)
    posterior = GPPosterior.after(found, inputs, indices).with_robust_noise(scores)
    return mean + posterior.mean(scores, np.arange(len(patches))) @ axes


class JointInputs(KernelInputs):
    """Inputs of the kernel: the candidates and, after them, the earlier spectra.

    Patches of the earlier survey are sampled at the pixel size of this one, so that both show
    the same um. Each survey is scaled by its own mean and spread: another tip, another gain.
    The two runs lie so far apart that no kernel on position sees from one to the other.

    Parameters
    ----------
    patches
        The candidates.
    earlier
        The earlier run.
    """

    def __init__(self, patches: Patches, earlier: PriorRun) -> None:
        from scipy.ndimage import gaussian_filter, map_coordinates

        super().__init__(patches)
        self._candidates = len(patches)
        survey, ratio = earlier.survey, earlier.ratio(patches.survey)
        offset = np.arange(patches.size) - patches.size // 2
        row = earlier.pixels[:, 0, None, None] + ratio[0] * offset[:, None] + 0.0 * offset
        col = earlier.pixels[:, 1, None, None] + ratio[1] * offset + 0.0 * offset[:, None]
        # Beyond the border as the candidates are completed there; "mirror" is numpy's "reflect".
        beyond = "mirror" if patches.rim == "reflect" else "nearest"
        windows, levels = [], []
        for name in patches.survey.channels:
            image = survey.channels[name]
            # What a larger pixel sees is an average.
            blur = 0.5 * np.sqrt(np.maximum(ratio**2 - 1, 0.0))
            image = gaussian_filter(image, blur) if blur.any() else image
            spread, size = image.std(), np.sqrt((image**2).mean())
            spread = np.inf if spread < 1e-9 * np.abs(image).max() else spread
            seen = map_coordinates(image, [row, col], order=1, mode=beyond)
            windows.append((seen.reshape(len(earlier), -1) - image.mean()) / (spread or 1.0))
            levels.append(image[tuple(earlier.pixels.T)] / (size if size > 0 else 1.0))
        self._earlier_windows = np.stack(windows, axis=1)
        self.level = np.concatenate([self.level, np.stack(levels, axis=1)])
        place = np.stack([survey.x[earlier.pixels[:, 1]], survey.y[earlier.pixels[:, 0]]], axis=1)
        extent = max(np.ptp(patches.survey.x), np.ptp(patches.survey.y)) or 1.0
        self.position = np.concatenate([self.position, place / extent + 1e6])

    def windows(self, indices: NDArray[np.intp]) -> NDArray:
        """Patches of some candidates or earlier spectra, ``(n, channels, size * size)``."""
        out = np.empty((len(indices), self.channels, len(self.squared_radius)))
        new = indices < self._candidates
        out[new] = super().windows(indices[new])
        out[~new] = self._earlier_windows[indices[~new] - self._candidates]
        return out

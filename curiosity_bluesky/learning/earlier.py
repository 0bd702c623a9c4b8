"""An earlier run on the like of this surface, and what it makes one expect here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.gaussian_process import (
    Inputs,
    Kernel,
    principal_components,
)
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.posterior import Posterior
from curiosity_bluesky.learning.survey import Survey

LEAST = 10
"""So many spectra an earlier run has to have before it can tell anything."""
MOST = 300
"""So many of them are used at most, the first ones: the time to learn grows with their cube."""
COARSER = 4.0
"""Pixels may be so many times larger or smaller than those of the earlier survey."""
SAME_AXIS = 1e-3
"""Axes are the same where they differ by less than this share of their range."""


@dataclass(frozen=True, eq=False)
class Earlier:
    """What was measured in an earlier run.

    Parameters
    ----------
    uid
        Of the run.
    survey
        Its overview image.
    pixels
        ``(n, 2)``, (row, col) of each spectrum.
    spectra
        ``(n, points)``, NaN where nothing was recorded.
    axis
        ``(points,)``, None if unknown.
    """

    uid: str
    survey: Survey
    pixels: NDArray[np.intp]
    spectra: NDArray
    axis: NDArray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, n: int) -> Earlier:
        """Return it with only the first `n` spectra."""
        return Earlier(self.uid, self.survey, self.pixels[:n], self.spectra[:n], self.axis)

    def check_survey(self, survey: Survey) -> None:
        """Make sure that a survey can be compared with that of the earlier run.

        Raises
        ------
        InputError
            If it has a channel that the other lacks, if its pixels are of quite another size,
            or if the earlier run has too few spectra.
        """
        lacking = [name for name in survey.channels if name not in self.survey.channels]
        if lacking:
            raise InputError(
                f"run {self.uid} has no survey channel {', '.join(lacking)}, only "
                f"{', '.join(self.survey.channels)}; start from a run with the same channels"
            )
        ratio = np.abs(self._ratio(survey))
        if ratio.max() > COARSER or ratio.min() < 1 / COARSER:
            raise InputError(
                f"the pixels of the survey are {ratio[1]:.3g} x {ratio[0]:.3g} times those of run "
                f"{self.uid}; expected at most {COARSER:g} times, either way: their patches do not "
                "show the same"
            )
        if len(self) < LEAST:
            raise InputError(
                f"run {self.uid} has {len(self)} good spectra; expected {LEAST} or more to start "
                "from"
            )

    def check_spectrum(self, points: int, axis: NDArray | None) -> None:
        """Make sure that a spectrum lies along the axis of the earlier ones.

        Raises
        ------
        InputError
            If it does not.
        """
        mine = self.spectra.shape[1]
        if points != mine:
            raise InputError(
                f"the spectra have {points} points, those of run {self.uid} have {mine}; start "
                "from a run with the same axis"
            )
        if axis is None or self.axis is None:
            return
        apart = float(np.abs(np.asarray(axis, float) - self.axis).max())
        if not apart <= SAME_AXIS * max(float(np.ptp(self.axis)), 1e-300):
            raise InputError(
                f"the axis of the spectra differs by up to {apart:.3g} from that of run "
                f"{self.uid}; start from a run with the same axis"
            )

    def expected(
        self,
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
        used = self.first(MOST)
        inputs = BothRuns(patches, used)
        indices = np.arange(len(patches), len(inputs))
        recorded = np.isfinite(used.spectra)
        spectra = np.where(recorded, used.spectra, 0.0)
        mean = spectra.sum(axis=0) / np.maximum(recorded.sum(axis=0), 1)
        scores, axes = principal_components(np.where(recorded, spectra - mean, 0.0), outputs)
        found = kernel.fitted(inputs, indices, scores, on_epoch)
        posterior = Posterior.after(found, inputs, indices).doubted(scores)
        return mean + posterior.mean(scores, np.arange(len(patches))) @ axes

    def _ratio(self, survey: Survey) -> NDArray:
        """Return how many pixels of the earlier survey a pixel of this one is, down and across."""
        return np.array([_step(survey.y) / _step(self.survey.y),
                         _step(survey.x) / _step(self.survey.x)])  # fmt: skip


class BothRuns(Inputs):
    """What the kernel knows of the candidates and, after them, of the earlier spectra.

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

    def __init__(self, patches: Patches, earlier: Earlier) -> None:
        super().__init__(patches)
        self._candidates = len(patches)
        survey, ratio = earlier.survey, earlier._ratio(patches.survey)
        offset = np.arange(patches.size) - patches.size // 2
        row = earlier.pixels[:, 0, None, None] + ratio[0] * offset[:, None] + 0.0 * offset
        col = earlier.pixels[:, 1, None, None] + ratio[1] * offset + 0.0 * offset[:, None]
        windows, levels = [], []
        for name in patches.survey.channels:
            image = survey.channels[name]
            # What a larger pixel sees is an average.
            blur = 0.5 * np.sqrt(np.maximum(ratio**2 - 1, 0.0))
            image = gaussian_filter(image, blur) if blur.any() else image
            spread, size = image.std(), np.sqrt((image**2).mean())
            spread = np.inf if spread < 1e-9 * np.abs(image).max() else spread
            seen = map_coordinates(image, [row, col], order=1, mode="nearest")
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


def _step(axis: NDArray) -> float:
    return float((axis[-1] - axis[0]) / (len(axis) - 1)) if len(axis) > 1 else 1.0

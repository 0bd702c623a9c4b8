"""An earlier run on a similar surface, to start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.survey import Survey

LEAST = 10
"""Fewest spectra of an earlier run to start from."""
COARSER = 4.0
"""Largest ratio of the pixel sizes of the two surveys, either way."""
SAME_AXIS = 1e-3
"""Axes are the same where they differ by less than this share of their range."""


@dataclass(frozen=True, eq=False)
class PriorRun:
    """Survey and spectra of an earlier run.

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

    def first(self, n: int) -> PriorRun:
        """Return it with only the first `n` spectra."""
        return PriorRun(self.uid, self.survey, self.pixels[:n], self.spectra[:n], self.axis)

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
        ratio = np.abs(self.ratio(survey))
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

    def ratio(self, survey: Survey) -> NDArray:
        """Return how many pixels of the earlier survey a pixel of this one is, down and across."""
        return np.array([_step(survey.y) / _step(self.survey.y),
                         _step(survey.x) / _step(self.survey.x)])  # fmt: skip


def _step(axis: NDArray) -> float:
    return float((axis[-1] - axis[0]) / (len(axis) - 1)) if len(axis) > 1 else 1.0

"""Records that go into the explorer and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning.survey import Pixel
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure

Reason = Literal["seed", "curious", "random", "design", "manual", "repeat"]
REASONS: tuple[str, ...] = get_args(Reason)
ActKind = Literal["add", "mask", "veto", "set", "stop"]
ACT_KINDS: tuple[str, ...] = get_args(ActKind)


@dataclass(frozen=True, eq=False)
class Observation:
    """One measured spectrum.

    Parameters
    ----------
    pixel
        Where, ``(row, col)`` of the survey.
    spectrum
        ``(points,)``; several channels one behind the other. NaN where nothing was
        recorded.
    repeat
        0 for the first measurement at this pixel, 1 for the second, ...
    quality
        1 for a good spectrum, 0 for a useless one; with less than the strategy's
        `min_quality` it is kept and not learned from.
    decision_id
        The decision that led here, None for a point without one.
    axis
        ``(points,)`` along which it was measured, for PFM the bias in V; None if unknown or
        if there are several channels.
    doses
        How often the sample had to be measured for it: a pause has it done again.
    dwell
        Dwell setting of the detector that it was measured with, such as the cycles of a loop; None
        where the detector has none.
    """

    pixel: Pixel
    spectrum: NDArray
    repeat: int = 0
    quality: float = 1.0
    decision_id: int | None = None
    axis: NDArray | None = None
    doses: int = 1
    dwell: float | None = None


@dataclass(frozen=True, eq=False)
class Proposal:
    """A pixel that the explorer wants measured; once recorded, a decision.

    Scores are NaN where the strategy has none. `predicted_error`, `novelty`,
    `uncertainty` and `acquisition` are the values of the maps at this pixel.

    Parameters
    ----------
    decision_id
        Number of the decision in its run, from 0.
    pixel, x, y
        Where: ``(row, col)`` and the position in um.
    reason
        Why: ``seed``, ``curious``, ``random``, ``design`` (a plan made before the first
        spectrum), ``manual`` or ``repeat``.
    exploration_weight
        Share of the novelty in the acquisition.
    n_observed
        Spectra that the model had learned from.
    model_version
        Trainings behind the model, 0 for none.
    seconds
        Time that the decision took, training included.
    to_come
        How many more were decided together with it, after it.
    decided_by
        Name of the strategy that decided, or who did in its place; "" where it is not known.
    dwell
        Dwell setting to measure with, such as the cycles of a loop; None where the detector has
        none.
    predicted_spectrum
        ``(points,)`` what the model expects there, None where there is no model. It is
        recorded with the measured spectrum, not with the decision.
    """

    decision_id: int
    pixel: Pixel
    x: float
    y: float
    reason: str
    predicted_error: float = np.nan
    novelty: float = np.nan
    uncertainty: float = np.nan
    acquisition: float = np.nan
    exploration_weight: float = np.nan
    n_observed: int = 0
    model_version: int = 0
    seconds: float = 0.0
    to_come: int = 0
    decided_by: str = ""
    dwell: float | None = None
    predicted_spectrum: NDArray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Failure:
    """An attempt to measure that failed, or, with the reason `BEGUN`, that begins.

    Parameters
    ----------
    decision_id
        Number of the decision.
    reason
        What went wrong.
    bar
        Whether its pixel is never to be proposed again.
    attempt
        Which attempt it was, from 0.
    given_up
        Whether it was the last one.
    doses
        How often the sample was measured in it, for nothing.
    """

    decision_id: int
    reason: str
    bar: bool = False
    attempt: int = 0
    given_up: bool = True
    doses: int = 0

    @property
    def kind(self) -> FailureKind:
        """What made the attempt fail."""
        return PointFailure.read(self.reason).kind


BEGUN = FailureKind.BEGUN.value
"""The reason where nothing failed yet: what is written before an attempt, so that a process that is
killed in it leaves word that the sample may have had its dose."""

OUT_OF_REACH = FailureKind.OUT_OF_REACH.value
"""Beginning of a failure's reason where the tip could not be sent: no fault of the pixel."""


@dataclass(frozen=True, eq=False)
class ReachableArea:
    """Pixels that are within reach of the tip, after the sample has drifted.

    Parameters
    ----------
    number
        Number of the re-survey that found it, from 1; the newest one counts.
    out_of_reach
        ``(rows, cols)``, True where the tip cannot be sent.
    n_decisions
        How many decisions there were before.
    """

    number: int
    out_of_reach: NDArray[np.bool_]
    n_decisions: int


@dataclass(frozen=True)
class ResumeMarker:
    """The run was broken off here; another one goes on with it."""


@dataclass(frozen=True)
class SteeringRequest:
    """Request of the scientist in the middle of a run.

    Parameters
    ----------
    act_id
        Number of the act in its run, from 0.
    kind
        ``add`` (measure this pixel), ``mask`` (do not go there), ``veto`` (not this
        decision), ``set`` (another strategy, or other parameters), ``stop``.
    arguments
        JSON-ready: ``row``, ``col``; ``shape``, ``bits`` (see `masks.encode_mask`);
        ``decision_id``; ``strategy``, ``parameters`` (all of them); ``reason``.
    """

    act_id: int
    kind: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Training:
    """One training or retraining, for the record.

    Parameters
    ----------
    model
        What was trained, such as ``autoencoder`` or ``im2spec``.
    architecture
        In words, for a reader.
    epochs
        Passes over the data.
    loss
        Mean squared error at the end, in the units that the model works in.
    error_model_loss
        The error model's loss at the end, NaN where none was trained.
    held_out_error
        Mean squared error of the model *before* this training on the spectra that are new
        in it, divided by their mean squared deviation from the mean of the earlier
        spectra: 1 is no better than the mean spectrum. NaN where there is no such point.
    n_observed
        Spectra trained on.
    model_version
        Number of this training, from 1.
    seconds
        Time that it took.
    """

    model: str
    architecture: str
    epochs: int
    loss: float
    seconds: float
    n_observed: int = 0
    model_version: int = 0
    error_model_loss: float = np.nan
    held_out_error: float = np.nan


@dataclass(frozen=True)
class Anomaly:
    """A region whose spectra structure does not explain: worth a closer look.

    Parameters
    ----------
    x, y
        Middle of the region, um.
    radius
        It reaches about so far, um.
    n_observed
        Spectra measured in it that speak for it.
    excess
        Their squared error, predicted without their neighbours, in units of what is typical
        for the sample (geometric mean).
    learnable
        How much neighbours help there, 1 for as much as the model expects, 0 for not at all.
    remark
        In words.
    """

    x: float
    y: float
    radius: float
    n_observed: int
    excess: float
    learnable: float
    remark: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """Expected spectra and their uncertainty at every pixel.

    Parameters
    ----------
    spectra
        ``(rows, cols, points)``, NaN where a pixel is no candidate.
    uncertainty
        ``(rows, cols)``, NaN where the strategy has none.
    deviation
        ``(rows, cols, points)``, standard deviation of a measured spectrum about the expected
        one; None where the predictor does not know it.
    latent
        ``(rows, cols, latent)``, each pixel in the latent space of the model; None where it has
        none.
    """

    spectra: NDArray
    uncertainty: NDArray
    deviation: NDArray | None = None
    latent: NDArray | None = None


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The observations that a model learns from, in their canonical order.

    Parameters
    ----------
    indices
        ``(n,)`` candidate number of each.
    spectra
        ``(n, points)``.
    axis
        ``(points,)``, None if unknown.
    dwell
        ``(n,)`` dwell setting of each, None where the detector has none.
    """

    indices: NDArray[np.intp]
    spectra: NDArray
    axis: NDArray | None = None
    dwell: NDArray | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def first(self, n: int) -> TrainingData:
        """Return the first `n` of them."""
        dwell = None if self.dwell is None else self.dwell[:n]
        return TrainingData(self.indices[:n], self.spectra[:n], self.axis, dwell)

    def starts_with(self, other: TrainingData) -> bool:
        """Return whether `other` is the beginning of this, number for number."""
        n = len(other)
        return (
            n <= len(self)
            and np.array_equal(self.indices[:n], other.indices)
            and np.array_equal(self.spectra[:n], other.spectra, equal_nan=True)
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of the candidates, ``(candidates,)`` each; None where not computed."""

    acquisition: NDArray
    error: NDArray | None = None
    novelty: NDArray | None = None
    uncertainty: NDArray | None = None
    exploration_weight: float = np.nan

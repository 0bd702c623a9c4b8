"""Suggestions and outcomes: mappings that carry proposals and measurements.

bluesky-adaptive's plans write every key of a suggestion and of an outcome into the record, as
scalars. What is to reach the other side and not the record, the spectrum above all, is an attribute
of the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.learning import Proposal

ID = "_id"
"""Key of a suggestion and of its outcome: `bluesky_adaptive.protocols.ID_KEY`."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurement for one suggestion.

    Parameters
    ----------
    spectrum
        ``(points,)``; several channels one behind the other. NaN where nothing was recorded.
    axis
        ``(points,)`` along which it was measured, for PFM the bias in V; None if unknown or if
        there are several channels.
    quality
        1 for a good spectrum, 0 for a useless one.
    data
        All that was read with it, by data key.
    """

    spectrum: NDArray
    axis: NDArray | None
    quality: float
    data: Mapping[str, Any]


class Suggestion(dict[str, Any]):
    """Suggestion with its proposal.

    Its keys are ``_id`` (the number of the decision), the position by the names of the
    actuators (um), ``row``, ``col`` and ``reason``.
    """

    # No floats but the positions: their plans take every float of a suggestion for a motor.

    proposal: Proposal

    @classmethod
    def of(cls, proposal: Proposal, actuators: tuple[str, str]) -> Suggestion:
        """Make a suggestion of a proposal; `actuators` name those that move along x and y."""
        (row, col), (x, y) = proposal.pixel, actuators
        suggestion = cls(
            {
                ID: proposal.decision_id,
                x: float(proposal.x),
                y: float(proposal.y),
                "row": int(row),
                "col": int(col),
                "reason": str(proposal.reason),
            }
        )
        suggestion.proposal = proposal
        return suggestion


class Outcome(dict[str, Any]):
    """Outcome: scalars by name, with the measurement."""

    measurement: Measurement

    @classmethod
    def of(cls, scalars: Mapping[str, Any], measurement: Measurement) -> Outcome:
        """Make an outcome of its scalars and what was measured."""
        outcome = cls(scalars)
        outcome.measurement = measurement
        return outcome


def prediction_error(proposal: Proposal | None, spectrum: NDArray) -> float:
    """Return how wrong it was what the model expected before the spectrum was measured.

    The mean squared difference, in the units of the spectrum squared; NaN where the model
    expected nothing, as for the seeds.
    """
    expected = None if proposal is None else proposal.predicted_spectrum
    if expected is None or expected.shape != spectrum.shape:
        return float("nan")
    squared = (expected - spectrum) ** 2
    known = np.isfinite(squared)
    return float(squared[known].mean()) if known.any() else float("nan")

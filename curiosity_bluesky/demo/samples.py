"""Samples of the simulated instrument by name or by file, for the commands and the profiles."""

from __future__ import annotations

import logging

from curiosity_bluesky.exchange.recorded import mexpsimu_recordings
from sim_devices import SampleInfo, list_samples, open_sample

__all__ = ["SampleInfo", "default_sample", "list_samples", "open_sample"]

logger = logging.getLogger(__name__)

RECORDED = "PTO_BEPS_1d3um"
"""Sample that is measured unless another is named, where the recordings are installed."""
SYNTHETIC = "synthetic"


def default_sample() -> str:
    """Return the sample that is measured unless another is named.

    Where the recordings are not installed that is the synthetic film, and a warning says so.
    """
    if RECORDED in (mexpsimu_recordings() or {}):
        return RECORDED
    logger.warning(
        "the recorded sample %s is not installed, so the synthetic film is under the microscope; "
        'for recordings: pip install "curiosity-bluesky[recordings]"',
        RECORDED,
    )
    return SYNTHETIC

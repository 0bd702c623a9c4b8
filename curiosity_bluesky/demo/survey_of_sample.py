"""What a demo knows of its sample before any instrument is made ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curiosity_bluesky.learning import Survey, withheld_pixels

if TYPE_CHECKING:
    from sim_devices import Sample

SPEED = 20.0
"""Simulated seconds per second: a spectrum of 0.5 s takes 25 ms."""


def survey_of(sample: Sample, withhold: float = 0.0) -> Survey:
    """Return the survey that a run would take of a sample, without taking it.

    Parameters
    ----------
    sample
        What lies under the tip.
    withhold
        Share of the pixels that are never measured.
    """
    mask = sample.mask | withheld_pixels(sample.shape, withhold)
    return Survey(dict(sample.images), sample.x, sample.y, mask)

"""A simulated instrument put together: what the demo and the IPython profile stand on."""

from __future__ import annotations

from dataclasses import dataclass

from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.learning import Survey, withheld_pixels
from sim_devices import Clock, Faults, Sample, SimMicroscope

SPEED = 20.0
"""Simulated seconds per second: a spectrum of 0.5 s takes 25 ms."""


@dataclass
class SimulatedInstrument:
    """Stage, imager and spectrometer on one simulated microscope.

    Parameters
    ----------
    microscope
        The microscope.
    stage, imager, spectrometer
        Ophyd devices on it.
    """

    microscope: SimMicroscope
    stage: AFMStage
    imager: Imager
    spectrometer: Spectrometer

    @property
    def sample(self) -> Sample:
        """What lies under the tip."""
        return self.microscope.sample

    def survey(self, withhold: float = 0.0) -> Survey:
        """Return the survey that a run would take, without taking it.

        Parameters
        ----------
        withhold
            Share of the pixels that are never measured.
        """
        mask = self.sample.mask | withheld_pixels(self.sample.shape, withhold)
        return Survey(dict(self.sample.images), self.sample.x, self.sample.y, mask)


def simulated_instrument(
    sample: Sample,
    *,
    speed: float = SPEED,
    noise: float = 0.0,
    seed: int = 0,
    faults: Faults | None = None,
    drift_um_per_min: tuple[float, float] = (0.0, 0.0),
) -> SimulatedInstrument:
    """Put a sample under a simulated microscope.

    Parameters
    ----------
    sample
        What is measured.
    speed
        Simulated seconds per second.
    noise
        Noise added to each measurement, relative to the spread of the channel.
    seed
        Seed of the noise.
    faults
        What goes wrong. Default: nothing.
    drift_um_per_min
        How fast the sample drifts along x and y, um per simulated minute.
    """
    microscope = SimMicroscope(
        sample, Clock(speed), noise=noise, seed=seed, faults=faults,
        drift_um_per_min=drift_um_per_min,
    )  # fmt: skip
    return SimulatedInstrument(
        microscope,
        AFMStage(microscope, name="stage"),
        Imager(microscope, name="imager"),
        Spectrometer(microscope, name="spectrometer"),
    )

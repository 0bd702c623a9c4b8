"""A simulated instrument put together: what the demo and the IPython profile stand on."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ophyd

from curiosity_bluesky.demo.survey_of_sample import SPEED, survey_of
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Survey
from sim_devices import Clock, Faults, Sample, SimMicroscope
from sim_devices.ioc import IOCProcess, client_environment


class Instrument:
    """Stage, imager and spectrometer over a sample that is known."""

    stage: Any
    imager: Imager
    spectrometer: Spectrometer

    @property
    def sample(self) -> Sample:
        """What lies under the tip."""
        raise NotImplementedError

    def survey(self, withhold: float = 0.0) -> Survey:
        """Return the survey that a run would take, without taking it.

        Parameters
        ----------
        withhold
            Share of the pixels that are never measured.
        """
        return survey_of(self.sample, withhold)


@dataclass
class SimulatedInstrument(Instrument):
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

    def load(self, sample: Sample) -> None:
        """Put another sample under the tip; the stage may go wherever that one reaches.

        Raises
        ------
        RuntimeError
            If the tip moves or measures.
        """
        self.microscope.load(sample)
        self.stage.x.set_limits(*self.microscope.limits("x"))
        self.stage.y.set_limits(*self.microscope.limits("y"))


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


class EpicsInstrument(Instrument):
    """The three devices over Channel Access, on an IOC such as ``curiosity ioc``.

    Parameters
    ----------
    prefix
        What all process variables begin with.
    sample
        What lies under the tip, as far as that is known here.
    timeout
        Seconds that the IOC may take to answer.

    Raises
    ------
    InputError
        If it does not answer, or pyepics is not installed.
    """

    def __init__(self, prefix: str, sample: Sample | None = None, timeout: float = 10.0) -> None:
        from curiosity_bluesky.devices import epics  # with pyepics, for those who have it

        self._sample = sample
        self.stage = epics.EpicsAFMStage(prefix, name="stage")
        self.imager = epics.EpicsImager(f"{prefix}Image:", name="imager")
        self.spectrometer = epics.EpicsSpectrometer(f"{prefix}Spectrum:", name="spectrometer")
        for device in (self.stage, self.imager, self.spectrometer):
            device.wait_for_connection(timeout=timeout)

    @property
    def sample(self) -> Sample:
        """What lies under the tip."""
        if self._sample is None:
            raise InputError("the sample under the tip is unknown; give it with sample=")
        return self._sample

    def close(self) -> None:
        """Disconnect from the process variables."""
        for device in (self.stage, self.imager, self.spectrometer):
            device.destroy()


@contextmanager
def served_instrument(sample: Sample, *options: str) -> Iterator[EpicsInstrument]:
    """Have an IOC serve a simulated microscope on loopback, and connect to it.

    It ends with the context. Once in a process: the library of Channel Access reads but once
    where to look for IOCs.

    Parameters
    ----------
    sample
        The sample that the options name.
    *options
        Of ``curiosity ioc``.

    Raises
    ------
    InputError
        If the extra ``epics`` is not installed, or the IOC does not start.
    """
    missing = [name for name in ("epics", "caproto") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"there is no {' and no '.join(missing)} here; EPICS comes with the extra: "
            'pip install "curiosity-bluesky[epics]"'
        )
    if ophyd.get_cl().name == "dummy":  # as the command has it, until it is needed
        ophyd.set_cl("pyepics")
    with IOCProcess(*options) as ioc:
        os.environ.update(client_environment(ioc.port))
        instrument = EpicsInstrument(ioc.prefix, sample)
        try:
            yield instrument
        finally:
            # Before the IOC ends: its library would print that the connection broke.
            instrument.close()

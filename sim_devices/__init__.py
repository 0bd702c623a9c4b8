"""The simulated instrument: samples, and a plain-Python microscope that measures them."""

from curiosity_bluesky.exchange.recorded import RecordedSample
from curiosity_bluesky.exchange.sample import Sample
from sim_devices.band_excitation import SimBandExcitation
from sim_devices.clock import Clock
from sim_devices.faults import Faults
from sim_devices.microscope import Aborted, SimMicroscope
from sim_devices.samples import SampleInfo, list_samples, open_sample
from sim_devices.synthetic import SyntheticSample

__all__ = [
    "Aborted",
    "Clock",
    "Faults",
    "RecordedSample",
    "Sample",
    "SampleInfo",
    "SimBandExcitation",
    "SimMicroscope",
    "SyntheticSample",
    "list_samples",
    "open_sample",
]

"""Ophyd devices for a scanning probe microscope, on drivers in plain Python.

The plans do not know these classes: they are written against `bluesky.protocols`, so any
Movable, Readable and Triggerable will do.
"""

from curiosity_bluesky.devices.band_excitation import BandExcitation, SpectrogramDriver
from curiosity_bluesky.devices.drivers import (
    ImagerDriver,
    LiftDriver,
    SpectrometerDriver,
    StageDriver,
)
from curiosity_bluesky.devices.imager import Imager
from curiosity_bluesky.devices.signals import ArraySignal
from curiosity_bluesky.devices.spectrometer import Spectrometer, loop_area, loop_quality
from curiosity_bluesky.devices.stage import AFMStage
from curiosity_bluesky.devices.tip import Tip

__all__ = [
    "AFMStage",
    "ArraySignal",
    "BandExcitation",
    "Imager",
    "ImagerDriver",
    "LiftDriver",
    "SpectrogramDriver",
    "Spectrometer",
    "SpectrometerDriver",
    "StageDriver",
    "Tip",
    "loop_area",
    "loop_quality",
]

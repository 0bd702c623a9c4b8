"""Ophyd devices for a scanning probe microscope, on drivers in plain Python.

The plans do not know these classes: they are written against `bluesky.protocols`, so any
Movable, Readable and Triggerable will do.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.devices.band_excitation import BandExcitation as BandExcitation
    from curiosity_bluesky.devices.band_excitation import SpectrogramDriver as SpectrogramDriver
    from curiosity_bluesky.devices.driver_protocols import ImagerDriver as ImagerDriver
    from curiosity_bluesky.devices.driver_protocols import LiftDriver as LiftDriver
    from curiosity_bluesky.devices.driver_protocols import SpectrometerDriver as SpectrometerDriver
    from curiosity_bluesky.devices.driver_protocols import StageDriver as StageDriver
    from curiosity_bluesky.devices.imager import Imager as Imager
    from curiosity_bluesky.devices.measuring_device import ArraySignal as ArraySignal
    from curiosity_bluesky.devices.spectrometer import Spectrometer as Spectrometer
    from curiosity_bluesky.devices.spectrometer import loop_area as loop_area
    from curiosity_bluesky.devices.spectrometer import loop_quality as loop_quality
    from curiosity_bluesky.devices.stage import AFMStage as AFMStage
    from curiosity_bluesky.devices.tip import Tip as Tip

_MODULES = {
    "AFMStage": "stage",
    "ArraySignal": "measuring_device",
    "BandExcitation": "band_excitation",
    "Imager": "imager",
    "ImagerDriver": "driver_protocols",
    "LiftDriver": "driver_protocols",
    "SpectrogramDriver": "band_excitation",
    "Spectrometer": "spectrometer",
    "SpectrometerDriver": "driver_protocols",
    "StageDriver": "driver_protocols",
    "Tip": "tip",
    "loop_area": "spectrometer",
    "loop_quality": "spectrometer",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

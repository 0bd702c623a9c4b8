"""A Cypher with band excitation, through AEcroscopy (PyPI ``aecroscopy`` 0.0.2).

Nothing here imports aecroscopy: `aecroscopy_instrument` takes a function that makes its
`AEBE`. See ``docs/aecroscopy.md``.
"""

from curiosity_bluesky.devices.aecroscopy.com_thread import AEThread, CallAborted
from curiosity_bluesky.devices.aecroscopy.imager import AEImager
from curiosity_bluesky.devices.aecroscopy.instrument import (
    AEcroscopyInstrument,
    aecroscopy_instrument,
)
from curiosity_bluesky.devices.aecroscopy.settings import BEPSWaveform, BEPulse
from curiosity_bluesky.devices.aecroscopy.spectrogram import AESpectrogram
from curiosity_bluesky.devices.aecroscopy.stage import AELiftingStage, AEStage, ScanFrame

__all__ = [
    "AEImager",
    "AELiftingStage",
    "AESpectrogram",
    "AEStage",
    "AEThread",
    "AEcroscopyInstrument",
    "BEPSWaveform",
    "BEPulse",
    "CallAborted",
    "ScanFrame",
    "aecroscopy_instrument",
]

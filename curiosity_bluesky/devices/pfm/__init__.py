"""Piezoresponse force microscopy: from band excitation to hysteresis loops and their numbers."""

from curiosity_bluesky.devices.pfm.loops import (
    LoopFields,
    loop_field_arrays,
    loop_fields,
    loop_widths,
    units_of,
)
from curiosity_bluesky.devices.pfm.reduction import (
    Branch,
    ReducedSpectrogram,
    Steps,
    phase_offset,
    reduce_spectrogram,
)
from curiosity_bluesky.devices.pfm.sho import SHOFit, fit_sho, sho_response

__all__ = [
    "Branch",
    "LoopFields",
    "ReducedSpectrogram",
    "SHOFit",
    "Steps",
    "fit_sho",
    "loop_field_arrays",
    "loop_fields",
    "loop_widths",
    "phase_offset",
    "reduce_spectrogram",
    "sho_response",
    "units_of",
]

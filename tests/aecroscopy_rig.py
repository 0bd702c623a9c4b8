"""A simulated Cypher with AEcroscopy's own code on it, for the tests."""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import SimpleNamespace

from curiosity_bluesky.devices.aecroscopy import BEPSWaveform, BEPulse, aecroscopy_instrument
from sim_devices import Clock, SimMicroscope, SyntheticSample
from sim_devices.aecroscopy import SimBEPyAE, com_server

# Wider than high, so that x and y cannot be exchanged unnoticed; AEBE's scans have as many
# lines as columns.
FILM = SyntheticSample((14, 14), seed=1, points=32, max_bias=8.0, extent_um=(2.0, 1.0))
PULSE = BEPulse(center_hz=335e3, bandwidth_hz=100e3)
WAVEFORM = BEPSWaveform(amplitude_v=8.0, steps_per_cycle=32, cycles=2)
LINE = "Initialize_BE_line_scan_control_cluster"
BEPS = "Initialize_BEPS_VS_control_cluster"


@contextmanager
def rig(where, *, speed=math.inf, faults=None, panel=None, microscope=None, **given):
    """Give the devices on a simulated instrument, with its panel and microscope."""
    microscope = SimMicroscope(FILM, Clock(speed), faults=faults, **(microscope or {}))
    shown = SimBEPyAE(microscope, **(panel or {}))
    settings = {
        "scan_size_um": (2.0, 1.0),
        "pixels": 14,
        "pulse": PULSE,
        "waveform": WAVEFORM,
        "max_bias": 8.0,
        "folder": where,
        **given,
    }
    with (
        com_server(shown, where) as connect,
        aecroscopy_instrument(connect, **settings) as devices,
    ):
        yield SimpleNamespace(**vars(devices), panel=shown, microscope=microscope, connect=connect)


def measure(device):
    """Trigger a device; return its data."""
    device.trigger().wait(60)
    return {name: reading["value"] for name, reading in device.read().items()}


def go(stage, x, y):
    for status in (stage.x.set(x), stage.y.set(y)):
        status.wait(30)

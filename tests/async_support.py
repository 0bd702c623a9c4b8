"""Instruments of ophyd-async for tests, on the same simulated microscope as the ophyd ones."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bluesky import RunEngine
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices

from curiosity_bluesky.demo import SimulatedInstrument
from curiosity_bluesky.devices import BandExcitation, Spectrometer
from curiosity_bluesky.devices.async_devices import AsyncAFMStage, AsyncSpectrometer
from curiosity_bluesky.devices.hdf5_imager import HDF5Imager
from sim_devices import SimBandExcitation

WAIT = 20.0


def with_async(
    RE: RunEngine, instrument: SimulatedInstrument, *which: str, files: Path | None = None
) -> Any:
    """Put devices of ophyd-async in the place of those named: stage, spectrometer, imager."""
    made = {}
    with init_devices():
        if "stage" in which:
            stage = AsyncAFMStage(instrument.microscope)
        if "spectrometer" in which:
            spectrometer = AsyncSpectrometer(instrument.spectrometer.driver)
        if "imager" in which:
            assert files is not None
            paths = StaticPathProvider(UUIDFilenameProvider(), files)
            imager = HDF5Imager(instrument.microscope, paths)
    made = {name: value for name, value in locals().items() if name in which}
    for name, device in made.items():
        setattr(instrument, name, device)
    return instrument


def with_band_excitation(instrument: SimulatedInstrument, **kwargs: Any) -> SimulatedInstrument:
    """Put a spectrometer of band excitation in the place of the one that there is."""
    driver = BandExcitation(SimBandExcitation(instrument.microscope, bins=24), **kwargs)
    instrument.spectrometer = Spectrometer(driver)
    return instrument


def awaited(RE: RunEngine, what: Coroutine[Any, Any, Any], timeout: float = WAIT) -> Any:
    """Await something in the loop of a RunEngine."""
    return asyncio.run_coroutine_threadsafe(what, RE.loop).result(timeout)

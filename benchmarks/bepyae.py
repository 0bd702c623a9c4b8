"""What the AEcroscopy devices add to an instrument: seconds a move, a loop and a survey.

``python benchmarks/bepyae.py --json FILE``. AEcroscopy's own code runs on the simulated panel,
whose clock is virtual: the instrument takes no time, and what the panel spends on making up its
answers is taken off. What is left is AEcroscopy's (its sleeps and polls) and ours.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curiosity_bluesky.devices.aecroscopy import BEPSWaveform, BEPulse, aecroscopy_instrument
from sim_devices import Clock, SimMicroscope, SyntheticSample
from sim_devices.aecroscopy import SimBEPyAE, com_server


class Timed(SimBEPyAE):
    """A panel that adds up the time that calls to it take."""

    spent = 0.0

    def _clocked(self, call: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*args)
        finally:
            self.spent += time.perf_counter() - began

    def get(self, name: str) -> Any:
        """Return what a control shows."""
        return self._clocked(super().get, name)

    def set(self, name: str, value: tuple[Any, ...]) -> None:
        """Set a control."""
        self._clocked(super().set, name, value)


def seconds(panel: Timed, times: int, call: Callable[[int], object]) -> dict[str, float]:
    """Call so often; return the median time (s), with the panel's and without."""
    whole, ours = [], []
    for number in range(times):
        panel.spent = 0.0
        began = time.perf_counter()
        call(number)
        whole.append(time.perf_counter() - began)
        ours.append(whole[-1] - panel.spent)
    return {"with the panel": statistics.median(whole), "without": statistics.median(ours)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    film = SyntheticSample((options.pixels, options.pixels), max_bias=8.0)
    panel = Timed(SimMicroscope(film, Clock(math.inf)))
    with (
        tempfile.TemporaryDirectory() as folder,
        com_server(panel, folder) as start,
        aecroscopy_instrument(
            start,
            scan_size_um=film.extent_um,
            pixels=options.pixels,
            pulse=BEPulse(center_hz=335e3, bandwidth_hz=100e3),
            waveform=BEPSWaveform(amplitude_v=8.0),
            max_bias=8.0,
            folder=folder,
        ) as ae,
    ):

        def move(number: int) -> None:
            row, col = 1 + number % (options.pixels - 1), 1 + 7 * number % (options.pixels - 1)
            for status in (ae.stage.x.set(film.x[col]), ae.stage.y.set(film.y[row])):
                status.wait(10)

        def call(_: int) -> None:
            ae.owner.call(lambda aebe: None, timeout_s=5)

        found = {
            "call": seconds(panel, 200, call),
            "move": seconds(panel, options.points, move),
            "loop": seconds(panel, options.points, lambda _: ae.spectrometer.trigger().wait(60)),
        }
        with contextlib.redirect_stdout(io.StringIO()):  # AEcroscopy prints shapes
            found["survey"] = seconds(panel, 1, lambda _: ae.imager.trigger().wait(600))
    for name, times in found.items():
        print(f"{name:8}", *(f"{what} {1e3 * s:9.2f} ms  " for what, s in times.items()))
    if options.json:
        record = {"seconds": found, "pixels": options.pixels, "cores": os.cpu_count()}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

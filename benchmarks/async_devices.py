"""What a point costs with devices of ophyd-async, and whether the run is the same.

``python benchmarks/async_devices.py --json async.json`` runs the plan on a generated film with
the ophyd devices, and with those of ophyd-async and the survey in an HDF5 file. The simulated
instrument takes no time. It prints whether proposals, spectra and survey are equal, every digit,
and the time that a point takes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices.async_devices import AsyncAFMStage, AsyncSpectrometer
from curiosity_bluesky.devices.hdf5_imager import HDF5Imager
from sim_devices import SyntheticSample


def one(asynchronous: bool, points: int, strategy: str, folder: Path) -> tuple[float, Any]:
    """Make a run; return the seconds a point after the first, and what the agent knows then."""
    RE = RunEngine({})
    ophyd = simulated_instrument(SyntheticSample((64, 64), seed=1, points=256), speed=math.inf)
    stage, spectrometer, imager = ophyd.stage, ophyd.spectrometer, ophyd.imager
    if asynchronous:
        paths = StaticPathProvider(UUIDFilenameProvider(), folder)
        with init_devices():
            stage = AsyncAFMStage(ophyd.microscope)
            spectrometer = AsyncSpectrometer(ophyd.microscope)
            imager = HDF5Imager(ophyd.microscope, paths)
    documents, times, primary = [], [], set()

    def collect(name: str, doc: dict[str, Any]) -> None:
        documents.append((name, doc))
        if name == "descriptor" and doc["name"] == "primary":
            primary.add(doc["uid"])
        if name == "event" and doc["descriptor"] in primary:
            times.append(time.perf_counter())

    plan = curiosity_plan(
        [spectrometer], stage.x, stage.y, imager, num_points=points, strategy=strategy
    )
    RE(plan, collect)
    explorer = CuriosityAgent.from_documents(documents).explorer
    known = (
        {name: values.tobytes() for name, values in explorer.survey.channels.items()},
        [proposal.pixel for proposal in explorer.decisions],
        [observation.spectrum.tobytes() for observation in explorer.observations],
    )
    return float(np.median(np.diff(times))), known


def main() -> None:
    """Compare and measure both kinds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategy", default="curious", help="that has to be the same")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    figures: dict[str, Any] = {"machine": about(), "points": given.points}
    with tempfile.TemporaryDirectory() as name:
        runs = [one(kind, given.points, given.strategy, Path(name))[1] for kind in (False, True)]
        same = [first == second for first, second in zip(*runs, strict=True)]
        figures["equal"] = dict(zip(("survey", "proposals", "spectra"), same, strict=True))
        print("equal", figures["equal"], flush=True)
        for kind, label in ((False, "ophyd"), (True, "ophyd-async")):
            # A strategy that thinks about nothing, so that the devices' part is seen.
            took = [one(kind, given.points, "sobol", Path(name))[0] for _ in range(given.rounds)]
            figures[f"{label}_ms_a_point"] = round(1e3 * float(np.median(took)), 2)
            print(label, figures[f"{label}_ms_a_point"], "ms a point", flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(given.json)


if __name__ == "__main__":
    main()

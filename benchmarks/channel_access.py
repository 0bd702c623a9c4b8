"""What Channel Access costs: seconds a point over EPICS and with the devices in process.

``python benchmarks/channel_access.py --json FILE``. The same plan measures the same random
pixels with both, on the same machine, in rounds that take turns. Once nothing takes time (a
virtual clock), once moves and spectra do. A point is the time from one event of the primary
stream to the next: decision, move, spectrum, documents. What EPICS adds is the difference of
the medians. (It is not called epics.py: a script of that name would hide the package.)
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bluesky import RunEngine

sys.path.insert(0, str(Path(__file__).parent))

from machine import about

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import Instrument, served_instrument, simulated_instrument
from sim_devices import open_sample

ASKED_MS = 30.0


def seconds_a_point(instrument: Instrument, points: int, seed: int) -> list[float]:
    """Run the plan; return the time of each point after the first, s."""
    times: list[float] = []
    primary: set[str] = set()

    def note(name: str, doc: dict[str, Any]) -> None:
        if name == "descriptor" and doc["name"] == "primary":
            primary.add(doc["uid"])
        elif name == "event" and doc["descriptor"] in primary:
            times.append(time.perf_counter())

    plan = curiosity_plan(
        [instrument.spectrometer],
        instrument.stage.x,
        instrument.stage.y,
        instrument.imager,
        num_points=points,
        strategy="random",
        seed=seed,
        options={"maps_every": 0, "parameters": {"patch_size": 3, "n_seeds": points}},
    )
    RunEngine({})(plan, note)
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def compared(epics: Instrument, here: Instrument, points: int, rounds: int) -> dict[str, Any]:
    """Return medians (ms a point) of both, and what EPICS adds."""
    times: dict[str, list[list[float]]] = {"epics": [], "in_process": []}
    for k in range(rounds):
        pair = [("epics", epics), ("in_process", here)]
        for name, instrument in pair if k % 2 else reversed(pair):
            times[name].append(seconds_a_point(instrument, points, seed=k))
    medians = {name: [statistics.median(one) for one in some] for name, some in times.items()}
    flat = {name: [t for one in some for t in one] for name, some in times.items()}
    median = {name: 1e3 * statistics.median(some) for name, some in flat.items()}
    extra = [1e3 * (a - b) for a, b in zip(medians["epics"], medians["in_process"], strict=True)]
    return {
        "epics_ms": round(median["epics"], 2),
        "in_process_ms": round(median["in_process"], 2),
        "extra_ms": round(median["epics"] - median["in_process"], 2),
        "extra_rounds_ms": [round(value, 2) for value in sorted(extra)],
        "epics_p95_ms": round(1e3 * statistics.quantiles(flat["epics"], n=20)[-1], 2),
    }


def main() -> None:
    """Measure without and with a dwell; exit 1 if EPICS adds more than was asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=60, help="in a run")
    parser.add_argument("--rounds", type=int, default=5, help="with each")
    parser.add_argument("--speed", type=float, default=20.0, help="of the clock, with dwell")
    parser.add_argument("--case", choices=("zero", "dwell"), help="one only")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    speeds = {"zero": float("inf"), "dwell": given.speed}
    if given.case is None:
        # libca looks for IOCs once in a process, so each case gets one of its own.
        figures: dict[str, Any] = {"about": about(), "points": given.points, "asked_ms": ASKED_MS}
        for case in speeds:
            command = [sys.executable, __file__, "--case", case, "--points", str(given.points)]
            command += ["--rounds", str(given.rounds), "--speed", str(given.speed)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures[case] = json.loads(done.stdout.splitlines()[-1])
            print(case, figures[case], flush=True)
        if given.json:
            given.json.write_text(json.dumps(figures, indent=1) + "\n")
        sys.exit(max(figures[case]["extra_ms"] for case in speeds) > ASKED_MS)
    sample, speed = open_sample("synthetic"), speeds[given.case]
    with served_instrument(sample, "--sample=synthetic", f"--speed={speed}") as epics:
        here = simulated_instrument(sample, speed=speed)
        print(json.dumps(compared(epics, here, given.points, given.rounds)))


if __name__ == "__main__":
    main()

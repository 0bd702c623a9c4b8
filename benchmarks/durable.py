"""What ``catalog.writer(durable=True)`` costs: milliseconds a document, with fsync and without.

``python benchmarks/durable.py --directory DIR --json FILE``. Events of one spectrum go into
journals on the disk of DIR, as the RunEngine's thread writes them; rounds with fsync and rounds
without take turns, so that a busy disk is busy for both. The figures are of that disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from machine import about

from curiosity_bluesky.catalog.journal import RunJournal


def seconds(directory: Path, uid: str, spectra: np.ndarray, durable: bool) -> list[float]:
    """Return how long each event takes."""
    journal, found = RunJournal(directory, uid, durable=durable), []
    for number, spectrum in enumerate(spectra, 1):
        event = {"uid": f"{uid}-{number}", "descriptor": "d", "seq_num": number, "time": 0.0}
        event |= {"data": {"spectrum": spectrum}, "timestamps": {"spectrum": 0.0}, "filled": {}}
        begun = time.perf_counter()
        journal.append("event", event)
        found.append(time.perf_counter() - begun)
    journal.delete()
    return found


def main() -> None:
    """Measure, print the ratio, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=Path, help="on the disk in question; default: here")
    parser.add_argument("--events", type=int, default=100, help="in a round")
    parser.add_argument("--points", type=int, default=256, help="of a spectrum")
    parser.add_argument("--rounds", type=int, default=5, help="with and without, each")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    spectra = np.random.default_rng(0).normal(size=(given.events, given.points))
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(dir=given.directory or Path()) as folder:
        for k in range(given.rounds):
            for durable in (k % 2 == 0, k % 2 == 1):
                times[durable] += seconds(Path(folder), f"{k}-{durable}", spectra, durable)
    plain, forced = (statistics.median(times[durable]) for durable in (False, True))
    figures: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/durable.py", *sys.argv[1:]]),
        **about(),
        "events": given.events * given.rounds,
        "points": given.points,
        "plain_ms": round(1e3 * plain, 3),
        "durable_ms": round(1e3 * forced, 3),
        "durable_slowest_ms": round(1e3 * max(times[True]), 1),
        "ratio": round(forced / plain, 1),
    }
    print(
        f"an event takes {figures['plain_ms']} ms, durable {figures['durable_ms']} ms (slowest "
        f"{figures['durable_slowest_ms']} ms): {figures['ratio']} times as long"
    )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(given.json)


if __name__ == "__main__":
    main()

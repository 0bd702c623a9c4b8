"""What the catalogue's writer costs the RunEngine: seconds an event, with it and without.

``python benchmarks/events.py --json FILE``. The plan emits events of one spectrum and a
number, as fast as it can. Rounds with the writer and rounds without take turns, so that a
busy machine is busy for both; before a round without, a server that is well is given time to
take all there is.
An event's cost is the time from one to the next.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from bluesky.plan_stubs import close_run, create, open_run, read, save
from bluesky.utils import MsgGenerator

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from proxy import Proxy

from curiosity_bluesky import connect
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.catalog.writer import JournaledWriter


class Spectrum:
    """A detector that costs next to nothing."""

    name = "spectrum"
    parent = None

    def __init__(self, points: int) -> None:
        self._values = np.random.default_rng(0).normal(size=points)

    def describe(self) -> dict[str, Any]:
        """Return its data keys."""
        shape = list(self._values.shape)
        array = {"dtype": "array", "dtype_numpy": "<f8", "shape": shape, "source": "none"}
        return {"spectrum": array, "area": {"dtype": "number", "shape": [], "source": "none"}}

    def read(self) -> dict[str, Any]:
        """Return a spectrum."""
        now = time.time()
        return {
            "spectrum": {"value": self._values, "timestamp": now},
            "area": {"value": float(self._values[0]), "timestamp": now},
        }

    def describe_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def read_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def plan(detector: Any, events: int, seconds: list[float]) -> MsgGenerator[None]:
    """Measure `events` times; the time from one to the next, s, goes into `seconds`."""
    yield from open_run()
    for k in range(events + 1):
        begun = time.perf_counter()
        yield from create("primary")
        yield from read(detector)
        yield from save()
        if k:  # the first carries the descriptor
            seconds.append(time.perf_counter() - begun)
    yield from close_run()


def compared(
    writer: JournaledWriter, events: int, points: int, rounds: int, settle: bool
) -> dict[str, Any]:
    """Return medians (ms an event) with and without a writer, and their difference.

    Returns
    -------
    dict
        ``without_ms``, ``with_ms`` and ``extra_ms``, medians over all events; ``extra_rounds_ms``
        the difference of the medians of each pair of rounds, the smallest first;
        ``slowest_ms`` the slowest event with the writer.
    """
    detector = Spectrum(points)
    engines = {False: RunEngine({}), True: RunEngine({})}
    engines[True].subscribe(writer)
    times: dict[bool, list[list[float]]] = {False: [], True: []}
    for k in range(rounds):
        for with_it in (k % 2 == 0, k % 2 == 1):
            if not with_it and settle:
                writer.flush()  # its thread is not to slow down what has no catalogue
            times[with_it].append([])
            engines[with_it](plan(detector, events, times[with_it][-1]))
    pairs = zip(times[True], times[False], strict=True)
    extra = sorted(statistics.median(one) - statistics.median(other) for one, other in pairs)
    medians = {key: statistics.median(chain(*value)) for key, value in times.items()}
    return {
        "without_ms": round(1e3 * medians[False], 3),
        "with_ms": round(1e3 * medians[True], 3),
        "extra_ms": round(1e3 * (medians[True] - medians[False]), 3),
        "extra_rounds_ms": [round(1e3 * value, 3) for value in extra],
        "slowest_ms": round(1e3 * max(map(max, times[True])), 1),
    }


def main() -> None:
    """Measure with a server that is well, one that is down, and one that is slow."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=200, help="in a round")
    parser.add_argument("--points", type=int, default=256, help="of a spectrum")
    parser.add_argument("--rounds", type=int, default=5, help="with and without, each")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    figures: dict[str, Any] = {"events": given.events, "points": given.points}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        with connect(Path(folder) / "own") as catalog:
            figures["embedded"] = compared(
                catalog.writer(), given.events, given.points, given.rounds, settle=True
            )
            print("embedded", figures["embedded"], flush=True)
        server = EmbeddedServer(Path(folder) / "served", api_key="key")
        os.environ["TILED_API_KEY"] = "key"
        with closing(Proxy(int(server.uri.split(":")[2].split("/")[0]))) as proxy:
            for name, delay, up in (("down", 0.0, False), ("slow", 5.0, True)):
                catalog = connect(proxy.uri)
                proxy.delay, proxy.up = delay, up
                if not up:
                    proxy.cut()
                writer = catalog.writer()
                figures[name] = compared(
                    writer, given.events, given.points, given.rounds, settle=False
                )
                print(name, figures[name], flush=True)
                writer.close(timeout=0.1)
                proxy.mend()
                proxy.delay = 0.0
        server.close()
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(given.json)


if __name__ == "__main__":
    main()

"""What a run costs as it grows: the part of ``scale.py`` about points in a run.

A plan measures a generated film on the simulated microscope, whose clock waits for nobody, into
an embedded catalogue, and everything is read back.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan, read
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

SIDE = 116
"""Pixels down and across: 112 x 112 whole patches of 5 x 5, 12,544 candidates."""
POINTS = 64
"""Of a spectrum."""


def seconds_of(ask: Callable[[], Any]) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    ask()
    return round(time.perf_counter() - started, 3)


def size_of(folder: Path) -> dict[str, Any]:
    """Return bytes and files of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {"MB": round(sum(f.stat().st_size for f in files) / 1e6, 2), "files": len(files)}


def one_run(folder: Path, points: int, strategy: str, side: int = SIDE) -> dict[str, Any]:
    """Measure one run, written and read back; return seconds, sizes and memory.

    Returns
    -------
    dict
        ``ms_a_point``: the time from one decision to the next, the median of the first and of
        the last tenth; ``cpu_ms_a_point``: that of the processor, the writer and Tiled included,
        for they are in this process; ``decision_ms``: what the explorer says of itself.
    """
    made = simulated_instrument(SyntheticSample((side, side), points=POINTS), speed=math.inf)
    detectors, stage, imager = [made.spectrometer], made.stage, made.imager
    decided: list[tuple[float, float, float]] = []
    kinds: Counter[str] = Counter()
    lines: list[int] = []

    def watch(name: str, doc: Any) -> None:
        kinds[name] += 1
        if name == "event" and "model_version" in doc["data"] and "reason" in doc["data"]:
            moment = time.perf_counter(), time.process_time()
            decided.append((*moment, doc["data"]["seconds"]))

    found: dict[str, Any] = {"points": points, "strategy": strategy}
    with connect(folder) as catalog:
        writer = catalog.writer()
        engine = RunEngine({})
        engine.subscribe(writer)
        engine.subscribe(watch)
        journal = _largest(catalog.journal, lines)
        plan = curiosity_plan(
            detectors,
            stage.x,
            stage.y,
            imager,
            num_points=points,
            strategy=strategy,
            options={"parameters": {"patch_size": 5, "rim": "omit"}, "maps_every": 0},
        )
        found["run_s"] = seconds_of(lambda: engine(plan))
        found["written_s_after"] = seconds_of(catalog.flush)
        journal.set()
        tenth = max(2, points // 10)
        moments, cpu, own = np.array(decided).T
        found["run_cpu_s"] = round(float(cpu[-1] - cpu[0]), 1)
        columns = {"ms_a_point": np.diff(moments), "cpu_ms_a_point": np.diff(cpu)}
        for name, values in {**columns, "decision_ms": own}.items():
            first, last = np.median(values[:tenth]), np.median(values[-tenth:])
            found[name] = [round(1e3 * float(first), 2), round(1e3 * float(last), 2)]
        found["documents"] = dict(kinds)
        found["journal_MB"] = round(max(lines, default=0) / 1e6, 2)
        found["run_peak_MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        found["disk"] = size_of(folder)
        run = catalog[-1]
        found["read_s"] = seconds_of(lambda: read(run))
        documents: list[Any] = []
        found["documents_s"] = seconds_of(lambda: documents.extend(catalog.documents(-1)))
        agents: list[CuriosityAgent] = []

        def replay() -> None:
            agents.append(CuriosityAgent.from_documents(documents))
            assert agents[0].explorer.n_observed == points

        found["replay_s"] = seconds_of(replay)
        found["next_after_replay_s"] = seconds_of(lambda: agents[0].suggest())
        found["show_s"] = seconds_of(lambda: _shown(catalog))
    found["peak_MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return found


def _shown(catalog: Any) -> None:
    from curiosity_bluesky.views.report import show_run

    show_run(catalog, catalog[-1].start["uid"], None)


def _largest(journal: Path, sizes: list[int]) -> threading.Event:
    """Look at the journal's size until told to stop: it is deleted when all is in Tiled."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for path in journal.glob("*.jsonl"):
                with contextlib.suppress(FileNotFoundError):
                    sizes.append(path.stat().st_size)

    threading.Thread(target=look, daemon=True).start()
    return done


def main(arguments: list[str]) -> None:
    """Measure one run in this process, and print it as JSON."""
    warnings.simplefilter("ignore")
    folder, points, strategy = arguments
    print(json.dumps(one_run(Path(folder), int(points), strategy)))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])

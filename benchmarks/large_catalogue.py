"""What a catalogue costs as it grows: the part of ``scale.py`` about runs in a catalogue.

Some runs are measured by the plan, on the simulated microscope, through the package's writer. The
others are copies of their rows in the catalogue's database, streams, arrays and all, each with
a uid, a time and a sample of its own; they share the files of what they are copied from.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bluesky import RunEngine
from tiled.queries import Key

from curiosity_bluesky import connect, curiosity_plan, read
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

STRATEGIES = ("curious", "grid", "random", "lcmd")
SAMPLES = 100
EVERY = 240.0
"""Seconds between two runs."""


def measured(folder: Path, runs: int) -> float:
    """Measure runs of 12 points through the writer; return seconds a run."""
    made = simulated_instrument(SyntheticSample((20, 20), points=32), speed=math.inf)
    devices = [made.spectrometer], made.stage.x, made.stage.y, made.imager
    started = time.perf_counter()
    with connect(folder) as catalog:
        engine = RunEngine({})
        engine.subscribe(catalog.writer())
        for k in range(runs):
            strategy = STRATEGIES[k % len(STRATEGIES)]
            small = {"patch_size": 5, "n_seeds": 6}
            md = {"sample": f"sample {k}", "scan_id": k + 1}
            engine(
                curiosity_plan(
                    *devices, num_points=12, strategy=strategy, md=md, options={"parameters": small}
                )
            )
        catalog.flush()
    return (time.perf_counter() - started) / runs


class Copies:
    """Copies of the runs in a catalogue that nobody serves at the moment.

    Parameters
    ----------
    folder
        The catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "catalog.db")
        root = self._database.execute("select id from nodes where parent is null").fetchone()[0]
        self._root = root
        self._rng = random.Random(len(self))  # other uids each time
        query = "select * from nodes where parent = ? order by id limit 16"
        runs = self._rows(query, root)
        self._patterns = [self._tree(run) for run in runs]
        self._began = json.loads(runs[0]["metadata"])["start"]["time"]
        self._next = {
            table: itertools.count(
                self._database.execute(f"select max(id) from {table}").fetchone()[0] + 1
            )
            for table in ("nodes", "data_sources")
        }

    def __len__(self) -> int:
        counted = "select count(*) from nodes where parent = ?"
        return self._database.execute(counted, [self._root]).fetchone()[0]

    def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        found = self._database.execute(query, values)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def _tree(self, node: dict[str, Any]) -> dict[str, Any]:
        sources = self._rows("select * from data_sources where node_id = ?", node["id"])
        for source in sources:
            query = "select * from data_source_asset_association where data_source_id = ?"
            source["assets"] = self._rows(query, source["id"])
        below = self._rows("select * from nodes where parent = ? order by id", node["id"])
        return {"node": node, "sources": sources, "below": [self._tree(each) for each in below]}

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        marks = ",".join("?" * len(row))
        names = ",".join(f'"{name}"' for name in row)
        self._database.execute(f"insert into {table}({names}) values({marks})", [*row.values()])

    def _paste(self, tree: dict[str, Any], parent: int, **other: Any) -> None:
        number = next(self._next["nodes"])
        self._insert("nodes", {**tree["node"], "id": number, "parent": parent, **other})
        for source in tree["sources"]:
            copy, assets = dict(source), source["assets"]
            del copy["assets"]
            copy |= {"id": next(self._next["data_sources"]), "node_id": number}
            self._insert("data_sources", copy)
            for asset in assets:
                row = {**asset, "data_source_id": copy["id"]}
                self._insert("data_source_asset_association", row)
        for each in tree["below"]:
            self._paste(each, number)

    def up_to(self, runs: int) -> None:
        """Copy until there are so many runs."""
        for k in range(len(self), runs):
            pattern = self._patterns[k % len(self._patterns)]
            metadata = json.loads(pattern["node"]["metadata"])
            new = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
            began = self._began + EVERY * k
            metadata["start"] |= {
                "uid": new, "time": began, "scan_id": k + 1, "sample": f"sample {k % SAMPLES}",
            }  # fmt: skip
            metadata["stop"] |= {"run_start": new, "uid": str(uuid.uuid4()), "time": began + 60}
            self._paste(pattern, self._root, key=new, metadata=json.dumps(metadata))
        self._database.commit()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def asked(folder: str, rounds: int = 5) -> dict[str, Any]:
    """Ask a catalogue all that a user asks.

    Returns
    -------
    dict
        ``ms``: for each question the median by the clock, and that of the processor's time, which
        other work of the machine does not lengthen; the server is in this process.
    """

    def timed(ask: Callable[[], Any]) -> list[float]:
        times = []
        for _ in range(rounds):
            started = time.perf_counter(), time.process_time()
            ask()
            times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        return [round(1e3 * statistics.median(each), 1) for each in zip(*times, strict=True)]

    started = time.perf_counter()
    with connect(folder, create=False) as catalog:
        found: dict[str, Any] = {"connect_s": round(time.perf_counter() - started, 2)}
        found["runs"] = len(catalog)
        uids = [run.start["uid"] for run in (catalog[k] for k in (-1, -found["runs"] // 2))]
        uid = uids[-1]
        questions: dict[str, Callable[[], Any]] = {
            "len(catalog)": lambda: len(catalog),
            "catalog[-1]": lambda: catalog[-1],
            "catalog[-100]": lambda: catalog[-100],
            "catalog[uid]": lambda: catalog[uid],
            "catalog[first 8 of uid]": lambda: catalog[uid[:8]],
            "catalog[scan_id]": lambda: catalog[found["runs"] // 2],
            "runs(last=50)": lambda: catalog.runs(last=50),
            "runs(sample=...)": lambda: catalog.runs(sample="sample 7"),
            "runs(sample=..., last=50)": lambda: catalog.runs(sample="sample 7", last=50),
            "runs(strategy=..., last=50)": lambda: catalog.runs(strategy="curious", last=50),
            "len(search(Key))": lambda: len(catalog.search(Key("sample") == "sample 7")),
            "search(Key)[-1]": lambda: catalog.search(Key("sample") == "sample 7").values().last(),
            "read(catalog[uid])": lambda: read(catalog[uid]),
            "documents(uid)": lambda: catalog.documents(uid),
        }
        found["ms"] = {name: timed(ask) for name, ask in questions.items()}
        started = time.perf_counter(), time.process_time()
        assert len(catalog.runs()) == found["runs"]
        ended = time.perf_counter(), time.process_time()
        found["all_runs_s"] = [round(b - a, 2) for a, b in zip(started, ended, strict=True)]
        command = [sys.executable, "-c", "from curiosity_bluesky.cli import main; main()", "runs"]
        started = time.perf_counter()
        subprocess.run([*command, "--catalog", folder], check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = time.perf_counter() - started, used.ru_utime + used.ru_stime
        found["curiosity_runs_s"] = [round(seconds, 2) for seconds in spent]
    found["peak_MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return found


def main(arguments: list[str]) -> None:
    """Make a catalogue as large as is asked for, ask it, and print JSON."""
    warnings.simplefilter("ignore")
    folder, runs, patterns = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    found: dict[str, Any] = {}
    if not (folder / "catalog.db").exists():
        with contextlib.redirect_stdout(sys.stderr):
            found["written_s_a_run"] = round(measured(folder, patterns), 2)
    copies = Copies(folder)
    started = time.perf_counter()
    copies.up_to(runs)
    copies.close()
    found["copied_s"] = round(time.perf_counter() - started, 1)
    found["database_MB"] = round(os.path.getsize(folder / "catalog.db") / 1e6, 1)
    print(json.dumps({**found, **asked(str(folder))}))


if __name__ == "__main__":
    main(sys.argv[1:])

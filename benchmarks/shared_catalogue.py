"""How fast runs go into a shared catalogue, PostgreSQL, beside the embedded one, SQLite.

``python benchmarks/shared_catalogue.py --json FILE``. One process writes, then four at once,
into each of the two in turn, as fast as they can: runs of one survey and some spectra, each
event a request of its own. The time is from the first document until Tiled holds all of them
and no journal is left. Each server is one process on this machine, which the writers share.

``--rows`` counts instead how many tables Tiled's own adapter gives back in another order than
they were written in, when four threads write into PostgreSQL, and how many ours does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from machine import about
from sharing import open_directory, seconds_to_write

from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.catalog.shared.server import SharedCatalogue


def rates(rounds: int, runs: int, spectra: int) -> dict[str, Any]:
    """Return events per second by catalogue and number of writers, and their ratios."""
    found: dict[str, dict[int, list[float]]] = {}
    with (
        open_directory() as directory,
        tempfile.TemporaryDirectory() as made,
        SharedCatalogue(directory) as shared,
        closing(EmbeddedServer(Path(made) / "runs")) as embedded,
    ):
        servers = {
            "embedded": (embedded.uri, embedded.api_key),
            "postgresql": (shared.uri, shared.write_key),
        }
        for number in range(rounds + 1):  # the first one makes tables and fills caches
            for writers in (1, 4):
                for name, server in servers.items():
                    home = Path(made) / f"{number}-{writers}-{name}"
                    home.mkdir()
                    took = seconds_to_write(
                        *server, home, writers=writers, runs=runs, spectra=spectra
                    )
                    rate = writers * runs * (spectra + 1) / took
                    print(f"{name:>10} {writers} writers: {rate:6.1f} events/s", file=sys.stderr)
                    if number:
                        found.setdefault(name, {}).setdefault(writers, []).append(rate)
    middle = {n: {w: median(each) for w, each in by.items()} for n, by in found.items()}
    return {
        "events_per_second": found,
        "median": middle,
        "postgresql_to_embedded": {
            w: middle["postgresql"][w] / middle["embedded"][w] for w in (1, 4)
        },
        "four_writers_to_one": {n: by[4] / by[1] for n, by in middle.items()},
    }


def rows(tables: int, events: int) -> dict[str, Any]:
    """Return how many tables come back mixed up, by adapter, of four threads' tables."""
    from tiled.adapters.sql import SQLAdapter
    from tiled.storage import parse_storage, register_storage
    from tiled.structures.core import StructureFamily
    from tiled.structures.data_source import DataSource, Management
    from tiled.structures.table import TableStructure

    from curiosity_bluesky.catalog.shared.cluster import Cluster
    from curiosity_bluesky.catalog.shared.tables import Tables

    frame = pd.DataFrame({"seq_num": [1], **{f"value{k}": [0.0] for k in range(10)}})
    structure = TableStructure.from_pandas(frame)
    counts: dict[str, Any] = {}
    for adapter in (SQLAdapter, Tables):
        with open_directory() as directory, Cluster(directory) as cluster:
            os.environ.update(cluster.environment)
            storage = parse_storage(f"postgresql://127.0.0.1:{cluster.port}/{adapter.__name__}")
            cluster.sql(f'CREATE DATABASE "{adapter.__name__}"')
            register_storage(storage)
            count = {"tables": 4 * tables, "mixed": 0, "refused": 0}

            def write(adapter: Any = adapter, storage: Any = storage, count: Any = count) -> None:
                for _ in range(tables):
                    source = DataSource(
                        structure_family=StructureFamily.table,
                        structure=structure,
                        management=Management.writable,
                    )
                    try:
                        made = adapter.init_storage(storage, source)
                    except Exception:  # two made it at once
                        count["refused"] += 1
                        continue
                    table = adapter(
                        made.assets[0].data_uri,
                        structure,
                        made.parameters["table_name"],
                        made.parameters["dataset_id"],
                    )
                    for number in range(1, events + 1):
                        table.append_partition(0, frame.assign(seq_num=number))
                    numbers = list(table.read(["seq_num"])["seq_num"])
                    count["mixed"] += numbers != list(range(1, events + 1))

            _at_once(write, 4)
            counts[adapter.__name__] = count
            storage.dispose()
    return counts


def _at_once(do: Callable[[], None], times: int) -> None:
    threads = [threading.Thread(target=do) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=4, help="of each writer, in a round")
    parser.add_argument("--spectra", type=int, default=20, help="in a run")
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    settings = {"rounds": given.rounds, "runs": given.runs, "spectra": given.spectra}
    result = rows(10, 40) if given.rows else {**settings, **rates(**settings)}
    text = json.dumps({"machine": about(), **result}, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

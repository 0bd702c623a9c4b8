"""How fast a catalogue is indexed, how much memory that takes, and how fast it is searched.

``python benchmarks/indexing.py --json indexing.json`` makes a catalogue of runs with images of
256 x 256 (``--images``, ``--per-run``), indexes it in a process of its own and asks it.
``--images 25133`` is the collection of the published work; it takes disk space of 256 kB an
image. ``--workers 0`` is one process.

The images are drawn by the generator, fewer than are stored: each stored one is one of the pool,
rolled, turned and with noise of its own, so that no two are equal.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bluesky_tiled_plugins import TiledWriter

sys.path.insert(0, str(Path(__file__).parent))
from machine import about
from synthetic.wallpaper import GROUPS, random_image

from curiosity_bluesky import connect
from curiosity_bluesky.similarity.index import Index

SIDE = 256
POOL = 32


def pool(rng: np.random.Generator) -> list[np.ndarray]:
    """Return images to make others of."""
    kinds = [*GROUPS, *[None] * (POOL - len(GROUPS))]
    return [random_image(kind, rng, SIDE).astype(np.float32) for kind in kinds]


def another(images: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return an image that was not there yet."""
    image = np.rot90(images[rng.integers(len(images))], rng.integers(4))
    image = np.roll(image, rng.integers(0, SIDE, 2), (0, 1))
    return (image + 0.1 * rng.standard_normal(image.shape, np.float32)).astype(np.float32)


def fill(where: Path, images: int, per_run: int, seed: int) -> float:
    """Write runs with images, several events each; return the seconds."""
    import event_model

    rng = np.random.default_rng(seed)
    drawn = pool(rng)
    started = time.perf_counter()
    key = {
        "source": "benchmark", "dtype": "array", "dtype_numpy": "<f4", "shape": [SIDE, SIDE],
        "dims": ["y", "x"], "units": "",
    }  # fmt: skip
    with connect(where) as catalog:
        # Without a journal, which would be JSON of all pixels: nothing here is worth keeping.
        writer = TiledWriter(catalog.client, batch_size=per_run)
        for first in range(0, images, per_run):
            sample = f"sample {rng.integers(20)}"
            run: Any = event_model.compose_run(metadata={"sample": sample, "plan_name": "scans"})
            writer("start", run.start_doc)
            stream = run.compose_descriptor(name="survey", data_keys={"imager_height": key})
            writer("descriptor", stream.descriptor_doc)
            for _ in range(min(per_run, images - first)):
                data = {"imager_height": another(drawn, rng)}
                writer("event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, 0)))
            writer("stop", run.compose_stop())
    return time.perf_counter() - started


def indexed(where: str, workers: int) -> dict[str, Any]:
    """Index a catalogue; return what it took, its server and its processes included."""
    with connect(where) as catalog:
        done = Index(catalog).update(workers=workers)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "images": done.images,
        "seconds": round(done.seconds, 1),
        "images_a_second": round(done.images / done.seconds, 2),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 1),
        "peak_rss_mb": round(used[0].ru_maxrss / 1024),
        "peak_rss_of_a_worker_mb": round(used[1].ru_maxrss / 1024),
    }


def asked(where: str, queries: int = 50) -> dict[str, Any]:
    """Load an index and search it; return how long that took."""
    with connect(where) as catalog:
        index = Index(catalog)
        started = time.perf_counter()
        collection = index.collection()
        loaded = time.perf_counter() - started
        rng = np.random.default_rng(0)
        found: dict[str, Any] = {"load_s": round(loaded, 2), "entries": len(collection)}
        for name, vectors in collection.vectors.items():
            times = []
            for row in rng.integers(0, len(collection), queries):
                started = time.perf_counter()
                hits = collection.nearest(vectors[row], name)
                times.append(time.perf_counter() - started)
                assert hits[0].row == row or hits[0].distance < 1e-3
            found[f"query_ms_{name}"] = round(1e3 * float(np.median(times)), 2)
        started = time.perf_counter()
        part = index.collection({"sample": "sample 3"})
        found["filter_s"] = round(time.perf_counter() - started, 2)
        found["filtered"] = len(part)
        started = time.perf_counter()
        assert index.update().images == 0
        found["update_of_nothing_s"] = round(time.perf_counter() - started, 2)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {**found, "peak_rss_mb": round(used.ru_maxrss / 1024)}


def apart(step: str, *arguments: object) -> dict[str, Any]:
    """Do one step in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--step", step, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Make, index and ask a catalogue."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--per-run", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--catalog", type=Path, help="made if need be, and kept")
    parser.add_argument("--single", type=int, default=50, help="runs of one image each, too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step, where, *rest = given.step
        steps = {"index": indexed, "ask": asked}
        print(json.dumps(steps[step](where, *map(int, rest))))
        return
    result: dict[str, Any] = {"machine": about(), "settings": {"side": SIDE, "seed": given.seed}}
    with tempfile.TemporaryDirectory() as folder:
        cases = {"runs of many": (given.catalog or Path(folder) / "many", given.images,
                                  given.per_run)}  # fmt: skip
        if given.single:
            cases["runs of one"] = Path(folder) / "one", given.single, 1
        for name, (where, images, per_run) in cases.items():
            made = (
                0.0 if (where / "catalog.db").exists() else fill(where, images, per_run, given.seed)
            )
            measured = apart("index", where, given.workers)
            result[name] = {
                "images": images, "per_run": per_run, "workers": given.workers,
                "made_s": round(made, 1), "index": measured, "search": apart("ask", where),
            }  # fmt: skip
            print(f"{name}: {json.dumps(result[name], indent=1)}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""What data in and out costs: seconds and bytes for NSID and USID files, and for imports.

``python benchmarks/exchange.py --json FILE [--side 100] [--points 256] [--run 60]``. A sample of
float32 is written and read as NSID and as USID; a run is exported from a catalogue; what each
package's import takes is measured in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bluesky import RunEngine
from recordings import write_usid
from support import collected_run

from curiosity_bluesky import connect
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.exchange import read_nsid, sample_to_sidpy, to_sidpy, write_nsid
from sim_devices import Sample, SyntheticSample, open_sample

PACKAGES = ("curiosity_bluesky.cli", "h5py", "sidpy", "pyNSID", "pyUSID", "SciFiReaders")


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and what it returns."""
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def imports() -> dict[str, float]:
    """Seconds that a fresh process needs to import each package, Python's own start apart."""

    def seconds(code: str) -> float:
        return min(timed(lambda: subprocess.run([sys.executable, "-c", code]))[0] for _ in "123")

    nothing = seconds("")
    return {name: seconds(f"import {name}") - nothing for name in PACKAGES}


def sample(side: int, points: int) -> Sample:
    """Return noise as a sample, float32."""
    rng = np.random.default_rng(0)
    return Sample(
        name="noise",
        images={"height": rng.normal(size=(side, side)).astype("f4")},
        spectra={"response": rng.normal(size=(side, side, points)).astype("f4")},
        axis=np.linspace(-5, 5, points),
        x=np.linspace(0, 1, side),
        y=np.linspace(0, 1, side),
    )


def files(film: Sample, where: Path) -> dict[str, dict[str, float]]:
    """Write and read one sample in both layouts."""
    found: dict[str, dict[str, float]] = {}
    rows, cols = film.shape
    positions = [("X", "um", film.x), ("Y", "um", film.y)]
    parts = {
        "height": (
            film.images["height"].reshape(-1, 1),
            positions,
            [("none", "", np.array([1.0]))],
            "m",
        ),
        "response": (
            film.spectra["response"].reshape(rows * cols, -1),
            positions,
            [("bias", "V", film.axis)],
            "V",
        ),
    }
    writers = {
        "nsid": lambda path: write_nsid(sample_to_sidpy(film), path),
        "usid": lambda path: write_usid(path, parts),
    }
    for layout, writer in writers.items():
        path = where / f"{layout}.h5"
        written, _ = timed(lambda writer=writer, path=path: writer(path))
        opened, back = timed(lambda path=path: open_sample(path))
        tracemalloc.start()
        open_sample(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert np.array_equal(back.spectra["response"], film.spectra["response"])
        found[layout] = {
            "bytes": path.stat().st_size,
            "array_bytes": film.spectra["response"].nbytes,
            "write_s": written,
            "read_s": opened,
            "read_peak_bytes": peak,
        }
    return found


def run(points: int, where: Path) -> dict[str, float]:
    """Export a run from a catalogue."""
    instrument = simulated_instrument(SyntheticSample(), speed=math.inf)
    engine = RunEngine({})
    with connect(where / "runs") as catalog:
        engine.subscribe(catalog.writer())
        collected_run(engine, instrument, num_points=points, strategy="random")
        catalog.flush()
        found = catalog[-1]
        read, datasets = timed(lambda: to_sidpy(found, grid=True))
        path = where / "run.hf5"
        written, _ = timed(lambda: write_nsid(datasets, path))
        back, _ = timed(lambda: read_nsid(path))
    size = path.stat().st_size
    return {
        "points": points,
        "to_sidpy_s": read,
        "write_s": written,
        "read_s": back,
        "bytes": size,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", type=int, default=100)
    parser.add_argument("--points", type=int, default=256)
    parser.add_argument("--run", type=int, default=60)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    sample_to_sidpy(sample(2, 2))  # sidpy is imported once and for all
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        results = {
            "import_s": imports(),
            "sample": {"side": given.side, "points": given.points},
            "files": files(sample(given.side, given.points), where),
            "run": run(given.run, where),
        }
    text = json.dumps(results, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""How everything grows: points in a run, candidates, runs in a catalogue.

``python benchmarks/scale.py --json scale.json`` measures all of it, which takes some hours; name
parts (``points``, ``learning``, ``memory``, ``subset``, ``candidates``, ``catalogue``) for less,
and ``--most N`` for no more than N points, spectra or runs. Every measurement is a process of its
own, so that its memory is its own. Where other work keeps the machine busy look at the seconds of
the processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

HERE = Path(__file__).parent
POINTS = 100, 300, 1000, 3000, 10_000
LEARNED = 100, 300, 1000, 2000, 3000, 5000, 10_000
COMPARED = 1500, 2000
SIDES = 49, 256, 1024
RUNS = 100, 1000, 10_000


def apart(script: str, *arguments: object) -> Iterator[dict[str, Any]]:
    """Run a script of this folder; yield the lines of JSON that it prints, and print them."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                print(line, end="", flush=True)
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")


def upto(most: int, sizes: tuple[int, ...]) -> list[int]:
    """Return the sizes that are not too large."""
    return [size for size in sizes if size <= most]


def points(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Measure runs through plan, writer, catalogue and back, whose choice costs nothing."""
    for n in upto(most, POINTS):
        yield from apart("long_run.py", folder / f"points-{n}", n, "grid")


def learning(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Measure decisions of ``curious``."""
    sizes = ",".join(map(str, upto(most, LEARNED)))
    yield from apart("long_learning.py", "curious", sizes, 6, 116)


def memory(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Measure the memory of ``curious`` by spectrum, and its longest decisions."""
    yield from apart("long_learning.py", "remembered", min(most, 1500), 116)


def subset(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Measure what it costs that a thousand spectra stand for more."""
    for n in upto(most, COMPARED):
        yield from apart("long_learning.py", "compared", n)


def candidates(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Measure decisions of ``curious`` on large surveys, 300 spectra observed."""
    for side in SIDES:
        yield from apart("long_learning.py", "curious", min(most, 300), 6, side + 4)


def catalogue(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Measure what is asked of a catalogue that grows."""
    for n in upto(most, RUNS):
        yield from apart("large_catalogue.py", folder / "catalogue", n, 16)


PARTS = {part.__name__: part for part in (points, learning, memory, subset, candidates, catalogue)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    result: dict[str, Any] = {"machine": about()}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.parts or PARTS:
            result[name] = list(PARTS[name](Path(folder), given.most))
            if given.json:
                given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

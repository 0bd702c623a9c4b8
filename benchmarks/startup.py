"""How long commands take to answer: CPU and clock, of fresh processes.

``python benchmarks/startup.py --json startup.json`` runs each command several times on a small
catalogue that no process serves, and prints the least and the median of CPU seconds (user and
system, all processes of the command) and of seconds by the clock. Files are in the system's cache
after a first run that does not count. On a busy machine only the least CPU time means something.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import resource
import select
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from machine import about

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "data" / "stored-runs" / "catalogue.tar.xz"
IMPORT = "from curiosity_bluesky import connect, curiosity_plan"
PROMPT = b"In [1]:"

Measured = tuple[float, float]
"""CPU and clock, s."""


def commands(catalog: str, uid: str) -> dict[str, tuple[list[str], int, float | None]]:
    """Return what is run by name: arguments, exit code that is expected, and CPU aimed at, s."""
    there = ["--catalog", catalog]
    refused = {
        "demo --sample nope": ["demo", "--sample", "nope"],
        "demo --strategy nope": ["demo", "--strategy", "nope"],
        "demo --points -1": ["demo", "--points", "-1"],
        "demo --set patch_size=x": ["demo", "--set", "patch_size=x"],
        "demo --withhold 2": ["demo", "--withhold", "2"],
        "demo --speed 0": ["demo", "--speed", "0"],
        "demo --picture no.jpg": ["demo", "--picture", "no.jpg"],
        "resume nope": ["resume", "nopenope", *there],
        "runs --catalog nope": ["runs", "--catalog", "nope"],
        "runs --since nope": ["runs", "--since", "nope", *there],
        "show nope": ["show", "nopenope", *there],
        "export nope": ["export", uid, "no.txt", *there],
        "benchmark --samples nope": ["benchmark", "--samples", "nope", "--out", catalog],
        "similar nope": ["similar", "nopenope", "--by", "nope", *there],
        "index --workers 0": ["index", "--workers", "0", *there],
        "serve --port -1": ["serve", "--port", "-1", "--catalog", f"{catalog}-new"],
        "agent --follow": ["agent", "--follow"],
        "queue steer nope": ["queue", "steer", "nope"],
        "--nope": ["--nope"],
    }
    return {
        "--help": (["--help"], 0, 0.3),
        "runs": (["runs", *there], 0, 1.0),
        "show UID": (["show", uid, *there], 0, 1.5),
        "strategies": (["strategies"], 0, 0.6),
        "samples": (["samples"], 0, None),
        **{name: (arguments, 2, 0.8) for name, arguments in refused.items()},
    }


def timed(arguments: list[str], expected: int) -> Measured:
    """Run a process; return its CPU time and how long it took."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, took


def to_prompt(directory: Path) -> Measured:
    """Start IPython with the profile; return CPU and clock until its first prompt."""
    profile = directory / "profile_curiosity"
    if not profile.exists():
        profile.mkdir()
        startup = ROOT / "profiles" / "profile_curiosity" / "startup"
        (profile / "startup").symlink_to(startup)
    environment = {
        **os.environ,
        "CURIOSITY_CATALOG": str(directory / "of-profile"),
        "IPYTHONDIR": str(directory / "ipython"),
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
    }
    options = [f"--profile-dir={profile}", "--simple-prompt", "--colors=NoColor"]
    ours, theirs = pty.openpty()
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    shell = subprocess.Popen(
        [sys.executable, "-m", "IPython", *options],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=directory,
    )  # fmt: skip
    os.close(theirs)
    said, took = b"", 0.0
    while True:
        if not select.select([ours], [], [], 120)[0]:
            shell.kill()
            raise SystemExit(f"no prompt came: {said.decode(errors='replace')}")
        try:
            said += os.read(ours, 4096)
        except OSError:  # it ended
            break
        if not took and PROMPT in said:
            took = time.perf_counter() - begun
            os.write(ours, b"exit\n")
    shell.wait()
    os.close(ours)
    if not took:
        raise SystemExit(f"no prompt came: {said.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # With what closing took: the time of a child is known when it has ended.
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="only what has this in its name")
    options = parser.parse_args()
    command = [sys.executable, "-m", "curiosity_bluesky.cli"]
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        with tarfile.open(STORED) as archive:
            archive.extractall(directory, filter="data")
        catalog = str(directory / "runs")
        # The archive was written elsewhere: a server puts its paths right, once.
        code = (
            f"from curiosity_bluesky import connect; c = connect({catalog!r}); print(next(iter(c)))"
        )
        uid = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()
        jobs: dict[str, tuple[Callable[[], Measured], float | None]] = {}
        for name, (arguments, expected, aim) in commands(catalog, uid).items():
            whole = [*command, *arguments]
            jobs[name] = (lambda whole=whole, expected=expected: timed(whole, expected)), aim
        jobs[IMPORT] = (lambda: timed([sys.executable, "-c", IMPORT], 0)), 1.0
        jobs["IPython profile to prompt"] = (lambda: to_prompt(directory)), None
        figures = {}
        for name, (job, aim) in jobs.items():
            if options.only and options.only not in name:
                continue
            job()
            cpu, clock = zip(*(job() for _ in range(options.repeats)), strict=True)
            figures[name] = {
                "cpu_s": {"min": min(cpu), "median": statistics.median(cpu), "aim": aim},
                "clock_s": {"min": min(clock), "median": statistics.median(clock)},
            }
            print(
                f"{name:58} CPU {min(cpu):6.2f} {statistics.median(cpu):6.2f} s"
                f"{'' if aim is None else f' (aim {aim})':11}"
                f" clock {min(clock):6.2f} {statistics.median(clock):6.2f} s",
                flush=True,
            )
    if options.json:
        found = {"machine": about(), "repeats": options.repeats, "figures": figures}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

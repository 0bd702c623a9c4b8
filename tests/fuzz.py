"""Command lines and plans that nobody should write, tried by the hundred.

    python tests/fuzz.py --lines 250 --plans 250 --seed 1

A command line that works is changed at one place or several: another option, another kind of
value, a file that is broken. Each has to work or to be refused in one line; a plan has to come to
its end or to raise an `InputError` before anything moves. What is counted: tracebacks, hangs
(more than `LIMIT` seconds), and what must be refused and is not.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import faulthandler
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 120.0
"""Seconds after which a command line hangs, on a busy machine too."""

SUBPROCESS_EVERY = 25
"""Each so many-th command line is tried in a process of its own, as a shell does."""

NUMBERS = ["-1", "0", "1", "2", "3.5", "nan", "inf", "-inf", "1e400", "9" * 30, "", "x", "0x10"]
WORDS = ["", " ", "x", "-", "--", "é", "µ m", "a\nb", "\x1b[31m", "\x7f", "[/b]", "a" * 300, "💥"]
WORDS += ["None", "[]", "{}", "../..", "%s", "'", '"', "a=b", "=", "a=", "a=[", "a=nan", "\udcff"]
PLACES = [
    "none",
    "file",
    "empty",
    "locked",
    "broken",
    "half",
    "runs",
    "",
    "/dev/null",
    "\0",
    "/proc",
]
PLACES += ["http://", "https://[::1", "http://127.0.0.1:9", "http://a:b:c", "file:///x", "x" * 300]
PLACES += ["http://127.0.0.1:99999", "http://\x7f", "~nobody/x", "runs#1"]
FILES = ["none.npz", "good.npz", "text.npz", "empty.npz", "cube.npy", "object.npy", "flat.npy"]
FILES += [
    "broken.h5",
    "broken.ibw",
    "broken.3ds",
    "image.png",
    "folder.npz",
    "locked.npz",
    "",
    "\0",
]
FILES += ["nan.npz", "sizes.npz", "x" * 300 + ".npz", "own.py", "wrong.py"]
UIDS = ["{uid}", "{uid}x", "{short}", "ab", "", "-1", "00000000", "../../x", "%", "\udcff", "*" * 8]
SETTINGS = ["patch_size=3", "patch_size=-1", "patch_size=[]", "n_seeds=0", "batch=1e9", "=", "x=1"]
SETTINGS += ["n_seeds=NaN", "budget=0", "patch_size=1e400", "max_per_area=[1]", "min_quality=2"]
SETTINGS += ["n_seeds=99999999999999999999999", "per_second=[0,0]", "patch_size=true"]

QUICK = ["--sample", "good.npz", "--points", "5", "--speed", "inf", "--no-plot", "--catalog", "new"]
QUICK += ["--strategy", "random", "--set", "patch_size=3", "--set", "n_seeds=3"]
TINY = ["--points", "5", "--seeds", "1", "--out", "out"]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line that works, and what its options take."""

    words: Sequence[str]
    options: dict[str, Sequence[str]]
    arguments: Sequence[Sequence[str]] = ()
    refused: Sequence[Sequence[str]] = ()
    """Words that must be refused when they are added."""
    network: bool = False


SHARED = {"--catalog": PLACES, "--json": [], "--help": [], "--nonsense": WORDS}
COMMANDS = {
    "demo": Command(
        QUICK,
        SHARED | {
            "--sample": FILES, "--strategy": WORDS, "--points": NUMBERS, "--time-budget": NUMBERS,
            "--seed": NUMBERS, "--picture": FILES, "--image-slice": [*NUMBERS, *WORDS],
            "--spectra-slice": [*WORDS, "49:", ":", "0:0"], "--withhold": NUMBERS,
            "--set": SETTINGS, "--load": FILES, "--speed": NUMBERS, "--lookahead": NUMBERS,
            "--fault": [*WORDS, "nan=2", "nan=x", "flat=0.5", "nan=nan"], "--drift": NUMBERS,
            "--resurvey-every": NUMBERS, "--devices": WORDS, "--warm-start": [*UIDS, "similar"],
            "--dry-run": [],
        },
        refused=[
            *(["--time-budget", value] for value in ("-1", "0", "nan", "inf", "x", "")),
            *(["--resurvey-every", value] for value in ("-1", "0.5", "nan")),
            *(["--points", value] for value in ("0", "-1", "9" * 30, "nan", "1.5")),
            *(["--speed", value] for value in ("0", "-1", "nan")),
            *(["--withhold", value] for value in ("1", "-0.1", "nan", "inf")),
            *(["--lookahead", value] for value in ("-1", "9" * 30)),
            *(["--drift", value] for value in ("nan", "inf", "1e400")),
            *(["--seed", value] for value in ("-1", "9" * 30)),
            ["--devices", "x"], ["--strategy", "x"], ["--fault", "nan=2"], ["--picture", "none"],
            ["--catalog", "https://[::1"], ["--catalog", "file"], ["--warm-start", "x"],
        ],
    ),
    "resume": Command(
        ["{uid}", "--catalog", "runs", "--no-plot"],
        SHARED | {"--points": NUMBERS, "--picture": FILES, "--load": FILES}, [UIDS],
        refused=[["--points", "0"], ["--points", "-1"], ["--picture", "none"]],
    ),
    "runs": Command(
        ["--catalog", "runs"],
        SHARED | {
            "--sample": WORDS, "--strategy": WORDS, "--plan": WORDS, "--last": NUMBERS,
            "--since": [*WORDS, "2026-13-45", "2026-11-21", "0001-01-01", "9999-12-31"],
            "--all": [],
        },
        refused=[["--last", "0"], ["--last", "-1"], ["--last", "nan"], ["--since", "x"]],
    ),
    "show": Command(["{uid}", "--catalog", "runs"], SHARED | {"--picture": FILES}, [UIDS]),
    "recover": Command(["--catalog", "runs"], SHARED),
    "export": Command(
        ["{uid}", "o.hf5", "--catalog", "runs", "--force"], SHARED | {"--grid": []}, [UIDS, FILES],
        refused=[["--nonsense"]],
    ),
    "samples": Command([], SHARED), "strategies": Command([], SHARED | {"--load": FILES}),
    "benchmark": Command(
        ["--samples", "good.npz", "--report-only", "--patch-size", "3", "--n-seeds", "3", *TINY],
        SHARED | {
            "--samples": [*FILES, "a[", "good.npz[image=1]"], "--strategies": [*WORDS, "a[b="],
            "--points": NUMBERS, "--seeds": NUMBERS, "--protocols": WORDS, "--n-seeds": NUMBERS,
            "--patch-size": [*NUMBERS, "own"], "--every": NUMBERS, "--withhold": NUMBERS,
            "--set": SETTINGS, "--workers": NUMBERS, "--scheduler": PLACES, "--out": PLACES,
        },
        refused=[["--workers", "0"], ["--seeds", "0"], ["--every", "0"], ["--withhold", "nan"]],
    ),
    "patch-sizes": Command(
        ["--sample", "good.npz", "--sizes", "3", "--set", "predictor=gp", *TINY],
        SHARED | {
            "--sample": FILES, "--sizes": [*NUMBERS, *WORDS], "--points": NUMBERS,
            "--seeds": NUMBERS[:3], "--withhold": NUMBERS, "--set": SETTINGS, "--out": PLACES,
        },
        refused=[["--seeds", "0"], ["--points", "0"], ["--withhold", "nan"], ["--sizes", "0"]],
    ),
    "serve": Command(
        ["--catalog", "file"],
        {"--catalog": ["file", "broken", "half", "runs#1"], "--port": ["-1", "x", "99999"]},
        refused=[["--port", "-1"]],
    ),
    "ioc": Command(
        ["--sample", "none.npz"],
        {
            "--port": ["-1", "99999", "x"], "--host": WORDS, "--speed": NUMBERS, "--noise": NUMBERS,
            "--set": SETTINGS, "--fault": WORDS, "--drift": NUMBERS, "--prefix": WORDS,
        },
        refused=[["--port", "-1"], ["--port", "99999"], ["--fault", "x=1"]],
    ),
    "index": Command(
        ["--catalog", "runs", "--workers", "1"], SHARED | {"--workers": ["-1", "0", "x", "9" * 30]},
        refused=[["--workers", "0"], ["--workers", "-3"], ["--workers", "nan"]],
    ),
    "similar": Command(
        ["{uid}", "--catalog", "runs"],
        SHARED | {
            "--channel": WORDS, "--by": [*WORDS, "texture"], "--top": NUMBERS, "--picture": FILES,
            "--where": [*WORDS, "points>=x", "since=x", "sample=[/b]", "a>=", ">=3"], "--own": [],
        },
        [[*UIDS, *FILES]],
        refused=[["--top", "0"], ["--top", "-1"], ["--picture", "none"]],
    ),
    "import": Command(
        ["image.png", "--catalog", "new"], SHARED | {"--sample": WORDS, "--md": WORDS}, [FILES],
        refused=[["--md", "x"]],
    ),
    "explore": Command(
        ["--catalog", "none", "--no-browser"],
        {"--catalog": PLACES[:5], "--port": ["-1", "x", "99999"], "--by": WORDS},
        refused=[["--port", "x"]],
    ),
    "agent": Command(
        ["--catalog", "none", "--bind", "x"],
        {
            "--bind": ["", "x", "tcp://", "tcp://127.0.0.1:x", "tcp://127.0.0.1:99999", *WORDS[:6]],
            "--keep": ["0", "-1", "x"], "--load": FILES, "--follow": [], "--token-file": FILES,
        },
    ),
    "agent status": Command(
        ["tcp://127.0.0.1:9"], {"--token-file": FILES}, [["x", "", "tcp://", "tcp://a:b", *WORDS]]
    ),
    "queue add": Command(
        ["--address", "tcp://127.0.0.1:9"],
        {
            "--points": NUMBERS[:2], "--seed": ["-1", "x"], "--time-budget": ["-1", "0", "nan"],
            "--agent": WORDS, "--set": SETTINGS, "--arg": WORDS, "--md": WORDS,
        },
        [WORDS],
        refused=[["--points", "0"], ["--seed", "-1"], ["--time-budget", "inf"]],
    ),
    "queue steer": Command(["x", "--address", "tcp://127.0.0.1:9"], {}, [WORDS]),
    "queue serve": Command(
        ["--directory", "file", "--profile", "none"],
        {"--control": ["-1", "x", "99999"], "--redis": WORDS, "--sample": FILES},
    ),
}  # fmt: skip


@dataclasses.dataclass
class Counts:
    """What came of them."""

    lines: int = 0
    plans: int = 0
    worked: int = 0
    refused: int = 0
    tracebacks: list[str] = dataclasses.field(default_factory=list)
    hangs: list[str] = dataclasses.field(default_factory=list)
    wrongly_accepted: list[str] = dataclasses.field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.tracebacks or self.hangs or self.wrongly_accepted)

    def __str__(self) -> str:
        said = (
            f"{self.lines} command lines, {self.plans} plans: {self.worked} worked, {self.refused} "
            f"were refused in words; {len(self.tracebacks)} tracebacks, {len(self.hangs)} hangs, "
            f"{len(self.wrongly_accepted)} wrongly accepted"
        )
        return "\n".join([said, *self.tracebacks, *self.hangs, *self.wrongly_accepted])


class Hangs(BaseException):
    """A command line took longer than the limit; no library takes it for an error of its own."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `Hangs` in the main thread when it takes longer."""

    def over(number: int, frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def playground(directory: Path) -> str:
    """Fill a directory with what command lines may name, and return the uid of a run."""
    rng = np.random.default_rng(0)
    image = rng.random((18, 16))
    spectra = image[:, :, None] * np.linspace(0, 1, 5)
    axis = np.arange(5.0)
    np.savez(directory / "good.npz", image=image, spectra=spectra, axis=axis)
    np.savez(directory / "sizes.npz", image=image[:-2], spectra=spectra, axis=axis)
    np.savez(directory / "nan.npz", image=image * np.nan, spectra=spectra, axis=axis)
    np.save(directory / "cube.npy", np.dstack([image, spectra]))
    np.save(directory / "flat.npy", np.zeros(3))
    np.save(directory / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("text.npz", "broken.h5", "broken.ibw", "broken.3ds", "image.png", "file"):
        (directory / name).write_text("nothing of the kind\n")
    for name in ("empty.npz", "locked.npz"):
        (directory / name).write_bytes(b"")
    (directory / "own.py").write_text("pass\n")
    (directory / "wrong.py").write_text("raise SystemExit(3)\n")
    (directory / "locked.npz").chmod(0)
    for name in ("empty", "folder.npz", "locked", "broken", "half"):
        (directory / name).mkdir()
    (directory / "locked").chmod(0)
    (directory / "broken" / "catalog.db").write_text("no database\n")
    (directory / "half" / "catalog.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    code, said = run_line(["demo", *QUICK, "--catalog", "runs"])
    assert code == 0, said
    from curiosity_bluesky import connect

    with connect(directory / "runs", create=False) as catalog:
        return catalog.runs()[0].uid


def lines(rng: np.random.Generator, uid: str) -> Iterator[tuple[list[str], bool]]:
    """Yield changed command lines, and whether each must be refused."""
    names = list(COMMANDS)

    def filled(word: str) -> str:
        return word.replace("{uid}", uid).replace("{short}", uid[:8])

    def any_of(words: Sequence[str]) -> str:
        return filled(words[rng.integers(len(words))])

    while True:
        name = names[rng.integers(len(names))]
        command = COMMANDS[name]
        words = [filled(word) for word in command.words]
        if command.refused and rng.random() < 0.3:
            added = command.refused[rng.integers(len(command.refused))]
            yield [*name.split(), *words, *added], True
            continue
        for _ in range(1 + rng.integers(2)):
            change = rng.random()
            if change < 0.1 and words:
                del words[rng.integers(len(words))]
            elif change < 0.25 and command.arguments:
                number = rng.integers(len(command.arguments))
                if number < len(words):
                    words[number] = any_of(command.arguments[number])
            elif command.options:
                option = any_of(list(command.options))
                values = command.options[option]
                words += [option, any_of(values)] if values else [option]
        yield [*name.split(), *words], False


def run_line(words: Sequence[str]) -> tuple[int, str]:
    """Run a command line in this process; return its exit code and what it says of an error."""
    from curiosity_bluesky.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            return int(end.code or 0), err.getvalue()
    raise AssertionError("it did not exit")


def in_a_process(words: Sequence[str]) -> tuple[int, str]:
    """Run a command line as a shell does."""
    done = subprocess.run(
        [sys.executable, "-m", "curiosity_bluesky.cli", *words],
        capture_output=True, text=True, errors="replace", timeout=LIMIT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stderr


def try_line(words: list[str], must_fail: bool, counts: Counts, outside: bool = False) -> None:
    """Try one command line and count what came of it."""
    counts.lines += 1
    shown = f"curiosity {' '.join(map(ascii, words))}"
    try:
        if outside and not any("\0" in word for word in words):
            code, said = in_a_process(words)
        else:
            with limited(LIMIT):
                code, said = run_line(words)
    except (Hangs, subprocess.TimeoutExpired):
        counts.hangs.append(f"hangs: {shown}")
        return
    except Exception:
        counts.tracebacks.append(f"traceback: {shown}\n{_end_of(traceback.format_exc())}")
        return
    if "Traceback" in said:
        counts.tracebacks.append(f"traceback: {shown}\n{_end_of(said)}")
    if code == 0 and must_fail:
        counts.wrongly_accepted.append(f"accepted: {shown}")
    counts.worked += code == 0
    counts.refused += code != 0


def _end_of(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-6:])


def fuzz_lines(
    n: int, seed: int, counts: Counts, say: Callable[[str], Any], outside: bool = True
) -> None:
    """Try command lines in a directory of their own, some of them in processes of their own."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        os.environ["XDG_DATA_HOME"] = directory
        try:
            uid = playground(Path(directory))
            rng, said = np.random.default_rng(seed), 0
            for number, (words, must_fail) in enumerate(lines(rng, uid)):
                if number >= n:
                    break
                try_line(words, must_fail, counts, outside and number % SUBPROCESS_EVERY == 7)
                troubles = [*counts.tracebacks, *counts.hangs, *counts.wrongly_accepted]
                for trouble in troubles[said:]:
                    say(trouble)
                said = len(troubles)
                if number % 25 == 24:
                    say(str(counts).splitlines()[0])
        finally:
            os.chdir(here)
            (Path(directory) / "locked").chmod(0o700)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lines", type=int, default=250)
    parser.add_argument("--plans", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    given = parser.parse_args(None if arguments is None else list(arguments))
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    counts = Counts()
    if given.lines:
        fuzz_lines(given.lines, given.seed, counts, lambda text: print(text, flush=True))
    if given.plans:
        from fuzz_plans import fuzz_plans

        fuzz_plans(given.plans, given.seed, counts)
    print(counts)
    if given.json is not None:
        given.json.write_text(json.dumps(dataclasses.asdict(counts), indent=2) + "\n")
    return 0 if counts.good else 1


if __name__ == "__main__":
    sys.exit(main())

"""How soon the RunEngine answers while the explorer is slow on purpose, and what is left then.

``python benchmarks/answering.py --json answering.json`` begins a run for every way to interrupt
one (``--what``), every slow predictor (``--kinds``) and many moments (``--moments``): in a
training, in a decision before anything was learned, in a move, in a spectrum. It takes the
seconds from the request until the state of the RunEngine has changed and until the prompt is
back, then looks whether devices are unstaged and stopped, nothing measures any more, the run in
Tiled has a stop document with the right exit_status, and another run on the same RunEngine works.

A single Ctrl-C is no pause at once in bluesky but a *deferred* one: the RunEngine takes note of
it, goes on to the next checkpoint (here: after the next event) and pauses there. So its figure is
the time until the RunEngine has taken note; the pause itself comes after what is under way, half
a second after the checkpoint, in which bluesky waits for a second Ctrl-C. Of Ctrl-C twice, the
figure counts from the second.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from ophyd.device import Staged

sys.path.insert(0, str(Path(__file__).parent))
from machine import about
from slow import KINDS

from curiosity_bluesky import CuriosityAgent, connect
from curiosity_bluesky.devices import AFMStage, Imager, Spectrometer
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from sim_devices import Clock, SimMicroscope, SyntheticSample

PLACES = ("training", "decision", "move", "spectrum")
WHAT = ("pause", "resume", "stop", "abort", "halt", "ctrl-c", "ctrl-c twice")
STATUS = {"stop": "success", "abort": "abort", "halt": "abort"}
"""What the stop document has to say; all that only pauses is resumed and stopped."""
PROMISED_S = 0.3
SEEDS, POINTS = 1, 3
LONG_S = {"training": 0.8, "decision": 0.3, "move": 0.3, "spectrum": 0.3}
"""How long each place lasts; the moments lie within."""


class Bench:
    """One instrument, one RunEngine, one catalogue; a run for each request."""

    def __init__(self, directory: str) -> None:
        self.RE = RunEngine({})
        self.catalog = connect(directory)
        self.writer = self.catalog.writer()
        self.RE.subscribe(self.writer)
        sample = SyntheticSample((16, 14), seed=1, points=16)
        speed = float(np.ptp(sample.x)) / LONG_S["move"] / 3
        self.microscope = SimMicroscope(
            sample, Clock(1.0), line_s=0.0, spectrum_s=LONG_S["spectrum"], speed_um_per_s=speed
        )
        self.stage = AFMStage(self.microscope, name="stage")
        self.imager = Imager(self.microscope, name="imager")
        self.spectrometer = Spectrometer(self.microscope, name="spectrometer")
        self.place = ""
        self.there = threading.Event()

    def agent(self, kind: str) -> CuriosityAgent:
        strategy = Strategy.named(
            f"slow-{kind}",
            decision_s=LONG_S["training"],
            n_seeds=SEEDS,
            patch_size=3,
            budget=POINTS,
        )
        agent = CuriosityAgent(strategy, 0)
        decide = agent.decide

        def slow_decide(*args: Any, **kwargs: Any) -> Any:
            if self.place == "decision":
                self.there.set()
                time.sleep(LONG_S["decision"])
            return decide(*args, **kwargs)

        def on_epoch(model: str, epoch: int, epochs: int) -> None:
            if self.place == "training":
                self.there.set()

        agent.decide = slow_decide  # the thread of a decision, held up before it has learned
        agent.on_epoch = on_epoch
        return agent

    def hook(self, msg: Any) -> None:
        """Notice that a move or a spectrum begins."""
        name = getattr(msg.obj, "name", "")
        if self.place == "move" and msg.command == "wait" and self.stage.x.moving:
            self.there.set()
        if self.place == "spectrum" and msg.command == "trigger" and name == "spectrometer":
            self.there.set()

    def devices(self) -> tuple[Any, ...]:
        return [self.spectrometer], self.stage.x, self.stage.y, self.imager

    def run(self, kind: str, what: str, place: str, share: float) -> dict[str, Any]:
        """Begin a run, ask for something in it, and see what becomes of it."""
        self.place, RE = place, self.RE
        self.there.clear()
        moved = self.stage.x.set(float(self.microscope.sample.x[0]))  # so that there is a way to go
        moved.wait(10)
        RE.msg_hook = self.hook
        uids: list[str] = []
        asked: dict[str, float] = {}
        found: dict[str, Any] = {
            "kind": kind, "what": what, "place": place, "after_s": share * LONG_S[place] * 0.7,
        }  # fmt: skip

        def ask() -> None:
            self.there.wait(60)
            time.sleep(found["after_s"])
            before = RE.state
            try:
                asked["at"] = time.perf_counter()
                if what in ("pause", "resume"):
                    RE.request_pause()
                elif what == "ctrl-c":
                    os.kill(os.getpid(), signal.SIGINT)
                    while not RE.deferred_pause_requested:
                        time.sleep(0.0005)
                elif what == "ctrl-c twice":
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.15)
                    asked["at"] = time.perf_counter()
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    getattr(RE, what)()
                while what != "ctrl-c" and RE.state == before:
                    time.sleep(0.0005)
                asked["state"] = time.perf_counter()
            except Exception as error:
                asked["failed"] = 1.0
                found["failed"] = repr(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        agent = self.agent(kind)
        plan = explore(agent, *self.devices(), options={"maps_every": 0})
        first = {"start": lambda _, doc: uids.append(doc["uid"])}
        with contextlib.suppress(RunEngineInterrupted):
            RE(plan, first)
        prompt = time.perf_counter()
        asking.join(60)
        if "failed" in found or "at" not in asked:
            found.setdefault("failed", f"never came to a {place}")
        else:
            found["state_s"] = asked["state"] - asked["at"]
            found["prompt_s"] = prompt - asked["at"]
        if what == "ctrl-c":
            found["paused_s"] = found.pop("prompt_s", None)
        if what not in STATUS:
            found["paused"] = RE.state == "paused"
        if what == "resume" and RE.state == "paused":
            self._resumed(found)
        if RE.state == "paused":
            RE.stop()
        found["ok"] = "failed" not in found and all(self._left(found, uids, what).values())
        return found

    def _resumed(self, found: dict[str, Any]) -> None:
        """Resume; the figure is that of the resume. Pause again, since the rest is of no use."""
        RE, noted = self.RE, {}
        begun = threading.Event()

        def running() -> None:
            begun.set()
            while RE.state != "running":
                time.sleep(0.0005)
            noted["state"] = time.perf_counter()
            time.sleep(0.05)
            noted["again"] = time.perf_counter()
            RE.request_pause()

        thread = threading.Thread(target=running, daemon=True)
        thread.start()
        begun.wait()
        at = time.perf_counter()
        with contextlib.suppress(RunEngineInterrupted):
            RE.resume()
        found["prompt_s"] = time.perf_counter() - noted["again"]  # of the pause after it
        thread.join()
        found["state_s"] = noted["state"] - at

    def _left(self, found: dict[str, Any], uids: list[str], what: str) -> dict[str, bool]:
        devices = (self.stage, self.imager, self.spectrometer)
        measuring = [
            thread.name
            for thread in threading.enumerate()
            if thread.name.startswith(("spectrometer-", "imager-", "stage_"))
        ]
        left = found["left"] = {
            "idle": self.RE.state == "idle",
            "unstaged": all(device._staged == Staged.no for device in devices),
            "stopped": not (self.stage.x.moving or self.stage.y.moving),
            "nothing measures": not measuring,
        }
        self.writer.flush()
        stop = self.catalog[uids[0]].metadata.get("stop") or {} if uids else {}
        left["stop document"] = stop.get("exit_status") == STATUS.get(what, "success")
        self.place, self.RE.msg_hook = "", None
        real, self.microscope.clock = self.microscope.clock, Clock(float("inf"))
        agent = CuriosityAgent(Strategy.named("random", n_seeds=1, patch_size=3, budget=1), 0)
        uids = []
        stops: list[str] = []
        self.RE(
            explore(agent, *self.devices(), options={"maps_every": 0}),
            {"stop": lambda _, doc: stops.append(doc["exit_status"])},
        )
        self.microscope.clock = real
        left["next run"] = stops == ["success"] and agent.explorer.n_observed == 1
        return left


def table(rows: list[dict[str, Any]], by: Callable[[dict[str, Any]], str]) -> None:
    """Print median and worst of each group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    print(
        f"{'':36} {'n':>4} {'state: median':>14} {'worst':>7} {'prompt: median':>15} {'worst':>7}"
    )
    for name, some in groups.items():
        cells = []
        for key in ("state_s", "prompt_s"):
            values = [row[key] for row in some if row.get(key) is not None]
            cells += [f"{np.median(values):.3f}", f"{max(values):.3f}"] if values else ["-", "-"]
        bad = sum(not row["ok"] for row in some)
        print(
            f"{name:36} {len(some):4} {cells[0]:>14} {cells[1]:>7} {cells[2]:>15} {cells[3]:>7}"
            + (f"  {bad} NOT IN ORDER" if bad else "")
        )


def written(path: Path, seed: int, rows: list[dict[str, Any]]) -> None:
    """Write the figures."""
    found = {"machine": about(), "seed": seed, "promised_s": PROMISED_S, "runs": rows}
    path.write_text(json.dumps(found, indent=1, default=str) + "\n")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=10, help="in each place")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--what", default=",".join(WHAT))
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    logging.getLogger("bluesky").setLevel(logging.CRITICAL)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory)
        for kind in given.kinds.split(","):
            for what in given.what.split(","):
                for place in given.places.split(","):
                    for _ in range(given.moments):
                        with contextlib.redirect_stdout(io.StringIO()):
                            row = bench.run(kind, what, place, float(rng.random()))
                        rows.append(row)
                        if given.json:  # what there is, should this one be interrupted
                            written(given.json, given.seed, rows)
                        if not row["ok"]:
                            print("not in order:", row, flush=True)
        bench.catalog.close()
    print("seconds from the request; a single Ctrl-C: until the RunEngine has taken note of it")
    table(rows, lambda row: row["what"])
    table(rows, lambda row: f"{row['kind']}, {row['place']}")
    figures = [row[key] for row in rows for key in ("state_s", "prompt_s") if row.get(key)]
    late = sum(figure > PROMISED_S for figure in figures)
    print(f"{late} of {len(figures)} figures are over the {PROMISED_S} s that are promised")
    print(f"{sum(row['ok'] for row in rows)} of {len(rows)} runs left everything in order")


if __name__ == "__main__":
    main()

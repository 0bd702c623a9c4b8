"""Kill agents that runs depend on, and count what that costs; time what asking one costs.

``python benchmarks/remote_agent.py --kills 20 --json FILE``: for each kill a run on the
simulated microscope whose agent is another process, which is killed (SIGKILL) at a random moment
of the run and started again, up to a second later, at the same address. The run is compared, digit
for digit, with the one that nobody disturbed and whose agent is in its own process.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import event_model
import numpy as np
from bluesky import RunEngine

from curiosity_bluesky import CuriosityAgent
from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.steering import Steering
from sim_devices import SyntheticSample

SAMPLE = SyntheticSample((24, 22), seed=1, points=32)
SMALL = {"patch_size": 5, "n_seeds": 6}
NETWORK = {
    **SMALL, "start_epochs": 40, "update_epochs": 10, "autoencoder_epochs": 10,
    "error_start_epochs": 20, "error_update_epochs": 5,
}  # fmt: skip
RUNS = (
    ("curious", {**SMALL, "budget": 20}, 0),
    ("curious", {**SMALL, "budget": 20}, 1),
    ("curious", {**SMALL, "budget": 21, "batch": 3}, 0),
    ("vatsavai2025-latent", {**NETWORK, "budget": 14}, 0),
    ("random", {**SMALL, "budget": 20}, 0),
)
SPEED = 20.0
"""A spectrum takes 25 ms, so that a kill may fall into one as well."""
CONTEXT = multiprocessing.get_context("forkserver")


def serve(args: list[str], out: Path, home: str) -> None:
    """Be an agent."""
    os.environ["XDG_DATA_HOME"] = home
    os.dup2(os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 1)
    sys.argv = ["curiosity", "agent", *args]
    from curiosity_bluesky.cli import main

    main()


class Agent:
    """A `curiosity agent` that can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home, self.address = home, "tcp://127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Start it, at the same address if it had one."""
        out = self.home / "out"
        out.unlink(missing_ok=True)
        args = ["--bind", self.address]
        self.process = CONTEXT.Process(target=serve, args=(args, out, str(self.home)))
        self.process.start()
        while not (out.exists() and (found := re.search(r"agent at (tcp://\S+)", out.read_text()))):
            if not self.process.is_alive():
                raise RuntimeError("the agent did not start")
            time.sleep(0.005)
        self.address = found[1]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, how)
        self.process.join()


def measured(agent: Any, lookahead: int, collect: list[tuple[str, Any]]) -> list[float]:
    """Run the plan; return the seconds of each decision."""
    ins = simulated_instrument(SAMPLE, speed=SPEED)
    seconds, decide = [], agent.decide

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return decide(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - began)

    agent.decide = timed
    devices = [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager
    options = {"lookahead": lookahead, "maps_every": 5}
    RunEngine({}, context_managers=[])(
        explore(agent, *devices, options=options, steering=Steering()),
        lambda name, doc: collect.append((name, doc)),
    )
    return seconds


def facts(documents: list[tuple[str, Any]], stream: str) -> list[str]:
    """Return the events of a stream as JSON, every digit, without what is seconds."""
    uids = [d["uid"] for n, d in documents if n == "descriptor" and d["name"] == stream]
    return [
        json.dumps(
            event_model.sanitize_doc(
                {k: v for k, v in d["data"].items() if k not in ("seconds", "remaining")}
            ),
            sort_keys=True,
        )
        for n, d in documents
        if n == "event" and d["descriptor"] in uids
    ]


def disturbed(agent: Agent, strategy: Strategy, lookahead: int, moment: float, wait: float):
    """Run with an agent that is killed after `moment` seconds; say whether the run was on."""
    documents: list[tuple[str, Any]] = []
    during: list[bool] = []

    def kill() -> None:
        time.sleep(moment)
        during.append(bool(documents) and documents[-1][0] != "stop")
        agent.end(signal.SIGKILL)
        time.sleep(wait)
        agent.start()

    killer = threading.Thread(target=kill)
    killer.start()
    measured(RemoteAgent(agent.address, strategy, 3, patience=60.0), lookahead, documents)
    killer.join()
    return documents, during[0]


def main() -> None:
    """Do it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    CONTEXT.set_forkserver_preload(["torch", "bluesky", "zmq", "curiosity_bluesky.cli",
                                    "curiosity_bluesky.agent.remote.sources",
                                    "curiosity_bluesky.agent.remote.server"])  # fmt: skip
    rng = np.random.default_rng(given.seed)
    home = Path(tempfile.mkdtemp())
    os.environ["XDG_DATA_HOME"] = str(home)
    agent = Agent(home)
    whole, lasted, cost = [], [], []
    for name, parameters, lookahead in RUNS:
        strategy = Strategy.named(name, **parameters)
        local: list[tuple[str, Any]] = []
        remote: list[tuple[str, Any]] = []
        here = measured(CuriosityAgent(strategy, 3), lookahead, local)
        began = time.monotonic()
        there = measured(RemoteAgent(agent.address, strategy, 3), lookahead, remote)
        lasted.append(time.monotonic() - began)
        whole.append(local)
        same = facts(local, "decisions") == facts(remote, "decisions")
        ms = {k: 1000 * float(np.median(v)) for k, v in (("local", here), ("remote", there))}
        cost.append({"strategy": name, "lookahead": lookahead, "identical": same, **ms})
        print(f"{name}, lookahead {lookahead}: a decision here {ms['local']:.1f} ms, "
              f"elsewhere {ms['remote']:.1f} ms, identical: {same}", flush=True)  # fmt: skip
    found = {"kills": 0, "outside_a_run": 0, "identical_decisions": 0, "identical_spectra": 0,
             "decided_by_another": 0, "lost_spectra": 0}  # fmt: skip
    for k in itertools.count():
        if found["kills"] == given.kills:
            break
        name, parameters, lookahead = RUNS[k % len(RUNS)]
        strategy, local = Strategy.named(name, **parameters), whole[k % len(RUNS)]
        moment, wait = rng.uniform(0, lasted[k % len(RUNS)]), rng.uniform(0, 1)
        documents, during = disturbed(agent, strategy, lookahead, moment, wait)
        if not during:
            found["outside_a_run"] += 1
            continue
        found["kills"] += 1
        decisions, spectra = facts(documents, "decisions"), facts(documents, "primary")
        found["identical_decisions"] += decisions == facts(local, "decisions")
        found["identical_spectra"] += spectra == facts(local, "primary")
        found["lost_spectra"] += max(0, len(facts(local, "primary")) - len(spectra))
        found["decided_by_another"] += sum(" in place of " in decision for decision in decisions)
        print(f"kill {found['kills']}: {name}, lookahead {lookahead}, after {moment:.2f} s, "
              f"away for {wait:.2f} s: {found}", flush=True)  # fmt: skip
    agent.end()
    result = {"seed": given.seed, **found, "cost_ms": cost}
    print(json.dumps(result, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=2))
    if found["identical_decisions"] != found["kills"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

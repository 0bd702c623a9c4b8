"""Agents in processes of their own, as `curiosity agent` starts them, and plans that ask them."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from support import events, facts, few, grouped, normal

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.learning import registry
from curiosity_bluesky.plans.steering import Steering
from sim_devices import SyntheticSample

Documents = list[tuple[str, dict[str, Any]]]

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
POINTS = 9
START = 90.0
"""How long a process may take to start on a busy machine, s."""
GATED = Path(__file__).parent / "gated.py"

# Imported once, in the server that the agents are forked from: each would take seconds.
_PRELOADED = [
    *("torch", "bluesky", "event_model", "zmq", "tiled.server.app", "zarr", "websockets"),
    *("curiosity_bluesky.cli", "curiosity_bluesky.plans.plan"),
    *(f"{registry.ROOM}.{home.partition(':')[0]}" for home in registry.BUILT_IN.values()),
    *("curiosity_bluesky.agent.remote.sources", "curiosity_bluesky.agent.remote.server"),
]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_PRELOADED)


def _main(args: list[str], out: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    written = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.argv = ["curiosity", *args]
    from curiosity_bluesky.cli import main

    main()


class AgentProcess:
    """`curiosity agent` with some options; ends with the context.

    Where it leaves its token is a directory of the test: `home`, which is to be in the
    environment of whoever asks it, too (the fixture `home` does that).
    """

    def __init__(self, home: Path, *options: str, bind: str = "tcp://127.0.0.1:0", **env: str):
        self.home, self.options, self.env = home, options, env
        self.start(bind)

    def start(self, bind: str | None = None) -> None:
        """Start it, again at the same address if it was there before."""
        self.out = self.home / f"agent-{time.monotonic_ns()}.out"
        args = ["agent", "--bind", bind or self.address, *self.options]
        environment = {"XDG_DATA_HOME": str(self.home), **self.env}
        self.process = _CONTEXT.Process(target=_main, args=(args, self.out, environment))
        self.process.start()
        deadline = time.monotonic() + START
        while not (found := re.search(r"agent at (tcp://\S+)", self.said)):
            assert self.process.is_alive() and time.monotonic() < deadline, self.said
            time.sleep(0.01)
        self.address = found[1]

    @property
    def said(self) -> str:
        """What it printed."""
        return self.out.read_text() if self.out.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        """End it at once, without a word."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.join(10)

    def end(self) -> int:
        """Ask it to end; return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGTERM)
        self.process.join(20)
        if self.process.is_alive():
            self.kill()
            raise AssertionError("the agent did not end when it was asked to")
        assert self.process.exitcode is not None
        return self.process.exitcode

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.is_alive():
            self.end()


def _forward(ports: Path) -> None:
    from bluesky.callbacks.zmq import Proxy

    proxy = Proxy("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
    ports.with_suffix(".new").write_text(f"{proxy.in_port} {proxy.out_port}")
    ports.with_suffix(".new").replace(ports)
    proxy.start()


class ProxyProcess:
    """bluesky's 0MQ proxy on free ports; ends with the context."""

    def __init__(self, ports: Path) -> None:
        self._process = _CONTEXT.Process(target=_forward, args=(ports,))
        self._process.start()
        deadline = time.monotonic() + START
        while not ports.exists():
            assert self._process.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        self.addresses = ports.read_text().split()

    def __enter__(self) -> ProxyProcess:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.join(10)


class Plan:
    """A curiosity plan on a film, with whatever agent; its documents."""

    def __init__(self, name: str, agent: str | None = None, points: int | None = POINTS, *,
                 signals: bool = False, **given):  # fmt: skip
        self.documents: Documents = []
        self.steering = Steering()
        # Signals come to the main thread alone; without them a plan runs in any.
        self.RE = RunEngine({}) if signals else RunEngine({}, context_managers=[])
        self.ins = simulated_instrument(SAMPLE, speed=math.inf)
        self.callbacks: list[Callable] = []
        if "resume" not in given:
            batch = given.pop("batch", 1)
            parameters = few(name, batch=batch, **given.pop("parameters", {}))
            given = {"strategy": name, "seed": 3, "parameters": parameters, "withhold": 0.1} | given
        self.given = {"maps_every": 4, "agent": agent, "agent_patience": 20.0} | given
        if agent is None:
            del self.given["agent_patience"]
        self.points = points

    def __call__(self, *callbacks: Callable) -> Plan:
        self.callbacks = list(callbacks)
        ins = self.ins
        plan = curiosity_plan(
            *([ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, self.points),
            **grouped(retry_wait=0.0, steering=self.steering, **self.given),
        )
        with contextlib.suppress(RunEngineInterrupted):
            self.RE(plan, self._told)
        return self

    def resume(self) -> Plan:
        with contextlib.suppress(RunEngineInterrupted):
            self.RE.resume()
        return self

    def _told(self, name: str, doc: dict[str, Any]) -> None:
        self.documents.append((name, doc))
        for callback in self.callbacks:
            callback(self, name, doc)

    @property
    def uid(self) -> str:
        return self.documents[0][1]["uid"]

    def events(self, stream: str) -> list[dict[str, Any]]:
        return events(self.documents, stream)

    def deciders(self) -> list[str]:
        return [decision["decided_by"] for decision in self.events("decisions")]


def at_spectrum(n: int, act: Callable[[], Any]) -> Callable:
    """A callback that acts once, when the n-th spectrum has been measured."""
    done = []

    def callback(plan: Plan, name: str, doc: dict[str, Any]) -> None:
        if name == "event" and not done and len(plan.events("primary")) == n:
            done.append(True)
            act()

    return callback


def check_same(plan: Plan, local: Plan, streams: tuple[str, ...] = ("decisions", "primary")):
    """Every digit of decisions and spectra is that of another run, and none is lost."""
    for stream in streams:
        assert facts([plan.documents], stream) == facts([local.documents], stream), stream
    check_whole(plan)


def check_whole(plan: Plan, points: int = POINTS) -> None:
    for stream in ("decisions", "primary"):
        assert [e["decision_id"] for e in plan.events(stream)] == list(range(points)), stream
    assert plan.documents[-1][1]["exit_status"] == "success"


def trainings(plan: Plan, but: Collection[str] = ("seconds",)) -> list[str]:
    return [
        normal({k: v for k, v in event.items() if k not in but})
        for event in plan.events("learning")
    ]


def same_maps(plan: Plan, local: Plan) -> bool:
    mine, others = plan.events("maps"), local.events("maps")
    return len(mine) == len(others) and all(
        np.array_equal(a[key], b[key], equal_nan=True)
        for a, b in zip(mine, others, strict=True)
        for key in a
    )

"""Arguments that no plan can have, by hypothesis; see fuzz.py."""

from __future__ import annotations

import time
import traceback
from typing import Any

import event_model
import hypothesis
import numpy as np
import orjson
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from event_model import DocumentNames, schema_validators
from fuzz import LIMIT, Counts, Hangs, limited
from hypothesis import strategies as st
from ophyd.status import Status
from support import grouped

from curiosity_bluesky import CuriosityAgent, curiosity_plan
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.steering import Steering

N = 10
AXIS = np.linspace(0, 1, N)
IMAGE = np.sin(7 * AXIS)[None, :] + np.cos(5 * AXIS)[:, None]
SMALL = {"num_points": 5, "strategy": "random", "parameters": {"patch_size": 3, "n_seeds": 3}}


def done() -> Status:
    status = Status()
    status.set_finished()
    return status


class Device:
    """What bluesky needs of a device, and no more."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name

    def trigger(self) -> Status:
        return done()

    def read_configuration(self) -> dict[str, Any]:
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        return {}

    def value(self) -> Any:
        raise NotImplementedError

    def read(self) -> dict[str, Any]:
        return {self.name: {"value": self.value(), "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        shape = list(np.shape(self.value()))
        kind = "array" if shape else "number"
        return {self.name: {"source": "simulated", "dtype": kind, "shape": shape}}


class Axis(Device):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.at, self.moves = 0.0, 0
        self.hints = {"fields": [name]}

    def set(self, value: Any) -> Status:
        self.at = float(value)
        self.moves += 1
        return done()

    def stop(self, *, success: bool = False) -> None:
        pass

    def value(self) -> float:
        return self.at


class Imager(Device):
    def value(self) -> Any:
        return IMAGE

    def read_configuration(self) -> dict[str, Any]:
        return {f"{self.name}_{a}": {"value": AXIS, "timestamp": 0.0} for a in "xy"}

    def describe_configuration(self) -> dict[str, Any]:
        about = {"source": "simulated", "dtype": "array", "shape": [N]}
        return {f"{self.name}_{a}": about for a in "xy"}


class Detector(Device):
    def __init__(self, name: str, x: Axis, y: Axis) -> None:
        super().__init__(name)
        self.x, self.y, self.n = x, y, 0

    def trigger(self) -> Status:
        self.n += 1
        return done()

    def value(self) -> Any:
        return np.tanh(np.linspace(-2, 2, 8) - self.x.at) * (1 + self.y.at)


numbers = st.one_of(
    st.integers(-3, 12), st.integers(), st.floats(), st.booleans(), st.none(),
    st.sampled_from([0, -1, 1, 10**30, 1e308, float("nan"), float("inf"), np.int64(3),
                     np.float32(0.5), np.float64("nan"), np.bool_(True), 2 + 3j]),
)  # fmt: skip
sensible = st.one_of(
    st.integers(0, 4), st.floats(0.1, 0.9), st.sampled_from([np.int64(3), 2.0, 60])
)
texts = st.one_of(st.text(max_size=8), st.sampled_from(["", "random", "grid", "similar", "pause"]))
plain = st.one_of(numbers, texts)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)
masks = st.sampled_from([np.zeros((N, N), bool), np.ones((N, N)), np.zeros((2, 3)), "mask"])
parameters = st.dictionaries(
    st.sampled_from(["patch_size", "n_seeds", "budget", "batch", "min_quality", "max_per_area"]),
    values, max_size=2,
)  # fmt: skip
metadata = st.dictionaries(
    st.sampled_from(["sample", "hints", "uid", "time", "plan_name", "shape", "a.b", "operator"]),
    values, max_size=2,
)  # fmt: skip

NUMERIC = ["num_points", "seed", "withhold", "maps_every", "lookahead", "retries", "retry_wait"]
NUMERIC += ["timeout", "max_failures", "resurvey_every", "resurvey_minutes", "time_budget"]
NUMERIC += ["max_bias", "agent_patience", "warm_gate"]
OTHER = ["strategy", "parameters", "mask", "resume", "catalog", "per_second", "warm_start"]
OTHER += ["max_per_area", "tip", "dry_run", "agent", "agent_lost", "md", "steering"]
DEVICES = ["detectors", "x", "y", "imager"]
COURSE = ["lookahead", "retries", "retry_wait", "timeout", "max_failures", "maps_every", "withhold"]
COURSE += ["time_budget", "max_bias", "resurvey_every", "resurvey_minutes"]


@st.composite
def calls(draw: Any) -> tuple[str, dict[str, Any]]:
    """Draw what is called, and what is changed of its arguments."""
    what = draw(st.sampled_from(["plan", "plan", "plan", "course", "explore", "steering"]))
    if what == "steering":
        wish = draw(st.sampled_from(["add", "add", "mask", "veto", "set", "budget", "strategy"]))
        if wish == "set":
            return what, {"wish": wish, "given": [], "named": draw(parameters)}
        number = 2 if wish in ("add", "veto") else 1
        given = draw(st.lists(st.one_of(numbers, values), min_size=number, max_size=number))
        return what, {"wish": wish, "given": given, "named": {}}
    if what == "course":
        mixed = st.one_of(sensible, sensible, values)
        return what, draw(st.dictionaries(st.sampled_from(COURSE), mixed, min_size=1, max_size=2))
    names = ["mask", "num_points", "md", "tip", "steering"] if what == "explore" else [
        *NUMERIC, *NUMERIC, *OTHER, *DEVICES,
    ]  # fmt: skip
    changed = {}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        special = {"mask": masks, "parameters": parameters, "md": metadata}.get(
            name, st.one_of(sensible, numbers) if name in NUMERIC else numbers
        )
        changed[name] = draw(st.one_of(special, special, values))
    return what, changed


def run_plan(what: str, changed: dict[str, Any]) -> tuple[bool, str, str]:
    """Run it; return whether it was refused, what is wrong with that, and the words."""
    x, y = Axis("mx"), Axis("my")
    imager, detector = Imager("image"), Detector("spectrum", x, y)
    RE, found = RunEngine({}, call_returns_result=False), []

    def checked(name: str, doc: Any) -> None:
        found.append(name)
        doc = event_model.sanitize_doc(doc)
        schema_validators[DocumentNames[name]].validate(doc)
        orjson.dumps(doc)  # as Tiled's client does

    try:
        with limited(LIMIT):
            if what == "plan":
                devices = {"detectors": [detector], "x": x, "y": y, "imager": imager}
                plan = curiosity_plan(**grouped(**{**devices, **SMALL, **changed}))
            else:
                more = dict(changed)
                if what == "steering":
                    steering = Steering()
                    getattr(steering, changed["wish"])(*changed["given"], **changed["named"])
                    more = {"steering": steering}
                strategy = Strategy.named("random", budget=5, **SMALL["parameters"])
                plan = explore(
                    *(CuriosityAgent(), [detector], x, y, imager),
                    **{"strategy": strategy, "seed": 0, **grouped(**more)},
                )
            RE(plan, checked)
    except InputError as error:
        touched = detector.n + x.moves + y.moves
        return True, "refused after it moved or measured" if touched else "", str(error)
    except RunEngineInterrupted:
        RE.halt()
        return False, "the plan pauses", ""
    except Hangs:
        return False, "it hangs", ""
    except BaseException:
        return False, traceback.format_exc(), ""
    finally:
        if RE.state != "idle":
            RE.halt()
    return False, "", ""


def fuzz_plans(n: int, seed: int, counts: Counts) -> None:
    """Try plans and count what came of them."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n, database=None, deadline=None, print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(calls())
    def one(call: tuple[str, dict[str, Any]]) -> None:
        counts.plans += 1
        refused, wrong, _ = run_plan(*call)
        counts.refused += refused
        counts.worked += not refused and not wrong
        if wrong:
            last = "\n".join(f"    {line}" for line in wrong.strip().splitlines()[-6:])
            where = counts.hangs if "hangs" in wrong else counts.tracebacks
            where.append(f"{call[0]} {call[1]!r}:\n{last}")

    one()

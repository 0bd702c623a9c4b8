"""Helpers that tests of several rooms share."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import event_model
import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.utils import RunEngineInterrupted
from quickly import few as few

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import SimulatedInstrument
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans.options import groups

WAIT = 20.0
"""How long a test waits for what has to happen, on a busy machine too (s)."""


def slowly(*values: Any) -> list[Any]:
    """Return parameters of a test that are tried with the slow tests alone."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


QUICK = {"patch_size": 3, "n_seeds": 6}
"""Parameters that make any strategy quick enough for a test."""

QUICK_LATENT = {
    **QUICK,
    "start_epochs": 4,
    "update_epochs": 1,
    "autoencoder_epochs": 1,
    "error_start_epochs": 4,
    "error_update_epochs": 2,
}


def grouped(**flat: Any) -> dict[str, Any]:
    """Return arguments of a plan, with fields of its models put into `options` and the others."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        for model in groups():
            if name in model.model_fields:
                found.setdefault(model.group, {})[name] = value
                break
        else:
            found[name] = value
    return found


def collected_run(
    RE: RunEngine,
    instrument: SimulatedInstrument,
    *,
    num_points: int = 8,
    sample: str | None = None,
    **kwargs: Any,
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Run the plan, quick; return the uid and the documents that came out."""
    documents: list[tuple[str, dict[str, Any]]] = []
    stage = instrument.stage
    quick = QUICK_LATENT if kwargs.get("strategy") == "vatsavai2025-latent" else QUICK
    kwargs.setdefault("parameters", quick)
    RE(
        curiosity_plan(
            [instrument.spectrometer],
            stage.x,
            stage.y,
            instrument.imager,
            num_points=num_points,
            md={} if sample is None else {"sample": sample},
            **grouped(**kwargs),
        ),
        lambda name, doc: documents.append((name, doc)),
    )
    return documents[0][1]["uid"], documents


def normal(doc: Any) -> str:
    """Return a document as canonical JSON, arrays as lists, NaN as NaN."""
    return json.dumps(event_model.sanitize_doc(doc), sort_keys=True)


def comparable(name: str, doc: Any) -> tuple[str, str]:
    """Return a document without what Tiled does not keep, comparable with another.

    It makes up uids of events, drops an empty ``filled`` and adds the dtypes of scalars.
    """

    def scalars(described: Any) -> dict[str, Any]:
        return {
            key: {k: v for k, v in about.items() if k != "dtype_numpy" or about["shape"]}
            for key, about in described.items()
        }

    doc = dict(doc)
    if name == "event":
        doc.pop("uid")
        doc.pop("filled", None)
    if name == "descriptor":
        doc["data_keys"] = scalars(doc["data_keys"])
        doc["configuration"] = {
            device: {**about, "data_keys": scalars(about["data_keys"])}
            for device, about in doc["configuration"].items()
        }
    return name, normal(doc)


def facts(runs: Sequence[list[tuple[str, Any]]], stream: str) -> list[str]:
    """Events of one stream of a run in pieces, each decision once, without the seconds.

    As JSON, every digit of every number: so they compare wherever they were stored meanwhile.
    """
    found: dict[tuple[int, int], str] = {}
    for data in itertools.chain.from_iterable(events(run, stream) for run in runs):
        values = normal({k: v for k, v in data.items() if k not in ("seconds", "remaining")})
        key = data["decision_id"], data.get("attempt", 0)
        assert found.setdefault(key, values) == values
    return [found[key] for key in sorted(found)]


COSTLY = ("dkl", "vatsavai2025-ensemble", "vatsavai2025-mcd", "vatsavai2025-spec2im")
"""Published variants that share all but their weights with `vatsavai2025-latent`, which stays; and
deep kernel learning, which learns as the baselines and trains as the networks do."""


def each(names: Sequence[str]) -> list[Any]:
    """Return strategies as parameters of a test, the costly ones with the slow tests alone."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in names
    ]


SHARING = ("farthest", "grid", "oracle", "sobol", "variance")
"""Strategies that learn with the code of `curious` or `random` and differ in their rule alone."""


def learning_alike(names: Sequence[str]) -> list[Any]:
    """Return what `each` does, for tests of learning: who shares the code, with the slow tests."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in (*COSTLY, *SHARING) else name
        for name in names
    ]


def measurable() -> list[str]:
    """Names of the strategies that a run can have: all that need not know the truth."""
    return [name for name in Strategy.names() if not Strategy.named(name).needs_truth]


def whole_events(documents: list[tuple[str, Any]], stream: str) -> list[dict[str, Any]]:
    """All events of a stream."""
    uids = [d["uid"] for n, d in documents if n == "descriptor" and d["name"] == stream]
    return [d for n, d in documents if n == "event" and d["descriptor"] in uids]


def events(documents: list[tuple[str, Any]], stream: str) -> list[dict[str, Any]]:
    """Data of all events of a stream."""
    return [event["data"] for event in whole_events(documents, stream)]


def paused_run(
    RE: RunEngine,
    plan: Iterator[Msg],
    where: Callable[[int, Msg], Any],
    *callbacks: Any,
    meanwhile: Callable[[], None] | None = None,
) -> int:
    """Run a plan, pause it just after the messages that `where` picks, and resume it.

    The pause falls between the message after the one that was picked and the one after that.
    What is done `meanwhile` is done while it is paused. Returns the number of pauses.
    """
    messages, pauses = iter(range(10**9)), 0

    def before(msg: Msg) -> None:
        if where(next(messages), msg):
            # Never from the RunEngine's own thread, which would wait for itself.
            thread = threading.Thread(target=RE.request_pause)
            thread.start()
            thread.join(0.05)

    RE.msg_hook = before
    with suppress(RunEngineInterrupted):
        RE(plan, list(callbacks))
    while RE.state == "paused":
        pauses += 1
        if meanwhile is not None:
            meanwhile()
        with suppress(RunEngineInterrupted):
            RE.resume()
    RE.msg_hook = None
    return pauses


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so; fail if it does not become so."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


class Stubborn:
    """An instrument that obeys nobody: what it began it ends, once the test releases it."""

    spectrum_channels = {"response": "pm"}
    spectrum_axis = ("bias", "V", np.arange(4.0))
    spectrum_settings = {}
    image_channels = {"height": "nm"}
    image_axes = (np.arange(3.0), np.arange(2.0))

    def __init__(self):
        self.release = threading.Event()
        self.began, self.inside, self.most, self.told = 0, 0, 0, 0
        self.at = {"x": 0.0, "y": 0.0}

    def _work(self):
        self.began += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.release.wait(WAIT)
        self.inside -= 1

    def acquire(self):
        self._work()
        return {"response": np.arange(4.0)}

    def scan(self):
        self._work()
        return {"height": np.ones((2, 3))}

    def abort(self):
        self.told += 1

    def limits(self, axis):
        return 0.0, 10.0

    def position(self, axis):
        return self.at[axis]

    def move(self, axis, position):
        self._work()
        self.at[axis] = position

    def stop(self, axis):
        self.told += 1

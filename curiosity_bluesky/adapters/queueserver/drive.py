"""Driver of a Queue Server: the agent here queues one plan per point."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from curiosity_bluesky.adapters.bluesky_adaptive import (
    CuriosityOptimizer,
    FromDocuments,
    survey_of,
)
from curiosity_bluesky.adapters.queueserver.manager import QueueClient, describe_error
from curiosity_bluesky.agent.remote.zeromq import document_listener
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy
from curiosity_bluesky.utils.wording import plural

SURVEY, MEASURE = "survey", "measure_suggestions"
"""Plans of the profile: one takes the image, one measures what was suggested."""

_NO_DOCUMENTS = (
    "is the address the side for listeners of the proxy that the worker publishes to "
    "(CURIOSITY_DOCUMENTS), and the token the same?"
)

_ARRIVE = 30.0
"""Maximum seconds until the last documents of a run arrive."""


@dataclass
class DriveResult:
    """Result of a drive.

    Parameters
    ----------
    survey
        uid of the run with the image.
    runs
        uids of those with a spectrum each, as they were measured.
    reason
        Why it ended.
    optimizer
        What decided, with all that it has learned.
    """

    survey: str
    runs: list[str] = field(default_factory=list)
    reason: str = ""
    optimizer: CuriosityOptimizer | None = None


class _Heard:
    """Receiver of the documents of the newest run with a survey."""

    def __init__(self) -> None:
        self._runs: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        self._latest = ""
        self._ended: set[str] = set()
        self._news = threading.Condition()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        with self._news:
            if name == "start":
                self._latest = doc["uid"]
                # One at a time: a RunEngine without interruptions has no two runs open here.
                self._runs = {self._latest: []}
            if self._latest in self._runs:
                self._runs[self._latest].append((name, doc))
            if name == "stop":
                self._ended.add(doc["run_start"])
            self._news.notify_all()

    def of(self, uid: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the documents of a run."""
        return self._runs[uid]

    def whole(self, uid: str, timeout: float) -> bool:
        """Wait until a run is there to its end; False if it is not by then."""
        with self._news:
            return self._news.wait_for(lambda: uid in self._ended and uid in self._runs, timeout)


def drive(
    queue: QueueClient,
    documents: str,
    strategy: str = "curious",
    num_points: int = 60,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    devices: Mapping[str, Any] | None = None,
    channels: Sequence[str] | None = None,
    md: Mapping[str, Any] | None = None,
    say: Callable[[str], Any] = lambda text: None,
) -> DriveResult:
    """Run a curiosity experiment on an instrument that a Queue Server has.

    A survey is queued, then one point after the other, by bluesky-adaptive's
    `QueueserverOptimizationRunner`. What was measured comes over 0MQ; no catalogue is asked, and
    each point is a run in that of the instrument. The start documents have ``curiosity_strategy``,
    ``curiosity_seed`` and, those of points, the uid of the survey's run as ``survey``.

    Parameters
    ----------
    queue
        The queue; it must be empty and its environment open.
    documents
        Address of the 0MQ proxy, the side for listeners: ``tcp://127.0.0.1:5568``.
    strategy, num_points, seed, parameters
        As for `curiosity_plan`.
    token
        What the documents are sealed with; default: that of the environment.
    devices
        Names of ``x``, ``y``, ``imager``, ``detectors`` and, if there is one, ``tip``; default:
        as in profiles/.
    channels
        Data keys of the spectrum; default: every 1-D array of a point.
    md
        For the start documents, such as ``sample``.
    say
        Is told about each point.

    Raises
    ------
    InputError
        If the queue is not empty, something is refused or fails, or no documents arrive.
    """
    try:
        from bluesky_adaptive.protocols import QueueserverOptimizationProblem
        from bluesky_adaptive.queueserver import (
            ConsumerCallback,
            QueueserverClient,
            QueueserverOptimizationRunner,
        )
    except ImportError:
        raise InputError(
            "there is no bluesky-adaptive 1.x here; it comes with the extra: "
            'pip install "curiosity-bluesky[adaptive,queueserver]"'
        ) from None

    class Client(QueueserverClient):
        """Client of bluesky-adaptive with a dispatcher that listens already."""

        def start_listener(self, on_stop: Callable[..., None]) -> None:
            self._dispatcher.subscribe(ConsumerCallback(on_stop))

    chosen = Strategy.named(strategy, **{"budget": num_points, **(parameters or {})})
    _check_free(queue)
    labels = {"curiosity_strategy": chosen.name, "curiosity_seed": seed, **(md or {})}
    devices = queue.devices() if devices is None else devices
    heard, evaluation = _Heard(), FromDocuments(channels)
    # In this order, so that a point is known when the runner hears of its end.
    with document_listener(documents, token, heard, evaluation.receive) as dispatcher:
        survey = _surveyed(queue, heard, devices, labels)
        say(f"survey {survey}")
        names = devices["x"].replace(".", "_"), devices["y"].replace(".", "_")
        optimizer = CuriosityOptimizer(Explorer(survey_of(heard.of(survey)), chosen, seed), names)
        problem = QueueserverOptimizationProblem(
            optimizer,
            [devices["x"], devices["y"]],
            devices["detectors"],
            evaluation,
            MEASURE,
            {"tip": devices.get("tip"), "labels": {**labels, "survey": survey}},
        )
        runner = QueueserverOptimizationRunner(problem, Client(queue.api, dispatcher))
        driven = DriveResult(survey, optimizer=optimizer)
        try:
            over, driven.reason = optimizer.should_stop()
            while not over:
                driven.runs += _waited(queue, runner.run())
                over, driven.reason = optimizer.should_stop()
                say(f"{driven.reason}; run {driven.runs[-1]}")
        except BaseException:
            with suppress(InputError):  # the error under way says more
                queue.ask("queue_autostart", False)
            raise
        queue.ask("queue_autostart", False)
    return driven


def _check_free(queue: QueueClient) -> None:
    status = queue.status()
    if not status["worker_environment_exists"]:
        raise InputError("the environment is closed; open it: `curiosity queue open`")
    waiting = status["items_in_queue"]
    if status["manager_state"] != "idle" or waiting:
        raise InputError(
            f"the queue is not free ({status['manager_state'].replace('_', ' ')}, "
            f"{waiting} {plural(waiting, 'item waits', 'items wait')}); it has to be, since each "
            "point is queued: let it end, or `curiosity queue clear`"
        )


def _surveyed(
    queue: QueueClient, heard: _Heard, devices: Mapping[str, Any], labels: Mapping[str, Any]
) -> str:
    """Have the survey taken; return its uid once its documents are here."""
    queue.add(SURVEY, imager=devices["imager"], tip=devices.get("tip"), md=dict(labels))
    queue.ask("queue_start")
    queue.wait("idle", "paused")
    result = queue.listing()["history"][-1]["result"]
    if result["exit_status"] != "completed":
        raise InputError(
            f"the survey was not taken ({result['exit_status']}: {describe_error(result)})"
        )
    [uid] = result["run_uids"]
    if not heard.whole(uid, _ARRIVE):
        raise InputError(f"the survey was taken, but its documents do not arrive; {_NO_DOCUMENTS}")
    return uid


def _waited(queue: QueueClient, future: concurrent.futures.Future[Any]) -> Sequence[str]:
    """Return the runs of a point once it is measured and learned from."""
    over: float | None = None
    while not concurrent.futures.wait([future], timeout=1.0).done:
        # A plan that fails before there is a run says nothing over 0MQ.
        if queue.status()["manager_state"] != "idle":
            continue
        over = over or time.monotonic()
        result = queue.listing()["history"][-1]["result"]
        if result["exit_status"] not in ("completed", "stopped"):
            break
        if time.monotonic() > over + _ARRIVE:
            raise InputError(f"a point was measured, but it does not arrive; {_NO_DOCUMENTS}")
    try:
        return future.result(timeout=1.0).uids
    except (RuntimeError, TimeoutError) as error:
        result = queue.listing()["history"][-1]["result"]
        said = f"{result['exit_status']}: {describe_error(result) or error}"
        raise InputError(
            f"a point could not be measured ({said}); what was measured before it is in the "
            "catalogue, and the point is queued again: `curiosity queue clear` forgets it"
        ) from error

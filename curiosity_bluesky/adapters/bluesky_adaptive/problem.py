"""Optimization problem for bluesky-adaptive's plans."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import MsgGenerator
from numpy.typing import ArrayLike

from curiosity_bluesky import documents
from curiosity_bluesky.adapters.bluesky_adaptive.evaluation import FromDocuments
from curiosity_bluesky.adapters.bluesky_adaptive.optimizer import CuriosityOptimizer
from curiosity_bluesky.documents.schema import CHANNELS
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy, Survey

if TYPE_CHECKING:
    from bluesky_adaptive.protocols import OptimizationProblem

Acquisition = Callable[..., MsgGenerator[Any]]


def survey_of(
    found: Iterable[tuple[str, Mapping[str, Any]]], mask: ArrayLike | None = None
) -> Survey:
    """Return the survey that a run took.

    Parameters
    ----------
    found
        Its documents: ``catalog.documents(uid)``, ``run.documents()``, or what a callback
        collected. The first event with a 2-D array is the survey: that of the ``survey`` stream of
        `curiosity_plan`, or what ``bluesky.plans.count([imager])`` reads.
    mask
        ``(rows, cols)``, True where nothing may be measured. Default: that of the run, if any.

    Raises
    ------
    InputError
        If there is no image in it.
    """
    files, descriptors = documents.ExternalFiles(), {}
    for name, doc in documents.in_order(found):
        if name == "descriptor":
            descriptors[doc["uid"]] = doc
        elif name in ("stream_resource", "stream_datum"):
            files(name, doc)
        else:
            for event in documents.events_in(name, doc):
                descriptor = descriptors[event["descriptor"]]
                data = {**event["data"], **files.data(descriptor, event["seq_num"])}
                if any(np.ndim(v) == 2 for k, v in data.items() if k != documents.MASK):
                    told = data.get(documents.MASK) if mask is None else mask
                    known = {
                        key: value
                        for device in descriptor["configuration"].values()
                        for key, value in device["data"].items()
                    }
                    order = dict.fromkeys([*known.get(CHANNELS, ()), *data])
                    read = {key: data[key] for key in order if key in data}
                    given = None if told is None else np.asarray(told, bool)
                    return documents.survey_from(read, known, given)
    raise InputError(
        "no 2-D image was read in this run; take one first, with bluesky.plans.count([imager])"
    )


class InThread:
    """Evaluation and learning in a thread, as part of the acquisition, so that pauses work.

    bluesky-adaptive's plans call ``suggest``, ``ingest`` and the evaluation function in the event
    loop of the RunEngine: while a model trains, no pause, no stop and no Ctrl-C gets through. This
    does all of it at the end of the acquisition plan, waiting for it as for a device. What the plan
    asks for afterwards is at hand.

    Parameters
    ----------
    optimizer
        Learns. A `CuriosityOptimizer` also decides here what its next `suggest` will say; of any
        other only the evaluation is done here.
    evaluation
        Says what was measured. If it has a method ``receive``, it has the documents from here.
    acquire
        The acquisition plan: `list_scan_in_run` for `optimize_in_run`, `default_acquire` for the
        plans with a run for each iteration, or your own.
    """

    def __init__(self, optimizer: Any, evaluation: Any, acquire: Acquisition) -> None:
        self.optimizer = optimizer
        self.evaluation = evaluation
        self._acquire = acquire
        self._one_at_a_time = threading.Lock()
        self._found: tuple[Any, Sequence[Mapping]] | None = None
        # What the plans record as the name of the evaluation function.
        self.__name__ = type(evaluation).__name__

    def measure_and_learn(
        self,
        suggestions: Sequence[Mapping],
        actuators: Sequence[Any],
        sensors: Sequence[Any] | None = None,
        md: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> MsgGenerator[Any]:
        """Measure, then evaluate and learn; an `AcquisitionPlan`."""
        kwargs |= {} if md is None else {"md": md}
        measured = self._acquire(suggestions, actuators, sensors, **kwargs)
        if (receive := getattr(self.evaluation, "receive", None)) is not None:
            measured = bpp.subs_wrapper(measured, receive)
        uid = yield from measured
        yield from _in_thread(lambda: self._learn(uid, suggestions))
        return uid

    def __call__(self, uid: Any, suggestions: Sequence[Mapping]) -> Sequence[Mapping]:
        """Return what was found; an `EvaluationFunction`."""
        if self._found is not None and self._found[0] is uid:
            return self._found[1]
        return self.evaluation(uid, suggestions)

    def _learn(self, uid: Any, suggestions: Sequence[Mapping]) -> None:
        # After a pause it is asked for again, while the first thread may still be at it.
        with self._one_at_a_time:
            if self._found is None or self._found[0] is not uid:
                self._found = uid, self.evaluation(uid, suggestions)
            if isinstance(self.optimizer, CuriosityOptimizer):
                self.optimizer.ingest(self._found[1])  # counts once
                if not self.optimizer.should_stop()[0]:
                    self.optimizer.think(len(suggestions))


def _in_thread(func: Callable[[], None]) -> MsgGenerator[None]:
    failed: list[Exception] = []

    async def wait() -> None:
        failed.clear()
        try:
            await asyncio.to_thread(func)
        except Exception as error:  # wait_for itself raises nothing
            failed.append(error)

    yield from bps.wait_for([wait])
    if failed:
        raise failed[0]


def optimization_problem(
    what: Any,
    x: Any,
    y: Any,
    detectors: Sequence[Any],
    strategy: Strategy | str = "curious",
    seed: int = 0,
    *,
    num_points: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    in_run: bool = True,
    evaluation: Any = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
) -> OptimizationProblem[Any]:
    """Put an experiment together as bluesky-adaptive's plans take it.

    Parameters
    ----------
    what
        The survey, see `survey_of`, of which a `CuriosityOptimizer` is made; or an optimiser, such
        as one that was restored from a checkpoint, or bluesky-adaptive's own for Ax. With an
        optimiser, `strategy`, `seed`, `num_points`, `parameters` and `checkpoint_path` are its own
        business.
    x, y
        What moves the tip along the columns and along the rows of the survey, um.
    detectors
        What is measured at a pixel; every 1-D array that they read is part of the spectrum.
    strategy, seed, num_points, parameters
        As for `curiosity_plan`; all pixels if there is no `num_points`.
    in_run
        True for `optimize_in_run`. False for the plans that make a run for each iteration:
        `optimize` and `sample_suggestions`.
    evaluation
        Default: `FromDocuments`, which needs no subscription here.
    checkpoint_path
        The file for the plan's ``checkpoint_interval``.

    Returns
    -------
    bluesky_adaptive.protocols.OptimizationProblem

    Raises
    ------
    InputError
        If bluesky-adaptive is not installed, or what is given does not go together.

    Examples
    --------
    ::

        problem = optimization_problem(survey, stage.x, stage.y, [spectrometer], num_points=60)
        RE(optimize_in_run(problem, iterations=60))
    """
    try:
        from bluesky_adaptive.plan_stubs import list_scan_in_run
        from bluesky_adaptive.plans import default_acquire
        from bluesky_adaptive.protocols import OptimizationProblem
    except ImportError as error:
        raise InputError(
            "there is no bluesky-adaptive 1.x here; it comes with the extra: "
            'pip install "curiosity-bluesky[adaptive]"'
        ) from error
    optimizer: Any = what
    if isinstance(what, Survey):
        chosen = (
            Strategy.named(strategy, **{"budget": num_points, **(parameters or {})})
            if isinstance(strategy, str)
            else strategy.replace(
                **({} if num_points is None else {"budget": num_points}), **(parameters or {})
            )
        )
        optimizer = CuriosityOptimizer(Explorer(what, chosen, seed), (x.name, y.name),
                                       checkpoint_path)  # fmt: skip
    elif isinstance(what, CuriosityOptimizer) and what.actuators != (x.name, y.name):
        raise InputError(
            f"the optimiser's suggestions are for {' and '.join(what.actuators)}; x and y are "
            f"called {x.name} and {y.name}"
        )
    if evaluation is None:
        evaluation = FromDocuments(_channels(detectors))
    acquire = list_scan_in_run if in_run else default_acquire
    aside = InThread(optimizer, evaluation, acquire)
    return OptimizationProblem(optimizer, [x, y], list(detectors), aside, aside.measure_and_learn)


def _channels(detectors: Sequence[Any]) -> list[str] | None:
    """Return what the detectors say is to be learned; None for all 1-D arrays."""
    said = [getattr(detector, "learned", None) for detector in detectors]
    if all(keys is None for keys in said):
        return None
    if any(keys is None for keys in said):
        names = ", ".join(detector.name for detector in detectors)
        raise InputError(
            f"of {names} only some say what is to be learned of them; name the data keys yourself: "
            "evaluation=FromDocuments(channels=[...])"
        )
    return [key for keys in said if keys is not None for key in keys]

"""A run without a RunEngine: what `bluesky.simulators` and `list` show of a plan."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable, Triggerable
from bluesky.utils import MsgGenerator, maybe_await, short_uid

from curiosity_bluesky import documents
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans import stubs
from curiosity_bluesky.plans.device_faults import in_words
from curiosity_bluesky.plans.dry_run import DryRunReport
from curiosity_bluesky.plans.safety import DOWN, UP

logger = logging.getLogger(__name__)

T = TypeVar("T")


def run_inquiry(plan: MsgGenerator[T]) -> T:
    """Run a plan that only asks devices, and return what it returns.

    Where no RunEngine answers the messages, the questions are asked here instead. Nothing is
    moved, and nothing is measured.

    Raises
    ------
    InputError
        If a device cannot be asked without a RunEngine.
    """
    response = None
    try:
        while True:
            msg = plan.send(response)
            if msg.command == "read":
                response = _awaited(msg.obj.read)  # pyright: ignore[reportOptionalMemberAccess]
            elif msg.command == "wait_for":
                response = [_awaited(question) for question in msg.args[0]]
            elif msg.command == "RE_class":
                response = run_inquiry
            else:
                raise RuntimeError(f"{msg.command!r} is no question")
    except StopIteration as end:
        return end.value
    except InputError:
        raise
    except Exception as error:  # each kind of device has its own, such as of another event loop
        raise InputError(
            f"the plan cannot be simulated without a RunEngine ({in_words(error)}); to see what "
            "it would do, run it with dry_run=True: RE(curiosity_plan(..., dry_run=True))"
        ) from error


def _awaited(question: Callable[[], Any]) -> Any:
    """Ask in a thread of its own: here there may be an event loop that runs already."""

    async def ask() -> Any:
        return await maybe_await(question())

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(ask())).result()


def simulate_messages(
    outline: DryRunReport,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    tip: Movable | None,
) -> MsgGenerator[str]:
    """Yield the messages of a run, as far as it is known before anything is measured.

    These are the survey and the points that are planned already, such as the seeds; where the
    others are depends on the spectra.

    Raises
    ------
    InputError
        If the imager holds no survey, so that no point is known.
    """
    planned = outline.planned
    if planned is None:
        raise InputError(
            f"the plan cannot be simulated: {imager.name} holds no survey yet, and where is "
            "measured depends on it; take one first, or run the plan with dry_run=True, which "
            "shows limits and times: RE(curiosity_plan(..., dry_run=True))"
        )
    resumed = outline.n_observed > 0
    left = (outline.num_points or 0) - outline.n_observed - len(planned)
    if left > 0:
        logger.warning(
            "simulated: %s%d planned points; where the other %d are is decided from what is "
            "measured. With dry_run=True the plan shows limits and times, too",
            "" if resumed else "the survey and ", len(planned), left,
        )  # fmt: skip

    def run() -> MsgGenerator[str]:
        if not resumed:
            yield from _tip(tip, DOWN)
            yield from stubs.measure([imager])
        uid = yield from bps.open_run({"plan_name": "curiosity_plan"})
        if not resumed:
            yield from _event(documents.SURVEY, [imager])
        for proposal in planned:
            yield from _tip(tip, UP)
            group = short_uid("move")
            yield from bps.abs_set(x, proposal.x, group=group)
            yield from bps.abs_set(y, proposal.y, group=group)
            yield from bps.wait(group)
            yield from _tip(tip, DOWN)
            if any(isinstance(detector, Triggerable) for detector in detectors):
                yield from stubs.measure(detectors)
            axes = [axis for axis in (x, y) if isinstance(axis, Readable)]
            yield from _event(documents.PRIMARY, [*detectors, *axes])
        yield from _tip(tip, UP)
        yield from bps.close_run()
        return uid or ""

    staged = [*detectors, x, y, imager, *([] if tip is None else [tip])]
    return (yield from bpp.stage_wrapper(run(), staged))


def _event(stream: str, devices: Sequence[Readable]) -> MsgGenerator[None]:
    yield from bps.create(name=stream)
    for device in devices:
        yield from bps.read(device)
    yield from bps.save()
    yield from bps.checkpoint()


def _tip(tip: Movable | None, to: str) -> MsgGenerator[None]:
    if tip is not None:
        yield from bps.mv(tip, to)

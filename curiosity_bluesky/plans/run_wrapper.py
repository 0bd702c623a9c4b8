"""A run and its events: opened, written and closed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Readable
from bluesky.utils import IllegalMessageSequence, MsgGenerator, RequestAbort, RequestStop

from curiosity_bluesky.plans.stream_assets import with_stream_assets
from curiosity_bluesky.utils.run_end import EndKind, RunEnd


def save(stream: str, devices: Sequence[Readable]) -> MsgGenerator[None]:
    """Write one event of a stream from what devices or records read now.

    A checkpoint follows, so that a pause repeats at most this one event: if the pause falls
    between the event and the checkpoint, the event comes a second time with the same
    ``seq_num``. It counts once, the first time: so the explorer, `JournaledWriter` and
    `documents.read` have it.
    """
    yield from read_into_event(stream, [with_stream_assets(device) for device in devices])
    yield from bps.save()
    yield from bps.checkpoint()


def read_into_event(stream: str, devices: Sequence[Any]) -> MsgGenerator[None]:
    """Begin an event and read devices into it; where one fails, drop it and say what failed."""
    yield from bps.create(name=stream)
    try:
        for device in devices:
            yield from bps.read(device)
    except Exception:
        # Where a pause had it repeated, it may have failed before there was anything to drop.
        with contextlib.suppress(IllegalMessageSequence):
            yield from bps.drop()
        raise


def in_a_run(
    plan: MsgGenerator[str],
    md: Mapping[str, Any],
    trouble: Callable[[], RunEnd | None] = lambda: None,
    opened: Callable[[str | None], None] = lambda uid: None,
) -> MsgGenerator[str]:
    """Enclose a plan in a run, like `bluesky.preprocessors.run_wrapper`.

    What the plan returns becomes the ``reason`` in the stop document. After ``RE.abort(reason)``
    the RunEngine itself closes the run, with that reason, when the plan has cleaned up.

    Parameters
    ----------
    plan
        What is done in the run.
    md
        For the start document.
    trouble
        Asked on ``RE.stop()`` what the plan had paused for, None if it had not.
    opened
        Called with the uid of the run, before anything is done in it.

    Returns
    -------
    str
        uid of the run.
    """
    uid = yield from bps.open_run(dict(md))
    opened(uid)
    reasons: list[str] = []

    def noted() -> MsgGenerator[None]:
        reasons.append((yield from plan))

    def failed(error: Exception) -> MsgGenerator[None]:
        if isinstance(error, RequestAbort):
            # Only the RunEngine knows the reason that it was given. What an event had begun with
            # would forbid what comes before it closes the run, such as lifting the tip.
            with contextlib.suppress(IllegalMessageSequence):
                yield from bps.drop()
        elif isinstance(error, RequestStop):
            end = trouble() or RunEnd(EndKind.STOPPED, "RE.stop()")
            yield from bps.close_run(exit_status=error.exit_status, reason=str(end))
        else:
            yield from bps.close_run(exit_status="fail", reason=str(error))

    def done() -> MsgGenerator[None]:
        yield from bps.close_run(reason=reasons[0])

    yield from bpp.contingency_wrapper(noted(), except_plan=failed, else_plan=done)
    return uid

"""Pause for the scientist, or end of the run, after repeated failures."""

from __future__ import annotations

import logging

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from curiosity_bluesky.plans import safety
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.utils.run_end import EndKind, RunEnd
from curiosity_bluesky.utils.wording import plural

logger = logging.getLogger(__name__)


def pause_for(run: RunState, kind: EndKind, what: str, then: str) -> MsgGenerator[None]:
    """Pause, so that the operator sees to it; end the run if it is unattended.

    Parameters
    ----------
    run
        The run.
    kind, what
        The trouble.
    then
        What to do before ``RE.resume()``, and what that does.
    """
    end = RunEnd(kind, what)
    keeps = "" if kind is EndKind.DISK else " and keeps everything"
    if not run.options.attended:
        logger.error("%s. The run ends%s", what, keeps)
        run.ended = end
        return
    logger.error("%s. The plan pauses: %s; RE.stop() ends the run%s", what, then, keeps)
    run.trouble = end
    yield from safety.lift_tip(run.tip, run.options.timeout)
    yield from bps.pause()
    run.trouble = None


def check_failures(run: RunState) -> MsgGenerator[None]:
    """Pause, or end, where too many points failed in a row."""
    n = run.count.in_a_row
    if n < run.options.max_failures:
        return
    run.count.in_a_row = 0
    what = f"{n} {plural(n, 'point')} failed in a row, the last one with: {run.count.last}"
    then = "look at the instrument, then RE.resume() goes on"
    yield from pause_for(run, EndKind.FAILURES, what, then)

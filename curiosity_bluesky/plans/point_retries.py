"""A point of a run: measured, tried again, given up."""

from __future__ import annotations

import functools
import logging
import time

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from curiosity_bluesky.learning import Proposal
from curiosity_bluesky.plans import safety
from curiosity_bluesky.plans.decisions import obey
from curiosity_bluesky.plans.event_streams import save_failure
from curiosity_bluesky.plans.measuring import measure_point, quality_problem
from curiosity_bluesky.plans.pause_or_end import check_failures
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure
from curiosity_bluesky.utils.run_end import EndKind

logger = logging.getLogger(__name__)


def visit_point(run: RunState, proposal: Proposal) -> MsgGenerator[None]:
    """Measure a pixel, as often as it takes; pause when too many failed in a row."""
    run.steering.propose([proposal, *run.pending])
    run.tracker.points += 1
    failed: PointFailure | None = None
    last, count = False, run.count
    first, quality = run.attempts.get(proposal.decision_id, (0, None))
    if quality is not None:  # the run before ended between a bad spectrum and saying so
        failed = quality_problem(quality, count.strategy.min_quality)
        last = first > run.options.retries or run.crowded(proposal) is not None
        doses = run.broken_off.pop(proposal.decision_id, 1)
        # A lower quality may be asked for by now: then it failed all the same.
        problem = failed or PointFailure(FailureKind.QUALITY)
        yield from save_failure(proposal, first - 1, problem, last, barred=last, doses=doses)
    for attempt in range(first, run.options.retries + 1):
        if attempt > first:
            yield from bps.sleep(run.options.retry_wait)
        if (yield from _refused(run, proposal, attempt, run.refusal(proposal))):
            if last:  # it failed, and round it there are spectra enough
                break
            return
        if (spent := run.spent()) is not None:
            logger.log(
                logging.ERROR if spent.kind is EndKind.VISITS else logging.INFO,
                "%s. The run ends", spent,
            )  # fmt: skip
            run.ended = run.ended or spent
            return
        target, away = yield from run.tracker.aim(proposal, run.detectors)
        if away is not None:  # no fault of the instrument: given back, until it is within reach
            logger.warning("pixel %s: %s; given back", proposal.pixel, away)
            yield from save_failure(proposal, attempt, away, given_up=True)
            return
        prior = run.broken_off.pop(proposal.decision_id, 0)
        if count.strategy.max_per_area is not None:
            # Written before, so that it counts if the process is killed in it.
            yield from save_failure(
                proposal, attempt, PointFailure(FailureKind.BEGUN), False, doses=prior + 1
            )
        started, taken = time.monotonic(), len(count.doses)
        failed = yield from measure_point(
            proposal, run.detectors, run.x, run.y,
            attempt=attempt, min_quality=count.strategy.min_quality,
            timeout=run.options.timeout, tolerance=run.tolerance,
            refusal=functools.partial(run.steering.refusal, proposal), target=target,
            dose=functools.partial(run.dose, proposal), tip=run.tip,
            dwell=run.dwell,
            remaining=run.remaining, spectra=run.spectra, doses=prior,
        )  # fmt: skip
        if len(count.doses) > taken:
            count.visited.add((proposal.decision_id, attempt))
        seconds, wasted = time.monotonic() - started, len(count.doses) - taken + prior
        run.pace.point(proposal)
        yield from safety.lift_tip(run.tip, run.options.timeout)
        if failed is None:
            count.in_a_row = 0
            count.measured += 1
            return
        why = run.steering.refusal(proposal)
        if (yield from _refused(run, proposal, attempt, why, wasted)):
            return
        last = attempt == run.options.retries or run.crowded(proposal) is not None
        # A place that gives bad spectra does so again; an instrument may recover.
        barred = last and failed.kind is FailureKind.QUALITY
        logger.warning(
            "pixel %s, attempt %d: %s%s", proposal.pixel, attempt + 1, failed,
            "; given up" if last else "",
        )  # fmt: skip
        yield from save_failure(proposal, attempt, failed, last, barred, seconds, wasted)
    count.in_a_row += 1
    count.last = str(failed)
    yield from check_failures(run)


def _refused(
    run: RunState, proposal: Proposal, attempt: int, why: PointFailure | None, doses: int = 0
) -> MsgGenerator[bool]:
    """Say whether a pixel must not be measured; the record then says why, too."""
    if why is None:
        return False
    yield from obey(run)  # the wish first, then what came of it
    if why.kind is not FailureKind.VETOED:  # the explorer knows a veto by the act
        barred = run.crowded(proposal) is not None
        yield from save_failure(proposal, attempt, why, True, barred, doses=doses)
    return True

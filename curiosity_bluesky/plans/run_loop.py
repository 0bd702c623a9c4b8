"""A run under way: what to do next, point after point, until it has come to its end."""

from __future__ import annotations

import contextlib

from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.agent import AgentUnreachable
from curiosity_bluesky.catalog.journal import describe_backlog
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.learning import Survey
from curiosity_bluesky.plans import safety
from curiosity_bluesky.plans.background import call_in_thread
from curiosity_bluesky.plans.decisions import begin_decision, obey, write_decision
from curiosity_bluesky.plans.event_streams import (
    save_decision,
    save_maps,
    save_predictions,
    save_trainings,
)
from curiosity_bluesky.plans.masked_images import without_masks
from curiosity_bluesky.plans.pause_or_end import check_failures, pause_for
from curiosity_bluesky.plans.point_retries import visit_point
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.plans.run_wrapper import save
from curiosity_bluesky.utils.run_end import EndKind


def run_points(run: RunState, survey: Survey, past: InterruptedRun | None) -> MsgGenerator[str]:
    """Fill an open run: survey, decisions and spectra, trainings and maps; say why it ended."""
    mask = PlanReadable(
        "limits",
        {documents.MASK: survey.mask.astype("|u1")},
        {documents.MASK: "yx"},
        channels=survey.channels,
    )
    taken = documents.survey_record(survey, run.imager.name)
    if past is None:
        taken = yield from without_masks(run.imager)
    yield from save(documents.SURVEY, [taken, mask])
    for proposal in run.pending:  # of the run before: decided there, measured here
        yield from save_decision(proposal)
    yield from check_failures(run)
    while run.ended is None:
        yield from obey(run)
        yield from _journalled(run)
        run.ended = run.ended or run.late()
        yield from _resurveyed(run, survey)
        run.ended = run.ended or run.late()
        if run.ended is None and run.ahead is None and len(run.pending) <= run.options.lookahead:
            run.ahead = begin_decision(run)
        if run.pending and run.ended is None:
            yield from visit_point(run, run.pending.popleft())
        elif run.ahead is not None:
            yield from write_decision(run)
    run.steering.close()
    yield from safety.lift_tip(run.tip, run.options.timeout)
    if run.ahead is not None:  # of no use any more, but it may be training, and did train
        with contextlib.suppress(AgentUnreachable):
            yield from save_trainings((yield from run.ahead.result()).trainings)
    maps = yield from call_in_thread(run.agent.maps)
    yield from save_trainings((yield from call_in_thread(run.agent.take_trainings)))
    yield from save_maps(maps)
    for flag in (yield from call_in_thread(run.agent.flags)):
        yield from save(documents.FLAGS, [PlanReadable("flag", documents.flag_values(flag))])
    if run.options.record_predictions:
        yield from save_predictions(run)
    return str(run.ended)


def _journalled(run: RunState) -> MsgGenerator[None]:
    """Pause while the disk of the journal takes no documents, and too many wait in memory."""
    while run.ended is None and (why := describe_backlog(run.uid)):
        yield from pause_for(run, EndKind.DISK, why, "make room there, then RE.resume() goes on")
        yield from obey(run)


def _resurveyed(run: RunState, survey: Survey) -> MsgGenerator[None]:
    """Take the survey again if it is due; the tip comes back with the next point.

    While the position of the sample is not known, the plan pauses before each attempt but the
    first.
    """
    options = run.options
    while run.ended is None and run.tracker.due():
        if run.ahead is not None:
            # It was begun without knowing, so in the record it has to come before.
            yield from write_decision(run)
        yield from run.tracker.resurvey(
            survey, run.count.decided, options.timeout, options.retries, options.retry_wait
        )
        run.pace.forget()
        if run.ended is not None or not run.tracker.blind:
            return
        yield from pause_for(
            run, EndKind.DRIFT,
            f"the drift has not been known for {run.tracker.unseen / 60:.3g} minutes: "
            "the survey could not be taken again, or does not show the same",
            "look at the instrument, then RE.resume() takes the survey again",
        )  # fmt: skip
        if run.ended is not None:
            return
        yield from obey(run)
        run.ended = run.ended or run.late()

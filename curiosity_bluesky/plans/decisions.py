"""Decisions of a run: asked for, written, and changed by the scientist."""

from __future__ import annotations

import functools
from collections import deque

from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.agent import AgentUnreachable, DecisionResult
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.learning import SteeringRequest
from curiosity_bluesky.plans.background import BackgroundCall, call_in_thread
from curiosity_bluesky.plans.event_streams import (
    save_decision,
    save_failure,
    save_maps,
    save_trainings,
)
from curiosity_bluesky.plans.pause_or_end import pause_for
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.plans.run_wrapper import save
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure
from curiosity_bluesky.utils.run_end import EndKind, RunEnd


def begin_decision(run: RunState) -> BackgroundCall[DecisionResult]:
    """Begin the next decision, in a thread."""
    every = run.options.maps_every
    due = bool(every) and run.count.decided // every > run.mapped // every
    run.mapped = run.count.decided if due else run.mapped
    decide = functools.partial(
        run.agent.decide, run.count.strategy.batch, lookahead=run.options.lookahead, maps=due
    )
    return BackgroundCall(decide)


def write_decision(run: RunState) -> MsgGenerator[None]:
    """Wait for the decision under way and write it, before the tip moves.

    There is none where the agent is away and the scientist asks for something meanwhile: that
    comes first, and then the agent is asked again.
    """
    assert run.ahead is not None
    while True:
        try:
            decided = yield from run.ahead.result()
            break
        except AgentUnreachable as error:
            away = str(error)
        then = "see to the agent, then RE.resume() asks it again"
        yield from pause_for(run, EndKind.AGENT, away, then)
        if run.ended is not None:
            run.ahead = None
            return
        if run.steering.waiting:  # such as to stop: not to wait for an agent that may stay away
            run.ahead = None
            return
        run.ahead = run.ahead.again()
    run.ahead = None
    yield from save_trainings(decided.trainings)
    if decided.maps is not None:
        yield from save_maps(decided.maps)
    for proposal in decided.proposals:
        yield from save_decision(proposal)
    run.count.decided += len(decided.proposals)
    run.count.added -= sum(proposal.reason == "manual" for proposal in decided.proposals)
    run.pending.extend(decided.proposals)
    if not run.pending:
        run.ended = None if _more_time(run, decided.end) else decided.end
    if not run.pending and run.ended is None:
        yield from _given_up(run)


def _more_time(run: RunState, end: RunEnd | None) -> bool:
    """Have more spectra measured where the budget was only what the time seemed to allow."""
    budget, each = run.count.strategy.budget, run.pace.seconds_per_point
    if run.time_budget is None or run.points_given or budget is None or not each:
        return False
    more = int((run.time_budget - run.pace.elapsed) / each)
    more = min(more, run.count.most - budget)
    if end is None or end.kind is not EndKind.BUDGET or more < 1:
        return False
    run.raised = budget + more
    run.steering.budget(run.raised)
    return True


def _given_up(run: RunState) -> MsgGenerator[None]:
    """Give up what the explorer waits for and the plan measures no more, or it waits for ever.

    So it is where a better quality is asked for than a spectrum has, and where a pause
    had a spectrum repeated that is not as good as the one that the plan saw.
    """
    failure = PointFailure(FailureKind.NOT_GOOD)
    for proposal in (yield from call_in_thread(run.agent.pending)):
        yield from save_failure(proposal, 0, failure, given_up=True, barred=True)


def obey(run: RunState) -> MsgGenerator[None]:
    """Write what the scientist asked for, and do of it what is the plan's to do."""
    run.steering.propose(run.pending)
    if run.steering.waiting and run.ahead is not None:
        # It was begun without them, so in the record it has to come before them.
        yield from write_decision(run)
    for act in run.steering.take():
        values = documents.steering_values(act, run.count.decided)
        yield from save(documents.STEERING, [PlanReadable("steering", values)])
        _act(run, act)


def _act(run: RunState, act: SteeringRequest) -> None:
    before = run.count.strategy.budget
    run.count.act(act)
    if act.kind == "stop":
        run.ended = RunEnd(EndKind.MANUAL, act.arguments["reason"] or "ended by hand")
    elif act.kind == "set":
        # A number of spectra that the scientist asks for is not raised by the clock.
        run.points_given |= run.count.strategy.budget not in (before, run.raised)
    elif act.kind == "veto":
        kept = [p for p in run.pending if p.decision_id != act.arguments["decision_id"]]
        run.pending = deque(kept)

"""A run under way: what to do next, point after point, until it has come to its end."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.agent import Agent, AgentUnreachable, DecisionResult
from curiosity_bluesky.catalog.journal import describe_backlog
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.learning import BEGUN, Explorer, Proposal, SteeringRequest, Strategy, Survey
from curiosity_bluesky.learning.density_limit import DensityLimit
from curiosity_bluesky.learning.survey import Pixel
from curiosity_bluesky.plans import safety, stubs
from curiosity_bluesky.plans.drift import DriftTracker
from curiosity_bluesky.plans.masked_images import without_masks
from curiosity_bluesky.plans.progress import CROWDED, NOT_GOOD, VisitCount
from curiosity_bluesky.plans.readings import SpectrumReader
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import VETOED, Steering
from curiosity_bluesky.plans.time_budget import DeviceTimes, TimeEstimate
from curiosity_bluesky.utils.run_end import EndKind, RunEnd
from curiosity_bluesky.utils.validation import FEW, number, whole_number

logger = logging.getLogger("curiosity_bluesky")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run is driven, whatever it learns.

    Parameters
    ----------
    lookahead
        So many points before it is needed, the next decision is begun: it does not know
        then what they bring. 0: the sequential algorithm.
    retries
        How often a point that failed is tried again before it is given up.
    retry_wait
        Seconds between two attempts.
    timeout
        Seconds that a move, or a measurement, may take.
    max_failures
        After so many points given up in a row, the plan pauses.
    maps_every
        Write the maps after so many decisions, and at the end; 0 for at the end only.
    withhold
        Share of the pixels that are never measured.
    time_budget
        Seconds that the run may take, survey included: no point is begun that would not be
        done in time. None: any time.
    max_bias
        No detector may apply more volts, see `safety.check_bias`. None: any.
    resurvey_every, resurvey_minutes
        The survey is taken anew after so many points or minutes, see `drift.Tracker`; 0: never.
    clock
        What time it is (s), for the drift. Default: that on the wall.
    attended
        Whether somebody can answer at a prompt where the plan pauses because of trouble. Where
        nobody can, the run ends instead.

    Raises
    ------
    InputError
        If one of them cannot be.
    """

    lookahead: int = 0
    retries: int = 1
    retry_wait: float = 1.0
    timeout: float = 600.0
    max_failures: int = 3
    maps_every: int = 10
    withhold: float = 0.0
    time_budget: float | None = None
    max_bias: float | None = None
    resurvey_every: int = 0
    resurvey_minutes: float = 0.0
    clock: Callable[[], float] = time.time
    attended: bool = True

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            name: whole_number(name, getattr(self, name), least, FEW)
            for name, least in (
                ("lookahead", 0), ("retries", 0), ("max_failures", 1), ("maps_every", 0),
                ("resurvey_every", 0),
            )
        }  # fmt: skip
        for name, least in (("retry_wait", 0.0), ("timeout", 1e-3), ("resurvey_minutes", 0.0)):
            what = "minutes" if name == "resurvey_minutes" else "seconds"
            checked[name] = number(name, getattr(self, name), least, what=what)
        if self.time_budget is not None:
            checked["time_budget"] = number(
                "time_budget", self.time_budget, open_low=True, what="seconds"
            )
        if self.max_bias is not None:
            checked["max_bias"] = number("max_bias", self.max_bias, what="volts")
        share = number("withhold", self.withhold, 0.0, 1.0, open_high=True, what="a share")
        for name, value in (checked | {"withhold": share}).items():
            object.__setattr__(self, name, value)  # plain, so that JSON takes it


@dataclass
class RunState:
    """What the parts of the plan share, and where it is.

    Parameters
    ----------
    agent, detectors, x, y, imager
        As for `curiosity_plan`.
    course
        How it is driven.
    steering
        What takes the wishes of the scientist.
    tip
        Lifted between two points.
    """

    agent: Agent
    detectors: Sequence[Readable]
    x: Movable
    y: Movable
    imager: Readable
    course: RunSettings
    steering: Steering
    tip: Movable | None = None
    current: Strategy = field(init=False)
    """The strategy as it is now: the scientist may have changed it."""
    pending: deque[Proposal] = field(default_factory=deque)
    attempts: dict[int, tuple[int, float | None]] = field(default_factory=dict)
    """First attempt at what the run before had begun to measure, see `Explorer.outstanding`."""
    broken_off: dict[int, int] = field(default_factory=dict)
    """Doses that the sample may have had there, in an attempt that ended with the run before."""
    n_decisions: int = 0
    n_measured: int = 0
    points_given: bool = True
    """Whether somebody said how many spectra to measure, and not only for how long."""
    raised: int | None = None
    """The number of spectra that the time seemed to allow when it was last looked at."""
    most: int = 0
    """Pixels that can be measured."""
    added: int = 0
    """Pixels that somebody added and that were not decided on yet."""
    mapped: int = 0
    trouble: RunEnd | None = None
    """What the plan paused for, so that somebody looks at it."""
    ahead: stubs.BackgroundCall[DecisionResult] | None = None
    """The decision under way."""
    budget: int = 0
    pace: TimeEstimate = field(init=False)
    """How long it takes, and what is left."""
    survey: Survey = field(init=False)
    doses: list[Pixel] = field(default_factory=list)
    """Where the sample took a spectrum so far."""
    tolerance: tuple[float, float] = (np.inf, np.inf)
    ended: RunEnd | None = None
    tracker: DriftTracker = field(init=False)
    """Knows where the survey's pixels are by now."""
    spectra: SpectrumReader = field(init=False)
    """Knows what the spectra before were like."""
    stretch: VisitCount | None = None
    """Visits and failures, those of the killed runs that this one goes on with, too."""
    uid: str = ""
    """Of its documents; "" until it is open, and where no RunEngine answers."""

    def opened(self, uid: str | None) -> None:
        """Know the uid of its documents."""
        self.uid = uid or ""

    def __post_init__(self) -> None:
        self.spectra = SpectrumReader(self.detectors)
        every, minutes = self.course.resurvey_every, self.course.resurvey_minutes
        devices = self.x, self.y, self.imager
        self.tracker = DriftTracker(*devices, every, minutes, self.course.clock, self.tip)

    @property
    def strategy(self) -> Strategy:
        """The strategy that it began with."""
        assert self.agent.strategy is not None
        return self.agent.strategy

    @property
    def seed(self) -> int:
        """Seed of every random choice."""
        assert self.agent.seed is not None
        return self.agent.seed

    def begin(self, explorer: Explorer, began: float) -> None:
        """Know the survey, and let the scientist steer from now on; `began` as `time.monotonic`."""
        self.survey = survey = explorer.survey
        self.doses = explorer.doses
        costs = DeviceTimes.of(self.detectors, self.x, self.y, self.imager, self.tip)
        every, minutes = self.course.resurvey_every, self.course.resurvey_minutes
        self.pace = TimeEstimate(
            costs, explorer.reach, explorer.strategy.batch, began, every, minutes
        )
        self.current = explorer.strategy
        self.n_decisions = self.mapped = len(explorer.decisions)
        self.n_measured = explorer.n_observed
        self.stretch = self.stretch or VisitCount.begun(explorer)
        if self.course.attended:  # somebody looked after each pause that these had led to
            self.stretch.in_a_row %= self.course.max_failures
        self.most = int(explorer.patches.allowed.sum())
        self.budget = explorer.budget
        steps = (np.diff(axis) if len(axis) > 1 else [np.inf] for axis in (survey.x, survey.y))
        self.tolerance = tuple(float(np.abs(step).min() / 2) for step in steps)  # pyright: ignore[reportAttributeAccessIssue]
        self.added = len(explorer.wishes)
        self.steering.begin(
            survey, explorer.strategy, self.seed, explorer.masked, explorer.n_acts, self.room
        )

    @property
    def n_left(self) -> int:
        """How many spectra are to come, as far as the budget says."""
        return max(0, (self.current.budget or self.budget) - self.n_measured)

    def room(self, budget: int | None) -> int | None:
        """Return how many spectra of a budget are left, less the pixels that were added.

        None where the run goes on for as long as its time allows.
        """
        if self.course.time_budget is not None and not self.points_given:
            return None
        return (budget or self.budget) - self.n_measured - self.added

    @property
    def remaining(self) -> float:
        """Seconds that the run is expected to go on after the point that is next, NaN: unknown."""
        seconds = self.pace.ahead(self.pending, max(0, self.n_left - 1))
        seconds = np.nan if seconds is None else seconds
        if self.course.time_budget is not None:
            seconds = np.fmin(seconds, max(0.0, self.course.time_budget - self.pace.elapsed))
        return float(seconds)

    def refusal(self, proposal: Proposal) -> str | None:
        """Say why a proposal must not be measured any more; None if nothing speaks against it."""
        return self.steering.refusal(proposal) or self.crowded(proposal)

    def crowded(self, proposal: Proposal) -> str | None:
        """Say so if there are spectra enough round a proposal; None if there may be one more."""
        limit = self.current.max_per_area
        if limit is None or not DensityLimit(self.survey, limit, self.doses).full[proposal.pixel]:
            return None
        return (
            f"{CROWDED}{limit[0]} spectra within {limit[1]:g} um of each other are allowed, "
            "and so many were taken there"
        )

    def dose(self, proposal: Proposal) -> str | None:
        """Count one more spectrum at a proposal, or say why there may be none."""
        why = self.crowded(proposal)
        if why is None:
            self.doses.append(proposal.pixel)
        return why

    def spent(self) -> RunEnd | None:
        """Say so if the sample was visited as often as it may be, whatever came of it.

        It does not depend on what was learned: what nobody understands must not go on and on.
        """
        assert self.stretch is not None
        before, visits = self.stretch.before, len(self.stretch.visited)
        asked = max(0, self.stretch.budget - before)
        if visits < asked * (1 + self.course.retries):
            return None
        budget = self.current.budget or self.budget
        if self.n_measured >= budget:
            return RunEnd(EndKind.BUDGET, f"{self.n_measured} of {budget} spectra measured")
        return RunEnd(
            EndKind.VISITS,
            f"the sample was measured {visits} times for {asked} spectra, as often "
            f"as {self.course.retries} retries allow, and {self.n_measured - before} of them "
            "were good enough; look at the instrument, and at what min_quality asks for",
        )

    def late(self) -> RunEnd | None:
        """Say so if the next point would not be done in time; None if there is time for it."""
        if self.course.time_budget is None:
            return None
        needed = self.pace.ahead(self.pending, 1) or 0.0
        if self.tracker.due():
            needed += self.pace.costs.survey or 0.0
        if self.pace.elapsed + needed <= self.course.time_budget:
            return None
        return RunEnd(
            EndKind.TIME, f"{self.course.time_budget:g} s leave no time for another point"
        )


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
    yield from stubs.save(documents.SURVEY, [taken, mask])
    for proposal in run.pending:  # of the run before: decided there, measured here
        yield from _save_decision(proposal)
    yield from _looked_at(run)
    while run.ended is None:
        yield from _steered(run)
        yield from _journalled(run)
        run.ended = run.ended or run.late()
        yield from _resurveyed(run, survey)
        run.ended = run.ended or run.late()
        if run.ended is None and run.ahead is None and len(run.pending) <= run.course.lookahead:
            run.ahead = _asked(run)
        if run.pending and run.ended is None:
            yield from _measured(run, run.pending.popleft())
        elif run.ahead is not None:
            yield from _decided(run)
    run.steering.close()
    yield from safety.lift_tip(run.tip, run.course.timeout)
    if run.ahead is not None:  # of no use any more, but it may be training, and did train
        with contextlib.suppress(AgentUnreachable):
            yield from _save_trainings((yield from run.ahead.result()).trainings)
    maps = yield from stubs.call_in_thread(run.agent.maps)
    yield from _save_trainings((yield from stubs.call_in_thread(run.agent.take_trainings)))
    yield from _save_maps(maps)
    for flag in (yield from stubs.call_in_thread(run.agent.flags)):
        yield from stubs.save(documents.FLAGS, [PlanReadable("flag", documents.flag_values(flag))])
    return str(run.ended)


def _in_trouble(run: RunState, kind: EndKind, what: str, then: str) -> MsgGenerator[None]:
    """Pause, so that somebody sees to it; where nobody can, end the run.

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
    if not run.course.attended:
        logger.error("%s. The run ends%s", what, keeps)
        run.ended = end
        return
    logger.error("%s. The plan pauses: %s; RE.stop() ends the run%s", what, then, keeps)
    run.trouble = end
    yield from safety.lift_tip(run.tip, run.course.timeout)
    yield from bps.pause()
    run.trouble = None


def _journalled(run: RunState) -> MsgGenerator[None]:
    """Pause while the disk of the journal takes no documents, and too many wait in memory."""
    while run.ended is None and (why := describe_backlog(run.uid)):
        yield from _in_trouble(run, EndKind.DISK, why, "make room there, then RE.resume() goes on")
        yield from _steered(run)


def _resurveyed(run: RunState, survey: Survey) -> MsgGenerator[None]:
    """Take the survey anew if it is time to; the tip comes back with the next point.

    While nobody knows where the sample is, the plan pauses before each attempt but the first.
    """
    course = run.course
    while run.ended is None and run.tracker.due():
        if run.ahead is not None:
            # It was begun without knowing, so in the record it has to come before.
            yield from _decided(run)
        yield from run.tracker.resurvey(
            survey, run.n_decisions, course.timeout, course.retries, course.retry_wait
        )
        run.pace.forget()
        if run.ended is not None or not run.tracker.blind:
            return
        yield from _in_trouble(
            run, EndKind.DRIFT,
            f"nobody has seen for {run.tracker.unseen / 60:.3g} minutes where the sample "
            "drifted, and the survey could not be taken again, or does not show the same",
            "look at the instrument, then RE.resume() takes the survey again",
        )  # fmt: skip
        if run.ended is not None:
            return
        yield from _steered(run)
        run.ended = run.ended or run.late()


def _asked(run: RunState) -> stubs.BackgroundCall[DecisionResult]:
    """Begin the next decision, in a thread."""
    every = run.course.maps_every
    due = bool(every) and run.n_decisions // every > run.mapped // every
    run.mapped = run.n_decisions if due else run.mapped
    decide = functools.partial(
        run.agent.decide, run.current.batch, lookahead=run.course.lookahead, maps=due
    )
    return stubs.BackgroundCall(decide)


def _decided(run: RunState) -> MsgGenerator[None]:
    """Wait for the decision under way and write it, before the tip moves.

    There is none where the agent is away and the scientist asks for something meanwhile: that
    comes first, and then the agent is asked anew.
    """
    assert run.ahead is not None
    while True:
        try:
            decided = yield from run.ahead.result()
            break
        except AgentUnreachable as error:
            away = str(error)
        then = "see to the agent, then RE.resume() asks it again"
        yield from _in_trouble(run, EndKind.AGENT, away, then)
        if run.ended is not None:
            run.ahead = None
            return
        if run.steering.waiting:  # such as to stop: not to wait for an agent that may stay away
            run.ahead = None
            return
        run.ahead = run.ahead.again()
    run.ahead = None
    yield from _save_trainings(decided.trainings)
    if decided.maps is not None:
        yield from _save_maps(decided.maps)
    for proposal in decided.proposals:
        yield from _save_decision(proposal)
    run.n_decisions += len(decided.proposals)
    run.added -= sum(proposal.reason == "manual" for proposal in decided.proposals)
    run.pending.extend(decided.proposals)
    if not run.pending:
        end = None if decided.reason is None else RunEnd.read(decided.reason)
        run.ended = None if _more_time(run, end) else end
    if not run.pending and run.ended is None:
        yield from _given_up(run)


def _more_time(run: RunState, end: RunEnd | None) -> bool:
    """Have more spectra measured where the budget was only what the time seemed to allow."""
    budget, each = run.current.budget, run.pace.seconds_per_point
    if run.course.time_budget is None or run.points_given or budget is None or not each:
        return False
    more = int((run.course.time_budget - run.pace.elapsed) / each)
    more = min(more, run.most - budget)
    if end is None or end.kind is not EndKind.BUDGET or more < 1:
        return False
    run.raised = budget + more
    run.steering.budget(run.raised)
    return True


def _given_up(run: RunState) -> MsgGenerator[None]:
    """Give up what the explorer waits for and nobody measures any more, or it waits for ever.

    So it is where somebody asks for a better quality than a spectrum has, and where a pause
    had a spectrum repeated that is not as good as the one that the plan saw.
    """
    for proposal in (yield from stubs.call_in_thread(run.agent.pending)):
        yield from _save_failure(proposal, 0, NOT_GOOD, given_up=True, barred=True)


def _measured(run: RunState, proposal: Proposal) -> MsgGenerator[None]:
    """Measure a pixel, as often as it takes; pause when too many failed in a row."""
    run.steering.propose([proposal, *run.pending])
    run.tracker.points += 1
    failed, last, stretch = None, False, run.stretch
    assert stretch is not None
    first, quality = run.attempts.get(proposal.decision_id, (0, None))
    if quality is not None:  # the run before ended between a bad spectrum and saying so
        failed = stubs.quality_problem(quality, run.current.min_quality)
        last = first > run.course.retries or run.crowded(proposal) is not None
        doses = run.broken_off.pop(proposal.decision_id, 1)
        yield from _save_failure(proposal, first - 1, failed or "", last, barred=last, doses=doses)
    for attempt in range(first, run.course.retries + 1):
        if attempt > first:
            yield from bps.sleep(run.course.retry_wait)
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
            yield from _save_failure(proposal, attempt, away, given_up=True)
            return
        prior = run.broken_off.pop(proposal.decision_id, 0)
        if run.current.max_per_area is not None:  # that it counts if the process is killed in it
            yield from _save_failure(proposal, attempt, BEGUN, False, doses=prior + 1)
        started, taken = time.monotonic(), len(run.doses)
        failed = yield from stubs.measure_point(
            proposal, run.detectors, run.x, run.y,
            attempt=attempt, min_quality=run.current.min_quality,
            timeout=run.course.timeout, tolerance=run.tolerance,
            refusal=functools.partial(run.steering.refusal, proposal), target=target,
            dose=functools.partial(run.dose, proposal), tip=run.tip,
            remaining=run.remaining, spectra=run.spectra, doses=prior,
        )  # fmt: skip
        if len(run.doses) > taken:
            stretch.visited.add((proposal.decision_id, attempt))
        seconds, wasted = time.monotonic() - started, len(run.doses) - taken + prior
        run.pace.point(proposal)
        yield from safety.lift_tip(run.tip, run.course.timeout)
        if failed is None:
            stretch.in_a_row = 0
            run.n_measured += 1
            return
        why = run.steering.refusal(proposal)
        if (yield from _refused(run, proposal, attempt, why, wasted)):
            return
        last = attempt == run.course.retries or run.crowded(proposal) is not None
        # A place that gives bad spectra does so again; an instrument may recover.
        barred = last and isinstance(failed, stubs.PoorSpectrum)
        logger.warning(
            "pixel %s, attempt %d: %s%s", proposal.pixel, attempt + 1, failed,
            "; given up" if last else "",
        )  # fmt: skip
        yield from _save_failure(proposal, attempt, failed, last, barred, seconds, wasted)
    stretch.in_a_row += 1
    stretch.last = str(failed)
    yield from _looked_at(run)


def _looked_at(run: RunState) -> MsgGenerator[None]:
    """Pause, or end, where too many points failed in a row."""
    assert run.stretch is not None
    n = run.stretch.in_a_row
    if n < run.course.max_failures:
        return
    run.stretch.in_a_row = 0
    what = f"{n} points failed in a row, the last one with: {run.stretch.last}"
    then = "look at the instrument, then RE.resume() goes on"
    yield from _in_trouble(run, EndKind.FAILURES, what, then)


def _refused(
    run: RunState, proposal: Proposal, attempt: int, why: str | None, doses: int = 0
) -> MsgGenerator[bool]:
    """Say whether a pixel must not be measured; the record then says why, too."""
    if why is None:
        return False
    yield from _steered(run)  # the wish first, then what came of it
    if why != VETOED:  # the explorer knows a veto by the act
        barred = run.crowded(proposal) is not None
        yield from _save_failure(proposal, attempt, why, True, barred, doses=doses)
    return True


def _steered(run: RunState) -> MsgGenerator[None]:
    """Write what the scientist asked for, and do of it what is the plan's to do."""
    run.steering.propose(run.pending)
    if run.steering.waiting and run.ahead is not None:
        # It was begun without them, so in the record it has to come before them.
        yield from _decided(run)
    for act in run.steering.take():
        values = documents.steering_values(act, run.n_decisions)
        yield from stubs.save(documents.STEERING, [PlanReadable("steering", values)])
        _obeyed(run, act)


def _obeyed(run: RunState, act: SteeringRequest) -> None:
    assert run.stretch is not None
    run.stretch.act(act)
    run.added += act.kind == "add"
    if act.kind == "stop":
        run.ended = RunEnd(EndKind.MANUAL, act.arguments["reason"] or "ended by hand")
    elif act.kind == "set":
        wanted = Strategy.named(act.arguments["strategy"], **act.arguments["parameters"])
        # Whoever says how many spectra there are to be is not to be outbid by the clock.
        run.points_given |= wanted.budget not in (run.current.budget, run.raised)
        run.current = wanted
    elif act.kind == "veto":
        kept = [p for p in run.pending if p.decision_id != act.arguments["decision_id"]]
        run.pending = deque(kept)


def _save_decision(proposal: Proposal) -> MsgGenerator[None]:
    decision = PlanReadable("decision", documents.decision_values(proposal))
    yield from stubs.save(documents.DECISIONS, [decision])


def _save_failure(
    proposal: Proposal,
    attempt: int,
    reason: str,
    given_up: bool,
    barred: bool = False,
    seconds: float = 0.0,
    doses: int = 0,
) -> MsgGenerator[None]:
    values = documents.failure_values(proposal, attempt, reason, given_up, barred, seconds, doses)
    yield from stubs.save(documents.FAILURES, [PlanReadable("failure", values)])


def _save_trainings(trainings: Sequence[Any]) -> MsgGenerator[None]:
    for training in trainings:
        record = PlanReadable("training", documents.training_values(training))
        yield from stubs.save(documents.LEARNING, [record])


def _save_maps(maps: Mapping[str, np.ndarray]) -> MsgGenerator[None]:
    if any(np.isfinite(values).any() for values in maps.values()):
        arrays = {name: values.astype("<f4") for name, values in maps.items()}
        record = PlanReadable("maps", arrays, dict.fromkeys(arrays, "yx"))
        yield from stubs.save(documents.MAPS, [record])

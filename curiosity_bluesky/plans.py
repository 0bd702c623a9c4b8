"""The curiosity plan: an image, some seeds, then one pixel after the other."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Movable, NamedMovable, Readable
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents, plan_stubs
from curiosity_bluesky.agent import CuriosityAgent, Decided
from curiosity_bluesky.documents import Record
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Act, Explorer, Proposal, Strategy, Survey, withheld_pixels
from curiosity_bluesky.outline import Outline, printed
from curiosity_bluesky.past import Past
from curiosity_bluesky.steering import VETOED, Steering, steer

logger = logging.getLogger("curiosity_bluesky")

# What `import *` brings into a profile or a Queue Server: plans to be run by name. `explore` is
# imported by name, since it takes an agent.
__all__ = ["curiosity_plan"]

DEFAULT_STRATEGY = "curious"
DEFAULT_POINTS = 100


@dataclass(frozen=True, kw_only=True)
class Course:
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

    def __post_init__(self) -> None:
        least = {"max_failures": 1, "timeout": 1e-3}
        for name in ("lookahead", "retries", "retry_wait", "timeout", "max_failures", "maps_every"):
            value = getattr(self, name)
            if not value >= least.get(name, 0):
                raise InputError(f"{name} is {value}; expected {least.get(name, 0):g} or more")
        withheld_pixels((1, 1), self.withhold)  # complains before anything moves


def curiosity_plan(
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    num_points: int | None = None,
    strategy: str | None = None,
    seed: int | None = None,
    parameters: dict | None = None,
    mask: list | None = None,
    withhold: float | None = None,
    maps_every: int = 10,
    lookahead: int | None = None,
    retries: int = 1,
    retry_wait: float = 1.0,
    timeout: float = 600.0,
    max_failures: int = 3,
    resume: str | None = None,
    catalog: str | None = None,
    dry_run: bool = False,
    md: dict | None = None,
    steering: Any = None,
) -> MsgGenerator[Any]:
    """Image a surface, then measure spectra where they teach most.

    Parameters
    ----------
    detectors : Sequence[Readable]
        What is measured at a pixel; every 1-D array that they read is part of the spectrum
        that is learned.
    x : Movable
        Moves the tip along the columns of the image, um.
    y : Movable
        Moves the tip along the rows of the image, um.
    imager : Readable
        Takes the survey; every 2-D array that it reads is a channel, its configuration
        ``<name>_x`` and ``<name>_y`` the axes in um.
    num_points : int
        Spectra to measure, the seeds included; default 100.
    strategy : str
        Name of the strategy, default ``curious``; ``Strategy.names()`` lists them.
    seed : int
        Seed of every random choice; default 0.
    parameters : dict
        Parameters of the strategy that differ from its defaults.
    mask : list
        (rows, cols), true where nothing may be measured.
    withhold : float
        Share of the pixels that are never measured, so that they can test what was
        learned; for recorded samples, where the truth is known. Default 0.
    maps_every : int
        Write the maps after so many decisions, and at the end; 0 for at the end only.
    lookahead : int
        0 (default): each decision knows all spectra before it. 1: it is made while the spectrum
        before it is taken, and does not know that one; so nobody waits for the learning, unless
        it takes longer than a spectrum. More than 1 saves more time only where the strategy
        decides on a batch of so many pixels. `benchmarks/lookahead.py` measures what it saves
        and what not knowing costs.
    retries : int
        How often a point that failed is tried again before it is given up.
    retry_wait : float
        Seconds between two attempts.
    timeout : float
        Seconds that a move, or a measurement, may take.
    max_failures : int
        After so many points given up in a row, the plan pauses.
    resume : str
        uid of a run that was interrupted: this one goes on with it. Strategy, seed, mask and
        the like are those of that run; `num_points` may be given anew.
    catalog : str
        Where that run is, as for `connect`; default: where runs are by default.
    dry_run : bool
        Move nothing, measure nothing: show limits, planned seeds and how long it will take.
        The seeds depend on the survey: on what the imager holds from the last time.
    md : dict
        Metadata for the start document; ``sample`` is what runs are searched by.
    steering : Steering
        What takes the wishes of the scientist; default: ``curiosity_bluesky.steer``.

    Returns
    -------
    str
        uid of the run; with `dry_run` what was shown.

    Raises
    ------
    InputError
        Before anything is written: if there is no such strategy or parameter, if a patch is
        larger than the image, if there are fewer pixels than points, if a motor may not go
        where a pixel is, or if there is no such run to resume.

    Examples
    --------
    ::

        RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points=60))
    """
    given = {
        "strategy": strategy,
        "seed": seed,
        "parameters": parameters,
        "mask": mask,
        "withhold": withhold,
        "lookahead": lookahead,
    }
    steering = steer if steering is None else steering
    past = None
    if resume is not None:
        refused = [name for name, value in given.items() if value is not None]
        if refused:
            raise InputError(
                f"{', '.join(refused)} cannot be given with resume: a run goes on as it began; "
                "change it in the middle of the run with curiosity_bluesky.steer"
            )
        past = yield from plan_stubs.call_in_thread(_fetched, resume, catalog)
        chosen, seed = past.strategy, past.seed
        withhold, lookahead = past.withhold, past.lookahead
    else:
        points = DEFAULT_POINTS if num_points is None else num_points
        chosen = Strategy.named(
            strategy or DEFAULT_STRATEGY, **{"budget": points, **(parameters or {})}
        )
    course = Course(
        lookahead=lookahead or 0,
        retries=retries,
        retry_wait=retry_wait,
        timeout=timeout,
        max_failures=max_failures,
        maps_every=maps_every,
        withhold=withhold or 0.0,
    )
    agent = CuriosityAgent(chosen, seed or 0)
    allowed = None if mask is None else np.asarray(mask, bool)
    if dry_run:
        return (
            yield from _outlined(agent, detectors, x, y, imager, allowed, course, past, num_points)
        )
    return (
        yield from explore(
            agent, detectors, x, y, imager, allowed, course=course, md=md, past=past,
            num_points=None if past is None else num_points, steering=steering,
        )
    )  # fmt: skip


def explore(
    agent: CuriosityAgent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    mask: np.ndarray | None = None,
    *,
    course: Course | None = None,
    md: dict | None = None,
    past: Past | None = None,
    num_points: int | None = None,
    steering: Steering = steer,
) -> MsgGenerator[str]:
    """`curiosity_plan` with an agent of one's own, which must know its strategy and seed.

    The parameters are those of `curiosity_plan`, and `past`, the run to go on with, whose number
    of points is `num_points` if that is given. Returns the uid of the run.
    """
    if agent.strategy is None or agent.seed is None:
        raise InputError("give the agent a strategy and a seed: CuriosityAgent(name, seed)")
    run = _Run(agent, detectors, x, y, imager, course or Course(), steering)

    def look_and_explore() -> MsgGenerator[str]:
        if past is None:
            survey = yield from plan_stubs.look(imager, mask)
            survey = _withheld(survey, run.course.withhold)
            # Whatever cannot be used is said here, before there is a run.
            explorer = Explorer(survey, run.strategy, run.seed)
        else:
            for name, doc in past.documents:
                agent(name, doc)
            for proposal, attempt in (yield from plan_stubs.call_in_thread(agent.outstanding)):
                run.pending.append(proposal)
                run.attempts[proposal.decision_id] = attempt
            explorer = agent.explorer
            survey = explorer.survey
        yield from plan_stubs.check_reach(explorer.reach, x, y)
        run.begin(explorer)
        if num_points is not None:
            steering.budget(num_points)
            run.budget = num_points
        inner = plan_stubs.in_a_run(
            _explore(run, survey, past), _start_document(run, survey, md or {}, past)
        )
        return (yield from bpp.subs_wrapper(inner, agent))

    def cancelled_at_the_end() -> MsgGenerator[str]:
        try:
            return (yield from look_and_explore())
        except BaseException:  # GeneratorExit too: RE.halt() only closes the plan
            agent.cancel()
            raise
        finally:
            steering.end()

    return (yield from bpp.stage_wrapper(cancelled_at_the_end(), [*detectors, x, y, imager]))


@dataclass
class _Run:
    """What the parts of the plan share, and where it is."""

    agent: CuriosityAgent
    detectors: Sequence[Readable]
    x: Movable
    y: Movable
    imager: Readable
    course: Course
    steering: Steering
    current: Strategy = field(init=False)
    """The strategy as it is now: the scientist may have changed it."""
    pending: deque[Proposal] = field(default_factory=deque)
    attempts: dict[int, int] = field(default_factory=dict)
    """First attempt at what the run before had begun to measure."""
    n_decisions: int = 0
    mapped: int = 0
    in_a_row: int = 0
    ahead: plan_stubs.Work[Decided] | None = None
    """The decision under way."""
    budget: int = 0
    tolerance: tuple[float, float] = (np.inf, np.inf)
    ended: str | None = None

    @property
    def strategy(self) -> Strategy:
        assert self.agent.strategy is not None
        return self.agent.strategy

    @property
    def seed(self) -> int:
        assert self.agent.seed is not None
        return self.agent.seed

    def begin(self, explorer: Explorer) -> None:
        """Know the survey, and let the scientist steer from now on."""
        survey = explorer.survey
        self.current = explorer.strategy
        self.n_decisions = self.mapped = len(explorer.decisions)
        self.budget = explorer.budget
        steps = (np.diff(axis) if len(axis) > 1 else [np.inf] for axis in (survey.x, survey.y))
        self.tolerance = tuple(float(np.abs(step).min() / 2) for step in steps)  # pyright: ignore[reportAttributeAccessIssue]
        self.steering.begin(survey, explorer.strategy, self.seed, explorer.masked, explorer.n_acts)


def _explore(run: _Run, survey: Survey, past: Past | None) -> MsgGenerator[str]:
    """Fill an open run: survey, decisions and spectra, trainings and maps; say why it ended."""
    mask = Record(
        "limits",
        {documents.MASK: survey.mask.astype("|u1")},
        {documents.MASK: "yx"},
        channels=survey.channels,
    )
    taken = run.imager if past is None else documents.survey_record(survey, run.imager.name)
    yield from plan_stubs.save(documents.SURVEY, [taken, mask])
    for proposal in run.pending:  # of the run before: decided there, measured here
        yield from _save_decision(proposal)
    while run.ended is None:
        yield from _steered(run)
        if run.ended is None and run.ahead is None and len(run.pending) <= run.course.lookahead:
            run.ahead = _asked(run)
        if run.pending and run.ended is None:
            yield from _measured(run, run.pending.popleft())
        elif run.ahead is not None:
            yield from _decided(run)
    run.steering.close()
    if run.ahead is not None:  # of no use any more, but it may be training, and did train
        yield from _save_trainings((yield from run.ahead.result()).trainings)
    maps = yield from plan_stubs.call_in_thread(run.agent.maps)
    yield from _save_trainings((yield from plan_stubs.call_in_thread(run.agent.take_trainings)))
    yield from _save_maps(maps)
    for flag in (yield from plan_stubs.call_in_thread(run.agent.flags)):
        yield from plan_stubs.save(documents.FLAGS, [Record("flag", documents.flag_values(flag))])
    return run.ended or ""


def _asked(run: _Run) -> plan_stubs.Work[Decided]:
    """Begin the next decision, in a thread."""
    every = run.course.maps_every
    due = bool(every) and run.n_decisions // every > run.mapped // every
    run.mapped = run.n_decisions if due else run.mapped
    decide = functools.partial(
        run.agent.decide, run.current.batch, lookahead=run.course.lookahead, maps=due
    )
    return plan_stubs.Work(decide)


def _decided(run: _Run) -> MsgGenerator[None]:
    """Wait for the decision under way and write it, before the tip moves."""
    assert run.ahead is not None
    decided = yield from run.ahead.result()
    run.ahead = None
    yield from _save_trainings(decided.trainings)
    if decided.maps is not None:
        yield from _save_maps(decided.maps)
    for proposal in decided.proposals:
        yield from _save_decision(proposal)
    run.n_decisions += len(decided.proposals)
    run.pending.extend(decided.proposals)
    if not run.pending:
        run.ended = decided.reason
    if not run.pending and run.ended is None:
        yield from _given_up(run)


def _given_up(run: _Run) -> MsgGenerator[None]:
    """Give up what the explorer waits for and nobody measures any more, or it waits for ever.

    So it is where somebody asks for a better quality than a spectrum has, and where a pause
    had a spectrum repeated that is not as good as the one that the plan saw.
    """
    for proposal in (yield from plan_stubs.call_in_thread(run.agent.pending)):
        why = "its spectrum is not of the quality that is asked for, and it is taken no more"
        yield from _save_failure(proposal, 0, why, given_up=True, barred=True)


def _measured(run: _Run, proposal: Proposal) -> MsgGenerator[None]:
    """Measure a pixel, as often as it takes; pause when too many failed in a row."""
    run.steering.propose([proposal, *run.pending])
    failed, first = None, run.attempts.get(proposal.decision_id, 0)
    for attempt in range(first, max(first, run.course.retries) + 1):
        if attempt > first:
            yield from bps.sleep(run.course.retry_wait)
        if (yield from _refused(run, proposal, attempt)):
            return
        started = time.monotonic()
        failed = yield from plan_stubs.visit(
            proposal, run.detectors, run.x, run.y,
            attempt=attempt, min_quality=run.current.min_quality,
            timeout=run.course.timeout, tolerance=run.tolerance,
            refusal=functools.partial(run.steering.refusal, proposal),
        )  # fmt: skip
        if failed is None:
            run.in_a_row = 0
            return
        if (yield from _refused(run, proposal, attempt)):
            return
        last = attempt >= run.course.retries
        # A place that gives bad spectra does so again; an instrument may recover.
        barred = last and failed.startswith("quality")
        logger.warning(
            "pixel %s, attempt %d: %s%s", proposal.pixel, attempt + 1, failed,
            "; given up" if last else "",
        )  # fmt: skip
        seconds = time.monotonic() - started
        yield from _save_failure(proposal, attempt, failed, last, barred, seconds)
    run.in_a_row += 1
    if run.in_a_row >= run.course.max_failures:
        logger.error(
            "%d points failed in a row, the last one with: %s. The plan pauses: look at the "
            "instrument, then RE.resume() goes on and RE.stop() ends the run and keeps everything",
            run.in_a_row, failed,
        )  # fmt: skip
        run.in_a_row = 0
        yield from bps.pause()


def _refused(run: _Run, proposal: Proposal, attempt: int) -> MsgGenerator[bool]:
    """Say whether somebody said not to measure a pixel; the record then says so, too."""
    why = run.steering.refusal(proposal)
    if why is None:
        return False
    yield from _steered(run)  # the wish first, then what came of it
    if why != VETOED:  # the explorer knows a veto by the act
        yield from _save_failure(proposal, attempt, why, given_up=True)
    return True


def _steered(run: _Run) -> MsgGenerator[None]:
    """Write what the scientist asked for, and do of it what is the plan's to do."""
    run.steering.propose(run.pending)
    if run.steering.waiting and run.ahead is not None:
        # It was begun without them, so in the record it has to come before them.
        yield from _decided(run)
    for act in run.steering.take():
        values = documents.act_values(act, run.n_decisions)
        yield from plan_stubs.save(documents.STEERING, [Record("steering", values)])
        _obeyed(run, act)


def _obeyed(run: _Run, act: Act) -> None:
    if act.kind == "stop":
        run.ended = f"manual: {act.arguments['reason'] or 'ended by hand'}"
    elif act.kind == "set":
        run.current = Strategy.named(act.arguments["strategy"], **act.arguments["parameters"])
    elif act.kind == "veto":
        kept = [p for p in run.pending if p.decision_id != act.arguments["decision_id"]]
        run.pending = deque(kept)


def _save_decision(proposal: Proposal) -> MsgGenerator[None]:
    decision = Record("decision", documents.decision_values(proposal))
    yield from plan_stubs.save(documents.DECISIONS, [decision])


def _save_failure(
    proposal: Proposal,
    attempt: int,
    reason: str,
    given_up: bool,
    barred: bool = False,
    seconds: float = 0.0,
) -> MsgGenerator[None]:
    values = documents.failure_values(proposal, attempt, reason, given_up, barred, seconds)
    yield from plan_stubs.save(documents.FAILURES, [Record("failure", values)])


def _save_trainings(trainings: Sequence[Any]) -> MsgGenerator[None]:
    for training in trainings:
        record = Record("training", documents.training_values(training))
        yield from plan_stubs.save(documents.LEARNING, [record])


def _save_maps(maps: Mapping[str, np.ndarray]) -> MsgGenerator[None]:
    if any(np.isfinite(values).any() for values in maps.values()):
        arrays = {name: values.astype("<f4") for name, values in maps.items()}
        record = Record("maps", arrays, dict.fromkeys(arrays, "yx"))
        yield from plan_stubs.save(documents.MAPS, [record])


def _start_document(
    run: _Run, survey: Survey, md: dict[str, Any], past: Past | None
) -> dict[str, Any]:
    # One dimension for each motor, as in the plans of bluesky, for what draws or tabulates.
    dimensions = [(plan_stubs.fields(motor), documents.PRIMARY) for motor in (run.x, run.y)]
    return {
        **({} if past is None else past.metadata),
        "plan_name": "curiosity_plan",
        "detectors": [detector.name for detector in run.detectors],
        "motors": [motor.name for motor in (run.x, run.y) if isinstance(motor, NamedMovable)],
        "imager": run.imager.name,
        "num_points": run.budget,
        "num_intervals": run.budget - 1,
        "shape": [run.budget],
        "extents": [[float(a.min()), float(a.max())] for a in (survey.x, survey.y)],
        "survey_shape": list(survey.shape),
        **documents.start_keys(
            run.strategy,
            run.seed,
            run.course.withhold,
            run.course.lookahead,
            version("curiosity-bluesky"),
            None if past is None else past.uid,
        ),
        **md,
        "hints": {"dimensions": dimensions, **md.get("hints", {})},
    }


def _withheld(survey: Survey, withhold: float) -> Survey:
    masked = survey.mask | withheld_pixels(survey.shape, withhold)
    return Survey(survey.channels, survey.x, survey.y, masked)


def _fetched(uid: str, catalog: str | None) -> Past:
    """Fetch the documents of a run from where runs are."""
    from curiosity_bluesky.catalog import connect  # slow to import, and only needed here

    with connect(catalog if catalog is None else os.fspath(catalog), create=False) as runs:
        return Past.of(runs.lineage(uid))


def _outlined(
    agent: CuriosityAgent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    mask: np.ndarray | None,
    course: Course,
    past: Past | None,
    num_points: int | None,
) -> MsgGenerator[Outline]:
    """Show what a run would do."""
    if past is None:
        survey = yield from plan_stubs.last_look(imager, mask)
        survey = None if survey is None else _withheld(survey, course.withhold)
    else:
        for name, doc in past.documents:
            agent(name, doc)
        explorer = yield from plan_stubs.call_in_thread(lambda: agent.explorer)
        survey = explorer.survey
        if num_points is not None:
            wanted = explorer.strategy.replace(budget=num_points)
            about = {"strategy": wanted.name, "parameters": wanted.parameters}
            explorer.steer(Act(explorer.n_acts, "set", about))
    outline = yield from plan_stubs.call_in_thread(
        Outline.of, agent, survey, detectors, x, y, imager
    )
    print(printed(outline))
    return outline

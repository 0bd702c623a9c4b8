"""The curiosity plan: an image, some seeds, then one pixel after the other."""

# No `from __future__ import annotations`: the Queue Server reads from the annotations, as they
# are, which parameters are devices; strings would say nothing to it.

import logging
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Movable, NamedMovable, Readable
from bluesky.utils import MsgGenerator, RequestAbort

from curiosity_bluesky import documents
from curiosity_bluesky.agent import Agent, CuriosityAgent
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Explorer,
    PriorRun,
    SteeringRequest,
    Strategy,
    Survey,
    withheld_pixels,
)
from curiosity_bluesky.plans import arguments, device_checks, readings, safety, stubs
from curiosity_bluesky.plans.dry_run import DryRunReport, format_report
from curiosity_bluesky.plans.hints import say_before
from curiosity_bluesky.plans.progress import VisitCount
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.run_loop import RunSettings, RunState, run_points
from curiosity_bluesky.plans.simulators import run_inquiry, simulate_messages
from curiosity_bluesky.plans.steering import Steering, steer
from curiosity_bluesky.plans.time_budget import DeviceTimes, spectra_in

if TYPE_CHECKING:
    from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent
    from curiosity_bluesky.plans.warm_start import WarmStart

logger = logging.getLogger("curiosity_bluesky")

__all__ = ["curiosity_plan"]

DEFAULT_STRATEGY = "curious"
DEFAULT_POINTS = 100


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
    resurvey_every: int | None = None,
    resurvey_minutes: float | None = None,
    resume: str | None = None,
    catalog: str | None = None,
    time_budget: float | None = None,
    per_second: bool = False,
    warm_start: str | None = None,
    warm_gate: float | None = None,
    max_bias: float | None = None,
    max_per_area: list | None = None,
    tip: Movable | None = None,
    dry_run: bool = False,
    agent: str | None = None,
    agent_lost: str | None = None,
    agent_patience: float = 15.0,
    md: dict | None = None,
    steering: Any = None,
) -> MsgGenerator[Any]:
    """Image a surface, then measure spectra where they teach most.

    Parameters
    ----------
    detectors : Sequence[Readable]
        What is measured at a pixel; every 1-D array of two or more real numbers that they read
        is part of the spectrum that is learned.
    x : Movable
        Moves the tip along the columns of the image, um.
    y : Movable
        Moves the tip along the rows of the image, um.
    imager : Readable
        Takes the survey; every 2-D array that it reads is a channel, its configuration
        ``<name>_x`` and ``<name>_y`` the axes in um.
    num_points : int
        Spectra to measure, the seeds included; default 100, with `time_budget` as many as
        there is time for.
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
    resurvey_every : int
        Take the survey anew after so many points, to correct drift: the first times sooner,
        see `docs/drift.md`. Default 0, never.
    resurvey_minutes : float
        Take the survey anew after so many minutes; default 0, never.
    resume : str
        uid of a run that was interrupted: this one goes on with it. Strategy, seed, mask and
        the like are those of that run; `num_points` may be given anew.
    catalog : str
        Where that run is, and those that `warm_start` looks through, as for `connect`; default:
        where runs are by default.
    time_budget : float
        Seconds that the run may take, survey included: no point is begun that would not be done
        in time.
    per_second : bool
        Choose what teaches most per second, not per spectrum: a far pixel costs its way. It needs
        devices that say how long they take, see docs/devices.md.
    warm_start : str
        Start from what an earlier run in `catalog` measured: ``similar`` for the one whose survey
        is most similar and whose spectra have the same axes, or its uid; see docs/warm-start.md.
    warm_gate : float
        With ``similar``: none is taken that is farther away than this.
    max_bias : float
        Safety: refuse detectors that apply more volts, before anything moves.
    max_per_area : list
        Safety: [n, radius], at most n spectra within so many um of each other.
    tip : Movable
        Lifted before each move and lowered after it: anything that can be set to ``up`` and
        ``down``. It is left lifted.
    dry_run : bool
        Move nothing, measure nothing: show limits, planned seeds and how long it will take.
        The seeds depend on the survey: on what the imager holds from the last time.
    agent : str
        Address of a `curiosity agent` that learns and decides, such as ``tcp://127.0.0.1:5577``;
        default: this process does. See docs/remote-agent.md.
    agent_lost : str
        What to do while that agent is away: ``pause``, or the name of the strategy that decides
        in its place; default ``farthest``, which needs no training.
    agent_patience : float
        Seconds without a word from that agent until it is away.
    md : dict
        Metadata for the start document; ``sample`` is what runs are searched by.
    steering : Steering
        What takes the wishes of the scientist; default: ``curiosity_bluesky.steer``.

    Returns
    -------
    str
        uid of the run; with `dry_run` what was shown. Where no RunEngine answers, as under
        `bluesky.simulators` or ``list``, the plan yields the survey and the points that are
        known from the survey that the imager holds, or ends with an `InputError`.

    Raises
    ------
    InputError
        Before anything is written: if there is no such strategy or parameter, if a patch is
        larger than the image, if there are fewer pixels than points, if a motor may not go
        where a pixel is, if there is no such run to resume, or if a name, `md` or a spectrum
        cannot be recorded.

    Examples
    --------
    ::

        RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points=60))
    """
    arguments.check(locals())
    given = {
        "strategy": strategy,
        "seed": seed,
        "parameters": parameters,
        "mask": mask,
        "withhold": withhold,
        "lookahead": lookahead,
        "per_second": per_second or None,
        "max_per_area": max_per_area,
        "resurvey_every": resurvey_every,
        "resurvey_minutes": resurvey_minutes,
        "warm_start": warm_start,
        "warm_gate": warm_gate,
    }
    steering = steer if steering is None else steering
    past = warm = None
    answered = yield from readings.is_executed()
    if resume is not None:
        refused = [name for name, value in given.items() if value is not None]
        if refused:
            raise InputError(
                f"{', '.join(refused)} cannot be given with resume: a run goes on as it began; "
                "change it in the middle of the run with curiosity_bluesky.steer"
            )
        past = yield from stubs.call_in_thread(_fetched, resume, catalog)
        chosen, seed = past.strategy, past.seed
        withhold, lookahead = past.withhold, past.lookahead
        max_bias = past.max_bias if max_bias is None else max_bias
        if past.tip is not None and tip is None:
            raise InputError(
                f"run {past.uid} lifted its tip ({past.tip}) between two points; give tip= again"
            )
        resurvey_every, resurvey_minutes = past.resurvey
    else:
        points = num_points
        if points is None and time_budget is None:
            points = DEFAULT_POINTS
        wanted = {"budget": points, **(parameters or {})}
        if max_per_area is not None:
            wanted["max_per_area"] = max_per_area
        if per_second:
            wanted["per_second"] = _rates(DeviceTimes.of(detectors, x, y, imager, tip))
        chosen = Strategy.named(strategy or DEFAULT_STRATEGY, **wanted)
        warm = _warm(chosen, warm_start, warm_gate, catalog)
    course = RunSettings(
        lookahead=lookahead or 0,
        retries=retries,
        retry_wait=retry_wait,
        timeout=timeout,
        max_failures=max_failures,
        maps_every=maps_every,
        withhold=withhold or 0.0,
        time_budget=time_budget,
        max_bias=max_bias,
        resurvey_every=resurvey_every or 0,
        resurvey_minutes=resurvey_minutes or 0.0,
    )
    earlier = None if past is None else past.earlier
    if agent is None and agent_lost is not None:
        raise InputError("agent_lost is given without agent; give the agent's address, too")
    one: Agent = CuriosityAgent(chosen, seed or 0, earlier=earlier)
    if agent is not None and answered and not dry_run:  # what a run would do is worked out here
        one = remote = _remote(agent, agent_lost, agent_patience, chosen, seed or 0, earlier)
        yield from stubs.call_in_thread(remote.hello)
    allowed = None if mask is None else np.asarray(mask, bool)
    if dry_run:
        if answered:
            yield from device_checks.check_engine(md or {})
        outlined = _outlined(one, detectors, x, y, imager, allowed, course, past, num_points, tip)
        outline = (yield from outlined) if answered else run_inquiry(outlined)
        print(format_report(outline))
        if steering.in_words:
            print(f"asked for, and done in the next run: {steering.in_words}")
        return outline
    return (
        yield from explore(
            one, detectors, x, y, imager, allowed, course=course, md=md, past=past,
            num_points=None if past is None else num_points, steering=steering, tip=tip, warm=warm,
        )
    )  # fmt: skip


def explore(
    agent: Agent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    mask: np.ndarray | None = None,
    *,
    course: RunSettings | None = None,
    md: dict | None = None,
    past: InterruptedRun | None = None,
    num_points: int | None = None,
    steering: Steering | None = None,
    tip: Movable | None = None,
    warm: "WarmStart | None" = None,
) -> MsgGenerator[str]:
    """`curiosity_plan` with an agent of one's own, which must know its strategy and seed.

    The parameters are those of `curiosity_plan`, and `past`, the run to go on with, whose number
    of points is `num_points` if that is given, and `warm`, what to start from. Returns the uid of
    the run.
    """
    arguments.check_run(detectors, x, y, imager, tip, mask, md, steering)
    if agent.strategy is None or agent.seed is None:
        raise InputError("give the agent a strategy and a seed: CuriosityAgent(name, seed)")
    steering = steer if steering is None else steering
    run = RunState(agent, detectors, x, y, imager, course or RunSettings(), steering, tip)
    if not (yield from readings.is_executed()):
        # An agent of its own: the given one may have a run before it still.
        earlier = None if past is None else past.earlier
        twin = CuriosityAgent(agent.strategy, agent.seed, earlier=earlier)
        devices = detectors, x, y, imager
        outline = run_inquiry(_outlined(twin, *devices, mask, run.course, past, num_points, tip))
        return (yield from simulate_messages(outline, *devices, tip))

    strategy = agent.strategy
    # What a run starts from is looked up anew for each, and said in its start document.
    agent.earlier = None if past is None else past.earlier

    def look_and_explore() -> MsgGenerator[str]:
        began = time.monotonic()
        md_warm: dict[str, Any] = {}
        if past is None:
            failed = yield from safety.lower_tip(tip, run.course.timeout)
            if failed:
                raise RuntimeError(
                    f"the tip could not be lowered for the survey ({failed}); nothing was measured"
                )
            survey = yield from run.tracker.look(mask, run.course.timeout)
            survey = _withheld(survey, run.course.withhold)
            run.points_given = run.course.time_budget is None or run.strategy.budget is not None
            if run.course.time_budget is not None and not run.points_given:
                costs = DeviceTimes.of(detectors, x, y, imager, tip)
                resurvey = run.course.resurvey_every, run.course.resurvey_minutes
                limit = run.course.time_budget
                most = spectra_in(limit, costs, survey, run.strategy, resurvey)
                agent.strategy = run.strategy.replace(budget=most)
            if warm is not None:
                start = yield from warm.found(survey, run.imager, run.detectors)
                agent.earlier, md_warm = start.earlier, start.keys
            # Whatever cannot be used is said here, before there is a run.
            explorer = Explorer(survey, run.strategy, run.seed, earlier=agent.earlier)
            say_before(explorer)
        else:
            closed = None  # what was known where the last run that was closed had ended
            for k, documents_of_one in enumerate(past.runs):
                if k and k == past.closed:
                    closed = VisitCount.begun(agent.explorer)
                for name, doc in documents_of_one:
                    agent(name, doc)
            outstanding = yield from stubs.call_in_thread(agent.outstanding)
            for proposal, attempt, quality in outstanding:
                run.pending.append(proposal)
                run.attempts[proposal.decision_id] = attempt, quality
            explorer = agent.explorer
            run.broken_off = {
                p.decision_id: explorer.broken_off(p.decision_id) for p in run.pending
            }
            run.stretch = VisitCount.of(past, closed, explorer)
            survey = explorer.survey
            run.tracker.recall(past.documents)
            run.points_given = num_points is not None or not past.estimated
            complete = past.ended and explorer.n_observed >= explorer.budget
            if num_points is None and complete:
                raise InputError(
                    f"run {past.uid} has all its {explorer.budget} spectra; give num_points= "
                    "(or --points) to go on beyond them"
                )
        yield from stubs.check_reach(explorer.reach, x, y)
        run.begin(explorer, began)
        if num_points is not None:
            steering.budget(num_points)
            run.budget = num_points
        start = _start_document(run, survey, {**md_warm, **(md or {})}, past)
        device_checks.check_start(start)
        yield from device_checks.check_devices(detectors, x, y, imager, imaged=True)
        inner = stubs.in_a_run(
            run_points(run, survey, past), start, lambda: run.trouble, run.opened
        )
        return (yield from _heard_by(agent, inner))

    def cancelled_at_the_end() -> MsgGenerator[str]:
        try:
            return (yield from look_and_explore())
        except BaseException:  # GeneratorExit too: RE.halt() only closes the plan
            agent.cancel()
            raise
        finally:
            agent.strategy = strategy  # with as many points as it came with
            steering.end()

    def checked() -> MsgGenerator[str]:
        yield from device_checks.check_engine(md or {})
        yield from device_checks.check_devices(detectors, x, y, imager)
        yield from safety.check_bias(detectors, imager, run.course.max_bias)
        if past is None:
            yield from safety.check_area(imager, run.strategy.patch_size, mask, x, y)
        return (yield from safety.lift_finally(cancelled_at_the_end(), tip, run.course.timeout))

    staged = [*detectors, x, y, imager, *([] if tip is None else [tip])]
    return (yield from bpp.stage_wrapper(checked(), staged))


def _heard_by(agent: Agent, plan: MsgGenerator[str]) -> MsgGenerator[str]:
    """Have an agent hear the documents, like `bluesky.preprocessors.subs_wrapper`.

    After ``RE.abort()`` the stop document comes when the plan is over: the RunEngine itself forgets
    the agent, with all that a plan subscribed.
    """
    token = yield from bps.subscribe("all", agent)

    def failed(error: Exception) -> MsgGenerator[None]:
        if not isinstance(error, RequestAbort):
            yield from bps.unsubscribe(token)

    def done() -> MsgGenerator[None]:
        yield from bps.unsubscribe(token)

    return (yield from bpp.contingency_wrapper(plan, except_plan=failed, else_plan=done))


def _rates(costs: DeviceTimes) -> tuple[float, float]:
    """Return what a spectrum costs (s) and how fast the tip travels (um/s)."""
    dwell, speed = costs.dwell, costs.speed
    if dwell is None or speed is None:
        raise InputError(
            "per_second wants to know how long a spectrum and a move take, and the devices do not "
            "say (docs/devices.md: `seconds`); give it by hand: parameters={'per_second': [seconds "
            "that a spectrum takes, um/s]}"
        )
    return dwell, min(speed, 1e12)  # a virtual clock moves in no time; JSON knows no infinity


def _start_document(
    run: RunState, survey: Survey, md: dict[str, Any], past: InterruptedRun | None
) -> dict[str, Any]:
    # One dimension for each motor, as in the plans of bluesky, for what draws or tabulates.
    dimensions = [(stubs.position_keys(motor), documents.PRIMARY) for motor in (run.x, run.y)]
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
        **_limits(run),
        **({} if run.agent.address is None else {documents.AGENT: run.agent.address}),
        documents.RESURVEY_EVERY: run.course.resurvey_every,
        documents.RESURVEY_MINUTES: run.course.resurvey_minutes,
        **md,
        "hints": {"dimensions": dimensions, **md.get("hints", {})},
    }


def _limits(run: RunState) -> dict[str, Any]:
    """Return what the run was held to, as far as it was."""
    estimated = run.course.time_budget is not None and not run.points_given
    limits = {
        documents.TIME_BUDGET: run.course.time_budget,
        documents.MAX_BIAS: run.course.max_bias,
        documents.TIP: getattr(run.tip, "name", None),
        documents.ESTIMATED: estimated or None,
    }
    return {key: value for key, value in limits.items() if value is not None}


def _withheld(survey: Survey, withhold: float) -> Survey:
    masked = survey.mask | withheld_pixels(survey.shape, withhold)
    return Survey(survey.channels, survey.x, survey.y, masked)


def _fetched(uid: str, catalog: str | None) -> InterruptedRun:
    """Fetch the documents of a run from where runs are."""
    from curiosity_bluesky.catalog import connect  # slow to import, and only needed here
    from curiosity_bluesky.plans.warm_start import fetch_interrupted

    with connect(catalog, create=False) as runs:
        return fetch_interrupted(runs, uid)


def _remote(
    address: str,
    lost: str | None,
    patience: float,
    strategy: Strategy,
    seed: int,
    earlier: PriorRun | None,
) -> "RemoteAgent":
    """Return what asks an agent elsewhere."""
    try:
        from curiosity_bluesky.agent.remote.remote_agent import (  # seldom needed
            FALLBACK,
            RemoteAgent,
        )
    except ModuleNotFoundError as error:
        raise InputError(
            f"an agent elsewhere needs {error.name}: pip install curiosity-bluesky[remote]"
        ) from None
    fallback = None if lost == "pause" else lost or FALLBACK
    return RemoteAgent(
        address, strategy, seed, fallback=fallback, patience=patience, earlier=earlier
    )


def _warm(
    strategy: Strategy, asked: str | None, gate: float | None, catalog: str | None
) -> "WarmStart | None":
    """Return what the run is to start from, None for nothing."""
    if asked is None:
        if gate is not None:
            raise InputError("warm_gate is given without warm_start; give warm_start='similar'")
        return None
    from curiosity_bluesky.plans.warm_start import WarmStart  # slow to import, and seldom needed

    warm = WarmStart(asked, catalog, gate)
    warm.check(strategy)
    return warm


def _outlined(
    agent: Agent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    mask: np.ndarray | None,
    course: RunSettings,
    past: InterruptedRun | None,
    num_points: int | None,
    tip: Movable | None,
) -> MsgGenerator[DryRunReport]:
    """Work out what a run would do, or say why it would not."""
    assert agent.strategy is not None
    yield from device_checks.check_devices(detectors, x, y, imager)
    yield from safety.check_bias(detectors, imager, course.max_bias)
    if past is None:
        yield from safety.check_area(imager, agent.strategy.patch_size, mask, x, y)
        survey = yield from stubs.last_survey(imager, mask)
        if survey is not None:
            survey = _withheld(survey, course.withhold)
    else:
        for name, doc in past.documents:
            agent(name, doc)
        explorer = yield from stubs.call_in_thread(lambda: agent.explorer)
        survey = explorer.survey
        if num_points is not None:
            wanted = explorer.strategy.replace(budget=num_points)
            about = {"strategy": wanted.name, "parameters": wanted.parameters}
            explorer.steer(SteeringRequest(explorer.n_acts, "set", about))
    return (
        yield from stubs.call_in_thread(
            DryRunReport.of, agent, survey, detectors, x, y, imager, tip,
            (course.resurvey_every, course.resurvey_minutes), course.time_budget,
        )
    )  # fmt: skip

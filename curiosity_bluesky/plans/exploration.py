"""A curious run with any agent: `curiosity_plan` without its defaults."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator, RequestAbort

from curiosity_bluesky.agent import Agent, CuriosityAgent
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Explorer,
    SteeringRequest,
    Strategy,
    Survey,
    limit_seeds,
    withheld_pixels,
)
from curiosity_bluesky.plans import device_arguments, device_checks, readings
from curiosity_bluesky.plans.background import call_in_thread
from curiosity_bluesky.plans.dry_run import DryRunReport
from curiosity_bluesky.plans.dwell import dwell_parameters
from curiosity_bluesky.plans.options import (
    DriftCorrection,
    PlanParameters,
    RunOptions,
    SafetyLimits,
)
from curiosity_bluesky.plans.preflight_warnings import say_before
from curiosity_bluesky.plans.progress import RunCount
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.run_log import RUN_LOG, expected
from curiosity_bluesky.plans.run_loop import run_points
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.plans.run_wrapper import in_a_run
from curiosity_bluesky.plans.safety import check_area, check_bias, lift_finally, lower_tip
from curiosity_bluesky.plans.simulators import run_inquiry, simulate_messages
from curiosity_bluesky.plans.start_document import start_document
from curiosity_bluesky.plans.steering import Steering, steer
from curiosity_bluesky.plans.surveying import check_reach, last_survey
from curiosity_bluesky.plans.time_budget import DeviceTimes, spectra_in

if TYPE_CHECKING:
    from curiosity_bluesky.plans.warm_start import WarmStart

RUN_LOG.addFilter(expected)


def explore(
    agent: Agent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    num_points: int | None = None,
    *,
    strategy: Strategy | str | None = None,
    seed: int | None = None,
    options: RunOptions | Mapping[str, Any] | None = None,
    safety: SafetyLimits | Mapping[str, Any] | None = None,
    drift: DriftCorrection | Mapping[str, Any] | None = None,
    time_budget: float | None = None,
    tip: Movable | None = None,
    md: dict | None = None,
    past: InterruptedRun | None = None,
    steering: Steering | None = None,
    clock: Callable[[], float] = time.time,
) -> MsgGenerator[str]:
    """`curiosity_plan` with an agent of one's own.

    The strategy of the run goes into its start document, and the agent goes by that; the plan
    changes nothing in the agent.

    Parameters
    ----------
    agent
        What decides, such as ``CuriosityAgent()``. One that was made with a strategy and a seed of
        its own goes by these, and they are those of the run.
    detectors, x, y, imager, num_points, options, safety, drift, time_budget, tip, md
        As for `curiosity_plan`; the options about an agent elsewhere are that plan's alone.
    strategy, seed
        Of the run; default: the agent's own, or those of `past`.
    past
        The run to go on with.
    steering
        Requests of the scientist; default: ``curiosity_bluesky.steer``.
    clock
        Seconds on the clock that the drift goes by; default: that on the wall.

    Returns
    -------
    str
        uid of the run.

    Raises
    ------
    InputError
        As `curiosity_plan`; if the run has another strategy than the agent.
    """
    options, safety = RunOptions.of(options), SafetyLimits.of(safety)
    device_arguments.check_run(detectors, x, y, imager, tip, md, options.steering or steering)
    plain = PlanParameters(num_points=num_points, seed=seed, time_budget=time_budget)
    num_points, seed = plain.num_points, plain.seed
    devices = detectors, x, y, imager
    begun = _strategy_and_seed(agent, strategy, seed, past)
    warm = None
    if past is None:
        wanted = strategy_of_run(begun[0], num_points, options, safety, (*devices, tip))
        if agent.strategy is None and isinstance(strategy, str):
            wanted = limit_seeds(wanted, options.parameters)
        begun = _strategy_and_seed(agent, wanted, begun[1], past)
        warm = warm_start_of(wanted, options)
    run = RunState(
        agent,
        *begun,
        *devices,
        tip,
        *(options, safety, DriftCorrection.of(drift)),
        plain.time_budget,
        steering or options.steering or steer,
        clock,
    )
    if time_budget is not None and run.strategy.budget is None and agent.strategy is not None:
        raise InputError(
            "time_budget says how many spectra the run has, and this agent goes by a strategy of "
            "its own; give the strategy to the run: explore(CuriosityAgent(), ..., strategy=...)"
        )
    if not (yield from readings.is_executed()):
        outline = run_inquiry(outline_run(run, past, num_points))
        return (yield from simulate_messages(outline, detectors, x, y, imager, tip))
    if past is not None and past.earlier is not None:
        agent.remember(past.earlier)

    def begin_and_explore() -> MsgGenerator[str]:
        began = time.monotonic()
        if past is None:
            explorer, md_warm = yield from _first_survey(run, warm)
            run_count, asked = None, explorer.budget
        else:
            explorer, run_count = yield from _recall(run, past, num_points)
            asked, md_warm = num_points or explorer.budget, {}
        yield from check_reach(explorer.reach, x, y)
        run.begin(explorer, began, run_count)
        if past is not None and num_points is not None:
            run.steering.budget(num_points)
        start = start_document(run, explorer.survey, asked, {**md_warm, **(md or {})}, past)
        device_checks.check_start(start)
        yield from device_checks.check_devices(*devices, imaged=True, resumed=past is not None)
        points = run_points(run, explorer.survey, past)
        inner = in_a_run(points, start, lambda: run.trouble, run.opened)
        return (yield from _heard_by(agent, inner))

    def cancelled_at_the_end() -> MsgGenerator[str]:
        try:
            return (yield from begin_and_explore())
        except BaseException:  # GeneratorExit too: RE.halt() only closes the plan
            agent.cancel()
            raise
        finally:
            run.steering.end()

    def checked() -> MsgGenerator[str]:
        yield from device_checks.check_engine(md or {})
        yield from device_checks.check_devices(detectors, x, y, imager)
        yield from check_bias(detectors, imager, run.safety.max_bias)
        if past is None:
            yield from check_area(imager, run.strategy, run.options.masked, x, y)
        return (yield from lift_finally(cancelled_at_the_end(), tip, run.options.timeout))

    staged = [*detectors, x, y, imager, *([] if tip is None else [tip])]
    return (yield from bpp.stage_wrapper(checked(), staged))


def strategy_of_run(
    strategy: Strategy,
    num_points: int | None,
    options: RunOptions,
    safety: SafetyLimits,
    devices: tuple[Sequence[Readable], Movable, Movable, Readable, Movable | None],
) -> Strategy:
    """Return a strategy with what the arguments of the run say of its parameters.

    Parameters
    ----------
    strategy
        As it is named.
    num_points, options, safety
        As for `curiosity_plan`.
    devices
        Detectors, x, y, imager and tip: they say what a spectrum and a move cost.

    Raises
    ------
    InputError
        If it cannot have these parameters, or if the devices do not say what they cost.
    """
    wanted: dict[str, Any] = {} if num_points is None else {"budget": num_points}
    wanted |= options.parameters
    if safety.max_per_area is not None:
        wanted["max_per_area"] = safety.max_per_area
    costs = DeviceTimes.of(*devices)
    if options.per_second:
        wanted["per_second"] = _rates(costs)
    chosen = strategy.replace(**wanted)
    return chosen.replace(**dwell_parameters(devices[0], costs, chosen, options.dwell))


def _rates(costs: DeviceTimes) -> tuple[float, float]:
    """Return what a spectrum costs (s) and how fast the tip travels (um/s)."""
    dwell, speed = costs.dwell, costs.speed
    if dwell is None or speed is None:
        raise InputError(
            "per_second wants to know how long a spectrum and a move take, and the devices do not "
            "say (docs/devices.md: `seconds`); give it by hand: options={'parameters': "
            "{'per_second': [seconds that a spectrum takes, um/s]}}"
        )
    return dwell, min(speed, 1e12)  # a virtual clock moves in no time; JSON knows no infinity


def warm_start_of(strategy: Strategy, options: RunOptions) -> WarmStart | None:
    """Return what the run is to start from, None for nothing.

    Raises
    ------
    InputError
        If the strategy cannot start from an earlier run.
    """
    if options.warm_start is None:
        if options.warm_gate is not None:
            raise InputError(
                "warm_gate is given without warm_start; give warm_start, too: 'similar'"
            )
        return None
    from curiosity_bluesky.plans.warm_start import WarmStart  # slow to import, and seldom needed

    warm = WarmStart(options.warm_start, options.catalog, options.warm_gate)
    warm.check(strategy)
    return warm


_NO_STRATEGY = "give the run a strategy and a seed: explore(agent, ..., strategy='curious', seed=0)"


def _strategy_and_seed(
    agent: Agent, strategy: Strategy | str | None, seed: int | None, past: InterruptedRun | None
) -> tuple[Strategy, int]:
    """Return what a run begins with; the agent's own, if it has any, must be the same."""
    strategy = Strategy.named(strategy) if isinstance(strategy, str) else strategy
    found = [agent.strategy, strategy, None if past is None else past.strategy]
    seeds = [agent.seed, seed, None if past is None else past.seed]
    known = [each for each in found if each is not None]
    numbers = [each for each in seeds if each is not None]
    if not known or not numbers:
        raise InputError(_NO_STRATEGY)
    if past is None and (known[0] != known[-1] or numbers[0] != numbers[-1]):
        raise InputError(
            f"the run has the strategy {known[-1].name} and seed {numbers[-1]}, the agent its own "
            f"({known[0].name}, {numbers[0]}, or other parameters), and goes by these; make the "
            "agent without: CuriosityAgent()"
        )
    return known[0], numbers[0]


def _first_survey(
    run: RunState, warm: WarmStart | None
) -> MsgGenerator[tuple[Explorer, dict[str, Any]]]:
    """Take the survey; return what is known, and keys for the start document."""
    failed = yield from lower_tip(run.tip, run.options.timeout)
    if failed:
        raise RuntimeError(
            f"the tip could not be lowered for the survey ({failed}); nothing was measured"
        )
    survey = yield from run.tracker.look(run.options.masked, run.options.timeout)
    survey = withhold_pixels(survey, run.options.withhold)
    run.points_given = run.time_budget is None or run.strategy.budget is not None
    if run.time_budget is not None and not run.points_given:
        most = spectra_in(run.time_budget, run.times, survey, run.strategy, run.resurvey)
        run.strategy = limit_seeds(run.strategy.replace(budget=most), run.options.parameters)
    run.strategy.validate(survey)  # before there is a run
    earlier, keys = None, {}
    if warm is not None:
        start = yield from warm.found(survey, run.imager, run.detectors)
        earlier, keys = start.earlier, start.keys
        if earlier is not None:
            run.agent.remember(earlier)
    explorer = Explorer(survey, run.strategy, run.seed, earlier=earlier)
    say_before(explorer)
    return explorer, keys


def _recall(
    run: RunState, past: InterruptedRun, num_points: int | None
) -> MsgGenerator[tuple[Explorer, RunCount]]:
    """Give the agent the documents of the runs before; return what is known, and the counts."""
    closed = None  # what was known where the last run that was closed had ended
    for k, documents_of_one in enumerate(past.runs):
        if k and k == past.closed:
            closed = RunCount.begun(run.agent.explorer)
        for name, doc in documents_of_one:
            run.agent(name, doc)
    outstanding = yield from call_in_thread(run.agent.outstanding)
    for proposal, attempt, quality in outstanding:
        run.pending.append(proposal)
        run.attempts[proposal.decision_id] = attempt, quality
    explorer = run.agent.explorer
    run.broken_off = {p.decision_id: explorer.broken_off(p.decision_id) for p in run.pending}
    run.tracker.recall(past.documents)
    run.points_given = num_points is not None or not past.estimated
    complete = past.ended and explorer.n_observed >= explorer.budget
    if num_points is None and complete:
        raise InputError(
            f"run {past.uid} has all its {explorer.budget} spectra; give num_points= "
            "(or --points) to go on beyond them"
        )
    return explorer, RunCount.resumed(past, closed, explorer)


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


def withhold_pixels(survey: Survey, withhold: float) -> Survey:
    """Return a survey with a share of its pixels masked, to test what is learned."""
    masked = survey.mask | withheld_pixels(survey.shape, withhold)
    return Survey(survey.channels, survey.x, survey.y, masked)


def outline_run(
    run: RunState, past: InterruptedRun | None, num_points: int | None
) -> MsgGenerator[DryRunReport]:
    """Work out what a run would do, or say why it would not."""
    devices = run.detectors, run.x, run.y, run.imager
    yield from device_checks.check_devices(*devices)
    yield from check_bias(run.detectors, run.imager, run.safety.max_bias)
    if past is None:
        mask, agent = run.options.masked, None
        yield from check_area(run.imager, run.strategy, mask, run.x, run.y)
        survey = yield from last_survey(run.imager, mask)
        if survey is not None:
            survey = withhold_pixels(survey, run.options.withhold)
    else:  # what is known here: the run's own agent may be elsewhere, or have a run before it
        agent = CuriosityAgent(earlier=past.earlier)
        for name, doc in past.documents:
            agent(name, doc)
        explorer = yield from call_in_thread(lambda: agent.explorer)
        survey = explorer.survey
        if num_points is not None:
            wanted = explorer.strategy.replace(budget=num_points)
            about = {"strategy": wanted.name, "parameters": wanted.parameters}
            explorer.steer(SteeringRequest(explorer.n_acts, "set", about))
    return (
        yield from call_in_thread(
            DryRunReport.of, run.strategy, run.seed, survey, *devices, run.tip, run.resurvey,
            run.time_budget, agent, run.options.parameters,
        )
    )  # fmt: skip

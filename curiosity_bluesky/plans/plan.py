"""The curiosity plan: an image, some seeds, then one pixel after the other."""

# No `from __future__ import annotations`: the Queue Server reads from the annotations, as they
# are, which parameters are devices; strings would say nothing to it.

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from curiosity_bluesky.agent import Agent, CuriosityAgent
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy, limit_seeds
from curiosity_bluesky.plans import device_arguments, device_checks, readings
from curiosity_bluesky.plans.background import BackgroundCall, call_in_thread
from curiosity_bluesky.plans.dry_run import DryRunReport, format_report
from curiosity_bluesky.plans.exploration import (
    explore,
    outline_run,
    strategy_of_run,
    warm_start_of,
)
from curiosity_bluesky.plans.options import (
    DriftCorrection,
    PlanParameters,
    RunOptions,
    SafetyLimits,
)
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.run_state import RunState
from curiosity_bluesky.plans.simulators import run_inquiry
from curiosity_bluesky.plans.steering import steer

if TYPE_CHECKING:
    from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent

logger = logging.getLogger(__name__)

__all__ = ["curiosity_plan"]

DEFAULT_STRATEGY = "curious"
DEFAULT_POINTS = 100

_AS_IT_BEGAN = {
    "parameters", "mask", "withhold", "lookahead", "per_second", "dwell", "warm_start", "warm_gate",
    "max_per_area", "resurvey_every", "resurvey_minutes",
}  # fmt: skip
"""Options that a run to resume has had from its beginning."""


def curiosity_plan(
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    num_points: int | None = None,
    *,
    strategy: str | None = None,
    seed: int | None = None,
    options: RunOptions | dict | None = None,
    safety: SafetyLimits | dict | None = None,
    drift: DriftCorrection | dict | None = None,
    time_budget: float | None = None,
    resume: str | None = None,
    tip: Movable | None = None,
    agent: str | None = None,
    dry_run: bool = False,
    md: dict | None = None,
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
    options : RunOptions
        How the run learns and decides, and what it does where something fails; a dict of the
        fields does as well, such as ``{"lookahead": 1, "parameters": {"n_seeds": 20}}``.
        ``curiosity schema`` lists the fields.
    safety : SafetyLimits
        What tip and sample must not be put through, such as ``{"max_bias": 8.0}`` (V).
    drift : DriftCorrection
        When the survey is taken again to correct drift, such as ``{"resurvey_every": 10}``.
    time_budget : float
        Seconds that the run may take, survey included: no point is begun that would not be done
        in time.
    resume : str
        uid of a run that was interrupted: this one goes on with it. Strategy, seed, mask and
        the like are those of that run; `num_points` may be given again.
    tip : Movable
        Lifted before each move and lowered after it: anything that can be set to ``up`` and
        ``down``. It is left lifted.
    agent : str
        Address of a `curiosity agent` that learns and decides, such as ``tcp://127.0.0.1:5577``;
        default: this process does. See docs/remote-agent.md.
    dry_run : bool
        Move nothing, measure nothing: show limits, planned seeds and how long it will take.
        The seeds depend on the survey: on what the imager holds from the last time.
    md : dict
        Metadata for the start document; ``sample`` is what runs are searched by.

    Returns
    -------
    str
        uid of the run; with `dry_run` what was shown. Where no RunEngine answers, as under
        `bluesky.simulators` or ``list``, the plan yields the survey and the points that are
        known from the survey that the imager holds, or ends with an `InputError`.

    Raises
    ------
    InputError
        Before anything is written: if there is no such strategy, option or parameter, if a patch
        is larger than the image, if there are fewer pixels than points, if a motor may not go
        where a pixel is, if there is no such run to resume, or if a name, `md` or a spectrum
        cannot be recorded.

    Examples
    --------
    ::

        RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points=60))
    """
    options, safety = RunOptions.of(options), SafetyLimits.of(safety)
    drift = DriftCorrection.of(drift)
    plain = PlanParameters(
        num_points=num_points, strategy=strategy, seed=seed, time_budget=time_budget,
        resume=resume, agent=agent, dry_run=dry_run,
    )  # fmt: skip
    num_points, seed, time_budget = plain.num_points, plain.seed, plain.time_budget
    device_arguments.check_run(detectors, x, y, imager, tip, md, options.steering)
    device_arguments.check_agent(agent, options.agent_lost)
    answered = yield from readings.is_executed()
    with contextlib.ExitStack() as held:
        past = None
        if resume is not None:
            _check_as_it_began(options, safety, drift, strategy, seed)
            past = yield from _fetch(resume, options.catalog)
            held.callback(past.release)
            if past.tip is not None and tip is None:
                raise InputError(
                    f"run {past.uid} lifted its tip ({past.tip}) between two points; "
                    "give tip= again"
                )
            chosen, seed = past.strategy, past.seed
            options, safety, drift = _as_it_began(past, options, safety)
        else:
            if num_points is None and time_budget is None:
                num_points = DEFAULT_POINTS
            named = Strategy.named(strategy or DEFAULT_STRATEGY)
            devices = detectors, x, y, imager, tip
            chosen = strategy_of_run(named, num_points, options, safety, devices)
            chosen = limit_seeds(chosen, options.parameters)
            warm_start_of(chosen, options)  # says what cannot be
        seed = seed or 0
        one: Agent = CuriosityAgent(watchers=(options.steering or steer).watchers)
        if dry_run:
            run = RunState(
                one, chosen, seed, detectors, x, y, imager, tip, options, safety, drift,
                time_budget, steer,
            )  # fmt: skip
            return (yield from _show_outline(run, past, num_points, answered, md))
        if agent is not None and answered:  # what a run would do is worked out here
            one = remote = _remote(agent, options)
            yield from call_in_thread(remote.hello, chosen)
        return (
            yield from explore(
                one, detectors, x, y, imager, None if past is None else num_points,
                strategy=chosen, seed=seed, options=options, safety=safety, drift=drift,
                time_budget=time_budget, tip=tip, md=md, past=past,
            )
        )  # fmt: skip


def _show_outline(
    run: RunState,
    past: InterruptedRun | None,
    num_points: int | None,
    answered: bool,
    md: Mapping[str, Any] | None,
) -> MsgGenerator[DryRunReport]:
    """Print what a run would do, and return it; `answered`: whether a RunEngine executes this."""
    if answered:
        yield from device_checks.check_engine(md or {})
    outlined = outline_run(run, past, num_points)
    outline = (yield from outlined) if answered else run_inquiry(outlined)
    print(format_report(outline))
    if waiting := (run.options.steering or steer).in_words:
        print(f"asked for, and done in the next run: {waiting}")
    return outline


def _check_as_it_began(
    options: RunOptions,
    safety: SafetyLimits,
    drift: DriftCorrection,
    strategy: str | None,
    seed: int | None,
) -> None:
    """Refuse what a run to resume has had from its beginning."""
    given = options.changed() | safety.changed() | drift.changed()
    refused = sorted(given & _AS_IT_BEGAN)
    refused += [n for n, v in (("strategy", strategy), ("seed", seed)) if v is not None]
    if refused:
        raise InputError(
            f"{', '.join(refused)} cannot be given with resume: a run goes on as it began; "
            "change it in the middle of the run with curiosity_bluesky.steer"
        )


def _as_it_began(
    past: InterruptedRun, options: RunOptions, safety: SafetyLimits
) -> tuple[RunOptions, SafetyLimits, DriftCorrection]:
    """Return options with those that a run to resume has had from its beginning."""
    every, minutes = past.resurvey
    bias = past.max_bias if safety.max_bias is None else safety.max_bias
    return (
        options.replace(withhold=past.withhold, lookahead=past.lookahead),
        SafetyLimits(max_bias=bias),
        DriftCorrection(resurvey_every=every, resurvey_minutes=minutes),
    )


def _fetch(uid: str, catalog: str | None) -> MsgGenerator[InterruptedRun]:
    """Fetch the documents of a run, in a thread; a plan that ends meanwhile holds no lock."""
    fetching = BackgroundCall(_fetched, uid, catalog)
    try:
        return (yield from fetching.result())
    except BaseException:
        fetching.discard(InterruptedRun.release)
        raise


def _fetched(uid: str, catalog: str | None) -> InterruptedRun:
    """Fetch the documents of a run from where runs are."""
    from curiosity_bluesky.catalog import connect  # slow to import, and only needed here
    from curiosity_bluesky.plans.warm_start import fetch_interrupted

    with connect(catalog, create=False) as runs:
        return fetch_interrupted(runs, uid)


def _remote(address: str, options: RunOptions) -> "RemoteAgent":
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
    lost = options.agent_lost
    fallback = None if lost == "pause" else lost or FALLBACK
    return RemoteAgent(address, fallback=fallback, patience=options.agent_patience)

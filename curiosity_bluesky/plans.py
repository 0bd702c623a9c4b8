"""The curiosity plan: an image, some seeds, then one pixel after the other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Movable, NamedMovable, Readable
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents, plan_stubs
from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.documents import Record
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy, Survey, withheld_pixels

# What `import *` brings into a profile or a Queue Server: plans to be run by name. `explore` is
# imported by name, since it takes an agent.
__all__ = ["curiosity_plan"]

DEFAULT_STRATEGY = "curious"


def curiosity_plan(
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    num_points: int = 100,
    strategy: str = DEFAULT_STRATEGY,
    seed: int = 0,
    parameters: dict | None = None,
    mask: list | None = None,
    withhold: float = 0.0,
    maps_every: int = 10,
    md: dict | None = None,
) -> MsgGenerator[str]:
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
        Spectra to measure, the seeds included.
    strategy : str
        Name of the strategy; ``Strategy.names()`` lists them.
    seed : int
        Seed of every random choice.
    parameters : dict
        Parameters of the strategy that differ from its defaults.
    mask : list
        (rows, cols), true where nothing may be measured.
    withhold : float
        Share of the pixels that are never measured, so that they can test what was
        learned; for recorded samples, where the truth is known.
    maps_every : int
        Write the maps after so many decisions, and at the end; 0 for at the end only.
    md : dict
        Metadata for the start document; ``sample`` is what runs are searched by.

    Returns
    -------
    str
        uid of the run.

    Raises
    ------
    InputError
        Before anything is written: if there is no such strategy or parameter, if a patch is
        larger than the image, if there are fewer pixels than points, or if a motor may not go
        where a pixel is.

    Examples
    --------
    ::

        RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points=60))
    """
    chosen = Strategy.named(strategy, **{"budget": num_points, **(parameters or {})})
    agent = CuriosityAgent(chosen, seed)
    given = None if mask is None else np.asarray(mask, bool)
    return (yield from explore(agent, detectors, x, y, imager, given, withhold, maps_every, md))


def explore(
    agent: CuriosityAgent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    mask: np.ndarray | None = None,
    withhold: float = 0.0,
    maps_every: int = 10,
    md: dict | None = None,
) -> MsgGenerator[str]:
    """`curiosity_plan` with an agent of one's own, which must know its strategy and seed.

    The parameters are those of `curiosity_plan`. Returns the uid of the run.
    """
    if agent.strategy is None or agent.seed is None:
        raise InputError("give the agent a strategy and a seed: CuriosityAgent(name, seed)")
    if maps_every < 0:
        raise InputError(f"maps_every is {maps_every}; expected 0 or more")
    withheld_pixels((1, 1), withhold)  # complains before anything moves
    strategy, seed = agent.strategy, agent.seed

    def look_and_explore() -> MsgGenerator[str]:
        survey = yield from plan_stubs.look(imager, mask)
        masked = survey.mask | withheld_pixels(survey.shape, withhold)
        survey = Survey(survey.channels, survey.x, survey.y, masked)
        # Whatever cannot be used is said here, before there is a run.
        explorer = Explorer(survey, strategy, seed)
        yield from plan_stubs.check_reach(explorer.reach, x, y)
        budget = explorer.budget
        inner = plan_stubs.in_a_run(
            _explore(agent, detectors, x, y, imager, survey, budget, maps_every),
            _start_document(agent, survey, budget, detectors, x, y, imager, withhold, md or {}),
        )
        try:
            return (yield from bpp.subs_wrapper(inner, agent))
        except BaseException:  # GeneratorExit too: RE.halt() only closes the plan
            agent.cancel()
            raise

    return (yield from bpp.stage_wrapper(look_and_explore(), [*detectors, x, y, imager]))


def _explore(
    agent: CuriosityAgent,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    survey: Survey,
    budget: int,
    maps_every: int,
) -> MsgGenerator[str]:
    """Fill an open run: survey, decisions and spectra, trainings and maps; say why it ended."""
    mask = Record(
        "limits",
        {documents.MASK: survey.mask.astype("|u1")},
        {documents.MASK: "yx"},
        channels=survey.channels,
    )
    yield from plan_stubs.save(documents.SURVEY, [imager, mask])
    n = 0
    why = f"budget: {budget} pixels were visited"
    while n < budget:
        enough, said = yield from plan_stubs.call_in_thread(agent.should_stop)
        if enough:
            why = said
            break
        batch = min(agent.strategy.batch if agent.strategy else 1, budget - n)
        suggest = functools.partial(agent.suggest, batch)
        proposals = yield from plan_stubs.call_in_thread(suggest)
        yield from _save_trainings(agent)
        if not proposals:
            why = "no pixel is left to measure"
            break
        for proposal in proposals:
            decision = Record("decision", documents.decision_values(proposal))
            yield from plan_stubs.save(documents.DECISIONS, [decision])
        for proposal in proposals:
            yield from plan_stubs.visit(proposal, detectors, x, y)
        # No maps before there is a model: asking for them would train one on half the seeds.
        due = maps_every and n // maps_every < (n + len(proposals)) // maps_every
        n += len(proposals)
        if due and n < budget and proposals[0].model_version:
            yield from _save_maps(agent)
    yield from _save_maps(agent)
    for flag in (yield from plan_stubs.call_in_thread(agent.flags)):
        yield from plan_stubs.save(documents.FLAGS, [Record("flag", documents.flag_values(flag))])
    return why


def _save_trainings(agent: CuriosityAgent) -> MsgGenerator[None]:
    for training in agent.take_trainings():
        record = Record("training", documents.training_values(training))
        yield from plan_stubs.save(documents.LEARNING, [record])


def _save_maps(agent: CuriosityAgent) -> MsgGenerator[None]:
    maps = yield from plan_stubs.call_in_thread(agent.maps)
    yield from _save_trainings(agent)
    if any(np.isfinite(values).any() for values in maps.values()):
        arrays = {name: values.astype("<f4") for name, values in maps.items()}
        record = Record("maps", arrays, dict.fromkeys(arrays, "yx"))
        yield from plan_stubs.save(documents.MAPS, [record])


def _start_document(
    agent: CuriosityAgent,
    survey: Survey,
    budget: int,
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    withhold: float,
    md: dict,
) -> dict[str, Any]:
    assert agent.strategy is not None and agent.seed is not None
    # One dimension for each motor, as in the plans of bluesky, for what draws or tabulates.
    dimensions = [(_fields(motor), documents.PRIMARY) for motor in (x, y)]
    return {
        "plan_name": "curiosity_plan",
        "detectors": [detector.name for detector in detectors],
        "motors": [motor.name for motor in (x, y) if isinstance(motor, NamedMovable)],
        "imager": imager.name,
        "num_points": budget,
        "num_intervals": budget - 1,
        "shape": [budget],
        "extents": [[float(a.min()), float(a.max())] for a in (survey.x, survey.y)],
        "survey_shape": list(survey.shape),
        **documents.start_keys(agent.strategy, agent.seed, withhold, version("curiosity-bluesky")),
        **md,
        "hints": {"dimensions": dimensions, **md.get("hints", {})},
    }


def _fields(motor: Any) -> list[str]:
    return list(getattr(motor, "hints", {}).get("fields") or [motor.name])

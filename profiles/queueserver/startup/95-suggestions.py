"""Plans for an agent elsewhere: it has a survey taken, and then measured what it suggests."""

from collections.abc import Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky_adaptive import plans as adaptive

from curiosity_bluesky.adapters.bluesky_adaptive import acquire_suggestions


def survey(imager: Readable, tip: Movable | None = None, md: dict | None = None) -> MsgGenerator:
    """Take the overview image.

    Parameters
    ----------
    imager : Readable
        Takes it.
    tip : Movable
        Lowered before it.
    md : dict
        Metadata for the start document.
    """
    if tip is not None:
        yield from bps.mv(tip, "down")
    return (yield from bp.count([imager], md={**(md or {}), "plan_name": "survey"}))


def measure_suggestions(
    suggestions: list,
    actuators: Sequence[Movable],
    sensors: Sequence[Readable],
    md: dict | None = None,
    tip: Movable | None = None,
    labels: dict | None = None,
) -> MsgGenerator:
    """Measure where an optimiser suggests it: `acquire_suggestions`, with a tip to lift.

    Parameters
    ----------
    suggestions : list
        Points, each with an ``_id`` and positions (um) by the names of the actuators.
    actuators : Sequence[Movable]
        What moves the tip.
    sensors : Sequence[Readable]
        What is measured.
    md : dict
        Metadata that the optimiser's runner gives.
    tip : Movable
        Lifted before each move and lowered after it; it is left lifted.
    labels : dict
        Metadata of one's own.
    """

    # Bluesky goes by the names of its parameters.
    def one(detectors: Sequence[Any], step: Mapping[Any, Any], pos_cache: dict) -> MsgGenerator:
        yield from bps.mv(tip, "up")
        yield from bps.move_per_step(step, pos_cache)
        yield from bps.mv(tip, "down")
        yield from bps.trigger_and_read([*detectors, *step])

    def lifted() -> MsgGenerator:
        yield from bps.mv(tip, "up")

    measured = adaptive.default_acquire(
        suggestions,
        actuators,
        sensors,
        {**(labels or {}), **(md or {}), "plan_name": "measure_suggestions"},
        per_step=None if tip is None else one,
    )
    return (yield from measured if tip is None else bpp.finalize_wrapper(measured, lifted))

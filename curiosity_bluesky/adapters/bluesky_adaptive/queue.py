"""Worker side of bluesky-adaptive's `QueueserverOptimizationRunner`."""

# No `from __future__ import annotations`: the Queue Server reads annotations as they are, and
# cannot read words.

from collections.abc import Sequence

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator


def acquire_suggestions(
    suggestions: list,
    actuators: Sequence[Movable],
    sensors: Sequence[Readable],
    md: dict | None = None,
) -> MsgGenerator[str]:
    """Measure at suggested points, in one run: `default_acquire` as the Queue Server can take it.

    The Queue Server (0.0.25) cannot check the annotations of bluesky-adaptive's own plan, and
    refuses every call of it. Import this one in the startup code and name it to the runner:
    ``QueueserverOptimizationProblem(..., acquisition_plan="acquire_suggestions")``.

    Parameters
    ----------
    suggestions : list
        Mappings with ``_id`` and the position by the names of the actuators.
    actuators : Sequence[Movable]
        What moves.
    sensors : Sequence[Readable]
        What is measured at each point.
    md : dict
        Metadata for the start document.

    Returns
    -------
    str
        uid of the run.
    """
    # Where the plan is not used, its package need not be there.
    from bluesky_adaptive.plans import default_acquire

    return (yield from default_acquire(suggestions, actuators, sensors, md))  # pyright: ignore[reportArgumentType]

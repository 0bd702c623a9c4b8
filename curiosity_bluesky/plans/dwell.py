"""Dwell setting of a run's detector: what it offers, and what the strategy has to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans.time_budget import DeviceTimes


def dwell_setting(detectors: Sequence[Any]) -> Any | None:
    """Return the dwell setting of the detectors, None if they have none.

    It is Movable, with ``values`` (ascending, the last one that of a full spectrum) and
    ``seconds(value)``, see docs/devices.md.

    Raises
    ------
    InputError
        If more than one detector has one.
    """
    found = [d for d in detectors if hasattr(getattr(d, "dwell", None), "values")]
    if len(found) > 1:
        names = ", ".join(detector.name for detector in found)
        raise InputError(
            f"{names} each have a dwell setting, and a spectrum has one; give one of them, or take "
            "the setting (`dwell`) from the others"
        )
    return found[0].dwell if found else None


def dwell_parameters(
    detectors: Sequence[Any], costs: DeviceTimes, strategy: Strategy, wanted: str | float | None
) -> dict[str, Any]:
    """Return the parameters of a strategy that say how long to measure.

    Parameters
    ----------
    detectors
        What measures.
    costs
        What a visit costs.
    strategy
        How pixels are chosen.
    wanted
        ``auto``, ``full`` or a setting; None for ``auto`` where the strategy can choose.

    Raises
    ------
    InputError
        If no detector has a setting and one is wanted, or more than one has one.
    """
    setting = dwell_setting(detectors)
    if setting is None:
        if wanted in (None, "full"):
            return {}
        names = ", ".join(detector.name for detector in detectors)
        raise InputError(
            f"dwell is {wanted!r}, and {names} has no dwell setting; leave dwell out, or give a "
            "detector that has one (docs/devices.md)"
        )
    values = [float(value) for value in setting.values]
    stated = [setting.seconds(value) for value in values]
    seconds = [each for each in stated if each is not None]
    visit = (0.0, 1e12) if costs.visit is None else costs.visit
    if len(seconds) < len(values) or not any(seconds):
        # How long they take is not known, or no time passes: each as long as its setting says.
        seconds, visit = values, (0.0, 1e12)
    parameters = {"dwell_seconds": tuple(zip(values, seconds, strict=True)), "visit_cost": visit}
    if wanted is None:
        wanted = "auto" if strategy.dwell_aware and strategy.per_second is None else "full"
    return {**parameters, "dwell": wanted}

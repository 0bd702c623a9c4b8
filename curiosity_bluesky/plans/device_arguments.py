"""Checks of the arguments of the plan, before any device is asked for anything.

Devices and metadata, which are no JSON; see `options` for what is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curiosity_bluesky.documents.names import check_metadata
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.validation import shown


def check_run(
    detectors: Any, x: Any, y: Any, imager: Any, tip: Any, md: Any, steering: Any
) -> None:
    """Make sure of what `explore` is given too; the parameters are those of the plan.

    Raises
    ------
    InputError
        If one cannot be used.
    """
    if not isinstance(detectors, Sequence) or isinstance(detectors, str) or not detectors:
        raise InputError(f"detectors are {shown(detectors)}; expected a list of one or more")
    devices = [*((f"detectors[{n}]", each, "read") for n, each in enumerate(detectors))]
    devices += [("imager", imager, "read"), ("x", x, "set"), ("y", y, "set")]
    if tip is not None:
        devices.append(("tip", tip, "set"))
    for name, device, method in devices:
        if not (callable(getattr(device, method, None)) and hasattr(device, "parent")):
            raise InputError(f"{name} is {shown(device)}; expected a device that can be {method}")
    if md is not None:
        check_metadata(md)
    if steering is not None and not hasattr(steering, "begin"):
        raise InputError(
            f"steering is {shown(steering)}; expected a Steering, or nothing for "
            "curiosity_bluesky.steer"
        )


def check_agent(address: str | None, lost: str | None) -> None:
    """Make sure of the address of an agent elsewhere, and of what decides while it is away.

    Raises
    ------
    InputError
        If one cannot be used.
    """
    if address is not None:
        from curiosity_bluesky.agent.remote.tokens import endpoint

        endpoint(address)
    elif lost is not None:
        raise InputError("agent_lost is given without agent; give the agent's address, too")
    if lost is not None and lost != "pause":
        from curiosity_bluesky.learning import Strategy

        Strategy.named(lost)

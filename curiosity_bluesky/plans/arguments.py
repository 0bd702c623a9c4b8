"""Checks of the arguments of the plan, before any device is asked for anything.

Types are checked by hand: the Queue Server and profiles give numbers of numpy and of JSON, tuples
for lists and devices of any library, which the types of the signature say too little about.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curiosity_bluesky.documents.names import check_metadata
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.validation import FEW, number, shown, whole_number

_TEXTS = ("strategy", "resume", "warm_start", "agent", "agent_lost")
_COUNTS = {"num_points": 1, "lookahead": 0, "resurvey_every": 0}


def check(given: Mapping[str, Any]) -> None:
    """Make sure that the arguments of `curiosity_plan` are of the kinds that they have to be.

    What they may be together, and what the strategy and the devices allow, is checked by who
    knows it.

    Parameters
    ----------
    given
        The arguments by name.

    Raises
    ------
    InputError
        If one cannot be used.
    """
    check_run(**{name: given[name] for name in _OF_A_RUN})
    for name in _TEXTS:
        if not isinstance(given[name], str | None):
            raise InputError(f"{name} is {shown(given[name])}; expected a text")
    if not isinstance(given["catalog"], str | os.PathLike | None):
        raise InputError(f"catalog is {shown(given['catalog'])}; expected a directory or a URI")
    for name in ("per_second", "dry_run"):
        if not isinstance(given[name], bool | np.bool_):
            raise InputError(f"{name} is {shown(given[name])}; expected True or False")
    for name, least in _COUNTS.items():
        if given[name] is not None:
            whole_number(name, given[name], least, FEW)
    if given["seed"] is not None:
        whole_number("seed", given["seed"])
    number("agent_patience", given["agent_patience"], open_low=True, what="seconds")
    for name, what in (("warm_gate", "a distance"), ("resurvey_minutes", "minutes")):
        if given[name] is not None:
            number(name, given[name], what=what)
    if given["withhold"] is not None:
        number("withhold", given["withhold"], 0.0, 1.0, open_high=True, what="a share")
    _check_names("parameters", given["parameters"])
    _check_agent(given["agent"], given["agent_lost"])


def check_run(
    detectors: Any, x: Any, y: Any, imager: Any, tip: Any, mask: Any, md: Any, steering: Any
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
    _check_mask(mask)
    if md is not None:
        check_metadata(md)
    if steering is not None and not hasattr(steering, "begin"):
        raise InputError(
            f"steering is {shown(steering)}; expected a Steering, or nothing for "
            "curiosity_bluesky.steer"
        )


_OF_A_RUN = ("detectors", "x", "y", "imager", "tip", "mask", "md", "steering")


def _check_mask(mask: Any) -> None:
    if mask is None:
        return
    try:
        found = np.asarray(mask)
    except ValueError:  # rows of different lengths
        found = np.array(0)
    if found.ndim != 2 or found.dtype.kind not in "biuf":
        raise InputError(
            f"mask is {shown(mask)}; expected (rows, cols), true where nothing may be measured"
        )


def _check_names(name: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InputError(f"{name} is {shown(given)}; expected values by name, as a dict")


def _check_agent(address: str | None, lost: str | None) -> None:
    from curiosity_bluesky.learning import Strategy

    if address is not None:
        from curiosity_bluesky.agent.remote.tokens import endpoint

        endpoint(address)
    if lost is not None and lost != "pause":
        Strategy.named(lost)

"""What a run could not be recorded with: asked before anything moves or opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.documents import Record
from curiosity_bluesky.documents.names import (
    Described,
    check_metadata,
    check_start,
    check_stream,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.filed import standing_for
from curiosity_bluesky.readings import Spectra, answer, values

__all__ = ["check_devices", "check_metadata", "check_start"]


def check_devices(
    detectors: Sequence[Readable], x: Movable, y: Movable, imager: Readable
) -> MsgGenerator[None]:
    """Make sure that what devices read can be learned, recorded and read again.

    Nothing moves and nothing is measured. A device that cannot describe itself yet, as before its
    first image, is believed: ask again when it can.

    Raises
    ------
    InputError
        If a device is given twice, a name cannot be recorded, or a spectrum cannot be learned.
    """
    named = [(f"detectors[{k}]", d) for k, d in enumerate(detectors)] + [("x", x), ("y", y)]
    for k, (role, device) in enumerate(named):
        for other, same in named[:k]:
            if same is device:
                raise InputError(
                    f"{getattr(device, 'name', device)} is given twice, as {other} and as {role}; "
                    "give each device once: where the motors are is recorded in any case"
                )
    yield from Spectra(detectors).check()
    ours = Record("expectation", {"decision_id": 0, "attempt": 0, "doses": 0, "remaining": 0.0})
    limits = Record("limits", {documents.MASK: np.zeros((1, 1), "|u1")})
    for stream, devices, own in (
        (documents.PRIMARY, [*detectors, x, y], ours),
        (documents.SURVEY, [standing_for(imager)], limits),
    ):
        described = []
        for device in devices:
            described.append((yield from _described(device)))
        check_stream(stream, described, [Described(own.name, own.describe())])


def _described(device: Any) -> MsgGenerator[Described]:
    """Return a device as a descriptor will have it, as far as it answers."""
    asked: list[Mapping[str, Any]] = []
    for question in ("describe", "read_configuration", "describe_configuration"):
        # Only Readable: it has no configuration.
        asked.append((yield from answer(getattr(device, question, dict), quiet=True)))
    keys, configured, configuration = asked
    hints = getattr(device, "hints", None) or {}
    return Described(device.name, keys, values(configured), configuration, hints)

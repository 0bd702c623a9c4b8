"""What a run could not be recorded with: asked before anything moves or opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bluesky.protocols import Movable, Readable, Triggerable
from bluesky.utils import MsgGenerator

from curiosity_bluesky import documents
from curiosity_bluesky.documents import PlanReadable
from curiosity_bluesky.documents.names import (
    DeviceDescription,
    check_reserved,
    check_start,
    check_stream,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans.device_faults import in_words
from curiosity_bluesky.plans.device_units import check_units
from curiosity_bluesky.plans.readings import (
    ask_devices,
    check_described,
    check_real,
    metadata_of_engine,
    values,
)
from curiosity_bluesky.plans.stream_assets import with_stream_assets

__all__ = ["check_devices", "check_engine", "check_start"]

_KINDS = "describe", "read_configuration", "describe_configuration"


def check_engine(md: Mapping[str, Any]) -> MsgGenerator[None]:
    """Make sure that a start document can be made of `md` and of what the RunEngine adds to it.

    Raises
    ------
    InputError
        If event-model refuses what is in ``RE.md``, or was given with the plan, or a key is one of
        the plan's own.
    """
    always, this_time = yield from metadata_of_engine()
    check_reserved({**always, **this_time}, "RE.md (or RE(plan, ...))")
    check_start({**always, **md, **this_time}, "RE.md (or RE(plan, ...))")


def check_devices(
    detectors: Sequence[Readable],
    x: Movable,
    y: Movable,
    imager: Readable,
    *,
    imaged: bool = False,
    resumed: bool = False,
) -> MsgGenerator[None]:
    """Make sure that what devices read can be learned, recorded and read again.

    Nothing moves and nothing is measured. An imager that cannot describe itself before its first
    image is believed until then.

    Parameters
    ----------
    detectors, x, y, imager
        The devices.
    imaged
        Whether there is a survey, and everything was asked before.
    resumed
        Whether the survey is that of an interrupted run: the imager may have taken no image yet.

    Raises
    ------
    InputError
        If a device is given twice or cannot be asked, a name cannot be recorded, a spectrum cannot
        be learned, or positions are not in um.
    """
    named = [(f"detectors[{k}]", d) for k, d in enumerate(detectors)] + [("x", x), ("y", y)]
    for k, (role, device) in enumerate(named):
        for other, same in named[:k]:
            if same is device:
                raise InputError(
                    f"{getattr(device, 'name', device)} is given twice, as {other} and as {role}; "
                    "give each device once: where the motors are is recorded in any case"
                )
    devices = [*detectors, x, y, with_stream_assets(imager)]
    # Only Readable: it has no configuration. What has no trigger is measured by reading it.
    questions = [getattr(device, kind, dict) for kind in _KINDS for device in devices]
    questions += [d.read if isinstance(d, Triggerable) else dict for d in detectors]
    answers = yield from ask_devices(questions)
    n = len(devices)
    _check_answers(devices if imaged and not resumed else devices[:-1], devices, answers)
    found = [None if isinstance(answer, Exception) else answer for answer in answers]
    for detector, keys, reading in zip(detectors, found, found[3 * n :], strict=False):
        check_real(detector, keys or {}, values(reading))
    described = [
        DeviceDescription(
            device.name,
            keys or {},
            # Without the answer to one of them nothing can be said of the other.
            {} if configuration is None else values(configured),
            configuration or {},
            _hints_of(device),
        )
        for device, keys, configured, configuration in zip(
            devices, found[:n], found[n : 2 * n], found[2 * n : 3 * n], strict=True
        )
    ]
    expectation = {"decision_id": 0, "attempt": 0, "doses": 0, "remaining": 0.0}
    mask = {documents.MASK: np.zeros((1, 1), "|u1")}
    check_stream(documents.PRIMARY, described[:-1], [_recorded("expectation", expectation)])
    check_stream(documents.SURVEY, described[-1:], [_recorded("limits", mask)])
    described_keys = [dict(device.data_keys) for device in described]
    check_described(detectors, described_keys[:-3], imager, described_keys[-1])
    x_described, y_described, imager_described = described[-3:]
    check_units(x_described, y_described, imager_described, [x, y], say=not imaged)


def _check_answers(
    asked: Sequence[Any], devices: Sequence[Any], answers: Sequence[Mapping[str, Any] | Exception]
) -> None:
    """Refuse a device that cannot say what its readings are: no event of it could be written."""
    for k, kind in enumerate(_KINDS):
        for device, answer in zip(devices, answers[k * len(devices) :], strict=False):
            if isinstance(answer, Exception) and device in asked:
                raise InputError(
                    f"{device.name}.{kind}() fails ({in_words(answer)}), and without its answer "
                    "nothing can be recorded; see to the device and begin again"
                )


def _recorded(name: str, values: Mapping[str, Any]) -> DeviceDescription:
    return DeviceDescription(name, PlanReadable(name, values).describe())


def _hints_of(device: Any) -> Mapping[str, Any]:
    """Return the hints of a device, {} where it has none."""
    return getattr(device, "hints", None) or {}

"""What a tip and a sample must not be put through: asked before anything moves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator
from numpy.typing import NDArray

from curiosity_bluesky.documents.spectra import as_array, real
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy, Survey
from curiosity_bluesky.plans import device_faults, stubs

logger = logging.getLogger(__name__)

UP, DOWN = "up", "down"
"""What a tip is set to between two points, and for a survey or a spectrum."""

_VOLTS = {"V": 1.0, "volt": 1.0, "volts": 1.0, "mV": 1e-3}


def check_bias(
    detectors: Sequence[Readable], imager: Readable, max_bias: float | None
) -> MsgGenerator[None]:
    """Make sure that nothing applies more than so many volts.

    Parameters
    ----------
    detectors, imager
        Their configuration says what they apply: each 1-D array or number in V or mV.
    max_bias
        Largest allowed absolute value (V); None: any.

    Raises
    ------
    InputError
        If one of them applies more, or if none of them says what it applies.
    """
    if max_bias is None:
        return
    said = False
    applied: dict[str, float] = {}
    for detector in (*detectors, imager):
        asked = getattr(detector, "describe_configuration", None)
        if asked is None:  # only Readable: it has nothing to say of itself
            continue
        described = yield from stubs.call_device(asked)
        values = yield from stubs.configuration(detector)
        for key, about in described.items():
            scale = _VOLTS.get(about.get("units") or "")
            if scale is not None and np.size(values[key]):
                # Of what is complex the amplitude is applied.
                amplitude = np.abs(as_array(key, values[key]))
                applied[key] = float(real(key, amplitude).max()) * scale
                said |= detector is not imager
    if not said:
        names = ", ".join(detector.name for detector in detectors) or "no detector"
        raise InputError(
            f"max_bias is {max_bias:g} V, but the configuration of {names} holds nothing in V or "
            "mV; let the device say its bias axis with units, or leave max_bias out"
        )
    for key, volts in applied.items():
        if not volts <= max_bias * (1 + 1e-9):  # NaN is no promise
            raise InputError(
                f"{key} goes to {volts:g} V, and max_bias allows {max_bias:g} V; nothing has "
                "moved: lower the amplitude at the instrument, or raise max_bias"
            )


def check_area(
    imager: Readable, strategy: Strategy, mask: NDArray | None, x: Movable, y: Movable
) -> MsgGenerator[None]:
    """Make sure, before there is an image, that the motors may go where pixels will be.

    It needs the axes of the imager; an imager that does not know them beforehand is believed,
    and the survey is checked when it is there.

    Raises
    ------
    InputError
        If a motor refuses.
    """
    axes: dict[str, NDArray] = {}
    for key, value in (yield from stubs.configuration(imager)).items():
        for axis in "xy":
            if key.endswith((f"_{axis}", f"-{axis}")) and np.ndim(value) == 1:
                axes[axis] = np.asarray(value)
    if len(axes) < 2 or min(map(len, axes.values())) < strategy.patch_size:
        return
    blank = np.zeros((len(axes["y"]), len(axes["x"])))
    masked = np.zeros(blank.shape, bool) if mask is None else mask
    patches = strategy.patches(Survey({"": blank}, **axes, mask=masked))
    reach = patches.unflatten(patches.allowed.astype(float)) == 1
    yield from stubs.check_reach(Survey({"": blank}, **axes, mask=~reach), x, y)


def lower_tip(tip: Movable | None, timeout: float) -> MsgGenerator[str | None]:
    """Bring the tip to the sample and wait for it; say what failed, None if nothing did."""
    if tip is None:
        return None
    return (yield from device_faults.wait_for_all([device_faults.GuardedSet(tip, DOWN)], timeout))


def lift_tip(tip: Movable | None, timeout: float) -> MsgGenerator[None]:
    """Take the tip off the sample; where it fails, say so and go on: the next move will not."""
    if tip is not None:
        failed = yield from device_faults.wait_for_all([device_faults.GuardedSet(tip, UP)], timeout)
        if failed:
            logger.error("the tip may still be on the sample: %s", failed)


def lift_finally(plan: MsgGenerator[Any], tip: Movable | None, timeout: float) -> MsgGenerator[Any]:
    """Leave the tip lifted when the plan ends, also by an error, RE.stop() or RE.abort()."""
    if tip is None:
        return (yield from plan)
    return (yield from bpp.finalize_wrapper(plan, lambda: lift_tip(tip, timeout)))

"""Units of positions: the plan sends um to the motors, whatever the devices say."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from curiosity_bluesky.documents.names import DeviceDescription
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans.measuring import position_keys
from curiosity_bluesky.utils.lengths import micrometres_in

logger = logging.getLogger(__name__)


def check_units(
    x: DeviceDescription,
    y: DeviceDescription,
    imager: DeviceDescription,
    motors: Sequence[Any],
    *,
    say: bool = True,
) -> None:
    """Make sure that motors and axes of the survey are in um, as far as they tell.

    Parameters
    ----------
    x, y, imager
        What the devices describe.
    motors
        The motors x and y themselves.
    say
        Whether it is said where a unit is not known, and um is assumed.

    Raises
    ------
    InputError
        If one is in another unit of length, or x and y differ.
    """
    of_motors = {
        f"the motor {described.name}": _unit_of_motor(described, motor)
        for described, motor in zip((x, y), motors, strict=True)
    }
    of_axes = {
        f"the axis {key} of the survey": about.get("units")
        for key, about in imager.configuration.items()
        if key.endswith(("_x", "-x", "_y", "-y")) and len(about.get("shape", ())) == 1
    }
    for units in (of_motors, of_axes):
        _check(units)
        unknown = [what for what, unit in units.items() if micrometres_in(unit) is None]
        if say and unknown:
            said = ", ".join(
                f"{what} {f'is in {units[what]!r}' if units[what] else 'names no units'}"
                for what in unknown
            )
            logger.warning("%s: um is assumed; let it be described with the units 'um'", said)


def _check(units: Mapping[str, Any]) -> None:
    for what, unit in units.items():
        um = micrometres_in(unit)
        if um not in (None, 1.0):
            raise InputError(
                f"{what} is in {unit}, and the plan measures positions in um: 1 um would be taken "
                f"for 1 {unit}, which is {um:g} um; let the device give and take um, and describe "
                "them with the units 'um'"
            )
    different = {"um" if micrometres_in(unit) else unit for unit in units.values() if unit}
    if len(different) > 1:
        said = " and ".join(f"{what} is in {unit}" for what, unit in units.items())
        raise InputError(f"{said}; expected one unit, um: let both devices give and take um")


def _unit_of_motor(described: DeviceDescription, motor: Any) -> Any:
    """Return the units of the data key that says where a motor is, None if it says none."""
    keys = described.data_keys
    first = position_keys(motor)[0]
    key = first if first in keys else next(iter(keys), None) if len(keys) == 1 else None
    units = None if key is None else keys[key].get("units")
    if units:
        return units
    # What is not in the description is a default as often as not, such as the mm of ophyd.sim.
    attribute = getattr(motor, "egu", None)
    return attribute if micrometres_in(attribute) == 1.0 else None

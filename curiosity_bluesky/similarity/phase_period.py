"""Period of circular channels, such as phases, and lengths of images in um."""

from __future__ import annotations

import math

from curiosity_bluesky.utils.lengths import micrometres_in as um_in

__all__ = ["period_of", "um_in"]


def period_of(name: str, units: str) -> float | None:
    """Return the period of circular values, None if they are not circular.

    Parameters
    ----------
    name
        Of the channel; one with ``phase`` in it is circular.
    units
        Of its values; ones that are neither degrees nor radians say nothing.
    """
    if "phase" not in name.lower():
        return None
    units = units.strip().lower()
    if units.startswith("deg") or units == "°":
        return 360.0
    return 2 * math.pi if units.startswith("rad") else None

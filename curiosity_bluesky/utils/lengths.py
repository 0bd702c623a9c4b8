"""Units of length, as files and devices name them."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "fm": 1e-9,
    "femtometer": 1e-9,
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "ångström": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "km": 1e9,
    "inch": 25400.0,
}


def _spellings(name: str) -> list[str]:
    """Return a unit in British and American spelling, one of it and several."""
    if len(name) < 3:
        return [name]
    both = {name, name[:-2] + "re" if name.endswith("meter") else name}
    return [spelt + end for spelt in sorted(both) for end in ("", "s")]


UM = {spelt: um for name, um in _NAMES.items() for spelt in _spellings(name)}
"""Micrometres in a unit of length, written small."""


def micrometres_in(units: Any) -> float | None:
    """Return the micrometres in a unit of length, None if it is none that is known."""
    return UM.get(units.strip().lower()) if isinstance(units, str) else None

"""Checks of the numbers that a user gives."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from curiosity_bluesky.errors import InputError

LONGEST = 1e9
"""The longest time that a timer takes, s: about 30 years."""

FEW = 1_000_000
"""More points, attempts or decisions than any run has."""

PROCESSES = 1000
"""More than any machine here runs at once."""

LARGEST = 2**53 - 1
"""Whole numbers beyond it differ from reader to reader of JSON; the store cuts them down to it."""


def number(
    name: str,
    value: Any,
    least: float = 0.0,
    most: float = LONGEST,
    *,
    open_low: bool = False,
    open_high: bool = False,
    what: str = "a number",
) -> float:
    """Return a finite number within bounds as a float.

    Parameters
    ----------
    name
        What the user calls it, for the error.
    value
        What was given: an int or a float of Python or numpy. A bool is not a number.
    least, most
        The bounds.
    open_low, open_high
        Whether a bound itself is outside.
    what
        What is expected, such as ``"seconds"``, for the error.

    Raises
    ------
    InputError
        If it is not a number, not finite, or outside the bounds.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        # An int as it is: a float may be another number, or none at all.
        found = int(value) if isinstance(value, Integral) else float(value)
        over = found > least if open_low else found >= least
        if over and (found < most if open_high else found <= most):  # NaN is neither
            return float(found)
    low = f"more than {least:g}" if open_low else f"{least:g} or more"
    high = f" and {'less than' if open_high else 'at most'} {most:g}"
    plain = most >= PROCESSES and value != math.inf  # a bound that only a mistake goes beyond
    raise InputError(f"{name} is {shown(value)}; expected {what}, {low}{'' if plain else high}")


def whole_number(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """Return a whole number within bounds as an int; the parameters are those of `number`.

    Raises
    ------
    InputError
        If it is not a whole number (``3.0`` is one, ``True`` is not), or outside the bounds.
    """
    found = number(name, value, least, most, what="a whole number")
    if found.is_integer():
        return int(value)  # not that of the float, which may be another one
    raise InputError(f"{name} is {shown(value)}; expected a whole number, such as {found:.0f}")


def shown(value: Any) -> str:
    """Return a value for an error, on one line and not too long."""
    plain = isinstance(value, Real) and not isinstance(value, bool)
    text = " ".join((str(value) if plain else repr(value)).split())
    return text if len(text) <= 60 else f"{text[:57]}..."

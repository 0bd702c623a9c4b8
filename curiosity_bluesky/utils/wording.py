"""Words of messages: nouns after a number, and the name that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def plural(n: int, noun: str, several: str = "") -> str:
    """Return a noun as it stands after a number.

    Parameters
    ----------
    n
        The number.
    noun
        For one.
    several
        For any other number; default: with an s.
    """
    return noun if n == 1 else several or f"{noun}s"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the question whether one of the known names was meant; "" where none is near.

    Parameters
    ----------
    name
        What was given.
    known
        Names that there are, in any case.
    """
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""

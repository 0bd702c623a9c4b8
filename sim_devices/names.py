"""Names for channels and axes of a recording that a data key, and the store of runs, can hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

KEPT = frozenset(" _-&:*|<>[],@~")
"""Signs that stay in a name, besides ASCII letters and digits: those that a data key takes, and
that a catalogue keeps as the name of a file, of a column and in the address of an array."""

LONGEST = 100
"""Characters of a name; with the names of device and stream it becomes the name of a file."""

COORDINATES = (
    *("event", "point", "time", "decision_id", "row", "col", "x", "y", "reason", "decided_by"),
    *("predicted_error", "novelty", "uncertainty", "acquisition", "exploration_weight"),
    *("n_observed", "model_version", "seconds", "to_come"),
)
"""What a measured point is described by (`curiosity_bluesky.documents.read`): no spectrum has an
axis of this name."""

_PREDICTED = "_predicted"  # beside a channel: what was expected of it
_SYMBOLS = {"\u00b5": "u", "\u03bc": "u", "\u2126": "Ohm", "\u03a9": "Ohm", "\u00b0": "deg"}
"""Micro sign, mu, Ohm sign, Omega, degree sign."""


def legal_names(
    names: Sequence[str],
    data: Iterable[str] = (),
    configuration: Iterable[str] = (),
    default: str = "channel",
) -> list[str]:
    """Return a name for each of these that a run can hold; what it can hold stays as it is.

    The same names in the same order always become the same.

    Parameters
    ----------
    names
        As a file has them. Equal ones, or ones that differ in upper and lower case alone,
        are numbered from the second on, in their order.
    data
        Names of other data of the device, which these must differ from in more than case.
    configuration
        Names of its axes and settings.
    default
        For a name with no letter or digit.
    """
    plain = [_plain(name, default) for name in names]
    used = {name.lower() for name in data}
    used |= {f"{name.lower()}{_PREDICTED}" for name in plain}
    apart = set(configuration)
    # What can stay comes first, so that "a.b" cannot take the place of an "a_b" after it.
    found: dict[int, str] = {}
    for i in sorted(range(len(names)), key=lambda i: plain[i] != names[i]):
        candidate, count = plain[i], 1
        while candidate.lower() in used or candidate in apart:
            count += 1
            candidate = f"{plain[i]}_{count}"
        used.add(candidate.lower())
        found[i] = candidate
    return [found[i] for i in range(len(names))]


def legal_axis(name: str) -> str:
    """Return a name for the axis of the spectra that a run can hold and `read` can tell apart."""
    plain = _plain(name, "axis")
    return f"{plain}_axis" if plain in COORDINATES else plain


def renamed(what: str, names: Sequence[str], legal: Sequence[str]) -> str:
    """Say in words which names became others, "" if none did."""
    pairs = [f"{a!r} to {b!r}" for a, b in zip(names, legal, strict=True) if a != b]
    return f"{what} renamed: {', '.join(pairs)}" if pairs else ""


def _plain(name: str, default: str) -> str:
    """Spell a name with the signs that stay: Greek letters by their names, others as _."""
    spelled = "".join(map(_spelled, name))[:LONGEST]
    return spelled if any(sign.isalnum() for sign in spelled) else default


def _spelled(sign: str) -> str:
    if sign.isascii():
        return sign if sign.isalnum() or sign in KEPT else "_"
    if sign in _SYMBOLS:
        return _SYMBOLS[sign]
    words = unicodedata.name(sign, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        letter = words[words.index("LETTER") + 1].lower()
        return letter.capitalize() if "CAPITAL" in words else letter
    plain = unicodedata.normalize("NFKD", sign)
    kept = "".join(part for part in plain if part.isascii() and part.isalnum())
    return kept or ("" if unicodedata.combining(sign) else "_")

"""Names of channels and axes of a recording, as a run can hold them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence

KEPT = frozenset(" !$&*,-:<>@[]^_{|}~")
"""Signs that stay in a name, besides ASCII letters and digits: all that the store has no trouble
with (`curiosity_bluesky.documents.names`)."""

LONGEST = 37
"""Characters of a spectral channel: a data key has 60, ``spectrometer_`` and ``_predicted`` too."""

LONGEST_IMAGE = 53
"""Characters of an image channel: a data key has 60, ``imager_`` too."""

COORDINATES = (
    *("event", "point", "time", "decision_id", "row", "col", "x", "y", "reason", "decided_by"),
    *("predicted_error", "novelty", "uncertainty", "acquisition", "exploration_weight"),
    *("n_observed", "model_version", "seconds", "to_come", "dwell"),
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
    longest: int = LONGEST,
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
    longest
        Characters of a name.
    """
    spelled = [plain(name, default, longest, KEPT) for name in names]
    used = {name.lower() for name in data}
    apart = set(configuration)
    # What can stay comes first, so that "a.b" cannot take the place of an "a_b" after it.
    found: dict[int, str] = {}
    for i in sorted(range(len(names)), key=lambda i: spelled[i] != names[i]):
        candidate, count = spelled[i], 1
        while (
            candidate.lower() in used
            or candidate in apart
            or candidate.lower().endswith(_PREDICTED)
        ):
            count += 1
            candidate = f"{spelled[i][: longest - len(str(count)) - 1]}_{count}"
        used.add(candidate.lower())
        found[i] = candidate
    return [found[i] for i in range(len(names))]


def legal_axis(name: str) -> str:
    """Return a name for the axis of the spectra that a run can hold and `read` can tell apart."""
    spelled = plain(name, "axis", LONGEST, KEPT)
    return f"{spelled}_axis" if spelled in COORDINATES else spelled


def renamed(what: str, names: Sequence[str], legal: Sequence[str]) -> str:
    """Say in words which names became others, "" if none did."""
    pairs = [f"{a!r} to {b!r}" for a, b in zip(names, legal, strict=True) if a != b]
    return f"{what} renamed: {', '.join(pairs)}" if pairs else ""


def plain(name: str, default: str, longest: int, kept: Collection[str] = ()) -> str:
    """Spell a name in ASCII letters and digits: Greek letters by their names, other signs as _.

    Parameters
    ----------
    name
        Any text.
    default
        For a name with no letter or digit.
    longest
        Characters of the name; more are left out, of a path at its start.
    kept
        Other signs that stay.
    """
    spelled = "".join(_spelled(sign, kept) for sign in name).strip().replace("--", "__")
    # Of a path in a file, its end says most.
    spelled = (spelled[-longest:] if "/" in name else spelled[:longest]).strip()
    return spelled if any(sign.isalnum() for sign in spelled) else default


def _spelled(sign: str, kept: Collection[str]) -> str:
    if sign.isascii():
        return sign if sign.isalnum() or sign in kept else "_"
    if sign in _SYMBOLS:
        return _SYMBOLS[sign]
    words = unicodedata.name(sign, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        letter = words[words.index("LETTER") + 1].lower()
        return letter.capitalize() if "CAPITAL" in words else letter
    parts = unicodedata.normalize("NFKD", sign)
    letters = "".join(part for part in parts if part.isascii() and part.isalnum())
    return letters or ("" if unicodedata.combining(sign) else "_")

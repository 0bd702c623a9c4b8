"""Registry of the descriptors, by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.descriptors.protocol import Descriptor
from curiosity_bluesky.utils.wording import did_you_mean

DEFAULT = "texture"
"""Default descriptor."""

# A name, the module and the class: one line each. A module is imported when it is asked for,
# since a network brings torch along.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (DEFAULT, "curiosity_bluesky.similarity.descriptors.texture", "Texture"),
    ("symmetry", "curiosity_bluesky.similarity.symmetry.classifier", "SymmetryScores"),
    ("learned", "curiosity_bluesky.similarity.descriptors.learned", "Learned"),
)


def names() -> tuple[str, ...]:
    """Return the names of all descriptors, the default first, importing none of them."""
    return tuple(name for name, _, _ in _KNOWN)


def check(name: str) -> None:
    """Raise InputError if there is no descriptor of a name, importing none of them."""
    if name not in names():
        raise InputError(
            f"there is no descriptor {name!r}; there are {', '.join(names())}."
            f"{did_you_mean(name, names())}"
        )


@cache
def named(name: str) -> Descriptor:
    """Return a descriptor, always the same one.

    Parameters
    ----------
    name
        One of `names`.

    Raises
    ------
    InputError
        If none has that name.
    """
    check(name)
    [(module, kind)] = [where for known_name, *where in _KNOWN if known_name == name]
    return getattr(import_module(module), kind)()


def known() -> dict[str, Descriptor]:
    """Return all descriptors by name, the default first; this imports what they need."""
    return {name: named(name) for name in names()}

"""Strategies by their names: ours, those of installed packages, those of a notebook.

A package brings one by an entry point of the group `GROUP`, named as the strategy is::

    [project.entry-points."curiosity_bluesky.strategies"]
    edges = "my_package.edges:Edges"

Ours are listed here, so that a tree that is not installed has them. None is imported before it
is asked for: the learning takes seconds to import.
"""

from __future__ import annotations

import importlib
import logging
import sys
from dataclasses import is_dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar, cast

from curiosity_bluesky.errors import InputError

if TYPE_CHECKING:
    from curiosity_bluesky.learning.strategy import Strategy

logger = logging.getLogger(__name__)

GROUP = "curiosity_bluesky.strategies"
"""Group of the entry points by which packages bring strategies."""
ROOM = "curiosity_bluesky.learning.strategies"
BUILT_IN = {
    "curious": "curious:Curious",
    "dkl": "dkl:DeepKernelLearning",
    "farthest": "farthest:Farthest",
    "grid": "grid:Grid",
    "lcmd": "lcmd:LCMD",
    "oracle": "oracle:Oracle",
    "random": "random:Random",
    "sobol": "sobol:Sobol",
    "theory": "theory:Theory",
    "variance": "variance:Variance",
    "vatsavai2025-ensemble": "vatsavai2025_ensemble:Vatsavai2025Ensemble",
    "vatsavai2025-latent": "vatsavai2025_latent:Vatsavai2025Latent",
    "vatsavai2025-mcd": "vatsavai2025_mcd:Vatsavai2025MCD",
    "vatsavai2025-spec2im": "vatsavai2025_spec2im:Vatsavai2025Spec2Im",
}
"""Module in `ROOM` and class of each of ours."""

_Class = TypeVar("_Class", bound="type[Strategy]")
_REGISTERED: dict[str, type[Strategy]] = {}


def register(cls: _Class) -> _Class:
    """Make a strategy available by its name in this process (class decorator).

    It comes before one of the same name that is ours or installed.
    """
    _REGISTERED[cls.name] = cls
    return cls


def names() -> list[str]:
    """Names of all strategies that can be had, sorted.

    Those of installed packages are imported for it. One that cannot be is left out, and a warning
    is logged, once.
    """
    return sorted({*_REGISTERED, *BUILT_IN, *_installed()[0]})


def find(name: str) -> type[Strategy] | None:
    """Return the strategy of a name; None if there is none.

    Raises
    ------
    InputError
        If an installed package has it and it cannot be imported.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in BUILT_IN:
        return _built_in(name)
    found, broken = _installed()
    if name not in found and name in broken:
        raise InputError(f"{broken[name]}; mend or uninstall that distribution")
    return found.get(name)


def load_built_in() -> None:
    """Import all of ours, with every library that they learn by."""
    for name in BUILT_IN:
        _built_in(name)


def _built_in(name: str) -> type[Strategy]:
    module, _, cls = BUILT_IN[name].partition(":")
    return getattr(importlib.import_module(f"{ROOM}.{module}"), cls)


def _installed() -> tuple[dict[str, type[Strategy]], dict[str, str]]:
    """Return the strategies of installed packages, and what is wrong with the others."""
    return _installed_on(tuple(sys.path))


@lru_cache(maxsize=1)
def _installed_on(path: tuple[str, ...]) -> tuple[dict[str, type[Strategy]], dict[str, str]]:
    found: dict[str, type[Strategy]] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda one: (one.name, _origin(one))):
        about = f"the strategy {point.name!r} of the distribution {_origin(point)}"
        try:
            if point.name in BUILT_IN:
                raise InputError("its name is that of one of ours")
            if point.name in found:
                raise InputError("its name is that of another distribution's")
            found[point.name] = _checked(point.name, point.load())
        except (Exception, SystemExit) as error:  # it is the code of others
            said = str(error)
            if not isinstance(error, InputError):
                said = f"{type(error).__name__}: {said}"
            logger.warning("%s cannot be used: %s", about, said)
            broken.setdefault(point.name, f"{about} cannot be used: {said}")
    return found, broken


def _origin(point: EntryPoint) -> str:
    """Name and version of the distribution that an entry point comes with."""
    known = point.dist
    return f"{known.name} {known.version}" if known is not None else "?"


def _checked(name: str, cls: Any) -> type[Strategy]:
    """Make sure that an entry point leads to a strategy of its name."""
    if not (isinstance(cls, type) and is_dataclass(cls) and hasattr(cls, "build")):
        raise InputError(
            f"its entry point leads to {cls!r}; expected a frozen dataclass that inherits from "
            "Strategy"
        )
    if getattr(cls, "name", None) != name:
        raise InputError(
            f"the name of its class is {getattr(cls, 'name', None)!r}; expected that of its entry "
            f"point, {name!r}"
        )
    return cast("type[Strategy]", cls)

"""An instrument that decides for itself where to measure next.

The everyday names; each is imported from its room when it is first used, so that a
command that only lists runs does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curiosity_bluesky.agent import CuriosityAgent as CuriosityAgent
    from curiosity_bluesky.catalog import connect as connect
    from curiosity_bluesky.documents import read as read
    from curiosity_bluesky.learning import Explorer as Explorer
    from curiosity_bluesky.learning import Strategy as Strategy
    from curiosity_bluesky.learning import Survey as Survey
    from curiosity_bluesky.plans import curiosity_plan as curiosity_plan
    from curiosity_bluesky.steering import steer as steer
    from curiosity_bluesky.told_to_end import end_in_order as end_in_order

_ROOMS = {
    "CuriosityAgent": "agent",
    "Explorer": "learning",
    "Strategy": "learning",
    "Survey": "learning",
    "connect": "catalog",
    "curiosity_plan": "plans",
    "end_in_order": "told_to_end",
    "read": "documents",
    "steer": "steering",
}
__all__ = [*_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

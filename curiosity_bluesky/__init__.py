"""An instrument that decides for itself where to measure next.

The public names; each is imported from its room when it is first used, so that a
command that only lists runs does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.agent import CuriosityAgent as CuriosityAgent
    from curiosity_bluesky.agent import RemoteAgent as RemoteAgent
    from curiosity_bluesky.analysis import predict as predict
    from curiosity_bluesky.catalog import connect as connect
    from curiosity_bluesky.documents import read as read
    from curiosity_bluesky.errors import InputError as InputError
    from curiosity_bluesky.learning import Explorer as Explorer
    from curiosity_bluesky.learning import Observation as Observation
    from curiosity_bluesky.learning import Proposal as Proposal
    from curiosity_bluesky.learning import Strategy as Strategy
    from curiosity_bluesky.learning import Survey as Survey
    from curiosity_bluesky.learning import register as register
    from curiosity_bluesky.plans import curiosity_plan as curiosity_plan
    from curiosity_bluesky.plans import explore as explore
    from curiosity_bluesky.plans.options import DriftCorrection as DriftCorrection
    from curiosity_bluesky.plans.options import RunOptions as RunOptions
    from curiosity_bluesky.plans.options import SafetyLimits as SafetyLimits
    from curiosity_bluesky.plans.posix_signals import end_in_order as end_in_order
    from curiosity_bluesky.plans.steering import steer as steer

_ROOMS = {
    "CuriosityAgent": "agent",
    "DriftCorrection": "plans.options",
    "Explorer": "learning",
    "InputError": "errors",
    "Observation": "learning",
    "Proposal": "learning",
    "RemoteAgent": "agent",
    "RunOptions": "plans.options",
    "SafetyLimits": "plans.options",
    "Strategy": "learning",
    "Survey": "learning",
    "connect": "catalog",
    "curiosity_plan": "plans",
    "end_in_order": "plans.posix_signals",
    "explore": "plans",
    "predict": "analysis",
    "read": "documents",
    "register": "learning",
    "steer": "plans.steering",
}
__all__ = [*_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _ROOMS)

"""The plan of a curious run, its parts, and what happens round it in the RunEngine.

``import *`` brings a profile or a Queue Server the plans that are run by name; `explore` is
imported by name, since it takes an agent.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.plans.exploration import explore as explore
    from curiosity_bluesky.plans.options import DriftCorrection as DriftCorrection
    from curiosity_bluesky.plans.options import RunOptions as RunOptions
    from curiosity_bluesky.plans.options import SafetyLimits as SafetyLimits
    from curiosity_bluesky.plans.plan import curiosity_plan as curiosity_plan

_MODULES = {
    "DriftCorrection": "options",
    "RunOptions": "options",
    "SafetyLimits": "options",
    "curiosity_plan": "plan",
    "explore": "exploration",
}
__all__ = ["curiosity_plan"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

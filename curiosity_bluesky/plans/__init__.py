"""The plan of a curious run, its parts, and what happens round it in the RunEngine.

``import *`` brings a profile or a Queue Server the plans that are run by name; `explore` is
imported by name, since it takes an agent.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.plans.plan import curiosity_plan as curiosity_plan
    from curiosity_bluesky.plans.plan import explore as explore
    from curiosity_bluesky.plans.run_loop import RunSettings as RunSettings

_MODULES = {
    "RunSettings": "run_loop",
    "curiosity_plan": "plan",
    "explore": "plan",
}
__all__ = ["curiosity_plan"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

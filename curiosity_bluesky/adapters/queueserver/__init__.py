"""Runs on a Queue Server: its client, the processes around it, and decisions from outside."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.adapters.queueserver.drive import DriveResult as DriveResult
    from curiosity_bluesky.adapters.queueserver.facility import PROFILE as PROFILE
    from curiosity_bluesky.adapters.queueserver.facility import Facility as Facility
    from curiosity_bluesky.adapters.queueserver.facility import FacilityPaths as FacilityPaths
    from curiosity_bluesky.adapters.queueserver.manager import WISHES as WISHES
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient as QueueClient
    from curiosity_bluesky.adapters.queueserver.manager import describe_error as describe_error
    from curiosity_bluesky.adapters.queueserver.manager import describe_item as describe_item

_MODULES = {
    "DriveResult": "drive",
    "Facility": "facility",
    "FacilityPaths": "facility",
    "PROFILE": "facility",
    "QueueClient": "manager",
    "WISHES": "manager",
    "describe_error": "manager",
    "describe_item": "manager",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

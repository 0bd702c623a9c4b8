"""The three devices over EPICS Channel Access, on pyepics.

They talk to an IOC that has the process variables of docs/epics.md, such as ``curiosity ioc``;
stages may be any motor records. Data keys, configuration and documents are those of the
devices on drivers in Python: only the sources differ.

What waits for the instrument waits in threads. What the RunEngine's loop asks for, it is
answered from what Channel Access has told last: while the connection is lost, at once with a
`ConnectionError`.
"""

from curiosity_bluesky.devices.epics.access import CONNECT_SECONDS, check_pyepics
from curiosity_bluesky.devices.epics.detectors import EpicsImager, EpicsSpectrometer
from curiosity_bluesky.devices.epics.stage import EpicsAFMStage, EpicsAxis

__all__ = [
    "CONNECT_SECONDS",
    "EpicsAFMStage",
    "EpicsAxis",
    "EpicsImager",
    "EpicsSpectrometer",
    "check_pyepics",
]

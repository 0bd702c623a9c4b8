"""The simulated microscope as an EPICS IOC, served over Channel Access by caproto.

`records` says which process variables there are; docs/epics.md explains them. Nothing here is
imported by the rest of `sim_devices`, so that caproto is needed only where an IOC runs.
"""

from sim_devices.ioc.process import IOCProcess
from sim_devices.ioc.settings import DEFAULT_PREFIX, client_environment

__all__ = ["DEFAULT_PREFIX", "IOCProcess", "client_environment"]

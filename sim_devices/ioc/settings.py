"""What an IOC and its clients have to agree on."""

from __future__ import annotations

import socket

DEFAULT_PREFIX = "SPM:"
"""What the names of all process variables begin with."""

LOOPBACK = "127.0.0.1"


def client_environment(port: int, host: str = LOOPBACK) -> dict[str, str]:
    """Return the environment variables by which a Channel Access client finds an IOC.

    A client reads them once, when it looks for its first process variable.

    Parameters
    ----------
    port
        UDP port on which the IOC answers searches.
    host
        Where it runs.
    """
    return {
        "EPICS_CA_ADDR_LIST": f"{host}:{port}",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
    }


def server_environment(port: int, host: str = LOOPBACK) -> dict[str, str]:
    """Return the environment variables with which an IOC listens on one interface only.

    Parameters
    ----------
    port
        UDP port on which it answers searches.
    host
        Address of the interface.
    """
    local = {
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_CAS_BEACON_ADDR_LIST": LOOPBACK,
        # caproto's own beacons go by the client's names of the same two.
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_ADDR_LIST": LOOPBACK,
    }
    return {
        "EPICS_CA_SERVER_PORT": str(port),
        "EPICS_CAS_SERVER_PORT": str(port),
        "EPICS_CAS_INTF_ADDR_LIST": host,
        **(local if host == LOOPBACK else {}),
    }


def free_port(host: str = LOOPBACK) -> int:
    """Return a port that is free for UDP and for TCP now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((host, 0))
            port = udp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
                try:
                    tcp.bind((host, port))
                except OSError:
                    continue
            return port

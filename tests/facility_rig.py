"""What tests with a real Queue Server share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil

from curiosity_bluesky.adapters.queueserver.facility import Facility
from curiosity_bluesky.catalog import Catalog

FREE = dict.fromkeys(("control", "info", "documents_in", "documents_out", "agent", "tiled"), 0)
"""Ports that nobody has."""

PATIENCE = 120.0
"""How long something may take on a machine that is busy with other things, s."""


def eventually(condition: Callable[[], Any]) -> None:
    """Wait until something is so; not so often that asking is what takes the time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def whole(catalog: Catalog, uid: str) -> Any:
    """Return a run from Tiled once it is there to its end: it goes in in the background."""
    eventually(lambda: uid in list(catalog) and catalog[uid].metadata.get("stop"))
    return catalog[uid]


def family(*pids: int) -> list[psutil.Process]:
    """Return processes with all that they have started."""
    leaders = [psutil.Process(pid) for pid in pids]
    return [*leaders, *(each for one in leaders for each in one.children(recursive=True))]


def everybody(facility: Facility) -> list[psutil.Process]:
    """Return all processes of a facility."""
    return family(*(child.pid for child in facility.children if child.alive))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

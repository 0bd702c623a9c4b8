"""Number of the last run, from which a new session counts on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curiosity_bluesky.errors import Unreachable

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.catalog import Catalog

_LOOKED_AT = 10
"""Newest runs that are looked at: one that was imported has no number."""


def last_scan_id(catalog: Catalog) -> int:
    """Return the highest ``scan_id`` of the newest runs; 0 where none or no server is there.

    ``RE.md["scan_id"] = last_scan_id(catalog)`` has a new RunEngine count on from it. It is asked
    once: no run waits for the catalogue. Two sessions at the same time may use a number twice; a
    run is known by its uid.

    Parameters
    ----------
    catalog
        Where the runs are.
    """
    try:
        found = [run.scan_id for run in catalog.runs(last=_LOOKED_AT)]
    except Unreachable:  # what is measured waits in the journal
        return 0
    return max((number for number in found if isinstance(number, int)), default=0)

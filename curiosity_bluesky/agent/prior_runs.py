"""The run that another one started from, as a catalogue has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.documents import WARM_SPECTRA, WARM_START, prior_run_from
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun


def prior_run_of(catalog: Catalog, start: Mapping[str, Any]) -> PriorRun | None:
    """Fetch the run that another one started from; None for a cold start.

    Parameters
    ----------
    catalog
        Where runs are.
    start
        Start document of the run that is to go on.

    Raises
    ------
    InputError
        If it is gone, or lacks spectra that it had.
    """
    uid = start.get(WARM_START)
    if uid is None:
        return None
    try:
        earlier = prior_run_from(doc for run in catalog.lineage(uid) for doc in run)
    except InputError as error:
        raise InputError(
            f"run {start['uid']} started from run {uid}, which {catalog.where} does not have any "
            f"more, so it cannot go on as it would have ({error}); put that run back, or begin a "
            "new run"
        ) from error
    return spectra_at_start(earlier, start, catalog.where)


def spectra_at_start(earlier: PriorRun, start: Mapping[str, Any], where: str) -> PriorRun:
    """Return an earlier run with the spectra that it had when another one started from it.

    Parameters
    ----------
    earlier
        As it is now.
    start
        Start document of the other one.
    where
        Name of the catalogue, for the message.

    Raises
    ------
    InputError
        If it has fewer spectra now.
    """
    spectra = int(start[WARM_SPECTRA])
    if len(earlier) < spectra:
        raise InputError(
            f"run {start['uid']} started from {spectra} spectra of run {start[WARM_START]}, of "
            f"which {where} has {len(earlier)} left; put them back, or begin a new run"
        )
    return earlier.first(spectra)

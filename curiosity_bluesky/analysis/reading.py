"""Documents of a stored run, with those of the runs that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from curiosity_bluesky.agent.prior_runs import spectra_at_start
from curiosity_bluesky.documents import WARM_START, Document, in_order, prior_run_from
from curiosity_bluesky.documents.reading import lineage
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun


def whole_run(run: Any) -> tuple[Iterator[Document], PriorRun | None]:
    """Return the documents of a run after those of the runs that it went on with.

    With them the run that it started from (warm start), None if there is none.

    Parameters
    ----------
    run
        A run from a catalogue.

    Raises
    ------
    InputError
        If the run knows no documents, or a run that it rests on is not in the catalogue any more.
    """
    if not hasattr(run, "documents"):
        raise InputError(
            "this run is read from files, which know no documents; connect without serve=False"
        )
    pieces = lineage(run)
    warm = pieces[0].start.get(WARM_START)
    earlier = None
    if warm is not None:
        try:
            origin = lineage(pieces[0].parent[warm])
        except KeyError:
            raise InputError(
                f"run {pieces[0].start['uid']} started from run {warm}, which is not in the "
                "catalogue any more; put it back, and try again"
            ) from None
        earlier = spectra_at_start(
            prior_run_from(_documents(origin)), pieces[0].start, "the catalogue"
        )
    return _documents(pieces), earlier


def _documents(pieces: Iterable[Any]) -> Iterator[Document]:
    return chain.from_iterable(in_order(piece.documents()) for piece in pieces)

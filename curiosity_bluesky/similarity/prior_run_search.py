"""Search of the earlier run to start from: the most similar one with the same axes, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.documents import (
    PRIMARY,
    SURVEY,
    WARM_ASKED,
    WARM_DISTANCE,
    WARM_GATE,
    WARM_REASON,
    WARM_SPECTRA,
    WARM_START,
    Channel,
    channels_of,
    check_channels,
    prior_run_from,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun, Survey
from curiosity_bluesky.similarity.descriptors import named
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index import Index
from curiosity_bluesky.similarity.index.collection import Collection
from curiosity_bluesky.similarity.index.run_images import streams_of

logger = logging.getLogger(__name__)

SIMILAR = "similar"
"""Keyword in place of a uid."""

GATE = 53.5
"""Texture distance above which no earlier run is taken: the 95th percentile of the distances
between two tiles of one map. `benchmarks/warm_start.py` measures it, for each version of the
descriptor."""

TRIED = 20
"""Maximum nearest runs that are tested for one that fits."""

TROUBLE = (InputError, httpx.HTTPError, KeyError, ValueError)
"""What a catalogue comes to grief with: runs that do not fit, a server that went away, data that
are gone or damaged. A run is not lost to that where it would do as well without."""

BY = "texture"
"""Descriptor of the comparison."""


@dataclass(frozen=True, eq=False)
class WarmStartSource:
    """Source of a warm start.

    Parameters
    ----------
    asked
        ``similar``, or a uid.
    earlier
        The earlier run, None for a cold start.
    distance
        Of that run, or of the one that is beyond the gate; None where none was looked at.
    gate
        The distance above which none is taken, None if any.
    reason
        Why this one, or none.
    """

    asked: str
    earlier: PriorRun | None
    distance: float | None
    gate: float | None
    reason: str

    @property
    def keys(self) -> dict[str, Any]:
        """Its entry in the start document."""
        known = {
            WARM_ASKED: self.asked,
            WARM_START: None if self.earlier is None else self.earlier.uid,
            WARM_SPECTRA: None if self.earlier is None else len(self.earlier),
            WARM_DISTANCE: self.distance,
            WARM_GATE: self.gate,
            WARM_REASON: self.reason,
        }
        return {key: value for key, value in known.items() if value is not None}


def find_prior_run(
    asked: str,
    catalog: Catalog,
    survey: Survey,
    images: Callable[[], Mapping[str, Image]],
    channels: Sequence[Channel],
    gate: float = GATE,
) -> WarmStartSource:
    """Find the earlier run to start from.

    Parameters
    ----------
    asked
        ``similar``: the one whose survey is nearest by its texture, unless it is farther than
        the gate; else the uid of a run, or its first characters: that one.
    catalog
        Where runs are.
    survey
        The new one.
    images
        Returns its channels by data key, with their scale.
    channels
        Those of the spectra to be measured.
    gate
        The distance above which no run is taken.

    Raises
    ------
    InputError
        If the run that is asked for does not exist, is still open, or does not fit. Whatever
        keeps a similar one from being found is the reason of a cold start.
    """
    if asked != SIMILAR:
        earlier = _fetched(catalog, asked, survey, channels)
        return WarmStartSource(asked, earlier, None, None, f"run {earlier.uid} was asked for")
    try:
        ranked = nearest_runs(Index(catalog, [BY]).collection(), images())
    except TROUBLE as error:  # nothing is indexed before the first run of all
        reason = _said(error)
        logger.warning("cold start: %s", reason)
        return WarmStartSource(asked, None, None, gate, reason)
    passed_over = ""
    for uid, distance in ranked[:TRIED]:
        if distance > gate:
            reason = f"the next run, {uid}, is {distance:.3g} away, beyond the gate of {gate:.3g}"
            logger.info("cold start: %s", reason)
            return WarmStartSource(asked, None, distance, gate, reason)
        try:
            _check_axes(catalog, uid, channels)
            earlier = _fetched(catalog, uid, survey, channels)
        except TROUBLE as error:
            why = _said(error)
            logger.info("run %s is passed over: %s", uid, why)
            passed_over = passed_over or f"; the nearest: {why}"
            continue
        reason = f"the most similar of {len(ranked)} runs, {distance:.3g} away"
        logger.info("starting from run %s: %s", earlier.uid, reason)
        return WarmStartSource(asked, earlier, distance, gate, reason)
    tried = len(ranked[:TRIED])
    reason = f"none of the {tried} nearest runs with the same survey channels fits{passed_over}"
    logger.info("cold start: %s", reason)
    return WarmStartSource(asked, None, None, gate, reason)


def nearest_runs(collection: Collection, images: Mapping[str, Image]) -> list[tuple[str, float]]:
    """Return the runs whose survey has the same channels, with their distance, nearest first.

    The distance is the mean over the channels.

    Parameters
    ----------
    collection
        What is indexed.
    images
        The new survey by data key.
    """
    describe = named(BY)
    vectors = collection.vectors.get(BY)
    if vectors is None or not len(collection):
        return []
    wanted = {key: describe(image) for key, image in images.items()}
    apart: dict[str, dict[str, float]] = {}
    for entry, vector in zip(collection.entries, vectors, strict=True):
        if entry.stream == SURVEY and entry.event == 0 and entry.key in wanted:
            distance = float(np.linalg.norm(vector - wanted[entry.key]))
            apart.setdefault(entry.uid, {})[entry.key] = distance
    means = {uid: float(np.mean(list(d.values()))) for uid, d in apart.items()
             if len(d) == len(wanted)}  # fmt: skip
    return sorted(means.items(), key=lambda pair: (pair[1], pair[0]))


def _check_axes(catalog: Catalog, uid: str, channels: Sequence[Channel]) -> None:
    """Check the axes of a run in Tiled, without reading its spectra."""
    primary = streams_of(catalog[uid]).get(PRIMARY)
    if primary is None:
        raise InputError(f"run {uid} has no spectra; nothing can start from it")
    check_channels(uid, channels_of(primary.metadata), list(channels))


def _said(error: Exception) -> str:
    """Return an error in one line, with its package where it is not ours."""
    said = " ".join(str(error).split())
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"


def _fetched(catalog: Catalog, uid: str, survey: Survey, channels: Sequence[Channel]) -> PriorRun:
    runs = catalog.lineage(uid)
    if not any(name == "stop" for name, _ in runs[-1]) and _is_open(catalog, uid):
        raise InputError(f"run {uid} is still open; start from one that has ended")
    earlier = prior_run_from((doc for run in runs for doc in run), list(channels))
    earlier.check_survey(survey)
    return earlier


def _is_open(catalog: Catalog, uid: str) -> bool:
    return catalog.status(catalog[uid]) == "open"

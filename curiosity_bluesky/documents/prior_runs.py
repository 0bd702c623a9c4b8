"""Prior runs: the spectra of an earlier run that a new one starts from, and their axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.documents.replay import replay
from curiosity_bluesky.documents.schema import PRIMARY
from curiosity_bluesky.documents.spectra import real
from curiosity_bluesky.documents.translate import channel_keys, configured_axis
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import PriorRun
from curiosity_bluesky.learning.prior_run import SAME_AXIS


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel of a spectrum.

    Parameters
    ----------
    key
        Its data key.
    points
        Of the spectrum.
    units
        Of its axis, "" if unknown.
    axis
        ``(points,)``, None if unknown.
    """

    key: str
    points: int
    units: str
    axis: NDArray | None

    def __str__(self) -> str:
        if self.axis is None:
            return f"{self.key} with {self.points} points"
        ends = f"{float(np.min(self.axis)):g} to {float(np.max(self.axis)):g}"
        return f"{self.key} with {self.points} points from {ends} {self.units}".rstrip()

    def is_like(self, other: Channel) -> bool:
        """Say whether another channel is this one, along the same axis."""
        if (self.key, self.points) != (other.key, other.points):
            return False
        if self.axis is None or other.axis is None:
            return self.axis is other.axis
        if self.units != other.units:
            return False
        width = max(float(np.ptp(self.axis)), 1e-300)
        return bool(np.abs(self.axis - other.axis).max() <= SAME_AXIS * width)


def channels_of(descriptor: Mapping[str, Any]) -> list[Channel]:
    """Return the channels of the spectra that are learned, each with its axis.

    Parameters
    ----------
    descriptor
        A descriptor document of the primary stream, or what one would say.
    """
    found = []
    for key in channel_keys(descriptor):
        axis = configured_axis(descriptor, key)
        units, values = ("", None) if axis is None else (axis[0], real(key, axis[1]))
        found.append(Channel(key, int(descriptor["data_keys"][key]["shape"][-1]), units, values))
    return found


def prior_run_from(
    documents: Iterable[tuple[str, Mapping[str, Any]]], wanted: list[Channel] | None = None
) -> PriorRun:
    """Return what was measured in a run, for another one to start from.

    Parameters
    ----------
    documents
        All of the run, and before them those of the runs that it went on with.
    wanted
        The channels that it has to have; None for any.

    Raises
    ------
    InputError
        If the run has no survey or no spectra, or they lie along other axes.
    """
    uid = "?"
    channels: list[Channel] | None = None

    def noted() -> Iterator[tuple[str, Mapping[str, Any]]]:
        nonlocal uid, channels
        for name, doc in documents:
            if name == "start":
                uid = doc["uid"]
            elif name == "descriptor" and doc["name"] == PRIMARY:
                channels = channels_of(doc)
            yield name, doc

    run = replay(noted())
    if run is None or channels is None:
        raise InputError(f"run {uid} has no survey or no spectra; nothing can start from it")
    if wanted is not None:
        check_channels(uid, channels, wanted)
    good = run.good
    return PriorRun(
        uid,
        run.survey,
        np.array([o.pixel for o in good], dtype=np.intp).reshape(len(good), 2),
        np.array([o.spectrum for o in good]).reshape(len(good), run.points or 0),
        channels[0].axis if len(channels) == 1 else None,
    )


def check_channels(uid: str, found: list[Channel], wanted: list[Channel]) -> None:
    """Make sure that the spectra of a run lie along the same axes as others.

    Parameters
    ----------
    uid
        Of the run.
    found
        Its channels.
    wanted
        The others.

    Raises
    ------
    InputError
        If they do not.
    """
    alike = len(found) == len(wanted)
    if not (alike and all(a.is_like(b) for a, b in zip(found, wanted, strict=True))):
        raise InputError(
            f"run {uid} measured {', '.join(map(str, found)) or 'nothing'}; this one measures "
            f"{', '.join(map(str, wanted)) or 'nothing'}: start from a run with the same axes"
        )

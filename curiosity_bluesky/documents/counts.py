"""Point count: good spectra of a run and its budget, counted as the plan counts them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from event_model import unpack_event_page

from curiosity_bluesky.documents.schema import FAILURES, PRIMARY, RESUMES, STEERING
from curiosity_bluesky.documents.spectra import quality_of, spectrum_of
from curiosity_bluesky.documents.translate import channel_keys
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import BEGUN

Key = tuple[int | None, int]

_ODD = (AttributeError, InputError, LookupError, OverflowError, TypeError, ValueError)
"""What a document raises that another program wrote, or that was damaged."""


class PointCount:
    """Counts the good spectra of a run from its documents.

    A spectrum that is not good enough to learn from is written all the same, and its point is
    tried again: it does not count for the budget, here as in the plan. A run that goes on with
    the one before is counted together with it. It hears every document that a RunEngine emits,
    and reads damaged journals: what it cannot understand counts for nothing, and raises nothing.

    Attributes
    ----------
    budget : int or None
        Spectra that are asked for: of the start document, unless it was changed during the run.
    """

    def __init__(self) -> None:
        self.budget: int | None = None
        self._uid = ""
        self._least = 0.0
        self._streams: dict[str, str] = {}
        self._channels: dict[str, list[str]] = {}
        self._quality: dict[Key, float] = {}
        self._failed: set[Key] = set()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document."""
        with contextlib.suppress(*_ODD):
            if name == "start":
                self._begin(doc)
            elif name == "descriptor":
                self._streams[doc["uid"]], self._channels[doc["uid"]] = doc["name"], []
                if doc["name"] == PRIMARY:
                    self._channels[doc["uid"]] = channel_keys(doc)
            elif name == "event":
                described = doc["descriptor"]
                self._event(
                    self._streams[described], doc["data"], doc["seq_num"], self._channels[described]
                )
            elif name == "event_page":
                for event in unpack_event_page(dict(doc)):  # pyright: ignore[reportArgumentType]
                    self("event", event)

    def take(self, start: Mapping[str, Any], tables: Mapping[str, Mapping[str, list[Any]]]) -> None:
        """Count a run that is kept as tables.

        Parameters
        ----------
        start
            Its start document.
        tables
            Of each stream what its events hold, data key to values. Spectra need not be there:
            without them what was said of their quality counts, and that they failed.
        """
        self("start", start)
        for stream, columns in tables.items():
            for number, values in enumerate(zip(*columns.values(), strict=True)):
                with contextlib.suppress(*_ODD):
                    self._event(stream, dict(zip(columns, values, strict=True)), number, [])

    def _event(
        self, stream: str, data: Mapping[str, Any], number: int, channels: list[str]
    ) -> None:
        if stream == PRIMARY:
            self._quality.setdefault(_key(data, number), _quality(data, channels))
        elif stream == FAILURES and data.get("reason") != BEGUN:
            self._failed.add((_whole(data["decision_id"]), _whole(data["attempt"])))
        elif stream == STEERING and data["kind"] == "set":
            self._set(json.loads(data["arguments"])["parameters"])

    def _begin(self, start: Mapping[str, Any]) -> None:
        if start.get(RESUMES) != self._uid or not self._uid:
            self._quality.clear()
            self._failed.clear()
            self._least = 0.0
        self._uid = start["uid"]
        self._streams.clear()
        self._set(start.get("curiosity_parameters"))
        points = start.get("num_points")
        self.budget = points if isinstance(points, int) else None  # also a new one on resuming

    @property
    def n(self) -> int:
        """Number of good spectra."""
        return len(self._good)

    @property
    def decisions(self) -> set[int]:
        """Decisions that led to a good spectrum."""
        return {number for number, _ in self._good if number is not None}

    @property
    def _good(self) -> set[Key]:
        good = {key for key, quality in self._quality.items() if quality >= self._least}
        return good - self._failed

    def _set(self, parameters: Any) -> None:
        if not isinstance(parameters, Mapping):  # of another plan, which may call anything so
            return
        budget, least = parameters.get("budget"), parameters.get("min_quality")
        if isinstance(budget, int):
            self.budget = budget
        if isinstance(least, int | float):
            self._least = float(least)


def _quality(data: Mapping[str, Any], channels: Iterable[str]) -> float:
    """Return the quality of a spectrum; 0 for one that cannot be learned."""
    if "decision_id" not in data:  # of another plan, which may measure anything
        return 1.0
    try:
        return spectrum_of(data, channels).quality if channels else quality_of(data, [])
    except _ODD:
        return 0.0


def _key(data: Mapping[str, Any], number: int) -> Key:
    try:
        return _whole(data["decision_id"]), _whole(data.get("attempt", 0))
    except _ODD:  # of another plan: each event is a point
        return None, number


def _whole(value: Any) -> int:
    """Return a whole number as such.

    Raises
    ------
    ValueError, TypeError, OverflowError
        If it is none.
    """
    number = int(value)
    if number != value:  # text of digits, or a fraction
        raise ValueError(f"{value!r} is no whole number")
    return number

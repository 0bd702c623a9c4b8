"""How many spectra a run has, and how many it is to have: counted as the plan counts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from curiosity_bluesky.documents.keys import FAILURES, PRIMARY, RESUMES, STEERING
from curiosity_bluesky.documents.spectra import quality_of, spectrum_of
from curiosity_bluesky.documents.translate import channel_keys
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import BEGUN

Key = tuple[int | None, int]


class Count:
    """Counts the good spectra of a run from its documents.

    A spectrum that is not good enough to learn from is written all the same, and its point is
    tried again: it does not count for the budget, here as in the plan. A run that goes on with
    the one before is counted together with it.

    Attributes
    ----------
    budget : int or None
        Spectra that are asked for: of the start document, unless somebody changed it.
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
        """Take in one document."""
        if name == "start":
            self.begin(doc)
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
            self._channels[doc["uid"]] = channel_keys(doc) if doc["name"] == PRIMARY else []
        elif name == "event":
            stream, data = self._streams.get(doc["descriptor"]), doc["data"]
            if stream == PRIMARY:
                quality = _quality(data, self._channels[doc["descriptor"]])
                self._quality.setdefault(_key(data, doc["seq_num"]), quality)
            elif stream == FAILURES and "decision_id" in data and data.get("reason") != BEGUN:
                self._failed.add((int(data["decision_id"]), int(data["attempt"])))
            elif stream == STEERING and "kind" in data:
                self._act(data["kind"], data.get("arguments"))

    def begin(self, start: Mapping[str, Any]) -> None:
        """Take in a start document."""
        if start.get(RESUMES) != self._uid or not self._uid:
            self._quality.clear()
            self._failed.clear()
        self._uid = start["uid"]
        self._streams.clear()
        self._set(start.get("curiosity_parameters"))
        self.budget = start.get("num_points")  # one that was given anew on resuming, too

    def take(
        self,
        column: Callable[[str, str], list[Any] | None],
        qualities: list[str],
    ) -> None:
        """Take in a run that is kept as tables.

        Parameters
        ----------
        column
            Given a stream and a data key, returns its values; None where there are none.
        qualities
            Data keys of the primary stream that say the quality.
        """
        numbers = column(PRIMARY, "decision_id") or []
        attempts = column(PRIMARY, "attempt") or [0] * len(numbers)
        said = [column(PRIMARY, key) or [] for key in qualities]
        for k, key in enumerate(zip(numbers, attempts, strict=True)):
            values = {f"{n}_quality": values[k] for n, values in enumerate(said)}
            whole = [] if said else [np.arange(2.0)]
            self._quality.setdefault((int(key[0]), int(key[1])), quality_of(values, whole))
        failed = column(FAILURES, "decision_id") or []
        attempts, reasons = column(FAILURES, "attempt") or [], column(FAILURES, "reason") or []
        for number, attempt, reason in zip(failed, attempts, reasons, strict=True):
            if reason != BEGUN:
                self._failed.add((int(number), int(attempt)))
        kinds = column(STEERING, "kind") or []
        for kind, arguments in zip(kinds, column(STEERING, "arguments") or [], strict=True):
            self._act(kind, arguments)

    @property
    def n(self) -> int:
        """Number of good spectra."""
        good = {key for key, quality in self._quality.items() if quality >= self._least}
        return len(good - self._failed)

    def _act(self, kind: str, arguments: Any) -> None:
        if kind == "set" and isinstance(arguments, str):
            self._set(json.loads(arguments).get("parameters"))

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
    try:
        return spectrum_of(data, channels).quality
    except (InputError, KeyError):
        return 0.0


def _key(data: Mapping[str, Any], seq_num: int) -> Key:
    if "decision_id" not in data:  # of another plan: each event is a point
        return None, seq_num
    return int(data["decision_id"]), int(data.get("attempt", 0))

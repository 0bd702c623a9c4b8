"""Evaluation functions of bluesky-adaptive that hand the spectrum on, from documents or Tiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import event_model
import numpy as np
import xarray as xr

from curiosity_bluesky.adapters.bluesky_adaptive.points import (
    ID,
    Measurement,
    Outcome,
    prediction_error,
)
from curiosity_bluesky.documents import PRIMARY, channel_keys, read_stream, spectrum_of
from curiosity_bluesky.documents.translate import configured_axis
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Proposal

Figure = Callable[[Measurement], float]
"""Function from a measurement to a scalar, such as the area of a loop."""

ORDER = "blop_acquisition_order"
"""Key of the start document: ids of the suggestions in the order in which they were measured."""

_KEPT = 16
"""Maximum number of runs remembered before their outcomes are asked for."""
_POLL = 0.05
"""Seconds between two polls of the catalogue."""


@dataclass(frozen=True, eq=False)
class PrimaryEvent:
    """One event of the primary stream.

    Parameters
    ----------
    data
        By data key.
    descriptor
        Of its stream, or the stream's metadata in Tiled.
    """

    data: Mapping[str, Any]
    descriptor: Mapping[str, Any]


class _Evaluation:
    """Base of the evaluation functions.

    Parameters
    ----------
    channels
        Data keys of the spectrum. Default: every 1-D array of the primary stream.
    figures
        Numbers to be made of each spectrum, by the name that they have in the outcome.
    """

    def __init__(
        self,
        channels: Sequence[str] | None = None,
        figures: Mapping[str, Figure] | None = None,
    ) -> None:
        self.channels = None if channels is None else list(channels)
        self.figures = dict(figures or {})

    def __call__(self, uid: Any, suggestions: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Return what was measured for each suggestion.

        Parameters
        ----------
        uid
            What the acquisition plan returned: the uid of its run, or in `optimize_in_run` the
            ids of the suggestions as they were measured.
        suggestions
            Of any optimiser.

        Returns
        -------
        list of Outcome
            In the order of the suggestions. Keys: ``_id``, ``quality``, the figures; and where
            our optimiser made the suggestion ``prediction_error`` and what the decision went by,
            see docs/bluesky-adaptive.md.

        Raises
        ------
        InputError
            If there is no spectrum for one of them.
        """
        readings, order = self._readings(uid)
        if not readings:
            raise InputError(f"nothing was measured in {uid!r} as far as is known here{self._hint}")
        matched = _matched(readings, suggestions, order)
        return [
            self._outcome(suggestion, reading)
            for suggestion, reading in zip(suggestions, matched, strict=True)
        ]

    _hint = ""

    def _readings(self, uid: Any) -> tuple[list[PrimaryEvent], Sequence[Any]]:
        """Return the events, and the ids of the suggestions in their order, if that is known."""
        raise NotImplementedError

    def _outcome(self, suggestion: Mapping[str, Any], reading: PrimaryEvent) -> Outcome:
        measured = self._measurement(reading)
        proposal: Proposal | None = getattr(suggestion, "proposal", None)
        scalars = {ID: suggestion[ID], "quality": measured.quality}
        if proposal is not None:
            scalars |= {
                "prediction_error": prediction_error(proposal, measured.spectrum),
                "predicted_error": float(proposal.predicted_error),
                "novelty": float(proposal.novelty),
                "uncertainty": float(proposal.uncertainty),
                "acquisition": float(proposal.acquisition),
                "exploration_weight": float(proposal.exploration_weight),
                "n_observed": int(proposal.n_observed),
                "model_version": int(proposal.model_version),
            }
        useful = np.isfinite(measured.spectrum).any()
        for name, figure in self.figures.items():
            scalars[name] = float(figure(measured)) if useful else float("nan")
        return Outcome.of(scalars, measured)

    def _measurement(self, reading: PrimaryEvent) -> Measurement:
        descriptor, data = reading.descriptor, reading.data
        keys = channel_keys(descriptor) if self.channels is None else self.channels
        missing = [key for key in keys if key not in data]
        if missing or not keys:
            wanted = f"{', '.join(missing)} is" if keys else "a 1-D array is"
            raise InputError(
                f"{wanted} not among what was read ({', '.join(data)}); expected a detector that "
                "reads a spectrum, and its data keys as channels="
            )
        spectrum = spectrum_of(data, keys)
        found = configured_axis(descriptor, keys[0]) if len(keys) == 1 else None
        return Measurement(
            spectrum.values,
            None if found is None else np.asarray(found[1], float),
            max(0.0, spectrum.quality),
            data,
        )


@dataclass
class _MeasuredRun:
    """A run as far as its documents have come in."""

    start: Mapping[str, Any]
    descriptors: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    readings: dict[int, PrimaryEvent] = field(default_factory=dict)
    """By ``seq_num``: an event that a pause repeated counts once, the first time."""
    done: int = 0
    """Number of its first events that have been asked for."""
    stopped: bool = False


class FromDocuments(_Evaluation):
    """Evaluation function on documents, without a catalogue.

    Subscribe its method `receive` to what emits them: ``RE.subscribe(evaluation.receive)``,
    ``RE(plan, evaluation.receive)`` or ``dispatcher.subscribe(evaluation.receive)``. The
    parameters are ``channels`` and ``figures``: data keys of the spectrum (default: all 1-D arrays
    of the primary stream), and numbers to be made of each, by name.

    Examples
    --------
    ::

        evaluation = FromDocuments(figures={"area": lambda m: np.ptp(m.spectrum)})
        RE(optimize_in_run(problem, iterations=60), evaluation.receive)
    """

    _hint = "; subscribe it before the run: RE.subscribe(evaluation.receive)"

    def __init__(
        self,
        channels: Sequence[str] | None = None,
        figures: Mapping[str, Figure] | None = None,
    ) -> None:
        super().__init__(channels, figures)
        self._runs: dict[str, _MeasuredRun] = {}

    def receive(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document."""
        if name == "start":
            for uid in list(self._runs)[: 1 - _KEPT]:
                del self._runs[uid]
            self._runs[doc["uid"]] = _MeasuredRun(doc)
        elif name == "descriptor" and doc["name"] == PRIMARY:
            # It may have been subscribed in the middle of the run.
            run = self._runs.setdefault(doc["run_start"], _MeasuredRun({}))
            run.descriptors[doc["uid"]] = doc
        elif name == "event":
            for run in self._runs.values():
                if (descriptor := run.descriptors.get(doc["descriptor"])) is not None:
                    run.readings.setdefault(doc["seq_num"], PrimaryEvent(doc["data"], descriptor))
        elif name == "event_page":
            for event in event_model.unpack_event_page(doc):  # pyright: ignore[reportArgumentType]
                self.receive("event", event)
        elif name == "stop" and doc["run_start"] in self._runs:
            self._runs[doc["run_start"]].stopped = True

    def _readings(self, uid: Any) -> tuple[list[PrimaryEvent], Sequence[Any]]:
        if isinstance(uid, str):
            run = self._runs.pop(uid, None)
            if run is None:
                return [], ()
            return list(run.readings.values()), run.start.get(ORDER, ())
        # What was measured since the last time in the run that is open: the newest.
        run = next(reversed(self._runs.values()), None)
        if run is None or run.stopped:
            return [], ()
        new = [reading for n, reading in run.readings.items() if n > run.done]
        run.done = max([run.done, *run.readings])
        run.readings.clear()
        return new, uid if isinstance(uid, Sequence) else ()


class FromTiled(_Evaluation):
    """Evaluation function on a catalogue, by the uid of the run.

    For plans with a run for each iteration (`optimize`, the Queue Server's runner): the ids that
    `optimize_in_run` hands over name no run.

    Parameters
    ----------
    catalog
        What `connect` returns, or a Tiled client of a catalogue of runs.
    channels, figures
        As for `FromDocuments`.
    timeout
        Seconds to wait until all of the run is there: it is written in the background.
    """

    def __init__(
        self,
        catalog: Any,
        channels: Sequence[str] | None = None,
        figures: Mapping[str, Figure] | None = None,
        timeout: float = 60.0,
    ) -> None:
        super().__init__(channels, figures)
        self.catalog = catalog
        self.timeout = timeout

    def _readings(self, uid: Any) -> tuple[list[PrimaryEvent], Sequence[Any]]:
        if not isinstance(uid, str):
            raise InputError(
                f"{uid!r} is no uid of a run: optimize_in_run names only the suggestions; use "
                "FromDocuments with it, or optimize, which makes a run for each iteration"
            )
        deadline = time.monotonic() + self.timeout
        while (found := self._whole(uid)) is None:
            if time.monotonic() > deadline:
                raise InputError(
                    f"run {uid} is not in the catalogue, or not to its end, after "
                    f"{self.timeout:g} s; check that it is being written, or give a longer timeout"
                )
            time.sleep(_POLL)
        run, events = found
        descriptor = run[PRIMARY].metadata
        keys = [key for key in descriptor["data_keys"] if key in events]
        readings = [
            PrimaryEvent({key: events[key].values[k] for key in keys}, descriptor)
            for k in range(events.sizes["event"])
        ]
        return readings, run.start.get(ORDER, ())

    def _whole(self, uid: str) -> tuple[Any, xr.Dataset] | None:
        """Return a run and its events once all of it is in the catalogue, None before."""
        try:
            run = self.catalog[uid]
        except (KeyError, InputError):  # no run yet
            return None
        stop = run.metadata.get("stop")
        if not stop:
            return None
        expected = (stop.get("num_events") or {}).get(PRIMARY, 0)
        if not expected:
            raise InputError(f"run {uid} holds no event of the stream {PRIMARY!r}")
        try:
            events = read_stream(run, PRIMARY)
        except InputError:  # nothing of it yet
            return None
        return (run, events) if events.sizes["event"] >= expected else None


def _matched(
    readings: Sequence[PrimaryEvent], suggestions: Sequence[Mapping[str, Any]], order: Sequence[Any]
) -> list[PrimaryEvent]:
    """Return for each suggestion what was read there.

    By the ids in the order in which they were measured, where there is one event for each. A plan
    that writes another number of events has them matched by position: to each suggestion the last
    of the events that are nearest to it.
    """
    numbers = [suggestion[ID] for suggestion in suggestions]
    if len(order) == len(readings) and set(order) == set(numbers):
        by_number = dict(zip(order, readings, strict=True))
        return [by_number[number] for number in numbers]
    if len(suggestions) == 1:
        return [readings[-1]]
    shared = [
        key
        for key, value in suggestions[0].items()
        if isinstance(value, float) and all(key in reading.data for reading in readings)
    ]
    if not shared:
        raise InputError(
            f"{len(readings)} events were written for {len(suggestions)} suggestions, and what "
            f"belongs to which is not known: the events hold no position "
            f"({', '.join(readings[0].data)}); have the plan read the actuators"
        )
    wanted = np.array([[float(s[key]) for key in shared] for s in suggestions])
    found = np.array([[float(r.data[key]) for key in shared] for r in readings])
    nearest = np.linalg.norm(found[:, None] - wanted[None], axis=2).argmin(axis=1)
    by_place = {int(k): reading for k, reading in zip(nearest, readings, strict=True)}
    missing = [number for k, number in enumerate(numbers) if k not in by_place]
    if missing:
        raise InputError(
            f"of {len(readings)} events none was measured at the suggestion "
            f"{', '.join(map(str, missing))}; the plan has to measure at each"
        )
    return [by_place[k] for k in range(len(numbers))]

"""Figure of a run: measured points, predictions and errors."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.documents import (
    Anomaly,
    Failure,
    Observation,
    Proposal,
    SteeringRequest,
    Survey,
)
from curiosity_bluesky.views import panels
from curiosity_bluesky.views.expected import ExpectedMaps, Property, expected_maps

logger = logging.getLogger(__name__)


@dataclass
class RunPicture:
    """Picture of a run, built from its documents.

    Parameters
    ----------
    scores
        Where the truth is known: name of a score to ``(n_observed, value)`` pairs, drawn
        beside the error that the documents hold.
    measure
        A property of the spectra for the main panel; default: their first principal component.

    Attributes
    ----------
    count : PointCount
        Good spectra, and how many are asked for now.
    expected : ExpectedMaps or None
        What the model expects, None before anything is predicted.
    maps : dict
        The last maps in the documents, ``(rows, cols)`` each.
    """

    scores: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    measure: Property | None = None

    def __post_init__(self) -> None:
        self._translate = documents.Translator()
        self._descriptors: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self.count = documents.PointCount()
        self._descriptors.clear()
        self.survey: Survey | None = None
        self.decisions: dict[int, Proposal] = {}
        self.spectra: dict[int, tuple[NDArray, NDArray]] = {}
        self._attempts: dict[int, int] = {}
        self.axis: tuple[str, str, NDArray] = ("point of the spectrum", "", np.empty(0))
        self.channels: list[tuple[str, str]] = []
        self._sizes: list[int] = []
        self.survey_units: dict[str, str | None] = {}
        self.maps: dict[str, NDArray] = {}
        self.expected: ExpectedMaps | None = None
        self._blocks: dict[int, tuple[NDArray | None, NDArray | None]] = {}
        self.failed: set[int] = set()
        self.masked: NDArray[np.bool_] | None = None
        self.flags: list[Anomaly] = []
        self.drift: list[tuple[float, float]] = []
        self.ended = False

    def copy(self) -> RunPicture:
        """Return the picture as it is now, to be drawn while documents come in."""
        twin = copy.copy(self)
        twin.decisions, twin.spectra = dict(self.decisions), dict(self.spectra)
        twin.flags, twin.failed = list(self.flags), set(self.failed)
        twin.drift = list(self.drift)
        twin.count = copy.deepcopy(self.count)
        twin._translate = copy.copy(self._translate)  # which replaces its start document
        return twin

    @property
    def good(self) -> list[int]:
        """Decisions that were measured well enough, as `count` counts them."""
        return sorted(self.count.decisions & set(self.spectra))

    @property
    def start(self) -> Mapping[str, Any]:
        """The start document of the run, empty before there is one."""
        return self._translate.start

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document."""
        if name == "event_page":
            for event in documents.events_in(name, doc):
                self("event", event)
            return
        if name == "start" and not self._translate.goes_on(doc):
            self._clear()
        if name == "start":
            self._blocks = {}
        self.count(name, doc)
        self.ended = name == "stop"
        if name == "descriptor":
            self._descriptors[doc["uid"]] = doc
            if doc["name"] == documents.SURVEY:
                described = doc["data_keys"].items()
                self.survey_units = {key: about.get("units") for key, about in described}
        for item in self._translate(name, doc):
            if isinstance(item, Survey):
                self.survey = item
            elif isinstance(item, Proposal):
                self.decisions[item.decision_id] = item
            elif isinstance(item, Failure) and item.given_up:
                self.failed.add(item.decision_id)
            elif isinstance(item, SteeringRequest):
                self._steered(item)
            elif isinstance(item, Observation):
                self._spectrum(self._descriptors[doc["descriptor"]], item, doc["data"])
        if name == "event":
            stream = self._descriptors.get(doc["descriptor"], {}).get("name")
            if stream == documents.MAPS:
                self.maps = {
                    key: np.asarray(values, float)
                    for key, values in doc["data"].items()
                    if np.isfinite(values).any()
                }
            elif stream == documents.FLAGS:
                self.flags.append(documents.flag_from(doc["data"]))
            elif stream == documents.DRIFT and doc["data"]["trusted"]:
                self.drift.append((doc["data"]["drift_x"], doc["data"]["drift_y"]))
            elif stream == documents.PREDICTIONS:
                self._take_block(doc["data"])

    def _steered(self, act: SteeringRequest) -> None:
        if act.kind == "veto":
            self.failed.add(act.arguments["decision_id"])
        elif act.kind == "mask":
            mask = documents.decode_mask(act.arguments)
            self.masked = mask if self.masked is None else self.masked | mask

    def _spectrum(
        self, descriptor: Mapping[str, Any], observation: Observation, data: Mapping[str, Any]
    ) -> None:
        if observation.decision_id is None:
            return
        keys = documents.channel_keys(descriptor)
        self.axis = documents.axis_of(descriptor, keys[0])
        described = descriptor["data_keys"]
        self.channels = [(key, described[key].get("units") or "") for key in keys]
        self._sizes = [np.size(data[key]) for key in keys]
        expected = [
            data.get(key + documents.PREDICTED, np.full(np.shape(data[key]), np.nan))
            for key in keys
        ]
        pair = (observation.spectrum, np.concatenate(expected))
        number = observation.decision_id
        # The first counts if a pause repeats the event, here as for the explorer; but another
        # attempt takes the place of one that failed.
        if observation.repeat > self._attempts.get(number, -1):
            self.spectra[number], self._attempts[number] = pair, observation.repeat

    def _take_block(self, data: Mapping[str, Any]) -> None:
        """Keep a block of rows of what is expected; when all are there, it is what is expected."""
        assert self.survey is not None
        keys, rows = [key for key, _ in self.channels], self.survey.shape[0]

        def joined(suffix: str) -> NDArray | None:
            if any(key + suffix not in data for key in keys):
                return None  # the model knows no deviation
            return np.concatenate([data[key + suffix] for key in keys], axis=-1)

        block = joined(documents.PREDICTED), joined(documents.DEVIATION)
        self._blocks[int(data["first_row"])] = block
        if block[0] is not None and len(self._blocks) * len(block[0]) >= rows:
            blocks = [self._blocks[first] for first in sorted(self._blocks)]
            self._blocks = {}
            spectra = np.concatenate([each for each, _ in blocks if each is not None])[:rows]
            known = [each for _, each in blocks if each is not None]
            self.expect(spectra, np.concatenate(known)[:rows] if known else None, self.count.n)

    def expect(self, spectra: NDArray, deviation: NDArray | None, n_observed: int) -> None:
        """Take what is expected at every pixel.

        Parameters
        ----------
        spectra, deviation
            ``(rows, cols, points)``, the channels one behind the other; NaN where nothing is
            expected. The deviation is None where the model does not know it.
        n_observed
            Spectra that were known.
        """
        units = [units for _, units in self.channels]
        make = partial(
            expected_maps, spectra, deviation, n_observed,
            axis=self.axis[2], channels=list(zip(self._sizes, units, strict=True)),
        )  # fmt: skip
        try:
            self.expected = make(measure=self.measure)
        except Exception as error:
            if self.measure is None:
                raise
            logger.warning("the property cannot be drawn, the first component is: %s", error)
            self.measure = None
            self.expected = make()

    def errors(self) -> tuple[NDArray, NDArray]:
        """Return how wrong the prediction made before each measurement was.

        Returns
        -------
        n, errors
            ``(points,)`` each: spectra known before, and the mean squared error divided by
            the mean squared deviation of all measured spectra from their mean (1: no better
            than the mean spectrum). Points without a prediction are left out.
        """
        numbers = np.array(self.good)
        if len(numbers) < 2:
            return np.empty(0), np.empty(0)
        measured = np.array([self.spectra[i][0] for i in numbers])
        expected = np.array([self.spectra[i][1] for i in numbers])
        deviation = np.nanmean((measured - np.nanmean(measured, axis=0)) ** 2)
        known = np.isfinite(expected).any(axis=1) & (deviation > 0)
        errors = np.nanmean((expected[known] - measured[known]) ** 2, axis=1) / deviation
        return np.flatnonzero(known), errors

    def draw(self, figure: Figure) -> None:
        """Draw the run as it is now; what was on the figure is removed."""
        panels.draw(self, figure)

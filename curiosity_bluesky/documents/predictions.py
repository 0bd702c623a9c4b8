"""Predicted spectra of a run: to the events of its ``predictions`` stream, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.documents.schema import DEVIATION, LATENT, PREDICTED, PREDICTIONS
from curiosity_bluesky.documents.translate import axis_of, channel_keys, events_in
from curiosity_bluesky.documents.writing import PlanReadable
from curiosity_bluesky.learning import Prediction, Survey

BLOCK = 4_000_000
"""Bytes of a predicted channel in one event, about."""

RECORD = "prediction"


@dataclass(frozen=True)
class SpectrumAxis:
    """Axis of a channel in a map of spectra.

    Parameters
    ----------
    name
        Its dimension, which is neither ``x`` nor ``y``.
    units
        "" where the detector does not say.
    values
        ``(points,)``.
    part
        Points of the channel in a spectrum of all channels, one behind the other.
    """

    name: str
    units: str
    values: NDArray
    part: slice


def spectrum_axes(descriptor: Mapping[str, Any]) -> dict[str, SpectrumAxis]:
    """Return the axis of each channel, each name with one meaning.

    Parameters
    ----------
    descriptor
        Of the spectra: a document, or the metadata of the stream in Tiled.
    """
    axes: dict[str, SpectrumAxis] = {}
    known: dict[str, NDArray] = {}
    first = 0
    for key in channel_keys(descriptor):
        name, units, values = axis_of(descriptor, key)
        name = f"{name}_axis" if name in ("x", "y") else name
        if name in known and not np.array_equal(known[name], values):
            name = f"{key}_{name}"
        known[name] = values
        axes[key] = SpectrumAxis(name, units, values, slice(first, first + len(values)))
        first += len(values)
    return axes


def prediction_records(
    prediction: Prediction, survey: Survey, descriptor: Mapping[str, Any]
) -> Iterator[PlanReadable]:
    """Return the predicted spectra and the latent space as records, a block of rows each.

    Parameters
    ----------
    prediction
        At every pixel.
    survey
        Its pixels.
    descriptor
        Of the spectra.
    """
    axes = spectrum_axes(descriptor)
    rows, cols = survey.shape
    longest = max(len(axis.values) for axis in axes.values())
    blocks = math.ceil(4 * rows * cols * longest / BLOCK)
    height = math.ceil(rows / blocks)
    for first in range(0, rows, height):
        values: dict[str, Any] = {"first_row": first}
        for key, axis in axes.items():
            for suffix, spectra in (
                (PREDICTED, prediction.spectra),
                (DEVIATION, prediction.deviation),
            ):
                if spectra is not None:
                    block = spectra[first : first + height, :, axis.part]
                    values[f"{key}{suffix}"] = _padded(block.astype("<f4"), height)
        if prediction.latent is not None:
            block = prediction.latent[first : first + height]
            values[LATENT] = _padded(block.astype("<f4"), height)
        yield _Block(values, axes, descriptor["data_keys"], survey)


def _padded(block: NDArray, height: int) -> NDArray:
    """Return a block with as many rows as all others, NaN where the survey has none."""
    return np.pad(block, ((0, height - len(block)), (0, 0), (0, 0)), constant_values=np.nan)


class PredictionReader:
    """Puts the recorded blocks of a prediction together again."""

    def __init__(self) -> None:
        self._streams: set[str] = set()
        self._blocks: dict[int, Mapping[str, Any]] = {}

    def heard(
        self, documents: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return the same documents, noting what is predicted.

        Parameters
        ----------
        documents
            Of a run, and before them those of the runs that it went on with.
        """
        for name, doc in documents:
            if name == "start":
                self._blocks = {}  # a run that goes on measures more
            elif name == "descriptor" and doc["name"] == PREDICTIONS:
                self._streams.add(doc["uid"])
            elif doc.get("descriptor") in self._streams:
                for event in events_in(name, doc):
                    self._blocks[int(event["data"]["first_row"])] = event["data"]
            yield name, doc

    def prediction(self, survey: Survey, descriptor: Mapping[str, Any]) -> Prediction | None:
        """Return the prediction at the end of the newest run; None if it is not all there.

        Its uncertainty is not recorded, and NaN.

        Parameters
        ----------
        survey
            Its pixels.
        descriptor
            Of the spectra.
        """
        keys, rows = channel_keys(descriptor), survey.shape[0]
        blocks = [self._blocks[first] for first in sorted(self._blocks)]

        def joined(names: Sequence[str]) -> NDArray | None:
            if not all(name in block for block in blocks for name in names):
                return None
            # JSON has the fewest digits that tell one float32 from the next.
            parts = [np.concatenate([np.asarray(b[n], "<f4") for b in blocks]) for n in names]
            return np.concatenate(parts, axis=2)[:rows].astype(float)

        spectra = joined([f"{key}{PREDICTED}" for key in keys]) if blocks else None
        if spectra is None or len(spectra) < rows:
            return None
        return Prediction(
            spectra,
            np.full(survey.shape, np.nan),
            joined([f"{key}{DEVIATION}" for key in keys]),
            joined([LATENT]),
        )


class _Block(PlanReadable):
    """Record of one block of rows, with the axes and units of its channels."""

    def __init__(
        self,
        values: Mapping[str, Any],
        axes: Mapping[str, SpectrumAxis],
        data_keys: Mapping[str, Any],
        survey: Survey,
    ) -> None:
        dims: dict[str, tuple[str, ...]] = {LATENT: ("y", "x", "component")}
        self._units: dict[str, str] = {}
        for key, axis in axes.items():
            for name in (f"{key}{PREDICTED}", f"{key}{DEVIATION}"):
                dims[name] = ("y", "x", axis.name)
                self._units[name] = data_keys[key].get("units") or ""
        along = {f"{RECORD}_{axis.name}": axis for axis in axes.values()}
        coordinates = {name: axis.values for name, axis in along.items()}
        coordinates |= {f"{RECORD}_x": survey.x, f"{RECORD}_y": survey.y}
        self._units |= {name: axis.units for name, axis in along.items()}
        dims |= {name: (name.removeprefix(f"{RECORD}_"),) for name in coordinates}
        super().__init__(RECORD, values, dims, axes=coordinates)

    def _describe(self, key: str, value: Any) -> dict[str, Any]:
        described = super()._describe(key, value)
        units = self._units.get(key)
        return described | ({"units": units} if units else {})

    def describe_configuration(self) -> dict[str, Any]:
        described = super().describe_configuration()
        for key, units in self._units.items():
            if key in described:
                described[key]["units"] = units
        return described

"""Predicted spectra at every pixel of the survey, from the documents of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.analysis.reading import whole_run
from curiosity_bluesky.documents import (
    DEVIATION,
    PREDICTED,
    PRIMARY,
    Document,
    channel_keys,
    events_in,
    flat_attributes,
    spectrum_axes,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Prediction, PriorRun, Survey, withheld_pixels
from curiosity_bluesky.utils.lazy import lazy_module

if TYPE_CHECKING:
    import xarray as xr
else:  # it takes long to import
    xr = lazy_module("xarray")

MEASURED = "_measured"
"""``<channel>_measured`` lies beside a predicted channel, NaN where nothing was measured."""


def predict(run: Any) -> xr.Dataset:
    """Predict the spectrum at every pixel of the survey from the documents of a run.

    The model is rebuilt from what was measured, so the prediction is that of the run itself,
    to the bit, for each strategy.

    Parameters
    ----------
    run
        A run from a catalogue, read together with those that it went on with.

    Returns
    -------
    xarray.Dataset
        Dims ``(y, x, <axis>)``, for PFM ``(y, x, bias)``; x and y in um. For each channel of the
        spectra:

        ``<channel>``
            What is predicted, in the units of the channel; NaN where a pixel is no candidate.
        ``<channel>_deviation``
            Standard deviation of a measured spectrum about it.
        ``<channel>_measured``
            What was measured, the last of several at a pixel; NaN elsewhere.

        ``distance``, (y, x)
            Distance to the nearest spectrum, um.
        ``no_claim``, (y, x)
            True where nothing is predicted, or where nothing may be measured; False at withheld
            pixels, which test what is claimed, unless most of the others around are masked.

        The keys of the start document are in ``attrs``, the strategy at the end of the run in
        ``attrs["predicted_by"]``, and where the deviation comes from in ``attrs["deviation"]``:
        ``model``, or ``residuals`` for a network that has none of its own
        (the root mean square, over the decisions, of what was predicted beforehand less what was
        measured, the same at every pixel).

    Raises
    ------
    InputError
        If the run has no survey or no spectrum, was not made by `curiosity_plan`, or began from a
        run that is not in the catalogue any more.
    """
    documents, earlier = whole_run(run)
    return predict_from_documents(documents, earlier=earlier)


def predict_from_documents(
    documents: Iterable[Document], *, earlier: PriorRun | None = None
) -> xr.Dataset:
    """Predict the spectrum at every pixel of the survey.

    Parameters
    ----------
    documents
        All of the run, and before them those of the runs that it went on with.
    earlier
        The run that it started from, where it did.

    Returns
    -------
    xarray.Dataset
        See `predict`.

    Raises
    ------
    InputError
        See `predict`.
    """
    explorer, listener = rebuild(documents, earlier)
    return dataset_of(explorer, listener, explorer.predict())


def rebuild(
    documents: Iterable[Document], earlier: PriorRun | None
) -> tuple[Explorer, SpectrumListener]:
    """Return the explorer that knows all documents, and what is known of its spectra.

    Parameters
    ----------
    documents, earlier
        See `predict_from_documents`.

    Raises
    ------
    InputError
        If there is no spectrum.
    """
    listener = SpectrumListener()
    agent = CuriosityAgent.from_documents(listener.heard(documents), earlier=earlier)
    if listener.descriptor is None:
        uid = listener.start.get("uid", "?")
        raise InputError(f"run {uid} holds no spectrum, so nothing can be predicted")
    return agent.explorer, listener


def channels_in(predicted: xr.Dataset) -> list[str]:
    """Return the channels of the spectra in what `predict` returned."""
    return [str(key)[: -len(MEASURED)] for key in predicted if str(key).endswith(MEASURED)]


def summarize(predicted: xr.Dataset) -> dict[str, Any]:
    """Return in words what a prediction holds, JSON-ready.

    Parameters
    ----------
    predicted
        As `predict` returns it.
    """
    channels = channels_in(predicted)
    rows, cols = predicted["no_claim"].shape
    known = int((~predicted["no_claim"]).sum())
    source = {"model": "of the model", "residuals": "of the residuals so far"}
    summary: dict[str, Any] = {
        "run": predicted.attrs.get("uid", ""),
        "strategy": predicted.attrs["predicted_by"],
        "pixels": f"{rows} x {cols}, {known} of them predicted",
        "measured": int((predicted["distance"] == 0).sum()),
        "farthest from a spectrum": f"{float(predicted['distance'].max()):.3g} um",
    }
    for key in channels:
        units = predicted[key].attrs.get("units", "")
        deviation = predicted[f"{key}{DEVIATION}"].values
        typical = (
            f"{np.nanmedian(deviation):.3g} {units}".rstrip()
            if np.isfinite(deviation).any()
            else "not known"
        )
        [axis] = set(predicted[key].dims) - {"y", "x"}
        along = f"{predicted.sizes[axis]} points along {axis}"
        said = source[predicted.attrs["deviation"]]
        summary[key] = f"{along}; typical standard deviation {typical} ({said})"
    return summary


class SpectrumListener:
    """Notes what a prediction needs beside what the agent learns.

    Attributes
    ----------
    start
        Start document of the newest piece.
    descriptor
        That of the spectra, None before there is one.
    errors
        What was measured less what was predicted beforehand, ``(points,)`` each, all channels.
    """

    def __init__(self) -> None:
        self.start: Mapping[str, Any] = {}
        self.descriptor: Mapping[str, Any] | None = None
        self.errors: list[NDArray] = []

    def heard(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Return the same documents, noting what is needed."""
        for name, doc in documents:
            if name == "start":
                self.start = doc
            elif name == "descriptor" and doc["name"] == PRIMARY:
                self.descriptor = doc
            elif self.descriptor is not None:
                for event in events_in(name, doc):
                    if event["descriptor"] == self.descriptor["uid"]:
                        self._note(event["data"])
            yield name, doc

    def _note(self, data: Mapping[str, Any]) -> None:
        keys = channel_keys(self.descriptor or {})
        if all(f"{key}{PREDICTED}" in data for key in keys):
            errors = [np.subtract(data[key], data[f"{key}{PREDICTED}"]) for key in keys]
            self.errors.append(np.concatenate(errors))

    @property
    def residual(self) -> NDArray | None:
        """Root mean square error of what was predicted beforehand, ``(points,)``; None of none."""
        errors = np.array([each for each in self.errors if np.isfinite(each).any()])
        if not len(errors):
            return None
        known = np.isfinite(errors)
        squares = np.where(known, errors, 0.0) ** 2
        with np.errstate(invalid="ignore"):  # a point that was never recorded has none
            return np.sqrt(squares.sum(axis=0) / known.sum(axis=0))


def dataset_of(
    explorer: Explorer, listener: SpectrumListener, prediction: Prediction
) -> xr.Dataset:
    """Return a prediction with its axes and units, see `predict`."""
    assert listener.descriptor is not None
    survey = explorer.survey
    deviation, source = prediction.deviation, "model"
    if deviation is None:
        residual, source = listener.residual, "residuals"
        shape = prediction.spectra.shape
        deviation = np.full(shape, np.nan) if residual is None else np.broadcast_to(residual, shape)
        deviation = np.where(np.isnan(prediction.spectra), np.nan, deviation)
    measured = np.full(prediction.spectra.shape, np.nan)
    taken = np.zeros(survey.shape, bool)
    for observation in explorer.observations:
        if observation.quality >= explorer.strategy.min_quality:
            measured[observation.pixel] = observation.spectrum
            taken[observation.pixel] = True

    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {
        "y": ("y", survey.y, {"units": "um"}),
        "x": ("x", survey.x, {"units": "um"}),
    }
    for key, axis in spectrum_axes(listener.descriptor).items():
        about = {"units": axis.units} if axis.units else {}
        coordinates[axis.name] = (axis.name, axis.values, about)
        own = listener.descriptor["data_keys"][key].get("units")
        attrs = {"units": own} if own else {}
        for suffix, values in (
            ("", prediction.spectra),
            (DEVIATION, deviation),
            (MEASURED, measured),
        ):
            variables[f"{key}{suffix}"] = (("y", "x", axis.name), values[..., axis.part], attrs)
    share = listener.start.get("curiosity_withhold") or 0.0
    forbidden = _forbidden(explorer.masked, withheld_pixels(survey.shape, share))
    unknown = np.isnan(prediction.spectra).all(axis=2) | forbidden
    variables["no_claim"] = (("y", "x"), unknown)
    variables["distance"] = (("y", "x"), _distance(survey, taken), {"units": "um"})
    about_model = {"predicted_by": explorer.strategy.name, "deviation": source}
    return xr.Dataset(variables, coordinates, flat_attributes(listener.start) | about_model)


def _forbidden(masked: NDArray[np.bool_], withheld: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where nothing may be measured for another reason than that a pixel tests the claims.

    The documents have one mask for both. A withheld pixel counts as masked where most of the
    pixels around it that are not withheld are.
    """
    from scipy.ndimage import convolve

    def around(these: NDArray[np.bool_]) -> NDArray:
        return convolve(these.astype(int), np.ones((3, 3), int), mode="constant")

    return masked & (~withheld | (2 * around(masked & ~withheld) > around(~withheld)))


def _distance(survey: Survey, taken: NDArray[np.bool_]) -> NDArray:
    """Return the distance of every pixel to the nearest spectrum, ``(rows, cols)``, um."""
    from scipy.spatial import KDTree

    rows, cols = np.nonzero(taken)
    here = np.stack(np.meshgrid(survey.x, survey.y), axis=-1)
    return np.asarray(KDTree(np.stack([survey.x[cols], survey.y[rows]], axis=1)).query(here)[0])

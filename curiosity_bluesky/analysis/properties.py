"""Property maps: what a scientist reads off spectra, at every pixel and with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from curiosity_bluesky.analysis.prediction import (
    MEASURED,
    SpectrumListener,
    dataset_of,
    rebuild,
)
from curiosity_bluesky.analysis.reading import whole_run
from curiosity_bluesky.analysis.spectrum_properties import (
    evaluate,
    functions,
    in_units,
)
from curiosity_bluesky.documents import DEVIATION, PREDICTED, read
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer
from curiosity_bluesky.utils.validation import whole_number

MOST_DRAWS = 10_000
"""Most draws of a spectrum; a row of the survey is drawn at once."""


@dataclass(frozen=True)
class Readable:
    """A property that can be read off the spectra of a run, or why it cannot.

    Parameters
    ----------
    name, units
        Of the property.
    channel
        Data key of the spectra.
    function
        Name of the property function.
    share
        Share of the measured spectra that have the property.
    remark
        Why it cannot be read off; "" where it can.
    """

    name: str
    channel: str
    units: str
    function: str
    share: float
    remark: str = ""


def properties_in(run: Any) -> list[Readable]:
    """Return the properties of each channel of a run, from its measured spectra alone.

    Parameters
    ----------
    run
        A run from a catalogue, or what `read` or `predict` returned of it.
    """
    spectra = run if isinstance(run, xr.Dataset) else read(run)
    return [one for key in _channels(spectra) for one in _readable(spectra, key)]


def property_map(
    run: Any, name: str, channel: str | None = None, *, draws: int = 64, seed: int = 0
) -> xr.Dataset:
    """Return a property of the spectrum at every pixel, predicted beside measured.

    Parameters
    ----------
    run
        A run from a catalogue, or the list of its documents. Of a Dataset that `predict` returned
        the property is mapped without learning again, but the deviation of it is not known.
    name
        Of the property; or of a property function, for all that it returns.
    channel
        Data key of the spectra; default: the first that has the property.
    draws
        Spectra that are drawn at each pixel.
    seed
        The same seed, the same draws.

    Returns
    -------
    xarray.Dataset
        Dims ``(y, x)``, um. For each property:

        ``<name>``
            That of the predicted spectrum; NaN where no claim is made, or the spectrum has none.
        ``<name>_deviation``
            Standard deviation of the property over draws of the spectrum, noise included: how far
            what is read off measured spectra varies. NaN where less than half of the draws have the
            property.
        ``<name>_measured``
            That of the measured spectrum; NaN where none was measured.

        ``distance`` and ``no_claim`` are those of `predict`. ``attrs["deviation"]`` says what is
        drawn: ``model``, the posterior of a Gaussian process; ``residuals``, for a network, whole
        spectra of what it was wrong by when it decided; ``none``, where neither is known.

    Raises
    ------
    InputError
        If there is no such property or channel, or no spectrum that has the property; see
        `predict`.
    """
    whole_number("draws", draws, 2, MOST_DRAWS)
    explorer = listener = chosen = None
    if isinstance(run, xr.Dataset):
        prediction = run
    else:
        if not isinstance(run, list):
            chosen = _choose(read(run), name, channel)  # refused before anything is learned
        documents, earlier = (run, None) if isinstance(run, list) else whole_run(run)
        explorer, listener = rebuild(documents, earlier)
        prediction = dataset_of(explorer, listener, explorer.predict())
    chosen = chosen or _choose(prediction, name, channel)
    key, function_name = chosen[0].channel, chosen[0].function
    function = functions()[function_name]
    axis = prediction[prediction[key].dims[-1]].values

    def properties(spectra: NDArray) -> dict[str, NDArray]:
        found = evaluate(function_name, function, spectra, axis)
        nothing = np.full(spectra.shape[:-1], np.nan)  # one may return less of some spectra
        return {one.name: found[one.name][0] if one.name in found else nothing for one in chosen}

    claimed = ~prediction["no_claim"].values
    predicted, measured = (properties(prediction[key + end].values) for end in ("", MEASURED))
    spread = {one.name: np.full(claimed.shape, np.nan) for one in chosen}
    source, drawn = _drawing(prediction, key, draws, seed, explorer, listener)
    if drawn is not None:
        for row in np.flatnonzero(claimed.any(axis=1)).tolist():
            for one, values in properties(drawn(row)).items():
                spread[one][row] = _deviation(values)

    variables: dict[str, Any] = {}
    for one in chosen:
        about = {"units": one.units} if one.units else {}
        for suffix, values in (
            ("", np.where(claimed, predicted[one.name], np.nan)),
            (DEVIATION, np.where(claimed, spread[one.name], np.nan)),
            (MEASURED, measured[one.name]),
        ):
            variables[one.name + suffix] = (("y", "x"), values, about)
    variables |= {one: prediction[one] for one in ("distance", "no_claim")}
    attrs = {**prediction.attrs, "channel": key, "deviation": source}
    if drawn is not None:
        attrs |= {"draws": draws, "draws_seed": seed}
    return xr.Dataset(variables, {axis: prediction[axis] for axis in ("y", "x")}, attrs)


def _channels(spectra: xr.Dataset) -> list[str]:
    """Return the data keys of the spectra in what `read` or `predict` returned."""
    keys = map(str, spectra.data_vars)
    ends = (PREDICTED, MEASURED)
    return [
        key
        for key in keys
        if any(key + end in spectra for end in ends) and not key.endswith((*ends, DEVIATION))
    ]


def _units(spectra: xr.Dataset, key: str) -> tuple[str, str]:
    """Return the units of the spectra of a channel, and of their axis."""
    axis = spectra[spectra[key].dims[-1]]
    return spectra[key].attrs.get("units", ""), axis.attrs.get("units", "")


def _readable(spectra: xr.Dataset, key: str) -> list[Readable]:
    """Return what can be read off the measured spectra of a channel, and what cannot."""
    measured = spectra[key + MEASURED] if key + MEASURED in spectra else spectra[key]
    values = np.asarray(measured.values, float)
    values = values[~np.isnan(values).all(axis=-1)]
    axis, units = spectra[measured.dims[-1]].values, _units(spectra, key)
    found: dict[str, Readable] = {}
    for name, function in functions().items():
        try:
            properties = evaluate(name, function, values, axis)
        except InputError as error:
            found.setdefault(name, Readable(name, key, "", name, 0.0, str(error)))
            continue
        for one, (numbers, template) in properties.items():
            share = float(np.isfinite(numbers).mean()) if numbers.size else 0.0
            remark = "" if share else "no measured spectrum has it"
            readable = Readable(one, key, in_units(template, *units), name, share, remark)
            if one not in found or found[one].remark:
                found[one] = readable
    return list(found.values())


def _choose(spectra: xr.Dataset, name: str, channel: str | None) -> list[Readable]:
    """Return the properties that a name stands for, of one channel and one function."""
    keys = _channels(spectra)
    if channel is not None and channel not in keys:
        raise InputError(f"there is no channel {channel!r}; there are {', '.join(keys)}")
    every = [one for key in keys if channel in (None, key) for one in _readable(spectra, key)]
    wanted = [one for one in every if one.name == name]
    wanted = wanted or [one for one in every if one.function == name]
    found = [one for one in wanted if not one.remark]
    if found:
        first = found[0]
        return [o for o in found if (o.channel, o.function) == (first.channel, first.function)]
    can = ", ".join(dict.fromkeys(one.name for one in every if not one.remark)) or "none"
    if wanted:
        raise InputError(
            f"{name} cannot be read off these spectra ({wanted[0].remark}); these can: {can}"
        )
    cannot = ", ".join(dict.fromkeys(one.name for one in every if one.remark))
    others = f"; there are also {cannot}, which these spectra do not have" if cannot else ""
    raise InputError(f"there is no property {name!r}; of these spectra can be read: {can}{others}")


def _drawing(
    prediction: xr.Dataset,
    key: str,
    draws: int,
    seed: int,
    explorer: Explorer | None,
    listener: SpectrumListener | None,
) -> tuple[str, Callable[[int], NDArray] | None]:
    """Return what is drawn, and what draws the spectra of a row, ``(draws, cols, points)``."""
    if explorer is None or listener is None:
        return "none", None
    keys = _channels(prediction)
    before = sum(prediction[one].shape[-1] for one in keys[: keys.index(key)])
    expected = prediction[key].values
    part = slice(before, before + expected.shape[-1])
    if explorer.draws(2, 0, seed=seed) is not None:

        def from_posterior(row: int) -> NDArray:
            drawn = explorer.draws(draws, row, seed=seed)
            assert drawn is not None
            return drawn[..., part]

        return "model", from_posterior
    errors = np.array([each[part] for each in listener.errors])
    errors = errors[np.isfinite(errors).any(axis=-1)] if len(errors) else errors
    if len(errors) < 2:
        return "none", None

    def from_residuals(row: int) -> NDArray:
        rng = np.random.default_rng([seed, row])
        which = rng.integers(len(errors), size=(draws, expected.shape[1]))
        return expected[row] + errors[which]

    return "residuals", from_residuals


def _deviation(values: NDArray) -> NDArray:
    """Return the standard deviation over draws, ``(draws, cols)``, NaN where most have none."""
    known = np.isfinite(values)
    number = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(number, 1)
    squares = (np.where(known, values - mean, 0.0) ** 2).sum(axis=0)
    return np.where(2 * number >= len(values), np.sqrt(squares / np.maximum(number - 1, 1)), np.nan)

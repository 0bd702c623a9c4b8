"""Properties of spectra: what can be read off one, by name.

A property function takes spectra and their axis and returns numbers by name::

    @register_property
    def zero_bias(spectrum, axis):
        return float(np.interp(0.0, axis, spectrum))

A package brings one by an entry point of the group `GROUP`::

    [project.entry-points."curiosity_bluesky.properties"]
    zero_bias = "my_package.spectra:zero_bias"
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.devices.pfm import loop_field_arrays, loop_widths, units_of
from curiosity_bluesky.errors import InputError

logger = logging.getLogger(__name__)

GROUP = "curiosity_bluesky.properties"
"""Group of the entry points by which packages bring properties."""
GAP_LEVEL = 0.1
"""Share of its largest magnitude below which a spectrum counts as within the gap."""
NEAR_ZERO = 5
"""Points of the line whose slope is `slope_at_zero`."""

PropertyFunction = Callable[[NDArray, NDArray], Any]
Values = dict[str, tuple[NDArray, str]]
"""Name of each property to its values and its units; see `vectorised`."""

_Function = TypeVar("_Function", bound=PropertyFunction)
_REGISTERED: dict[str, PropertyFunction] = {}


def register_property(function: _Function) -> _Function:
    """Make a property function available by its name in this process (decorator).

    It is called with one spectrum and its axis, ``(points,)`` each, and returns a number, or a
    mapping of names to numbers or to pairs of a number and its units; see `vectorised`. It comes
    before one of the same name that is shipped or installed.
    """
    _REGISTERED[function.__name__] = function
    return function


def vectorised(function: _Function) -> _Function:
    """Say that a property function takes ``(..., points)`` and returns ``(...)`` (decorator).

    In the units that a function returns, ``{spectrum}`` and ``{axis}`` stand for those of the
    spectrum and of its axis, as in ``"{spectrum}/{axis}"``.
    """
    function.vectorised = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


# ---- those that are shipped


@vectorised
def loop(spectra: NDArray, axis: NDArray) -> Values:
    """Numbers of a hysteresis loop: `curiosity_bluesky.devices.pfm.LoopFields`, and two means.

    ``coercive_bias`` is half the width of the loop, ``remanence`` half its opening at zero bias.
    """
    found = loop_field_arrays(axis, spectra)
    found["switches"] = np.where(np.isnan(found["area"]), np.nan, found["switches"])
    units = units_of("{axis}", "{spectrum}")
    widths = loop_widths(found)
    return {
        "coercive_bias": (widths["coercive_bias"], "{axis}"),
        "remanence": (widths["remanence"], "{spectrum}"),
        **{name: (values, units[name]) for name, values in found.items()},
    }


@vectorised
def peak_position(spectra: NDArray, axis: NDArray) -> Values:
    """Position of the largest value, by a parabola through it and its two neighbours."""
    x, y = _sweep(spectra, axis)
    filled = np.where(np.isnan(y), -np.inf, y)
    top = filled.argmax(axis=-1)
    inner = np.clip(top, 1, len(x) - 2)
    left, middle, right = (
        np.take_along_axis(y, (inner + k)[..., None], axis=-1)[..., 0] for k in (-1, 0, 1)
    )
    before, after = x[inner] - x[inner - 1], x[inner + 1] - x[inner]
    rise, fall = (middle - left) / before, (right - middle) / after
    with np.errstate(invalid="ignore", divide="ignore"):
        vertex = x[inner] + (rise * after + fall * before) / (2 * (rise - fall))
    curved = (top == inner) & np.isfinite(vertex)
    found = np.where(curved, vertex, x[top])
    return {"peak_position": (np.where(np.isnan(y).all(axis=-1), np.nan, found), "{axis}")}


@vectorised
def gap(spectra: NDArray, axis: NDArray) -> Values:
    """Width of the range about zero within which a spectrum stays near zero.

    Near zero is less than `GAP_LEVEL` of its largest magnitude. NaN where it is not so at zero,
    or the range does not end on both sides.
    """
    x, y = _sweep(spectra, axis)
    size = np.abs(y)
    level = GAP_LEVEL * np.max(np.where(np.isnan(size), 0.0, size), axis=-1, keepdims=True)
    at_zero = _interpolated(x, size)[..., None]
    ends = []
    for side in (np.flatnonzero(x > 0), np.flatnonzero(x < 0)[::-1]):
        away = np.concatenate([[0.0], np.abs(x[side])])
        along = np.concatenate([at_zero, size[..., side]], axis=-1)
        beyond = along >= level
        first = beyond.argmax(axis=-1)[..., None]
        ends.append(_crossing(away, along, np.maximum(first, 1), level))
        ends[-1][~beyond.any(axis=-1) | (first[..., 0] == 0)] = np.nan
    return {"gap": (ends[0] + ends[1], "{axis}")}


@vectorised
def slope_at_zero(spectra: NDArray, axis: NDArray) -> Values:
    """Slope of the straight line through the `NEAR_ZERO` points nearest to zero."""
    x, y = _sweep(spectra, axis)
    near = np.argsort(np.abs(x), kind="stable")[:NEAR_ZERO]
    slope = np.full(y.shape[:-1], np.nan)
    if x[0] <= 0 <= x[-1]:
        away = x[near] - x[near].mean()
        slope = y[..., near] @ (away / (away @ away))
    return {"slope_at_zero": (slope, "{spectrum}/{axis}")}


BUILT_IN: dict[str, PropertyFunction] = {
    one.__name__: one for one in (loop, peak_position, gap, slope_at_zero)
}
"""Property functions that are shipped."""


def _sweep(spectra: NDArray, axis: NDArray) -> tuple[NDArray, NDArray]:
    """Return axis, increasing, and spectra along it; what was swept to and fro is the mean."""
    order = np.argsort(axis, kind="stable")
    x, first, number = np.unique(axis[order], return_index=True, return_counts=True)
    if len(x) < 3:
        raise InputError(f"the axis has {len(x)} different values; expected 3 or more")
    return x, np.add.reduceat(spectra[..., order], first, axis=-1) / number


def _interpolated(x: NDArray, y: NDArray) -> NDArray:
    """Return what lies at zero, NaN where the axis does not reach it."""
    if not x[0] <= 0 <= x[-1]:
        return np.full(y.shape[:-1], np.nan)
    after = max(int(np.searchsorted(x, 0.0)), 1)
    share = -x[after - 1] / (x[after] - x[after - 1])
    return y[..., after - 1] + share * (y[..., after] - y[..., after - 1])


def _crossing(x: NDArray, y: NDArray, after: NDArray, level: NDArray) -> NDArray:
    """Return where y reaches a level between a point and the one before it, ``(...)``."""
    after = np.minimum(after, len(x) - 1)
    low, high = (np.take_along_axis(y, after - k, axis=-1)[..., 0] for k in (1, 0))
    start = x[after[..., 0] - 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return start + (level[..., 0] - low) / (high - low) * (x[after[..., 0]] - start)


# ---- all there are


def functions() -> dict[str, PropertyFunction]:
    """Return all property functions by their names: registered, shipped, of installed packages."""
    return {**_installed(tuple(sys.path)), **BUILT_IN, **_REGISTERED}


@lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> dict[str, PropertyFunction]:
    found: dict[str, PropertyFunction] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value)):
        about = f"the property function {point.name!r} of {point.dist and point.dist.name}"
        if point.name in BUILT_IN or point.name in found:
            logger.warning("%s is left out: there is another of that name", about)
            continue
        try:
            loaded = point.load()
        except (Exception, SystemExit) as error:  # it is the code of others
            logger.warning("%s cannot be used: %s: %s", about, type(error).__name__, error)
            continue
        found[point.name] = loaded
    return found


def evaluate(
    name: str, function: PropertyFunction, spectra: NDArray, axis: NDArray
) -> dict[str, tuple[NDArray, str]]:
    """Return the properties of spectra, NaN for a spectrum that is NaN throughout.

    Parameters
    ----------
    name
        Of the function: that of its property where it returns a bare number.
    function
        See `register_property`.
    spectra
        ``(..., points)``.
    axis
        ``(points,)``.

    Returns
    -------
    dict
        By name, the values ``(...)`` and the units as the function gives them.

    Raises
    ------
    InputError
        If the function raises, or returns something else.
    """
    try:
        if getattr(function, "vectorised", False):
            found = _named(name, function(spectra, axis))
        else:
            found = _one_by_one(name, function, spectra, axis)
        arrays = {key: (np.asarray(values, float), units) for key, (values, units) in found.items()}
    except Exception as error:  # it may be the code of others
        raise InputError(
            f"the property function {name!r} fails on these spectra: "
            f"{type(error).__name__}: {error}"
        ) from error
    for key, (values, _) in arrays.items():
        if values.shape != spectra.shape[:-1]:
            raise InputError(
                f"the property function {name!r} returns {key} of shape {values.shape} for spectra "
                f"of shape {spectra.shape}; expected {spectra.shape[:-1]}"
            )
    return arrays


def _named(name: str, returned: Any) -> dict[str, tuple[Any, str]]:
    """Return values and units by name of whatever a function returns."""
    named = returned if isinstance(returned, Mapping) else {name: returned}
    return {
        str(key): value if isinstance(value, tuple) else (value, "") for key, value in named.items()
    }


def _one_by_one(
    name: str, function: PropertyFunction, spectra: NDArray, axis: NDArray
) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[NDArray, str]] = {}
    for index in np.argwhere(~np.isnan(spectra).all(axis=-1)):
        at = tuple(index)
        for key, (value, units) in _named(name, function(spectra[at], axis)).items():
            if key not in found:
                found[key] = np.full(spectra.shape[:-1], np.nan), units
            found[key][0][at] = value
    return found


def in_units(template: str, spectrum: str, axis: str) -> str:
    """Return the units of a property from those of the spectrum and its axis, "" for none."""
    text = template.replace("{spectrum}", spectrum or "1").replace("{axis}", axis or "1")
    text = text.removeprefix("1 ").removesuffix(" 1").removesuffix("/1")
    return "" if text == "1" else text

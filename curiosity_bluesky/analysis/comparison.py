"""Comparison of two runs: a property on the same axes, and how fast each of them learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from curiosity_bluesky.analysis.properties import properties_in, property_map
from curiosity_bluesky.documents import DEVIATION, error_curve, read
from curiosity_bluesky.errors import InputError


def compare(first: Any, second: Any, name: str | None = None, *, draws: int = 64) -> xr.Dataset:
    """Compare what two runs say of a property of the spectrum.

    Parameters
    ----------
    first, second
        Runs from a catalogue.
    name
        Of the property; default: the first that both have.
    draws
        See `property_map`.

    Returns
    -------
    xarray.Dataset
        On the grid of the first run, (run, y, x), the second interpolated where its grid is
        another one:

        ``<name>``, ``<name>_deviation``
            Predicted, and its standard deviation.
        ``difference`` (y, x)
            Second less first.
        ``significance`` (y, x)
            Difference in units of both deviations together; NaN where one is not known.
        ``error`` (run, point)
            Error of each spectrum before it was measured, see `documents.error_curve`.

        ``attrs`` has ``name``, ``runs`` (uids) and ``strategies``.

    Raises
    ------
    InputError
        If the runs have no such property, or none in common, or no area; see `property_map`.
    """
    runs = first, second
    if name is None:
        name = _in_common(first, second)
    maps = [property_map(run, name, draws=draws) for run in runs]
    units = [each[name].attrs.get("units", "") for each in maps]
    if units[0] != units[1]:
        raise InputError(
            f"{name} is in {units[0] or 'no unit'} in run {_uid(first)} and in "
            f"{units[1] or 'no unit'} in run {_uid(second)}; expected the same: compare runs of "
            "one kind of detector"
        )
    there = maps[0]
    other = maps[1][[name, f"{name}{DEVIATION}"]]
    if not all(np.array_equal(there[axis], other[axis]) for axis in ("y", "x")):
        other = other.interp(y=there["y"], x=there["x"])
        if not np.isfinite(other[name]).any():
            raise InputError(
                f"runs {_uid(first)} and {_uid(second)} have no area in common that both predict; "
                "expected two runs of one place"
            )
    attrs = {"units": units[0]} if units[0] else {}
    variables: dict[str, Any] = {
        key: (("run", "y", "x"), np.stack([there[key].values, other[key].values]), attrs)
        for key in (name, f"{name}{DEVIATION}")
    }
    difference = other[name].values - there[name].values
    spread = np.hypot(*variables[f"{name}{DEVIATION}"][1])
    variables["difference"] = (("y", "x"), difference, attrs)
    with np.errstate(divide="ignore", invalid="ignore"):
        variables["significance"] = (("y", "x"), difference / spread)
    curves = [error_curve(read(run)) for run in runs]
    longest = max(map(len, curves))
    padded = [np.pad(c, (0, longest - len(c)), constant_values=np.nan) for c in curves]
    variables["error"] = (("run", "point"), np.stack(padded))
    about = {
        "name": name,
        "runs": [str(run.start["uid"]) for run in runs],
        "strategies": [each.attrs["predicted_by"] for each in maps],
    }
    return xr.Dataset(variables, {"y": there["y"], "x": there["x"]}, about)


def describe_comparison(compared: xr.Dataset) -> dict[str, Any]:
    """Return a comparison in numbers, JSON-ready.

    Parameters
    ----------
    compared
        As `compare` returned it.
    """
    name = compared.attrs["name"]
    units = compared[name].attrs.get("units", "")
    both = compared[name].values
    known = np.isfinite(both).all(axis=0)
    first, second = both[0][known], both[1][known]
    difference = second - first
    apart = compared["significance"].values[known]
    apart = np.abs(apart[np.isfinite(apart)])
    varies = known.sum() > 2 and first.std() > 0 and second.std() > 0
    return {
        "name": name,
        "units": units,
        "pixels": int(known.sum()),
        "mean_difference": float(difference.mean()) if known.any() else None,
        "rms_difference": float(np.sqrt((difference**2).mean())) if known.any() else None,
        "correlation": float(np.corrcoef(first, second)[0, 1]) if varies else None,
        "beyond_two_deviations": float((apart > 2).mean()) if apart.size else None,
    }


def _in_common(first: Any, second: Any) -> str:
    names = [[one.name for one in properties_in(run)] for run in (first, second)]
    common = [name for name in names[0] if name in names[1]]
    if not common:
        raise InputError(
            f"runs {_uid(first)} and {_uid(second)} have no property of the spectrum in common "
            f"({', '.join(names[0])}; {', '.join(names[1])}); name one that both have"
        )
    return common[0]


def _uid(run: Any) -> str:
    return str(run.start["uid"])[:8]

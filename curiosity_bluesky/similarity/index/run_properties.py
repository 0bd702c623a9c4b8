"""Numbers of a run, from the loops that were measured in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.devices.pfm import loop_field_arrays, loop_widths
from curiosity_bluesky.documents import PRIMARY, axis_of, channel_keys, read_stream
from curiosity_bluesky.errors import InputError

_VOLTS = {"V": 1.0, "mV": 1e-3, "kV": 1e3}


def loop_channels(about: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return the data keys of a stream that may be loops, with their bias, V.

    Parameters
    ----------
    about
        A descriptor document, or the metadata of a stream in Tiled.
    """
    found = {}
    for key in channel_keys({"configuration": {}, **about}):
        try:
            _, units, values = axis_of({"configuration": {}, **about}, key)
        except ValueError:  # several dimensions were declared for one
            continue
        if units in _VOLTS and len(values):
            found[key] = np.asarray(values, float) * _VOLTS[units]
    return found


def properties_of(loops: Mapping[str, tuple[ArrayLike, Sequence[ArrayLike]]]) -> dict[str, float]:
    """Return the properties that can be computed, each the median over the loops that have it.

    Of several channels that one counts of which most loops are open: a phase or an amplitude
    has no polarisation to read off.

    Parameters
    ----------
    loops
        By channel: bias, (points,), V, and the loops, (points,) each.
    """
    best: dict[str, float] = {}
    most = 0.0
    for bias, measured in loops.values():
        try:
            fields = loop_field_arrays(bias, np.array(measured))
        except (InputError, ValueError):  # loops of several lengths, or none
            continue
        switching = float(fields["switches"].mean()) if len(measured) else 0.0
        if switching > most:
            best, most = _medians(fields), switching
    return best


def _medians(fields: Mapping[str, NDArray]) -> dict[str, float]:
    # What is stored calls the area so, where there may be others.
    each = {**fields, **loop_widths(fields), "loop_area": fields["area"]}
    names = (
        *("coercive_bias", "coercive_positive", "coercive_negative", "imprint"),
        *("loop_area", "remanence"),
    )
    known = {name: each[name][np.isfinite(each[name])] for name in names}
    return {name: float(np.median(values)) for name, values in known.items() if len(values)}


def measured_properties(run: Any, streams: Mapping[str, Any]) -> dict[str, float]:
    """Return the properties of a run in Tiled; none of a run without loops.

    Parameters
    ----------
    run
        A run from a catalogue.
    streams
        Tiled's clients of its streams.
    """
    channels = loop_channels(streams[PRIMARY].metadata) if PRIMARY in streams else {}
    if not channels:
        return {}
    try:
        points = read_stream(run, PRIMARY)
    except InputError:  # nothing is measured yet, or its files are gone
        return {}
    return properties_of(
        {
            key: (bias, list(points[key].values))
            for key, bias in channels.items()
            if points[key].dtype.kind in "iuf"  # what is complex has no imprint
        }
    )

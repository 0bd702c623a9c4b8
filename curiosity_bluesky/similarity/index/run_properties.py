"""Numbers of a run, from the loops that were measured in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.devices.pfm import LoopFields, loop_fields
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
            fields = [loop_fields(bias, loop) for loop in measured]
        except InputError:
            continue
        switching = sum(one.switches for one in fields) / max(len(fields), 1)
        if switching > most:
            best, most = _medians(fields), switching
    return best


def _medians(fields: Sequence[LoopFields]) -> dict[str, float]:
    each = {
        "coercive_bias": [(f.coercive_positive - f.coercive_negative) / 2 for f in fields],
        "coercive_positive": [f.coercive_positive for f in fields],
        "coercive_negative": [f.coercive_negative for f in fields],
        "imprint": [f.imprint for f in fields],
        "loop_area": [f.area for f in fields],
        "remanence": [(f.remanence_positive - f.remanence_negative) / 2 for f in fields],
    }
    known = {name: np.array(values)[np.isfinite(values)] for name, values in each.items()}
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

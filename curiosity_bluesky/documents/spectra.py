"""Spectra and their quality, judged the same way by the plan and by the agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.documents.schema import PREDICTED
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.history import NOTHING
from curiosity_bluesky.learning.survey import LARGEST_VALUE
from curiosity_bluesky.utils.masked import filled_with_nan

LEAST = 2
"""Points that a spectrum has at least: an array of one is a number."""

_KINDS = {
    "c": "complex numbers",
    "b": "booleans",
    "U": "text",
    "S": "bytes",
    "M": "dates",
    "m": "durations",
    "O": "objects",
    "V": "records",
}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One spectrum as it is recorded and as it is learned.

    Parameters
    ----------
    channels
        Data key to values, ``(points,)`` each.
    quality
        0 to 1, or less than 0 where no channel holds a number, or one beyond `LARGEST_VALUE`;
        see `quality_of`.
    """

    channels: dict[str, NDArray[np.float64]]
    quality: float

    @property
    def values(self) -> NDArray[np.float64]:
        """All channels one behind the other."""
        return np.concatenate(list(self.channels.values()))


def spectrum_of(data: Mapping[str, Any], keys: Iterable[str]) -> Spectrum:
    """Return the spectrum of an event, and judge it.

    The plan asks this of what it is about to record, and the agent of what was recorded: so
    both count the same spectra.

    Parameters
    ----------
    data
        Everything that was read, data key to value.
    keys
        The channels, in their order.

    Raises
    ------
    InputError
        If a channel, or what is said of its quality, is no real number.
    """
    channels = {key: real(key, data[key]) for key in keys}
    quality = quality_of(data, list(channels.values()))
    numbers = [values[np.isfinite(values)] for values in channels.values()]
    largest = max((np.abs(values).max() for values in numbers if values.size), default=np.inf)
    if largest > LARGEST_VALUE:
        quality = NOTHING
    return Spectrum(channels, quality)


def real(key: str, value: Any) -> NDArray[np.float64]:
    """Return what a data key holds as real numbers.

    Raises
    ------
    InputError
        If it holds anything else: a part of it, such as the real part, is never taken for all.
    """
    array = as_array(key, value)
    if array.dtype.kind == "c":
        raise InputError(complex_in_words(key))
    try:
        if array.dtype.kind in "iufbO":
            return np.asarray(array, float)
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"{key} holds {kind_of(array)}, from which nothing can be learned; expected real numbers"
    )


def as_array(key: str, value: Any) -> NDArray[Any]:
    """Return a value as an array, NaN where it is masked.

    Raises
    ------
    InputError
        If its rows have different lengths.
    """
    try:
        return np.asarray(filled_with_nan(value))
    except ValueError:
        raise InputError(
            f"{key} holds rows of different lengths; expected an array whose rows have one length"
        ) from None


def kind_of(array: NDArray[Any]) -> str:
    """Return in words what an array holds."""
    return _KINDS.get(array.dtype.kind, "numbers")


def complex_in_words(key: str) -> str:
    """Say that complex numbers are not learned, and what to do."""
    return (
        f"{key} holds complex numbers, and only real ones are learned; let the detector read two "
        "arrays in its place, such as the real and the imaginary part, or amplitude and phase"
    )


def is_spectrum(described: Mapping[str, Any]) -> bool:
    """Say whether a data key is described as a spectrum: a 1-D array of numbers, two or more.

    Complex numbers count, so that they are refused and not passed over in silence.

    Raises
    ------
    InputError
        If it is described as of a type that numpy does not know.
    """
    shape, dtype = described["shape"], described.get("dtype_numpy")
    if len(shape) != 1 or (shape[0] is not None and shape[0] < LEAST):
        return False
    return not isinstance(dtype, str) or not dtype or as_dtype(dtype).kind in "iufc"


def as_dtype(declared: str) -> np.dtype:
    """Return the type of numbers that a ``dtype_numpy`` declares.

    Raises
    ------
    InputError
        If numpy does not know it; event-model lets ``<f3`` pass.
    """
    try:
        return np.dtype(declared)
    except TypeError:
        raise InputError(
            f"numpy does not know the dtype_numpy {declared!r}; correct the describe() of the "
            "detector, to '<f8' for one"
        ) from None


def why_no_spectrum(described: Mapping[str, Any]) -> str:
    """Say what a data key is described as where that can be no spectrum; "" where it may be one.

    An array of no value is one whose shape is not known yet, and complex numbers are refused in
    words of their own.
    """
    shape, dtype = described["shape"], described["dtype"]
    if described.get("external"):
        return f"{described['external']} data outside the event"
    if dtype != "array" or not shape:
        return "one value" if dtype in ("number", "integer", "array") else f"a {dtype}"
    if len(shape) != 1 or (shape[0] is not None and 0 < shape[0] < LEAST):
        return f"shape {list(shape)}"
    kind = described.get("dtype_numpy")
    if isinstance(kind, str) and kind and as_dtype(kind).kind not in "iufc":
        return kind_of(np.empty(0, as_dtype(kind)))
    return ""


def may_be_image(described: Mapping[str, Any]) -> bool:
    """Say whether a data key may be an image as far as it is described: 2-D, or not known yet."""
    shape = described["shape"]
    return bool(described.get("external")) or len(shape) == 2 or 0 in shape


def learnable(key: str, described: Mapping[str, Any]) -> bool:
    """Say whether what a run names as a channel can be one: 1-D, measured, and in the event."""
    one = len(described["shape"]) == 1
    return one and not key.endswith(PREDICTED) and not described.get("external")


def quality_of(data: Mapping[str, Any], spectrum: Sequence[NDArray]) -> float:
    """Return the quality of a spectrum, 0 to 1.

    Parameters
    ----------
    data
        Everything that was read with it: the least of the scalars whose keys end in
        ``_quality``, NaN for 0, is its quality.
    spectrum
        Its channels, ``(points,)`` each. Where nothing says its quality, it is 0 if a
        channel holds no number or is constant, and else 1.

    Raises
    ------
    InputError
        If what is said of the quality is no number.
    """
    said = [
        _said(key, v)
        for key, v in data.items()
        if key.endswith(("_quality", "-quality")) and not as_array(key, v).ndim
    ]
    if said:
        return float(np.nan_to_num(np.array(said), nan=0.0).min())
    finite = [values[np.isfinite(values)] for values in spectrum]
    # Compared and not subtracted: a difference of huge numbers overflows.
    return float(all(values.size and values.max() > values.min() for values in finite))


def _said(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"{key} is {value!r}; expected the quality of the spectrum, a number from 0 to 1"
        ) from None

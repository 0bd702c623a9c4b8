"""Masked arrays of `numpy.ma`: what is behind a mask is no number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def has_masked(value: Any) -> bool:
    """Say whether any value is masked, also in a list of masked arrays."""
    if isinstance(value, list | tuple):
        return any(map(has_masked, value))
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value).any())


def filled_with_nan(value: Any) -> Any:
    """Return a masked array as a plain one, NaN where it is masked; anything else as it is."""
    if isinstance(value, list | tuple) and has_masked(value):
        return [filled_with_nan(one) for one in value]
    if not isinstance(value, np.ma.MaskedArray):
        return value
    if not has_masked(value) or value.dtype.kind not in "biufc":
        return value.data
    wide = value if value.dtype.kind in "fc" else value.astype(float)
    return np.ma.filled(wide, np.nan)


def hidden(value: Any) -> NDArray[np.bool_]:
    """Return where an array is masked, in its shape: nowhere for a plain one."""
    return (
        np.ma.getmaskarray(value)
        if isinstance(value, np.ma.MaskedArray)
        else np.zeros(np.shape(value), bool)
    )

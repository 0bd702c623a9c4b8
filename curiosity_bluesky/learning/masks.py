"""Masks as JSON: what people draw has to fit into a document."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError


def encode_mask(mask: ArrayLike) -> dict[str, Any]:
    """Return a mask ``(rows, cols)`` as the arguments of an act, JSON-ready."""
    array = np.asarray(mask, bool)
    bits = base64.b64encode(zlib.compress(np.packbits(array).tobytes()))
    return {"shape": list(array.shape), "bits": bits.decode()}


def decode_mask(arguments: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask ``(rows, cols)`` that `encode_mask` wrote.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        shape = tuple(int(n) for n in arguments["shape"])
        data = zlib.decompress(base64.b64decode(arguments["bits"]))
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=int(np.prod(shape)))
        return bits.reshape(shape).astype(bool)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InputError(
            f"{dict(arguments)} is no mask ({error}); make one with curiosity_bluesky's `steer`"
        ) from None

"""Files dropped on the page: never trusted, and of limited size."""

from __future__ import annotations

import io
import math
import re
import warnings

import numpy as np

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.image import Image

LARGEST = 16 * 2**20
"""Maximum bytes of a file."""

PIXELS = 4096 * 4096
SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".jpg", ".jpeg")


def image_of(name: str, content: bytes) -> Image:
    """Return the image in a file.

    Parameters
    ----------
    name
        What it is called: its end says what it is.
    content
        Its bytes.

    Raises
    ------
    InputError
        If it is too large, of no kind that is known, damaged, or no image that can be described.
    """
    suffix = "." + name.rsplit(".", 1)[-1].lower() if "." in name else ""
    if suffix not in SUFFIXES:
        raise InputError(f"{name} is not one of {', '.join(SUFFIXES)}")
    if len(content) > LARGEST:
        raise InputError(too_large(name, len(content)))
    try:
        values = _npy(content) if suffix == ".npy" else _picture(content)
    except InputError:
        raise
    except Exception as error:  # readers raise any error on a damaged file
        why = re.sub(r"\s*<.*?>", "", str(error)) or type(error).__name__
        raise InputError(f"{name} cannot be read as {suffix[1:]} ({why})") from None
    return Image.checked(values, what=name)


def too_large(name: str, size: int) -> str:
    """Return the message for a file of a size, bytes."""
    return f"{name} has {size / 2**20:.0f} MB; at most {LARGEST / 2**20:.0f} MB can be searched by"


def _npy(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    if math.prod(shape) * max(dtype.itemsize, 1) > len(content):
        raise InputError("the file ends before its array does")
    _bounded(math.prod(shape))
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _picture(content: bytes) -> np.ndarray:
    import PIL.Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        # Of the formats only those that are asked for: each reader is a way in.
        with PIL.Image.open(io.BytesIO(content), formats=("PNG", "TIFF", "JPEG")) as picture:
            _bounded(picture.width * picture.height)
            plain = picture.mode in ("L", "F", "I", "1") or picture.mode.startswith("I;16")
            return np.asarray(picture if plain else picture.convert("RGB"))


def _bounded(pixels: int) -> None:
    if pixels > PIXELS:
        raise InputError(f"the image has {pixels:,} pixels; at most {PIXELS:,} are searched by")

"""Images in files: pictures, arrays, and formats of microscopes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.readers import SUFFIXES as FIELD_SUFFIXES
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.phase_period import period_of, um_in

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class FileImage:
    """A channel of a file.

    Parameters
    ----------
    channel
        What the file calls it; ``image`` where it has no name.
    values
        (rows, cols), colours as grey.
    um_per_pixel
        Size of a pixel along y and x, um; None if the file does not say.
    units
        Of the values, "" if the file does not say.
    """

    channel: str
    values: NDArray[Any]
    um_per_pixel: tuple[float, float] | None = None
    units: str = ""

    def image(self) -> Image:
        """Return the image in the form that descriptors expect.

        Raises
        ------
        InputError
            If it cannot be described.
        """
        period = period_of(self.channel, self.units)
        return Image.checked(self.values, self.um_per_pixel, period, what=self.channel)


def read_images(path: str | Path) -> list[FileImage]:
    """Return the images in a file.

    Parameters
    ----------
    path
        A picture (``.png``, ``.jpg``, ``.tif``, ``.bmp``; of 8 or 16 bits, colours become
        grey), an array (``.npy``, or ``.npz`` with one or more, and perhaps ``extent_um``,
        width and height), or a file that `curiosity_bluesky.exchange.read_fields` reads (HDF5
        in NSID or USID, ``.ibw``, ``.3ds``, ``.sxm``, ``.gwy``).

    Raises
    ------
    InputError
        If it is none of these, or holds no image.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    known = (*PICTURES, *ARRAYS, *FIELD_SUFFIXES)
    if suffix not in known:
        raise InputError(f"{path} is no image file; expected one of {', '.join(known)}")
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected an image: check the path")
    if suffix in FIELD_SUFFIXES:
        found = _of_a_microscope(path)
    elif suffix in ARRAYS:
        found = _of_arrays(path)
    else:
        found = [FileImage("image", _picture(path))]
    if not found:
        raise InputError(f"{path} holds no image; expected an array of two dimensions")
    return found


def channel_of(images: list[FileImage], channel: str | None, where: str) -> FileImage:
    """Return one of several channels, the first if none is asked for.

    Raises
    ------
    InputError
        If none has this name.
    """
    for image in images:
        if channel is None or image.channel == channel:
            return image
    there = ", ".join(image.channel for image in images)
    raise InputError(f"there is no channel {channel!r} in {where}; it has {there}")


def _picture(path: Path) -> NDArray[Any]:
    from skimage.io import imread

    try:
        values = np.asarray(imread(path))
    except Exception as error:  # Pillow's and tifffile's many ways to say no
        why = " ".join(str(error).split()).split(". ")[0]
        raise InputError(
            f"{path} cannot be read as an image ({why:.80}); is it one, and whole?"
        ) from None
    if values.dtype == bool:
        values = values.astype(np.uint8)
    return _grey(values, path)


def _grey(values: NDArray[Any], path: Path) -> NDArray[Any]:
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[2] == 2:  # grey with transparency
        return values[..., 0]
    if values.ndim == 3 and values.shape[2] in (3, 4):
        # ITU-R BT.709 luma; the fourth is transparency.
        return (values[..., :3] @ np.array([0.2126, 0.7152, 0.0722])).astype(np.float32)
    if values.ndim != 2:
        raise InputError(
            f"{path} has the shape {values.shape}; expected one image, (rows, cols) or colours "
            "(rows, cols, 3)"
        )
    return values


def _of_arrays(path: Path) -> list[FileImage]:
    try:
        opened = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npy":
            return [FileImage("image", _grey(opened, path))]
        with opened:
            arrays = {name: opened[name] for name in opened.files}
    except Exception as error:  # of numpy or zipfile, on a damaged file
        raise InputError(f"{path} cannot be read as numpy arrays ({error})") from None
    extent = np.asarray(arrays.pop("extent_um", ()), float).reshape(-1)
    found = []
    for name, values in arrays.items():
        if values.ndim == 2 and values.dtype.kind in "biuf":
            rows, cols = values.shape
            size = None
            if len(extent) == 2 and (extent > 0).all():
                size = float(extent[1]) / max(rows - 1, 1), float(extent[0]) / max(cols - 1, 1)
            found.append(FileImage(name, values, size))
    return found


def _of_a_microscope(path: Path) -> list[FileImage]:
    from curiosity_bluesky.exchange.readers import read_fields

    found = []
    for one in read_fields(path):
        if not one.is_image:
            continue
        y, x = one.y_and_x
        values = np.squeeze(one.read())
        order = one.spatial_dims
        values = values if order[0] is y else values.T
        size = _step(y.values, y.units), _step(x.values, x.units)
        known = (size[0], size[1]) if size[0] and size[1] else None
        found.append(FileImage(one.name, values, known, one.units))
    return found


def _step(values: NDArray[Any], units: str) -> float | None:
    step = abs(float(values[-1]) - float(values[0])) / max(len(values) - 1, 1)
    um = um_in(units)
    return step * um if um is not None and math.isfinite(step) and step > 0 else None

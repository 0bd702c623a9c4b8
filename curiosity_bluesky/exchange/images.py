"""Images from files of other programs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import xarray as xr

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.missing import not_measured
from curiosity_bluesky.exchange.readers import UM, Dim, read_fields

logger = logging.getLogger(__name__)


def read_images(path: str | Path) -> dict[str, xr.DataArray]:
    """Read the images in an NSID, USID or vendor's file.

    Parameters
    ----------
    path
        See `curiosity_bluesky.exchange.readers.read_fields`.

    Returns
    -------
    dict
        Channel name to image, dims (y, x), in the dtype of the file, with ``attrs["units"]``;
        NaN where nothing was measured, which a line in the log says.
        The coordinates y and x are in um, increasing, where the file knows lengths;
        otherwise as the file has them, with the units that it names.

    Raises
    ------
    InputError
        If the file cannot be read or holds no image.
    """
    fields = [field for field in read_fields(path) if field.is_image]
    if not fields:
        raise InputError(f"{path} holds no image; expected an array with two spatial axes")
    images = {}
    for field in fields:
        kept = [dim for dim in field.dims if len(dim.values) > 1]
        names = ["y" if dim is field.y_and_x[0] else "x" for dim in kept]
        values = field.read().reshape([len(dim.values) for dim in kept])
        image = xr.DataArray(
            values,
            {name: (name, *_axis(dim)) for name, dim in zip(names, kept, strict=True)},
            names,
            field.name,
            {"units": field.units},
        )
        if words := not_measured(values):
            logger.warning("%s: %s: %s", path, field.name, words)
        images[field.name] = image.sortby(["y", "x"]).transpose("y", "x")
    return images


def _axis(dim: Dim) -> tuple[np.ndarray, dict[str, str]]:
    factor = UM.get(dim.units.lower())
    if factor is None:
        return dim.values, {"units": dim.units}
    return np.asarray(dim.values, dtype=np.float64) * factor, {"units": "um"}

"""NSID files: written with pyNSID, read back without its changes of dtype."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.datasets import ROLE, sidpy, to_sidpy

_ROLE_ATTRIBUTE = "curiosity_role"  # what curiosity_bluesky.exchange.hdf5 looks for
_DIMENSION = ("name", "units", "quantity", "dimension_type")


def write_nsid(
    source: Any, path: str | os.PathLike[str], *, grid: bool = False, overwrite: bool = False
) -> Path:
    """Write a run, or datasets, to an NSID file.

    The file appears when it is whole. It is of HDF5 1.8: in older ones an attribute holds
    64 KiB at most, and sidpy 0.12.9 leaves out what is larger, such as the coordinates of
    more than 4096 points, without a word.

    Parameters
    ----------
    source
        A run from a catalogue, or a dict of name to sidpy dataset (`to_sidpy`,
        `sample_to_sidpy`); / in a name makes groups.
    path
        The file, usually ``.hf5`` or ``.h5``.
    grid
        See `to_sidpy`; for runs.
    overwrite
        Whether a file that is there is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If pyNSID is not installed, the file is there already or cannot be written, or the
        run cannot be exported.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} is there already; expected a new file: choose another name, or replace it "
            "with overwrite=True (command: --force)"
        )
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written; expected a file in a directory that exists")
    sidpy()
    try:
        import h5py
        from pyNSID.io.hdf_io import write_nsid_dataset
    except ImportError as error:
        raise InputError(
            f"writing {path} needs {error.name}, which is not installed: "
            'pip install "curiosity-bluesky[pycroscopy]"'
        ) from None
    # A run is a mapping too, of its streams.
    is_run = hasattr(source, "start")
    datasets: Mapping[str, Any] = to_sidpy(source, grid=grid) if is_run else source
    for key, dataset in datasets.items():
        if not hasattr(dataset, "data_type"):
            raise InputError(
                f"{key!r} is a {type(dataset).__name__}; expected a sidpy.Dataset: make it with "
                "sidpy.Dataset.from_array"
            )
    try:
        handle, name = tempfile.mkstemp(path.suffix, f".{path.stem}-", path.absolute().parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}); choose another place") from error
    os.close(handle)
    partial = Path(name)
    try:
        with (
            h5py.File(partial, "w", libver=("v108", "v108")) as file,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of pyNSID about itself
            for key, dataset in datasets.items():
                *groups, last = key.split("/")
                group = file.require_group("/".join(groups)) if groups else file
                label = re.sub(r"\W", "_", last)
                if label in [axis.name for axis in dataset._axes.values()]:
                    label += "_data"  # its axes lie beside it
                while label in group:  # such as a_b beside a-b
                    label += "_"
                main = write_nsid_dataset(dataset, group, label)
                main.attrs[_ROLE_ATTRIBUTE] = str(dataset.metadata.get(ROLE, ""))
                # It is closed in a moment. The public setter would close the file right now.
                dataset._h5_dataset = None
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_nsid(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read all main datasets of an NSID file as sidpy datasets, in memory.

    As pyNSID's own reader does, but dtypes are kept (it makes float64 and complex64 of
    everything), the title and text come back, and metadata of one dataset does not end up
    in the next.

    Returns
    -------
    dict
        Name to dataset; names of a file that `write_nsid` wrote are those given there.

    Raises
    ------
    InputError
        If sidpy is not installed, or the file is not there, not HDF5 or without datasets.
    """
    package = sidpy()
    import h5py

    path = Path(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); expected an NSID file") from error
    datasets: dict[str, Any] = {}
    with file:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and "main_data_name" in item.attrs:
                key = name.rpartition("/")[0] or name
                datasets[key] = _dataset(package, item)

        file.visititems(visit)
    if not datasets:
        raise InputError(f"{path} holds no NSID dataset; expected one that pyNSID wrote")
    return datasets


def _dataset(package: Any, item: Any) -> Any:
    attributes = {key: _plain(value) for key, value in item.attrs.items() if _is_plain(value)}
    groups = {
        key: _tree(group)
        for key, group in item.parent.items()
        if not hasattr(group, "dtype") and not key.startswith("Structure_")
    }
    cloud = groups.pop("point_cloud", None)
    dataset = package.Dataset.from_array(item[()], title=attributes["main_data_name"])
    for key in ("units", "quantity", "modality", "source", "data_type"):
        if key in attributes:
            setattr(dataset, key, attributes[key])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that dim_0 was called a before
        for i, axis in enumerate(item.dims):
            scale = axis[0]
            about = {key: _plain(scale.attrs[key]) for key in _DIMENSION if key in scale.attrs}
            dataset.set_dimension(i, package.Dimension(scale[()], **about))
    dataset.point_cloud = cloud
    for key, value in groups.items():
        setattr(dataset, key, value)
    return dataset


def _tree(group: Any) -> dict[str, Any]:
    tree = {key: _plain(value) for key, value in group.attrs.items()}
    return tree | {key: _tree(child) for key, child in group.items() if not hasattr(child, "dtype")}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bytes) or np.asarray(value).dtype.kind in "fiubcSU"


def _plain(value: Any) -> Any:
    """Text as text, lists of text as lists, numbers as they are."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [item.decode() if isinstance(item, bytes) else str(item) for item in value.ravel()]
    return value.item() if isinstance(value, np.generic) else value

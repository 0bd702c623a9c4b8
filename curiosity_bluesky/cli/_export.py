"""Implementation of ``curiosity export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curiosity_bluesky.cli.output import check_new_file

SUFFIXES = (".hf5", ".h5", ".hdf5")
"""Suffixes of NSID files."""


def check_export(file: Path, force: bool = False) -> None:
    """Make sure that a run may be written to a file.

    Raises
    ------
    InputError
        If it has another ending, is there already, or lies in no directory.
    """
    check_new_file(file, SUFFIXES, force)


def run_export(run: Any, file: Path, *, grid: bool = False, force: bool = False) -> dict[str, Any]:
    """Write a run to an NSID file and say what is in it.

    Parameters
    ----------
    run
        A run from a catalogue.
    file
        The file to write.
    grid, force
        Whether cubes are wanted, and whether a file that is there is replaced.

    Returns
    -------
    dict
        ``file``, ``uid``, ``bytes`` and ``datasets``: a list of name, shape, dtype and
        data_type.

    Raises
    ------
    InputError
        If the file is there already, has another ending or cannot be written, or the run cannot be
        exported.
    """
    check_export(file, force)  # before the run is read
    from curiosity_bluesky.exchange.datasets import to_sidpy
    from curiosity_bluesky.exchange.nsid import write_nsid

    datasets = to_sidpy(run, grid=grid)
    path = write_nsid(datasets, file, overwrite=force)
    return {
        "file": str(path),
        "uid": run.start["uid"],
        "bytes": path.stat().st_size,
        "datasets": [
            {
                "name": name,
                "shape": list(dataset.shape),
                "dtype": str(dataset.dtype),
                "data_type": dataset.data_type.name,
            }
            for name, dataset in datasets.items()
        ],
    }

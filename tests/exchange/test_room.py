"""The room of the files: what importing it costs, and which file is read by what."""

import subprocess
import sys
from pathlib import Path

import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.readers import HDF5_SUFFIXES, SUFFIXES, VENDOR_SUFFIXES, read_fields


def test_importing_it_imports_no_reader():
    code = (
        "import sys, curiosity_bluesky.exchange.readers, sim_devices; "
        "print({'h5py', 'sidpy', 'pyNSID', 'SciFiReaders', 'xarray', 'tiled', 'event_model'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_each_suffix_has_a_reader(tmp_path: Path):
    assert (*HDF5_SUFFIXES, *VENDOR_SUFFIXES) == SUFFIXES
    for suffix in SUFFIXES:
        path = tmp_path / f"scan{suffix}"
        path.write_bytes(b"no such format")
        with pytest.raises(InputError, match="expected|needs"):
            read_fields(path)

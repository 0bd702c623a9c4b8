"""What is read of a run beside its points."""

import pytest
import xarray as xr

from curiosity_bluesky.documents import flat_attributes


def test_the_flat_keys_of_a_start_document_can_be_written_to_netcdf(tmp_path):
    pytest.importorskip("h5netcdf")
    start = {"sample": "PTO", "attended": False, "seed": 3, "time": 0.5, "hints": {}, "motors": []}
    attributes = flat_attributes(start)
    xr.Dataset(attrs=attributes).to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as stored:
        assert stored.attrs == {"sample": "PTO", "attended": 0, "seed": 3, "time": 0.5}

"""xarray without the libraries of arrays that it looks for, and with them again."""

import subprocess
import sys

CODE = """
import sys, threading
import numpy as np, xarray as xr
from curiosity_bluesky.views._xarray_compat import without_other_arrays

def use():
    array = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("y", "x"))
    return float(xr.concat([array, array + 1], "z").mean().compute())

def imported():
    return sorted({"dask", "sparse", "numba"} & set(sys.modules))

def elsewhere():
    import dask.array as da
    assert float(da.ones(4).sum().compute()) == 4.0

with without_other_arrays():
    assert use() == 3.0
assert not imported(), imported()
with without_other_arrays():
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "dask.array" in sys.modules
    use()
import dask.array as da
lazy = xr.DataArray(da.ones(4))
assert lazy.chunks == ((4,),) and lazy.variable._data is lazy.data
assert float(lazy.sum()) == 4.0
"""


def test_only_xarray_is_kept_from_dask_and_only_meanwhile():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "AssertionError" not in done.stderr

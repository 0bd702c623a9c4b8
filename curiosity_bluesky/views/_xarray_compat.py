"""Private names of xarray, and what they are needed for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_OTHER_ARRAYS = ("cupy", "dask", "pint", "sparse")


@contextmanager
def without_other_arrays() -> Iterator[None]:
    """Keep xarray from importing libraries of arrays that no array here is from.

    To see whether an array is one of dask's, xarray imports dask, and so with ``sparse``, which
    brings numba: two seconds. Within the context xarray takes those that are not imported yet for
    not installed; after it, xarray looks again. Other modules import them as ever.
    """
    # Neither has a public name. Where xarray has them no more, it takes its two seconds.
    from xarray.namedarray import pycompat, utils

    hidden = [name for name in _OTHER_ARRAYS if name not in sys.modules]
    notes = getattr(pycompat, "_cached_duck_array_modules", {})
    installed = utils.module_available
    absent = pycompat.DuckArrayModule("no_such_module")  # pyright: ignore[reportArgumentType]

    def not_hidden(module: str, *args: Any, **kwargs: Any) -> bool:
        return module not in hidden and installed(module, *args, **kwargs)

    before = {name: notes[name] for name in hidden if name in notes}
    notes |= dict.fromkeys(hidden, absent)
    utils.module_available = not_hidden
    try:
        yield
    finally:
        utils.module_available = installed
        for name in hidden:
            notes.pop(name, None)
        notes |= before

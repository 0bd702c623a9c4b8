"""Threads and memory of the learning: one thread, so that a replay is the same bit for bit."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

from threadpoolctl import ThreadpoolController

from curiosity_bluesky.learning.registry import load_built_in

_NATIVE = (
    "scipy.linalg",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.spatial",
    "scipy.stats",
    "sklearn.cluster",
    "torch",
)
"""What the learning sums with, which strategies import when they are built."""

MAPPED = 2**20
"""Bytes from which on an array has memory of its own, which the system has back with it."""
_M_MMAP_THRESHOLD = -3  # of malloc.h


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, BLAS and OpenMP use one thread while the block runs.

    Sums depend on how many threads share them, so a model that was trained on two threads
    is not, bit for bit, the one that a process with four rebuilds. It is also the quickest
    way for networks of this size: a second thread gains a third on an idle machine and
    costs a factor of ten and more where another process wants the same core.
    """
    import torch  # here, since it takes seconds, and most commands do not learn

    return_large_arrays()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _controller().limit(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def _controller() -> ThreadpoolController:
    # An installed package's strategy may bring another library later.
    load_built_in()
    for name in _NATIVE:
        importlib.import_module(name)
    return _controller_of(len(sys.modules))


@lru_cache(maxsize=1)
def _controller_of(modules: int) -> ThreadpoolController:
    # Looking for the loaded libraries takes milliseconds; they change only with an import.
    return ThreadpoolController()


def use_one_thread() -> None:
    """Use one thread for good, in a process where several explorers learn at the same time.

    `one_thread` alone does not do there: the first that is done would give the others back as
    many threads as there were before, in the middle of their sums.
    """
    import torch

    return_large_arrays()
    torch.set_num_threads(1)
    _controller().limit(limits=1)


@cache
def return_large_arrays() -> None:
    """Have malloc give the memory of large arrays back to the system as soon as they are freed.

    By default the GNU C library raises the size from which it does, to 32 MiB, with each large
    array that is freed; smaller ones then come from heaps, one or more for each thread. Each
    decision is a thread, and frees some dozens of arrays of all sizes: the holes that they leave
    took 1.5 GiB after 400 spectra, where 0.2 GiB was in use. It holds for the whole process;
    elsewhere than with the GNU C library nothing is changed.
    """
    if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ()):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED)


def return_free_memory() -> None:
    """Have malloc give the system what it keeps of memory that nothing uses, in all its heaps.

    The documents of a run pass through a dozen threads as text and as arrays of less than
    `MAPPED`, and leave holes behind: 0.2 GiB after 200 spectra. It takes some milliseconds.
    """
    if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ()):
        ctypes.CDLL(None).malloc_trim(0)

"""Fourier transforms of the plane by torch, which is quicker than scipy with stacks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from curiosity_bluesky.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
else:  # seconds to import: with the first image, not with an index that is only opened
    torch = lazy_module("torch")


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    # Whole numbers would be transformed in single precision, and torch knows this machine's byte
    # order alone.
    kind = values.dtype.newbyteorder("=") if values.dtype.kind in "fc" else np.dtype(float)
    values = values.astype(kind, copy=False)
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def fast(n: int) -> int:
    """Return a length of at least `n` whose transform takes little time."""
    return int(next_fast_len(n, real=True) or n)


def fft2(values: NDArray[Any]) -> NDArray[Any]:
    """Return the transform over the last two axes, of the precision of the values.

    Parameters
    ----------
    values
        (..., rows, cols), real or complex.
    """
    return torch.fft.fft2(_tensor(values)).numpy()


def ifft2(spectrum: NDArray[Any]) -> NDArray[Any]:
    """Return what `fft2` gives a spectrum of, complex.

    Parameters
    ----------
    spectrum
        (..., rows, cols).
    """
    return torch.fft.ifft2(_tensor(spectrum)).numpy()


def rfft2(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return the half of the transform that the other half follows from.

    Parameters
    ----------
    values
        (..., rows, cols), real.
    shape
        What is added in zeros, or left out, for these many rows and columns.
    """
    return torch.fft.rfft2(_tensor(values), shape).numpy()


def irfft2(spectrum: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return what `rfft2` gives a half spectrum of.

    Parameters
    ----------
    spectrum
        (..., rows, cols // 2 + 1).
    shape
        Rows and columns.
    """
    return torch.fft.irfft2(_tensor(spectrum), shape).numpy()

"""The descriptor `texture`: spectra, scattering and histogram in one vector, and the scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.descriptors.histogram import histogram_block
from curiosity_bluesky.similarity.descriptors.metric import Metric
from curiosity_bluesky.similarity.descriptors.power_spectrum import (
    correlation_block,
    spectral_block,
    spectrum,
)
from curiosity_bluesky.similarity.descriptors.scattering import (
    scattered,
    scattering_block,
)
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.preprocess import preprocess

WEIGHTS = Path(__file__).parents[1] / "weights" / "texture.npz"
"""Made by ``benchmarks/texture_weights.py``."""

SIZE = 64
"""Number of components of the structure; those that follow are the scale."""

# Octaves relative to the characteristic length: as far as images of 128 pixels know them.
_FREQUENCIES = np.arange(-2.75, 2.76, 0.25)
_LAGS = np.arange(-1.75, 1.76, 0.25)
_WAVELETS = np.arange(-1.0, 1.51, 0.5)

_OCTAVES = 24.0  # from 0.1 nm to more than a millimetre, before it comes round again
_WIDTH = 1.5  # octaves
_WAVES = np.arange(1, 7)
_SCALE_SHARE = 0.5


@dataclass(frozen=True)
class FeatureBlocks:
    """Blocks of features of an image, before the metric.

    Parameters
    ----------
    parts
        By name: ``spectrum``, ``correlation``, ``scattering``, ``histogram``.
    log_um
        log2 of the characteristic length, um; None if it is not known.
    """

    parts: dict[str, NDArray[np.float64]]
    log_um: float | None

    @property
    def raw(self) -> NDArray[np.float64]:
        """All blocks in one vector."""
        return np.concatenate(list(self.parts.values()))


def blocks(image: Image) -> FeatureBlocks:
    """Return the blocks of an image, each without its place, rotation, mirror and scale.

    Parameters
    ----------
    image
        As `Image.checked` returns it.
    """
    field = preprocess(image)
    found = spectrum(field.values)
    length = found.log_length
    parts = {
        "spectrum": spectral_block(found, length, _FREQUENCIES),
        "correlation": correlation_block(found, length, _LAGS),
        "scattering": scattering_block(scattered(field.values), length, _WAVELETS, _WAVELETS),
        "histogram": histogram_block(field.values),
    }
    um = field.um_per_pixel
    return FeatureBlocks(parts, None if um is None else length + float(np.log2(um)))


class Texture:
    """Descriptor of texture and scale, invariant to place, rotation and reflection.

    The first 64 numbers do not depend on the scale. The last 12 lie on a curve along which
    the characteristic length grows: two structures are the further apart the more their lengths
    differ, up to a limit at about eight times. Where the size of a pixel is not known they are 0,
    which is equally far from all lengths: so ranks go by structure alone. See `without_scale`.
    """

    name = "texture"
    version = 1
    size = SIZE + 2 * len(_WAVES)

    @cached_property
    def metric(self) -> Metric:
        """Metric of the blocks."""
        return Metric.load(WEIGHTS)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (size,)."""
        found = blocks(image)
        structure = self.metric(found.raw)
        scale = scale_axes(found.log_um) * np.sqrt(_SCALE_SHARE * self.metric.typical)
        return np.concatenate([structure, scale]).astype(np.float32)


def scale_axes(log_um: float | None) -> NDArray[np.float64]:
    """Return a point on a sphere for a length: near for near lengths, 0 for an unknown one.

    Squared distances go like 1 - exp(-d^2 / (2 * 1.5^2)) for d octaves, as of a Gaussian kernel
    without its mean: 0.45 at one octave, 2.4 at most.

    Parameters
    ----------
    log_um
        log2 of the length, um.
    """
    if log_um is None:
        return np.zeros(2 * len(_WAVES))
    frequencies = 2 * np.pi * _WAVES / _OCTAVES
    weights = np.exp(-((frequencies * _WIDTH) ** 2) / 4)
    weights /= np.sqrt(np.sum(weights**2))
    phase = frequencies * log_um
    return np.concatenate([weights * np.cos(phase), weights * np.sin(phase)])


def without_scale(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector of `Texture` without the scale.

    All stored vectors with a scale then have one and the same distance more, so that they are
    ranked by structure alone.

    Parameters
    ----------
    vector
        (..., size).
    """
    out = np.array(vector, np.float32)
    out[..., SIZE:] = 0
    return out

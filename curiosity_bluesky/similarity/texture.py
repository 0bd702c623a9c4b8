"""The descriptor `texture`: spectra, scattering and histogram in one vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.histogram import histogram_block
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.preparing import prepared
from curiosity_bluesky.similarity.scattering import scattered, scattering_block
from curiosity_bluesky.similarity.spectra import correlation_block, spectral_block, spectrum

_FREQUENCIES = np.arange(-2.5, 2.51, 0.25)
_LAGS = np.arange(-2.0, 1.51, 0.25)
_WAVELETS = np.arange(-2.0, 1.01, 0.5)


class Texture:
    """What a structure is like, wherever and however it lies."""

    name = "texture"
    version = 1
    size = 471

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (size,)."""
        field = prepared(image).values
        found = spectrum(field)
        length = found.log_length
        vector = np.concatenate(
            [
                spectral_block(found, length, _FREQUENCIES),
                correlation_block(found, length, _LAGS),
                scattering_block(scattered(field), length, _WAVELETS, _WAVELETS),
                histogram_block(field),
            ]
        )
        return vector.astype(np.float32)

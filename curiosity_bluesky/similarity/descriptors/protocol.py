"""Protocol of descriptors: an image in, a vector out, compared by Euclidean distance."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.image import Image


class Descriptor(Protocol):
    """Map from an image to a vector of fixed length.

    Vectors are finite float32, and compare by plain Euclidean distance: constants that
    normalise them belong to the version. A change of the vectors raises the version.
    """

    @property
    def name(self) -> str:
        """Name in the index, such as ``texture``."""
        ...

    @property
    def version(self) -> int:
        """Version, raised with every change of the vectors."""
        ...

    @property
    def size(self) -> int:
        """Length of its vectors."""
        ...

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (size,)."""
        ...

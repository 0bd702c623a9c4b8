"""What a descriptor is: an image in, a vector out, and vectors compare by Euclidean distance."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.similarity.image import Image


class Descriptor(Protocol):
    """Turns an image into a vector of fixed length.

    Vectors are finite float32, and compare by plain Euclidean distance: constants that
    normalise them belong to the version. A change of the vectors raises the version.
    """

    @property
    def name(self) -> str:
        """What it is called in the index, such as ``texture``."""
        ...

    @property
    def version(self) -> int:
        """Raised with every change of what comes out."""
        ...

    @property
    def size(self) -> int:
        """Length of its vectors."""
        ...

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (size,)."""
        ...

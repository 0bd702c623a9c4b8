"""Search everything ever measured by what it looks like."""

from curiosity_bluesky.similarity.descriptors.protocol import Descriptor
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index.collection import Collection, Entry, Hit

__all__ = ["Collection", "Descriptor", "Entry", "Hit", "Image"]

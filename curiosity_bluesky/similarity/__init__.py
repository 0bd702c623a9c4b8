"""Search everything ever measured by what it looks like."""

from curiosity_bluesky.similarity.collection import Collection, Entry, Hit
from curiosity_bluesky.similarity.descriptor import Descriptor
from curiosity_bluesky.similarity.image import Image

__all__ = ["Collection", "Descriptor", "Entry", "Hit", "Image"]

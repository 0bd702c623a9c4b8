"""Hand data on to pycroscopy, and take images from it: the extra ``pycroscopy``."""

from curiosity_bluesky.exchange.datasets import sample_to_sidpy, to_sidpy
from curiosity_bluesky.exchange.images import read_images
from curiosity_bluesky.exchange.nsid import read_nsid, write_nsid

__all__ = ["read_images", "read_nsid", "sample_to_sidpy", "to_sidpy", "write_nsid"]

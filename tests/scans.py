"""Runs with images, and descriptors that take no time, for tests of the index."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.similarity.archive import documents_of
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.image_files import FileImage


class Crude:
    """Four numbers of an image; it remembers how often it was asked."""

    name, version, size = "crude", 1, 4

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self, image: Image) -> NDArray[np.float32]:
        self.asked += 1
        time.sleep(self.seconds)
        v = image.values
        return np.array([np.nanmean(v), np.nanstd(v), np.nanmin(v), np.nanmax(v)], np.float32)


class CrudeOfTomorrow(Crude):
    """The same, of another version."""

    version = 2


def scan(seed: int, side: int = 24) -> NDArray[np.float32]:
    """Return an image that is like no other."""
    rng = np.random.default_rng(seed)
    return (seed + rng.normal(size=(side, side))).astype(np.float32)


def put(catalog: Catalog, *images: NDArray[Any], stop: bool = True, **metadata: Any) -> str:
    """Write a run with channels ``a``, ``b``, ...; return its uid."""
    channels = [FileImage(chr(ord("a") + n), values, (0.1, 0.2)) for n, values in enumerate(images)]
    docs = list(documents_of(channels, {"plan_name": "scan", **metadata}))
    writer = catalog.writer()
    for name, doc in docs if stop else docs[:-1]:
        writer(name, doc)
    catalog.flush()
    return docs[0][1]["uid"]

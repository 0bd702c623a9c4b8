"""A collection to explore, and a place for selections, in memory."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from synthetic.wallpaper import random_image

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity import Collection, Entry, Image
from curiosity_bluesky.views.explore.state import SharedState

GROUPS = ("p1", "pmm", "p4m", "p6m", None)


class Radial:
    """The power spectrum around the origin, on a logarithmic scale."""

    version = 1

    def __init__(self, name: str = "texture", size: int = 16) -> None:
        self.name, self.size = name, size

    def __call__(self, image: Image) -> NDArray[np.float32]:
        values = np.nan_to_num(image.values - np.nanmean(image.values))
        power = np.abs(np.fft.fft2(values / values.std())) ** 2 / values.size
        ky, kx = (np.fft.fftfreq(n) for n in values.shape)
        ring = (np.hypot(ky[:, None], kx[None]) / 0.5 * self.size).astype(int)
        total = np.bincount(ring.ravel(), power.ravel(), self.size + 10)[: self.size]
        count = np.bincount(ring.ravel(), minlength=self.size + 10)[: self.size]
        return np.log10(total / np.maximum(count, 1) + 1e-3).astype(np.float32)


class InMemory:
    """Selections of this process."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def save_selection(self, selection: dict[str, Any]) -> str:
        key = f"s{len(self.kept) + 1:05d}"
        self.kept[key] = copy.deepcopy(selection)
        return key

    def selection(self, id: str) -> dict[str, Any]:
        if id not in self.kept:
            raise InputError(f"no selection {id!r}")
        return copy.deepcopy(self.kept[id])


def image_of(row: int, side: int = 64) -> NDArray[np.float64]:
    """Return the image that an entry was made of."""
    rng = np.random.default_rng(row)
    return random_image(GROUPS[row % len(GROUPS)], rng, side)


def invented(n: int, side: int = 64) -> Collection:
    """Return a collection of generated images with metadata that is made up."""
    describe, harmonics = Radial(), Radial("symmetry", 8)
    entries, vectors, others, thumbnails = [], [], [], []
    for row in range(n):
        rng = np.random.default_rng(row)
        values = image_of(row, side)
        group = GROUPS[row % len(GROUPS)]
        metadata = {
            "sample": f"film {row % 7}" if row != 3 else "<script>window.hacked = 1</script>",
            "operator": ("ada", "ben", "cleo")[row % 3],
            "technique": ("PFM", "BEPS")[row % 2],
            "symmetry": group or "none",
            "exit_status": "fail" if row % 11 == 0 else "success",
            "time": 1.7e9 + 86400.0 * row,
        }
        coercive = {} if row % 11 == 0 else {"coercive_bias": 1 + 0.02 * row}
        entries.append(
            Entry(
                uid=f"{row:08x}-0000-4000-8000-000000000000",
                stream="survey",
                key=f"imager_{('amplitude', 'phase')[row % 2]}",
                channel=("amplitude", "phase")[row % 2],
                shape=(side, side),
                um_per_pixel=(0.01, 0.01),
                metadata=metadata,
                properties={**coercive, "loop_area": float(rng.uniform(1, 9))},
            )
        )
        vectors.append(describe(Image.checked(values)))
        others.append(harmonics(Image.checked(values)))
        step = -(-side // 48)
        small = values[::step, ::step]
        grey = np.zeros((48, 48))
        index = np.linspace(0, len(small) - 1, 48).astype(int)
        grey[:] = small[np.ix_(index, index)]
        low, high = np.percentile(grey, (1, 99))
        thumbnails.append(np.clip((grey - low) / (high - low) * 255, 0, 255).astype(np.uint8))
    return Collection(
        entries,
        {"texture": np.stack(vectors), "symmetry": np.stack(others)},
        np.stack(thumbnails),
    )


def room_of(n: int) -> SharedState:
    """Return a room with such a collection."""
    return SharedState(
        invented(n),
        {"texture": Radial(), "symmetry": Radial("symmetry", 8)},
        InMemory(),
        where="invented",
        run_link=lambda uid: f"http://127.0.0.1:8000/ui/browse/{uid}",
    )

"""Collection of indexed images in memory, with search of nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError

THUMBNAIL = 48
"""Side of a thumbnail, pixels."""


@dataclass(frozen=True)
class Entry:
    """One image of one run.

    Parameters
    ----------
    uid
        Of the run.
    stream, key, event
        Where in the run: stream, data key, number of the event from 0.
    channel
        What the instrument calls it, such as ``amplitude``: the key without its device.
    shape
        (rows, cols).
    um_per_pixel
        Size of a pixel along y and x, um; None if the run does not say.
    metadata
        Scalars of the run's start document, ``time`` (s since 1970) among them, and
        ``exit_status``.
    properties
        Derived from the run's spectra, such as ``coercive_bias`` (V); by name, with NaN left out.
    labels
        Derived from the image, such as ``symmetry``.
    """

    uid: str
    stream: str
    key: str
    channel: str
    event: int = 0
    shape: tuple[int, int] = (0, 0)
    um_per_pixel: tuple[float, float] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> tuple[str, str, str, int]:
        """Identity of the image: uid, stream, key, event."""
        return self.uid, self.stream, self.key, self.event


@dataclass(frozen=True)
class Hit:
    """Result of a search: one image and its distance.

    Parameters
    ----------
    row
        In the collection.
    entry
        The image.
    distance
        From what was searched for, in the descriptor's own units.
    """

    row: int
    entry: Entry
    distance: float


class Collection:
    """Images with their descriptors.

    Parameters
    ----------
    entries
        The images.
    vectors
        By name of the descriptor, (entries, size), finite.
    thumbnails
        (entries, 48, 48), grey from 0 to 255; None if there are none.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        vectors: Mapping[str, NDArray[np.float32]],
        thumbnails: NDArray[np.uint8] | None = None,
    ) -> None:
        self.entries = tuple(entries)
        self.vectors = {name: np.asarray(v, np.float32) for name, v in vectors.items()}
        self.thumbnails = thumbnails
        self._squares = {name: np.einsum("ij,ij->i", v, v) for name, v in self.vectors.items()}

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns: fields, labels, properties, metadata."""
        names: dict[str, None] = {"channel": None, "uid": None}
        for kind in ("labels", "properties", "metadata"):
            # Images of one run share theirs.
            for values in {id(v): v for v in (getattr(e, kind) for e in self.entries)}.values():
                names |= dict.fromkeys(values)
        return list(names)

    def column(self, name: str) -> list[Any]:
        """Return one value an entry, None where it has none.

        Parameters
        ----------
        name
            One of `columns`.

        Raises
        ------
        InputError
            If no entry has it.
        """
        if name in ("channel", "uid"):
            return [getattr(entry, name) for entry in self.entries]
        if name not in self.columns:
            raise InputError(f"nothing indexed has {name!r}; there are {', '.join(self.columns)}")
        return [
            entry.labels.get(name, entry.properties.get(name, entry.metadata.get(name)))
            for entry in self.entries
        ]

    def part(self, rows: ArrayLike) -> Collection:
        """Return some of the images as a collection of their own.

        Parameters
        ----------
        rows
            Which, in the order in which they are wanted.
        """
        chosen = np.asarray(rows, int).reshape(-1)
        return Collection(
            [self.entries[row] for row in chosen],
            {name: vectors[chosen] for name, vectors in self.vectors.items()},
            None if self.thumbnails is None else self.thumbnails[chosen],
        )

    def nearest(
        self, vector: ArrayLike, by: str, top: int = 12, among: ArrayLike | None = None
    ) -> list[Hit]:
        """Return the nearest images, the nearest first: exactly, by comparing with all.

        Parameters
        ----------
        vector
            What is searched for, (size,).
        by
            Name of the descriptor.
        top
            How many.
        among
            Rows that may be found; default: all.

        Raises
        ------
        InputError
            If there is no such descriptor, or the vector is not one of its.
        """
        if by not in self.vectors:
            raise InputError(
                f"there is no descriptor {by!r} in the index; it has {', '.join(self.vectors)}"
            )
        known = self.vectors[by]
        wanted = np.asarray(vector, np.float32)
        if wanted.shape != known.shape[1:] or not np.isfinite(wanted).all():
            raise InputError(
                f"a vector of {by!r} has {known.shape[1]} finite numbers; this one has the "
                f"shape {wanted.shape}"
            )
        rows = np.arange(len(self)) if among is None else np.asarray(among, int)
        part = known if among is None else known[rows]
        squares = self._squares[by] if among is None else self._squares[by][rows]
        # |a - b|^2 = |a|^2 - 2 a.b + |b|^2: one product with a matrix.
        distances = squares - 2 * (part @ wanted) + wanted @ wanted
        top = min(max(top, 0), len(rows))
        if top == 0:
            return []
        # In float32 rounding hides who is nearer: all that may be among the first are worked
        # out again, and of equals the first row comes first.
        few = min(len(rows), 4 * top + 64)
        limit = np.partition(distances, few - 1)[few - 1]
        rounding = 1e-5 * max(float(squares.max()), float(wanted @ wanted))
        near = np.flatnonzero(distances <= limit + rounding)
        exact = np.linalg.norm(part[near].astype(float) - wanted, axis=1)
        best = np.lexsort((rows[near], exact))[:top]
        return [Hit(int(rows[near[k]]), self.entries[rows[near[k]]], float(exact[k])) for k in best]

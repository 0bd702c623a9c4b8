"""State of a user on the explorer page, without the page."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index.collection import Collection, Hit
from curiosity_bluesky.similarity.projection import FEWEST, check_method
from curiosity_bluesky.views.explore.columns import Filter, RunTable

NEIGHBOURS = 12
Rows = NDArray[np.int64]


class DescriptorView(Protocol):
    """Descriptor, as far as the page uses it."""

    @property
    def name(self) -> str:
        """Name in the index."""
        ...

    @property
    def version(self) -> int:
        """Version, raised with every change of the vectors."""
        ...

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, (size,)."""
        ...


class Selections(Protocol):
    """Store of selections: the index."""

    def save_selection(self, selection: dict[str, Any]) -> str:
        """Save a selection; return its identifier."""
        ...

    def selection(self, id: str) -> dict[str, Any]:
        """Return a selection; an InputError if there is none."""
        ...


@dataclass(frozen=True)
class SharedState:
    """State that all users of the page share.

    Parameters
    ----------
    collection
        The images.
    descriptors
        By name: what an uploaded image is described with.
    selections
        Where selections are kept.
    where
        What the catalogue is called.
    run_link
        The address of a run in Tiled as it is now, of its uid; None if there is none to show.
    remark
        What of the index is not shown.
    """

    collection: Collection
    descriptors: Mapping[str, DescriptorView]
    selections: Selections
    where: str = ""
    run_link: Callable[[str], str | None] | None = None
    remark: str = ""
    table: RunTable = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", RunTable(self.collection))

    @property
    def digest(self) -> str:
        """Fingerprint: equal for equal images in equal order."""
        sources = "\n".join(repr(entry.source) for entry in self.collection.entries)
        return hashlib.blake2b(sources.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class MapLevel:
    """One map: images, descriptor and projection.

    Parameters
    ----------
    rows
        In the collection, ascending.
    descriptor
        Name of the vectors.
    method, seed
        As for `curiosity_bluesky.similarity.projection.project`.
    """

    rows: Rows
    descriptor: str
    method: str = "pca"
    seed: int = 0

    @property
    def effective(self) -> str:
        """The method in use: few images are projected by PCA."""
        return "pca" if len(self.rows) < FEWEST else self.method


@dataclass(frozen=True)
class NearbyImages:
    """Nearest images of a query.

    Parameters
    ----------
    what
        The thing, for people.
    hits
        The nearest first.
    vector
        Of an uploaded image; None for one that is in the collection.
    row
        Of an image in the collection; None for an uploaded one.
    descriptor
        By which they are near.
    """

    what: str
    hits: tuple[Hit, ...]
    descriptor: str
    vector: NDArray[np.float32] | None = None
    row: int | None = None


class ViewState:
    """View of one user: nested maps, filters, a selection, neighbours.

    Parameters
    ----------
    room
        What is there to be looked at.
    descriptor
        By which images are compared first; default: the first one that there is.
    method
        How they are projected first.

    Raises
    ------
    InputError
        If there is no such descriptor or method, or nothing is indexed.
    """

    def __init__(
        self, room: SharedState, descriptor: str | None = None, method: str = "pca"
    ) -> None:
        self.room = room
        if not len(room.collection) or not room.collection.vectors:
            raise InputError("nothing is indexed; run `curiosity index` first")
        descriptor = descriptor or next(iter(room.collection.vectors))
        everything = np.arange(len(room.collection))
        self.levels = [MapLevel(everything, self.known(descriptor), checked_method(method))]
        self.filters: dict[str, Filter] = {}
        self.colour: str | None = None
        self.selected: Rows = np.zeros(0, int)
        self.found: NearbyImages | None = None

    def copy(self) -> ViewState:
        """Return a copy of the view."""
        other = copy.copy(self)
        # All else that it holds is replaced and never changed.
        other.levels, other.filters = list(self.levels), dict(self.filters)
        return other

    @property
    def level(self) -> MapLevel:
        """The map that is shown."""
        return self.levels[-1]

    def known(self, descriptor: str) -> str:
        """Return a descriptor's name; an InputError if the index has none of it."""
        if descriptor not in self.room.collection.vectors:
            known = ", ".join(self.room.collection.vectors)
            raise InputError(f"there is no descriptor {descriptor!r} in the index; it has {known}")
        return descriptor

    def vectors(self) -> NDArray[np.float32]:
        """Return the vectors of the map, (rows, size)."""
        every = self.room.collection.vectors[self.level.descriptor]
        rows = self.level.rows
        return every if len(rows) == len(every) else every[rows]

    def passing(self) -> NDArray[np.bool_]:
        """Return which of the map's images pass all filters, (rows,)."""
        passes = np.ones(len(self.level.rows), bool)
        for each in self.filters.values():
            passes &= each.passes(self.room.table[each.column])[self.level.rows]
        return passes

    def to_project(self) -> Rows:
        """Return the rows that "project these" takes: the selection, else the filtered ones."""
        if len(self.selected):
            return self.selected
        return self.level.rows[self.passing()] if self.filters else np.zeros(0, int)

    def enter(self) -> None:
        """Make a map of what is selected (or passes the filters) alone.

        Raises
        ------
        InputError
            If that is less than three images, or all that are on this map.
        """
        rows = self.to_project()
        if len(rows) < 3:
            raise InputError(f"{len(rows)} images selected; a map needs at least 3: draw a lasso")
        if len(rows) == len(self.level.rows):
            raise InputError("that is all of this map: select fewer")
        self.levels.append(replace(self.level, rows=rows))
        self.selected = np.zeros(0, int)
        self._refind()

    def back(self, depth: int) -> None:
        """Go back to an earlier map, 0 the first, with its selection.

        Parameters
        ----------
        depth
            Its place in `levels`.
        """
        if 0 <= depth < len(self.levels) - 1:
            self.selected = self.levels[depth + 1].rows
            del self.levels[depth + 1 :]
            self._keep_passing()
            self._refind()

    def describe_by(self, descriptor: str) -> None:
        """Compare by another descriptor, from this map on."""
        self.levels[-1] = replace(self.level, descriptor=self.known(descriptor))
        self._refind()

    def project_by(self, method: str) -> None:
        """Project this map in another way."""
        self.levels[-1] = replace(self.level, method=checked_method(method))

    def filter(self, wanted: Filter) -> None:
        """Add a filter, one for each column.

        What was selected and does not pass is selected no more.
        """
        wanted.passes(self.room.table[wanted.column])  # its error before anything changes
        self.filters[wanted.column] = wanted
        self._keep_passing()
        self._refind()

    def _keep_passing(self) -> None:
        passing = self.level.rows[self.passing()]
        self.selected = self.selected[np.isin(self.selected, passing)]

    def unfilter(self, column: str | None = None) -> None:
        """Remove the filter of a column; None: all."""
        if column is None:
            self.filters.clear()
        else:
            self.filters.pop(column, None)
        self._refind()

    def select(self, rows: ArrayLike) -> None:
        """Select images of this map; what is not on it, or does not pass, is left out."""
        passing = self.level.rows[self.passing()]
        self.selected = np.intersect1d(np.asarray(rows, int), passing)

    def click(self, row: int) -> None:
        """Find the nearest of one image, on this map; those that pass the filters."""
        if not 0 <= row < len(self.room.collection):
            raise InputError(f"there is no image {row}")
        vector = self.room.collection.vectors[self.level.descriptor][row]
        others = [hit for hit in self._nearest(vector, NEIGHBOURS + 1) if hit.row != row]
        entry = self.room.collection.entries[row]
        what = str(entry.metadata.get("sample") or entry.uid[:8])
        self.found = NearbyImages(
            f"{what} · {entry.channel}",
            tuple(others[:NEIGHBOURS]),
            self.level.descriptor,
            row=row,
        )

    def search(self, image: Image, what: str) -> None:
        """Find the nearest of an uploaded image, described as the map is.

        Parameters
        ----------
        image
            The image.
        what
            What it is called.

        Raises
        ------
        InputError
            If it cannot be described.
        """
        self.show(what, self.described(image))

    def described(self, image: Image) -> NDArray[np.float32]:
        """Return the vector of an image, by this map's descriptor; may take a second."""
        name = self.level.descriptor
        if name not in self.room.descriptors:
            raise InputError(f"an image cannot be described by {name!r} here; choose another")
        return np.asarray(self.room.descriptors[name](image), np.float32)

    def show(self, what: str, vector: NDArray[np.float32]) -> None:
        """Show the neighbours of a vector of this map's descriptor."""
        near = tuple(self._nearest(vector, NEIGHBOURS))
        self.found = NearbyImages(what, near, self.level.descriptor, vector=vector)

    def _refind(self) -> None:
        """Search neighbours again: the images, the filters or the descriptor changed."""
        found = self.found
        if found is None:
            return
        if found.row is not None:
            self.click(found.row)
        elif found.vector is not None and found.descriptor == self.level.descriptor:
            self.show(found.what, found.vector)
        else:
            self.found = None

    def _nearest(self, vector: NDArray[np.float32], top: int) -> list[Hit]:
        among = self.level.rows[self.passing()]
        return self.room.collection.nearest(vector, self.level.descriptor, top, among)

    def forget(self) -> None:
        """Clear the neighbours."""
        self.found = None


def checked_method(method: str) -> str:
    """Return the name of a projection; an InputError if it cannot be used here."""
    check_method(method)
    return method

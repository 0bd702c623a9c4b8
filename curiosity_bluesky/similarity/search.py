"""Search of images similar to a run's or a file's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.image_files import channel_of, read_images
from curiosity_bluesky.similarity.index import Index
from curiosity_bluesky.similarity.index.collection import Collection, Entry, Hit
from curiosity_bluesky.similarity.index.filters import select_rows
from curiosity_bluesky.similarity.index.run_images import image_of
from curiosity_bluesky.similarity.index.workers import Thumbnail
from curiosity_bluesky.similarity.keypoints import (
    SHORTLIST,
    SURE,
    Keypoints,
    agreeing,
    keypoints,
)


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Parameters
    ----------
    query
        What was searched for, in words.
    by
        Name of the descriptor.
    among
        How many images could have been found.
    hits
        The nearest first.
    thumbnail
        Of the query, (48, 48).
    collection
        In which the rows of the hits count.
    agreeing
        By row, how many keypoints agree that an image shows the very same place: of those that
        were looked at.
    """

    query: str
    by: str
    among: int
    hits: list[Hit]
    thumbnail: NDArray[np.uint8]
    collection: Collection
    agreeing: Mapping[int, int] = field(default_factory=dict)

    def same_place(self, hit: Hit) -> bool:
        """Whether a hit shows the very same place as the query."""
        return self.agreeing.get(hit.row, 0) >= SURE

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-ready."""
        hits = [
            {
                "distance": hit.distance,
                "same_place": self.same_place(hit) if hit.row in self.agreeing else None,
                **image_facts(hit.entry),
            }
            for hit in self.hits
        ]
        return {"query": self.query, "by": self.by, "among": self.among, "hits": hits}


def image_facts(entry: Entry) -> dict[str, Any]:
    """Return what is shown of an image, JSON-ready."""
    return {
        "uid": entry.uid,
        "stream": entry.stream,
        "key": entry.key,
        "event": entry.event,
        "channel": entry.channel,
        "shape": list(entry.shape),
        "um_per_pixel": None if entry.um_per_pixel is None else list(entry.um_per_pixel),
        "metadata": dict(entry.metadata),
        "properties": dict(entry.properties),
        "labels": dict(entry.labels),
    }


def similar(
    index: Index,
    what: str,
    *,
    by: str,
    channel: str | None = None,
    where: Mapping[str, Any] | Sequence[str] | None = None,
    top: int = 12,
    own: bool = False,
    verify: bool = False,
) -> SearchResult:
    """Return the images most similar to one of a run or of a file.

    Those that show the very same place come first, if that is verified.

    Parameters
    ----------
    index
        In which to search.
    what
        A uid or its first characters (5 or more), or the path of a file.
    by
        Name of the descriptor.
    channel
        Of the run or the file; default: its first.
    where
        See `Index.collection`.
    top
        How many.
    own
        Whether the run's own images may be found.
    verify
        Whether keypoints are compared with the nearest 24, see `keypoints`.

    Raises
    ------
    InputError
        If there is no such run, file or channel, nothing is indexed, or a condition is none.
    """
    if top < 1:
        raise InputError(f"top is {top}; expected 1 or more")
    if by not in index.descriptors:
        raise InputError(f"there is no descriptor {by!r}; there are {', '.join(index.descriptors)}")
    # A file that cannot be read is said before the index is loaded.
    is_file = Path(what).suffix != "" or Path(what).is_file()
    image = channel_of(read_images(what), channel, what).image() if is_file else None
    collection = index.collection()
    rows = select_rows(index.catalog, collection, where) if where else np.arange(len(collection))
    if image is not None:
        vector, picture, said = index.descriptors[by](image), Thumbnail()(image), what
    else:
        row = _row_of(index, collection, what, channel)
        entry = collection.entries[row]
        vector = collection.vectors[by][row]
        assert collection.thumbnails is not None
        picture = collection.thumbnails[row]
        said = f"{entry.uid[:8]} {entry.channel}"
        with contextlib.suppress(InputError):  # deleted since it was indexed
            image = image_of(index.catalog.client, entry) if verify else None
        if not own:
            rows = rows[[collection.entries[n].uid != entry.uid for n in rows]]
    near = collection.nearest(vector, by, max(top, SHORTLIST if verify else 0), rows)
    agree: dict[int, int] = {}
    if verify and image is not None:
        agree = _agreeing(index, keypoints(image), near[:SHORTLIST])
        # A stable order: of those that do not agree the nearest stay first.
        near.sort(key=lambda hit: -n if (n := agree.get(hit.row, 0)) >= SURE else 0)
    return SearchResult(said, by, len(rows), near[:top], picture, collection, agree)


def _agreeing(index: Index, wanted: Keypoints, hits: Sequence[Hit]) -> dict[int, int]:
    found, client = {}, index.catalog.client
    for hit in hits:
        try:
            found[hit.row] = agreeing(wanted, keypoints(image_of(client, hit.entry)))
        except InputError:  # deleted since it was indexed
            continue
    return found


def _row_of(index: Index, collection: Collection, uid: str, channel: str | None) -> int:
    of_run = [n for n, e in enumerate(collection.entries) if e.uid.startswith(uid)]
    if not of_run or len(uid) < 5:
        run = index.catalog[uid]  # says if there is none
        raise InputError(
            f"run {run.start['uid'][:8]} has no image in the index; `curiosity index` adds what "
            "is missing, and says which images cannot be described"
        )
    if len({collection.entries[n].uid for n in of_run}) > 1:
        raise InputError(f"several runs begin with {uid!r}; give more of its characters")
    for n in of_run:
        if channel is None or collection.entries[n].channel == channel:
            return n
    there = ", ".join(dict.fromkeys(collection.entries[n].channel for n in of_run))
    raise InputError(f"run {uid} has no channel {channel!r}; it has {there}")

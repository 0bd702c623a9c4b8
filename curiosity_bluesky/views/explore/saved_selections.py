"""Saved selections, with the view that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.index.collection import Collection
from curiosity_bluesky.similarity.projection import METHODS
from curiosity_bluesky.views.explore.columns import Filter
from curiosity_bluesky.views.explore.state import MapLevel, Rows, ViewState, checked_method


def saved(visit: ViewState, name: str, note: str = "") -> dict[str, Any]:
    """Return the selection with where it comes from, as JSON can hold it.

    Parameters
    ----------
    visit
        What is looked at.
    name, note
        What the visitor says of it.

    Raises
    ------
    InputError
        If it has no name.
    """
    if not name.strip():
        raise InputError("give the selection a name first")
    collection = visit.room.collection
    deep = [level.rows for level in visit.levels[1:]]
    kept = np.unique(np.concatenate([visit.selected, *deep]).astype(int))
    place = {int(row): k for k, row in enumerate(kept)}
    sources = [collection.entries[row].source for row in kept]
    fields = ("uid", "stream", "key", "event")
    chain = []
    for depth, level in enumerate(visit.levels):
        used = visit.room.descriptors.get(level.descriptor)
        step = {
            "descriptor": level.descriptor,
            "descriptor_version": used.version if used is not None else None,
            "projection": level.effective,
            "asked": level.method,
            "seed": level.seed,
            "parameters": METHODS[level.effective],
            "images": len(level.rows),
            # The first map is of everything.
            "members": [place[int(row)] for row in level.rows] if depth else None,
        }
        chain.append(step)
    return {
        "name": name.strip(),
        "note": note.strip(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "package": f"curiosity-bluesky {version('curiosity-bluesky')}",
        "catalog": visit.room.where,
        "indexed": {"images": len(collection), "digest": visit.room.digest},
        "filters": [each.to_dict() for each in visit.filters.values()],
        "colour": visit.colour,
        "focus": _source(collection, visit.found.row if visit.found else None),
        "projections": chain,
        "images": [dict(zip(fields, source, strict=True)) for source in sources],
        "selected": [place[int(row)] for row in visit.selected],
    }


def restore(visit: ViewState, saved: Mapping[str, Any]) -> list[str]:
    """Restore a saved selection; return what is not as it was then.

    Parameters
    ----------
    visit
        It is left as it is when that fails.
    saved
        What `saved` returned.

    Raises
    ------
    InputError
        If it is no such thing, or needs a descriptor that is not in the index.
    """
    fresh = ViewState(visit.room, visit.levels[0].descriptor)
    try:
        remarks = _restore(fresh, saved)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"this selection cannot be read ({type(error).__name__}: {error}); it was saved "
            f"by {saved.get('package', 'an unknown version')}"
        ) from None
    visit.__dict__.update(fresh.__dict__)
    return remarks


def _restore(visit: ViewState, saved: Mapping[str, Any]) -> list[str]:
    entries = visit.room.collection.entries
    known = {entry.source: row for row, entry in enumerate(entries)}
    fields = ("uid", "stream", "key", "event")
    found = [known.get(tuple(image[f] for f in fields)) for image in saved["images"]]
    remarks = []
    if lost := found.count(None):
        remarks.append(f"{lost} of its {len(found)} images are no longer in the index")

    def rows(members: Sequence[int]) -> Rows:
        return np.array(sorted(r for m in members if (r := found[m]) is not None), int)

    levels = []
    for step in saved["projections"]:
        every = np.arange(len(entries))
        level = MapLevel(
            every if step["members"] is None else rows(step["members"]),
            visit.known(step["descriptor"]),
            checked_method(step.get("asked", step["projection"])),
            int(step["seed"]),
        )
        if len(level.rows) >= 3 or not levels:
            levels.append(level)
        used = visit.room.descriptors.get(level.descriptor)
        if used is not None and used.version != step["descriptor_version"]:
            remarks.append(f"{level.descriptor} is another version now: the map may differ")
    visit.levels = levels
    then = saved["indexed"]
    if then["digest"] != visit.room.digest:
        remarks.append(
            f"the index had {then['images']} images then, and has {len(entries)} now: the "
            "first map differs"
        )
    for given in saved["filters"]:
        wanted = Filter.from_dict(given)
        if wanted.column in visit.room.table.names:
            visit.filter(wanted)
        else:
            remarks.append(f"nothing has {wanted.column!r} any more: that filter is left out")
    colour = saved.get("colour")
    visit.colour = colour if colour in visit.room.table.names else None
    visit.select(rows(saved["selected"]))
    focus = saved.get("focus")
    if focus is not None and (row := known.get(tuple(focus[f] for f in fields))) is not None:
        visit.click(row)
    return list(dict.fromkeys(remarks))


def _source(collection: Collection, row: int | None) -> dict[str, Any] | None:
    if row is None:
        return None
    source = collection.entries[row].source
    return dict(zip(("uid", "stream", "key", "event"), source, strict=True))

"""Rows of the index: an image, a run, a batch of images; as tables and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiled.serialization.table import deserialize_arrow

_ARROW = "application/vnd.apache.arrow.file"

Source = tuple[str, str, str, int]
"""What makes an image itself: uid, stream, key, event."""


@dataclass(frozen=True)
class Row:
    """An image in the index.

    Parameters
    ----------
    uid, stream, key, event, channel, shape, um_per_pixel
        As for `Entry`.
    refused
        Why it cannot be described; "" if it is.
    """

    uid: str
    stream: str
    key: str
    event: int
    channel: str
    shape: tuple[int, int]
    um_per_pixel: tuple[float, float] | None
    refused: str = ""

    @property
    def source(self) -> Source:
        """What makes the image itself."""
        return self.uid, self.stream, self.key, self.event


@dataclass(frozen=True)
class RunRow:
    """A run in the index.

    Parameters
    ----------
    uid
        Which.
    metadata, properties
        As for `Entry`.
    complete
        Whether nothing more is to come: it has ended, and all of its images are indexed.
    written
        When, s since 1970: of several rows of a run the newest counts.
    """

    uid: str
    metadata: Mapping[str, Any]
    properties: Mapping[str, float]
    complete: bool
    written: float


@dataclass(frozen=True)
class Batch:
    """Some images and where their vectors are.

    Parameters
    ----------
    key
        Of the table in ``images-1``.
    rows
        The images.
    arrays
        By kind: key and checksum of the array, (rows, ...).
    """

    key: str
    rows: tuple[Row, ...]
    arrays: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def dominates(self, other: Batch) -> bool:
        """Whether what this has need not be kept in the other; never both ways round."""
        mine, others = set(self.arrays), set(other.arrays)
        return mine > others or (mine == others and self.key < other.key)


def merge_batches(batches: Sequence[Batch], size: int) -> list[list[Batch]]:
    """Group batches up to a number of images; single batches are left out."""
    groups: list[list[Batch]] = [[]]
    for batch in batches:
        if groups[-1] and sum(len(b.rows) for b in groups[-1]) + len(batch.rows) > size:
            groups.append([])
        groups[-1].append(batch)
    return [group for group in groups if len(group) > 1]


def images_table(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return images as columns."""
    return {
        "uid": [row.uid for row in rows],
        "stream": [row.stream for row in rows],
        "key": [row.key for row in rows],
        "event": [row.event for row in rows],
        "channel": [row.channel for row in rows],
        "rows": [row.shape[0] for row in rows],
        "cols": [row.shape[1] for row in rows],
        "um_per_pixel_y": [(row.um_per_pixel or (np.nan, np.nan))[0] for row in rows],
        "um_per_pixel_x": [(row.um_per_pixel or (np.nan, np.nan))[1] for row in rows],
        "refused": [row.refused for row in rows],
    }


def runs_table(rows: Sequence[RunRow]) -> dict[str, list[Any]]:
    """Return runs as columns."""
    return {
        "uid": [row.uid for row in rows],
        "metadata": [json.dumps(row.metadata) for row in rows],
        "properties": [json.dumps(row.properties) for row in rows],
        "complete": [row.complete for row in rows],
        "written": [row.written for row in rows],
    }


def checksum(values: NDArray) -> str:
    """Return the SHA-256 of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def checksum_of(rows: Sequence[Row] | Sequence[RunRow]) -> str:
    """Return the SHA-256 of rows."""
    plain = [asdict(row) for row in rows]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _table(node: Any) -> list[dict[str, Any]] | None:
    """Return the rows of a table; None if not all of it was written."""
    # Without the tries of Tiled's client: of a table that is half written each of them fails.
    answer = node.context.http_client.get(node.item["links"]["full"], headers={"Accept": _ARROW})
    if answer.is_error:
        return None
    try:
        return deserialize_arrow(answer.read()).to_dict("records")
    except ValueError:
        return None


def batch_in(key: str, node: Any) -> Batch | None:
    """Return the batch of a table in Tiled; None if not all of it was written."""
    rows = []
    for row in _table(node) or ():
        size = float(row["um_per_pixel_y"]), float(row["um_per_pixel_x"])
        rows.append(
            Row(
                uid=str(row["uid"]),
                stream=str(row["stream"]),
                key=str(row["key"]),
                event=int(row["event"]),
                channel=str(row["channel"]),
                shape=(int(row["rows"]), int(row["cols"])),
                um_per_pixel=None if np.isnan(size[0]) else size,
                refused=str(row["refused"]),
            )
        )
    if checksum_of(rows) != node.metadata.get("sha256"):
        return None
    arrays = {kind: (k, c) for kind, (k, c) in node.metadata["arrays"].items()}
    return Batch(key, tuple(rows), arrays)


def runs_in(node: Any) -> list[RunRow] | None:
    """Return the runs of a table in Tiled; None if not all of it was written."""
    rows = [
        RunRow(
            uid=str(row["uid"]),
            metadata=json.loads(row["metadata"]),
            properties=json.loads(row["properties"]),
            complete=bool(row["complete"]),
            written=float(row["written"]),
        )
        for row in _table(node) or ()
    ]
    whole = checksum_of(rows) == node.metadata.get("sha256")
    return rows if whole else None

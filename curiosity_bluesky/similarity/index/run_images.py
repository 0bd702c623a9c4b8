"""Images of a run: their data keys and the metadata of its start document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiled.client.container import Container

from curiosity_bluesky.documents import DECISIONS, DRIFT, LEARNING, MAPS, MASK
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.index.collection import Entry
from curiosity_bluesky.similarity.phase_period import period_of, um_in

NO_SCANS = (MAPS, DRIFT, DECISIONS, LEARNING)
"""Streams whose arrays were computed, not measured."""

AT_ONCE = 32_000_000
"""Maximum bytes of one data key in one read, unless one image is larger."""


@dataclass(frozen=True)
class ImageKey:
    """A data key whose values are images.

    Parameters
    ----------
    stream, key
        Where it is.
    channel
        The key without its device.
    shape
        (rows, cols).
    um_per_pixel, period
        As for `Image`.
    in_file
        Whether the values are in files of a detector.
    """

    stream: str
    key: str
    channel: str
    shape: tuple[int, int]
    um_per_pixel: tuple[float, float] | None
    period: float | None
    in_file: bool

    def image(self, values: Any) -> Image:
        """Return one event's value as an image.

        Raises
        ------
        InputError
            If it cannot be described.
        """
        return Image.checked(
            values, self.um_per_pixel, self.period, what=f"{self.key} in {self.stream}"
        )


def image_keys(stream: str, about: Mapping[str, Any]) -> list[ImageKey]:
    """Return the data keys of a stream that are images.

    That is those with two dimensions, ones that lead left out. What lies along an axis that is
    no length, as a spectrogram does, is none, nor is the survey's mask.

    Parameters
    ----------
    stream
        Its name.
    about
        A descriptor document, or the metadata of a stream in Tiled.
    """
    if stream in NO_SCANS:
        return []
    found = []
    for key, described in about["data_keys"].items():
        shape = [int(n or 0) for n in described.get("shape") or []]
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) != 2 or key == MASK or described.get("dtype") == "string":
            continue
        devices = about.get("configuration") or {}
        device, axes = _axes(key, described, shape, devices)
        if axes is None:
            continue
        units = str(described.get("units") or "")
        channel = key.removeprefix(f"{device}_").removeprefix(f"{device}-") if device else key
        found.append(
            ImageKey(
                stream=stream,
                key=key,
                channel=channel,
                shape=(shape[0], shape[1]),
                um_per_pixel=axes or None,
                period=period_of(f"{key} {described.get('quantity', '')}", units),
                in_file=bool(described.get("external")),
            )
        )
    return found


def _axes(
    key: str, described: Mapping[str, Any], shape: list[int], devices: Mapping[str, Any]
) -> tuple[str, Any]:
    """Return device and size of a pixel along y and x, um; () unknown, None for no lengths."""
    dims = list(described.get("dims") or ["y", "x"])[-2:]
    named = sorted((n for n in devices if key.startswith((f"{n}_", f"{n}-"))), key=len)
    device = named[-1] if named else str(described.get("object_name") or "")
    sizes: list[float] = []
    for name, length in zip(dims, shape, strict=False):
        axis = _axis(devices.get(device) or {}, device, name, length)
        if axis is None:
            continue
        values, units = axis
        um = um_in(units)
        if um is None:
            return device, None
        step = abs(float(values[-1] - values[0])) / max(length - 1, 1) * um
        sizes += [step] if math.isfinite(step) and step > 0 else []
    return device, tuple(sizes) if len(sizes) == 2 else ()


def _axis(
    configured: Mapping[str, Any], device: str, name: str, length: int
) -> tuple[NDArray, str] | None:
    for key in (f"{device}_{name}", f"{device}-{name}", name):
        values = np.asarray((configured.get("data") or {}).get(key, ()))
        if values.shape == (length,) and values.dtype.kind in "iuf":
            units = configured["data_keys"][key].get("units") or "um"
            return values.astype(float), str(units)
    return None


def streams_of(run: Any) -> dict[str, Any]:
    """Return Tiled's clients of a run's streams by name: one request, with their metadata."""
    found = dict(run.base.items())
    older = found.get("streams")
    # Runs of older writers have a container between themselves and their streams.
    return dict(older.items()) if older is not None and _is_plain(older) else found


def _is_plain(node: Any) -> bool:
    return all(spec.name != "BlueskyEventStream" for spec in node.specs)


def images_in(array: Any, events: Sequence[int]) -> Iterator[tuple[int, NDArray]]:
    """Yield number and values of some events of a data key, a few read at a time.

    Parameters
    ----------
    array
        Tiled's client of the data key, ``run[stream][key]``.
    events
        Their numbers, from 0, rising.
    """
    few = max(1, AT_ONCE // max(1, 8 * int(np.prod(array.shape[1:]))))
    for k in range(0, len(events), few):
        some = events[k : k + few]
        values = np.asarray(array[some[0] : some[-1] + 1])
        for event in some:
            one = values[event - some[0]]
            yield event, one.reshape(one.shape[-2:])


def image_of(client: Any, entry: Entry) -> Image:
    """Read an image that is indexed: two requests.

    Parameters
    ----------
    client
        The catalogue in Tiled.
    entry
        Which image.

    Raises
    ------
    InputError
        If it is not there any more, or cannot be described.
    """
    root = plain(client)
    for path in ((entry.uid, entry.stream), (entry.uid, "streams", entry.stream)):
        try:
            node = root[(*path, entry.key)]
            values = np.asarray(node[entry.event])
        except (KeyError, IndexError):  # a run of an older writer, or deleted
            continue
        described = node.metadata
        name = f"{entry.key} {described.get('quantity', '')}"
        return Image.checked(
            values.reshape(values.shape[-2:]),
            entry.um_per_pixel,
            period_of(name, str(described.get("units") or "")),
            what=f"{entry.key} in {entry.stream}",
        )
    raise InputError(
        f"run {entry.uid[:8]} has no image {entry.key}[{entry.event}] in {entry.stream} any more; "
        "`curiosity index --rebuild` makes the index again"
    )


def plain(client: Any) -> Container:
    """Return a client of a catalogue that takes a path for a path: its own looks for a uid."""
    return Container(client.context, item=client.item, structure_clients=client.structure_clients)


def scalars_of(start: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be searched for and shown of a start document: its scalars."""
    return {
        key: value
        for key, value in start.items()
        if isinstance(value, str | bool | int | float) and key != "uid"
    }


def status_of(metadata: Mapping[str, Any]) -> str:
    """Return how a run in Tiled ended: its exit status, ``interrupted`` or ``open``."""
    stop = metadata.get("stop")
    if stop:
        return str(stop["exit_status"])
    return "interrupted" if metadata.get("interrupted") else "open"

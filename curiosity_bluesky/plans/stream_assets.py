"""Detectors that write files: what they have to say is kept until an event says it."""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections.abc import AsyncIterator
from typing import Any

from bluesky.protocols import WritesStreamAssets
from bluesky.utils import iterate_maybe_async, maybe_await
from numpy.typing import NDArray

from curiosity_bluesky.documents.files import external_keys, read_array

_stand_ins: weakref.WeakKeyDictionary[Any, StreamAssetProxy] = weakref.WeakKeyDictionary()


def with_stream_assets(device: Any) -> Any:
    """Return what stands for a device that writes files, always the same; any other itself."""
    if isinstance(device, StreamAssetProxy) or not isinstance(device, WritesStreamAssets):
        return device
    if device not in _stand_ins:
        _stand_ins[device] = StreamAssetProxy(device)
    return _stand_ins[device]


class StreamAssetProxy:
    """Stands for a device that says in documents of its own where its data are.

    It says so once, to whoever asks first. The plan asks when it looks at the survey, before
    there is a run; the RunEngine asks when it puts the event together, and again when a pause has
    it repeat that. So the documents are kept here, and handed out until one was emitted. What
    counts is the last image: one that was taken before it, and repeated, stays in its file.

    Parameters
    ----------
    device
        The device, such as a `StandardDetector` of ophyd-async.
    """

    def __init__(self, device: Any) -> None:
        self._device = weakref.proxy(device)  # held by whoever has the device
        self.name = device.name
        self.parent = getattr(device, "parent", None)
        self._resources: dict[str, dict[str, Any]] = {}
        self._datums: dict[str, dict[str, Any]] = {}  # the last one of each data key
        self._handed_out: dict[str, dict[str, Any]] = {}
        self._cut: dict[str, int] = {}  # entries at the beginning of a file that are no event's

    @property
    def hints(self) -> Any:
        """What a live table shows."""
        return getattr(self._device, "hints", {})

    async def read(self) -> dict[str, Any]:
        """Return what is not in files."""
        return await maybe_await(self._device.read())

    async def describe(self) -> dict[str, Any]:
        """Return the data keys, those in files too."""
        return await maybe_await(self._device.describe())

    async def read_configuration(self) -> dict[str, Any]:
        """Return the configuration."""
        return await maybe_await(self._device.read_configuration())

    async def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the configuration."""
        return await maybe_await(self._device.describe_configuration())

    async def get_index(self) -> int:
        """Return how many events' data there are."""
        return await maybe_await(self._device.get_index())

    async def arrays(self) -> dict[str, NDArray]:
        """Return what is in files of the last image, data key to array.

        Raises
        ------
        InputError
            If a file cannot be read.
        """
        await self._take()
        described = await self.describe()
        arrays = {}
        for key in external_keys(described):
            if key in self._datums:
                datum = self._datums[key]
                resource = self._resources[datum["stream_resource"]]
                index = datum["indices"]["start"]
                arrays[key] = await asyncio.to_thread(read_array, resource, described[key], index)
        return arrays

    async def collect_asset_docs(
        self, index: int | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the documents about the last image, unless they were emitted."""
        await self._take()
        datums = list(self._datums.values())
        resources = [self._resources[datum["stream_resource"]] for datum in datums]
        for name, documents in (("stream_resource", resources), ("stream_datum", datums)):
            for document in documents:
                if not self._emitted(document["uid"]):
                    mine = self._handed_out[document["uid"]] = copy.deepcopy(document)
                    yield name, mine

    def _emitted(self, uid: str) -> bool:
        # The RunEngine completes what it emits, by the run or the descriptor.
        before = self._handed_out.get(uid, {})
        return bool(before.get("run_start") or before.get("descriptor"))

    async def _take(self) -> None:
        """Take over what the device has to say."""
        async for name, document in iterate_maybe_async(self._device.collect_asset_docs()):
            if name == "stream_resource":
                self._resources[document["uid"]] = dict(document)
            elif name == "stream_datum":
                resource = self._resources[document["stream_resource"]]
                uid, index = resource["uid"], document["indices"]["stop"] - 1
                if index > 0 and not self._emitted(uid):
                    # Tiled counts from the beginning of a file: what is before is cut off.
                    self._cut[uid] = index
                    resource["parameters"] = {**resource["parameters"], "slice": f"{index}:"}
                index -= self._cut.get(uid, 0)
                datum = {**document, "indices": {"start": index, "stop": index + 1}}
                self._datums[resource["data_key"]] = datum

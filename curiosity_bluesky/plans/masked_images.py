"""Imagers that read arrays of `numpy.ma`: recorded is NaN, not the number behind the mask."""

from __future__ import annotations

from typing import Any

from bluesky.utils import MsgGenerator, maybe_await

from curiosity_bluesky.plans.readings import call_device
from curiosity_bluesky.utils.masked import filled_with_nan, has_masked


def without_masks(imager: Any) -> MsgGenerator[Any]:
    """Return what stands for an imager that reads masked arrays now; any other itself."""
    reading = yield from call_device(imager.read)
    masked = [key for key, signal in reading.items() if has_masked(signal["value"])]
    return _Filled(imager, masked) if masked else imager


class _Filled:
    """Reads NaN where an imager reads masked values.

    Parameters
    ----------
    imager
        The device.
    masked
        Its data keys with masked values.
    """

    def __init__(self, imager: Any, masked: list[str]) -> None:
        self._imager, self._masked = imager, masked
        self.name = imager.name
        self.parent = getattr(imager, "parent", None)

    @property
    def hints(self) -> Any:
        """What a live table shows."""
        return getattr(self._imager, "hints", {})

    async def read(self) -> dict[str, Any]:
        """Return the reading, filled."""
        reading = await maybe_await(self._imager.read())
        return {
            key: {**signal, "value": filled_with_nan(signal["value"])}
            for key, signal in reading.items()
        }

    async def describe(self) -> dict[str, Any]:
        """Return the data keys; whole numbers are described as what NaN is one of."""
        described = dict(await maybe_await(self._imager.describe()))
        for key in self._masked:
            kind = described[key].get("dtype_numpy")
            if isinstance(kind, str) and kind.lstrip("<>|=")[:1] in "iub":
                described[key] = {**described[key], "dtype_numpy": "<f8"}
        return described

    async def read_configuration(self) -> dict[str, Any]:
        """Return the configuration."""
        return await self._configured("read_configuration")

    async def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the configuration."""
        return await self._configured("describe_configuration")

    async def _configured(self, kind: str) -> dict[str, Any]:
        return await maybe_await(getattr(self._imager, kind, dict)())

"""An imager of ophyd-async that writes its images to HDF5 files.

It needs the extra `async`, see `curiosity_bluesky.devices.async_devices`. Documents hold where
the images are, and not the images: ``stream_resource`` and ``stream_datum``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    DeviceMap,
    PathProvider,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    soft_signal_r_and_setter,
    soft_signal_rw,
)

from curiosity_bluesky.devices.async_devices import AsyncCalls, CallCancelled, declared_arrays
from curiosity_bluesky.devices.driver_protocols import ImagerDriver, stated_seconds
from curiosity_bluesky.devices.measuring_device import as_declared
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hdf5 import MIMETYPE, uri_of


class _Files(StreamableDataProvider):
    """The files of one staging, each with one image."""

    def __init__(self, imager: HDF5Imager, name: str) -> None:
        self._imager, self._name = imager, name
        self._last: Path | None = None
        self.collections_written_signal, self._count = soft_signal_r_and_setter(int, 0)
        self._n = 0

    async def write(self, images: Mapping[str, NDArray]) -> None:
        """Write an image into a file of its own; it is on the disk when this returns."""
        info = self._imager.paths(self._name)
        path = Path(info.directory_path) / f"{info.filename}.h5"
        axes = {key: await signal.get_value() for key, signal in self._imager.axes.items()}
        await asyncio.to_thread(write_image, path, images, axes, self._imager.driver)
        self._last, self._n = path, self._n + 1
        self._count(self._n)

    async def make_datakeys(self, collections_per_event: int) -> dict[str, Any]:
        return {
            f"{self._name}_{channel}": {
                "source": f"file:{self._name}",
                "dtype": "array",
                "dtype_numpy": empty.dtype.str,
                "shape": list(empty.shape),
                "dims": ["y", "x"],
                "units": self._imager.driver.image_channels[channel],
                "external": "STREAM:",
            }
            for channel, empty in self._imager.declared.items()
        }

    async def make_stream_docs(
        self, collections_written: int, collections_per_event: int
    ) -> AsyncIterator[Any]:
        # Only the last image is an event's; one before it that was not read stays in its file.
        path, self._last = self._last, None
        if path is None:
            return
        written = StreamResourceDataProvider(
            uri_of(path.resolve()),
            [
                StreamResourceInfo(
                    data_key=f"{self._name}_{channel}",
                    shape=empty.shape,
                    chunk_shape=(1, *empty.shape),
                    dtype_numpy=empty.dtype.str,
                    # The file is closed: it does not change while it is read.
                    parameters={"dataset": f"/entry/{channel}", "swmr": False},
                )
                for channel, empty in self._imager.declared.items()
            ],
            MIMETYPE,
            self.collections_written_signal,
        )
        async for document in written.make_stream_docs(1, 1):
            yield document


class _Trigger(DetectorTriggerLogic):
    """One image at a time, as the driver takes it."""

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        if num != 1 or livetime or deadtime:
            raise InputError(
                f"{num} images of {livetime:g} s were asked for; expected 1, and no time: the "
                "driver knows how long an image takes"
            )


class _Acquire(DetectorAcquireLogic):
    """Has the driver take the image and writes it, before the trigger goes on.

    Not in the background: so what the driver raises fails the trigger in its own words, and an
    image may take as long as it takes.
    """

    def __init__(self, imager: HDF5Imager) -> None:
        self._imager = imager

    async def start_acquiring(self) -> None:
        imager = self._imager
        measured = await imager.calls.make(imager.driver.scan)
        assert imager.files is not None  # StandardDetector prepares before it acquires
        await imager.files.write(as_declared(imager.name, imager.declared, measured))

    async def wait_for_idle(self) -> None:
        return

    async def ensure_stopped(self) -> None:
        await self._imager.pause()


class _Data(DetectorDataLogic):
    def __init__(self, imager: HDF5Imager) -> None:
        self._imager = imager

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        self._imager.files = _Files(self._imager, datakey_name)
        return self._imager.files


class HDF5Imager(StandardDetector):
    """Imager of one or more channels, with an HDF5 file for each image.

    Data keys are ``<name>_<channel>``, ``(y, x)``, the dataset ``/entry/<channel>`` of the file;
    the axes ``<name>_x`` and ``<name>_y`` (um) are configuration, and ``/entry/x`` and
    ``/entry/y``. It is triggered image by image, and flies no scans.

    Parameters
    ----------
    driver
        What takes the image. Channels, dtypes and the size of the grid are asked once, the axes
        again by `stage`.
    paths
        Where the files go, such as ``StaticPathProvider(UUIDFilenameProvider(), directory)``; no
        file is ever overwritten.
    name
        Name of the device.

    Attributes
    ----------
    axes : DeviceMap
        The axes, ``x`` and ``y`` (um).
    """

    def __init__(self, driver: ImagerDriver, paths: PathProvider, name: str = "") -> None:
        self.driver, self.paths = driver, paths
        self.calls = AsyncCalls("scan", driver.abort)
        self.files: _Files | None = None
        x, y = (np.asarray(axis, float) for axis in driver.image_axes)
        self._grid = len(y), len(x)
        self.declared = declared_arrays(
            driver.image_channels, getattr(driver, "image_dtypes", {}), self._grid
        )
        self.axes = DeviceMap(
            {
                key: soft_signal_rw(np.ndarray, values, units="um")
                for key, values in (("x", x), ("y", y))
            }
        )
        self.add_config_signals(*self.axes.values())
        self.add_detector_logics(_Trigger(), _Acquire(self), _Data(self))
        super().__init__(name=name)

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name it, and its axes as the ophyd device's are."""
        super().set_name(name, child_name_separator="_")
        for key, signal in self.axes.items():
            signal.set_name(f"{name}_{key}")

    @property
    def seconds(self) -> float | None:
        """How long one image takes (s); None if the driver does not say."""
        return stated_seconds(getattr(self.driver, "scan_seconds", None), "scan_seconds")

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Get ready, with the axes that the driver has now."""
        await super().stage()
        x, y = (np.asarray(axis, float) for axis in self.driver.image_axes)
        if (len(y), len(x)) != self._grid or set(self.driver.image_channels) != set(self.declared):
            raise InputError(
                f"the driver of {self.name} has another grid, {len(y)} x {len(x)}, or other "
                "channels than when the device was made: make the device again"
            )
        await asyncio.gather(self.axes["x"].set(x), self.axes["y"].set(y))

    @AsyncStatus.wrap
    async def trigger(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one image; when it is done, the image is on the disk."""
        with suppress(CallCancelled):
            await super().trigger()

    async def stop(self, success: bool = False) -> None:
        """Break off an image; its status fails unless `success`."""
        said = f"{self.name} was stopped in the middle of a measurement"
        await self.calls.break_off(CallCancelled() if success else RuntimeError(said))

    async def pause(self) -> None:
        """Break off an image quietly: the RunEngine repeats it when it resumes."""
        await self.calls.break_off(CallCancelled())

    async def resume(self) -> None:
        """Do nothing: the RunEngine repeats what was broken off."""

    async def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the axes."""
        described: Any = await super().describe_configuration()
        for key in self.axes:
            described[f"{self.name}_{key}"]["dims"] = [key]
        return described


def write_image(
    path: Path, images: Mapping[str, NDArray], axes: Mapping[str, NDArray], driver: ImagerDriver
) -> None:
    """Write the channels of one image to a new file, and the file to the disk.

    Parameters
    ----------
    path
        The file, which must not be there yet.
    images
        Channel to (rows, cols); each becomes ``/entry/<channel>``, ``(1, rows, cols)``.
    axes
        ``x`` and ``y`` to their values (um).
    driver
        Says the units.

    Raises
    ------
    InputError
        If the file is there already, or cannot be written.
    """
    try:
        with h5py.File(path, "x") as file:
            entry = file.create_group("entry")
            for key, values in images.items():
                dataset = entry.create_dataset(key, data=values[np.newaxis])
                dataset.attrs["units"] = driver.image_channels[key]
            for key, values in axes.items():
                entry.create_dataset(key, data=values).attrs["units"] = "um"
        with open(path, "r+b") as written:  # Windows flushes only what may be written to
            os.fsync(written.fileno())
    except OSError as error:
        raise InputError(
            f"the image could not be written to {path} ({error}); give the imager a path provider "
            "whose directory exists and whose file names are new each time"
        ) from error

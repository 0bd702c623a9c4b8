"""The imager and the spectrometer over Channel Access."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curiosity_bluesky.devices.epics.access import (
    CONNECT_SECONDS,
    check_pyepics,
    wait_until_connected,
)
from curiosity_bluesky.devices.epics.drivers import (
    EpicsImageDriver,
    EpicsSpectrumDriver,
    ImageRecords,
    SpectrumRecords,
)
from curiosity_bluesky.devices.imager import Imager
from curiosity_bluesky.devices.measuring_device import MeasuringDevice
from curiosity_bluesky.devices.spectrometer import Spectrometer


class EpicsDetector(MeasuringDevice):
    """Measuring device whose driver is reached over a network."""

    driver: Any

    def _refresh(self) -> None:
        # Made before the IOC answers, as ophyd devices are, it learns its channels later.
        if self.connected:
            super()._refresh()
            self._sources = {f"{self.name}_{key}": pv for key, pv in self.driver.sources().items()}

    @property
    def connected(self) -> bool:
        """Whether the IOC answers."""
        return self.driver.connected

    def wait_for_connection(self, all_signals: bool = False, timeout: Any = None) -> None:
        """Wait until the IOC answers, 10 s if no time is given, and ask what it measures.

        Raises
        ------
        InputError
            If it does not.
        """
        seconds = CONNECT_SECONDS if timeout is None else timeout
        wait_until_connected(self.driver.records, seconds, self.driver.lacking)
        self._refresh()

    def stage(self) -> list[object]:
        """Get ready; refuse if there is no connection."""
        self.driver._check_connected()
        return super().stage()

    def destroy(self) -> None:
        """Let go of the process variables."""
        super().destroy()
        self.driver.destroy()

    def _sourced(self, described: Any) -> Any:
        for key, about in described.items():
            if key in self._sources:
                about["source"] = f"PV:{self._sources[key]}"
        return described

    _sources: Mapping[str, str] = {}

    def describe(self) -> Any:
        """Return the data keys of a measurement."""
        return self._sourced(super().describe())

    def describe_configuration(self) -> Any:
        """Return the data keys of axes and settings."""
        return self._sourced(super().describe_configuration())


class EpicsImager(EpicsDetector, Imager):
    """An `Imager` over Channel Access.

    Parameters
    ----------
    prefix
        What its process variables begin with, such as ``SPM:Image:``.
    name
        Name of the device.

    Raises
    ------
    InputError
        If pyepics is not there.
    """

    def __init__(self, prefix: str, *, name: str = "imager", **kwargs: Any) -> None:
        check_pyepics()
        self.driver = EpicsImageDriver(ImageRecords(prefix, name=f"{name}_records"))
        super().__init__(self.driver, name=name, **kwargs)


class EpicsSpectrometer(EpicsDetector, Spectrometer):
    """A `Spectrometer` over Channel Access.

    Parameters
    ----------
    prefix
        What its process variables begin with, such as ``SPM:Spectrum:``.
    name
        Name of the device.
    scalars
        As for `Spectrometer`.

    Raises
    ------
    InputError
        If pyepics is not there.
    """

    scalars: Mapping[str, Any] = {}

    def __init__(self, prefix: str, *, name: str = "spectrometer", **kwargs: Any) -> None:
        check_pyepics()
        self.driver = EpicsSpectrumDriver(SpectrumRecords(prefix, name=f"{name}_records"))
        super().__init__(self.driver, name=name, **kwargs)

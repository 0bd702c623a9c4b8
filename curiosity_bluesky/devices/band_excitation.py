"""Band excitation: from a driver of complex spectrograms to one of hysteresis loops."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.devices.pfm import (
    Branch,
    Steps,
    loop_fields,
    phase_offset,
    reduce_spectrogram,
    units_of,
)
from curiosity_bluesky.devices.spectrometer import Scalar, loop_quality
from curiosity_bluesky.errors import InputError

logger = logging.getLogger(__name__)

ON = "_on"
"""Ending of the channels that are recorded with the bias on."""


@runtime_checkable
class SpectrogramDriver(Protocol):
    """Takes one band excitation spectrogram where the tip is.

    A driver that knows how long that takes says so with one more attribute,
    `spectrum_seconds`, s; one whose numbers have units with `spectrogram_units` (default "a.u."),
    and one whose settings have units with `spectrogram_setting_units`, setting to units. It may
    have a `refresh()` as a `SpectrometerDriver` has.
    """

    @property
    def frequencies(self) -> NDArray:
        """Frequencies of the bins inside the band, ``(frequencies,)``, Hz, increasing."""
        ...

    @property
    def bias(self) -> NDArray:
        """DC bias of each step in the order of time, ``(steps,)``, V.

        Of a step without field it is that of the pulse before it, not 0.
        """
        ...

    @property
    def in_field(self) -> NDArray:
        """``(steps,)`` of bool: True where the response is recorded with the bias on."""
        ...

    @property
    def cycles(self) -> int:
        """How often the bias waveform repeats in those steps."""
        ...

    @property
    def spectrogram_settings(self) -> Mapping[str, float | str]:
        """What the spectrograms are taken with, for the record."""
        ...

    def acquire(self) -> NDArray:
        """Take one spectrogram, ``(frequencies, steps)``, complex."""
        ...

    def abort(self) -> None:
        """End it early; called from another thread."""
        ...


class BandExcitation:
    r"""Reduces spectrograms to loops: a `SpectrometerDriver` on a `SpectrogramDriver`.

    ``Spectrometer(BandExcitation(driver))`` records at each point

    - the spectrogram as it was measured, ``spectrogram_real`` and ``spectrogram_imag``,
      (frequency, step), float32 (to which it is rounded before anything else is done, so that all
      that follows can be had from the record again);
    - along the bias of one cycle, means over the cycles: ``polarisation``, ``amplitude``,
      ``phase`` (rad), ``resonance`` (Hz), ``quality_factor`` and ``fit_quality`` without
      field, and with the ending ``_on`` those with field;
    - ``quality`` (the mean fit quality, weighted by the squared amplitude, times the
      `loop_quality` of the polarisation), ``phase_offset`` (rad) and the numbers
      of the loop: `curiosity_bluesky.devices.pfm.LoopFields`. All are of the polarisation without
      field, or of that with field where nothing else is recorded.

    Frequencies, steps and settings are configuration. To be learned is the polarisation
    alone.

    Parameters
    ----------
    driver
        What takes the spectrograms.
    phase_offset
        Phase of positive polarisation, rad. None estimates it for each spectrogram; its
        sign is then only right where the loop switches, a coin toss elsewhere: `calibrate` before
        a run. The first spectrogram after each staging without it logs a warning.
    skip_cycles
        How many cycles are left out of the means at the beginning.

    Raises
    ------
    InputError
        If an option cannot be used, or the driver's steps are no cycles.
    """

    def __init__(
        self,
        driver: SpectrogramDriver,
        *,
        phase_offset: float | None = None,
        skip_cycles: int = 0,
    ) -> None:
        if phase_offset is not None and not math.isfinite(phase_offset):
            raise InputError(
                f"phase_offset is {phase_offset!r}; expected a finite angle in rad: leave it out "
                "to estimate it for each spectrogram"
            )
        self.driver = driver
        self.phase_offset = phase_offset
        self.skip_cycles = skip_cycles
        self._warned = False
        self._steps()

    def refresh(self) -> None:
        """Have the driver take over what its instrument has told meanwhile."""
        getattr(self.driver, "refresh", lambda: None)()
        self._warned = False

    def _steps(self) -> Steps:
        steps = Steps.of(self.driver.bias, self.driver.in_field, self.driver.cycles)
        cycles = self.driver.cycles
        if not 0 <= self.skip_cycles < cycles:
            raise InputError(
                f"skip_cycles is {self.skip_cycles!r} of {cycles} cycles; expected a whole number "
                f"from 0 to {cycles - 1}: at least one cycle has to be left"
            )
        return steps

    def _branches(self) -> list[str]:
        """Return the endings of the channels, the branch that is learned from first."""
        on = np.asarray(self.driver.in_field, bool)
        return [ending for ending, some in (("", ~on), (ON, on)) if some.any()]

    @property
    def _units(self) -> str:
        return getattr(self.driver, "spectrogram_units", "a.u.")

    @property
    def spectrum_channels(self) -> Mapping[str, str]:
        """Channel name to units."""
        units = {
            "polarisation": self._units,
            "amplitude": self._units,
            "phase": "rad",
            "resonance": "Hz",
            "quality_factor": "",
            "fit_quality": "",
        }
        return {name + end: unit for end in self._branches() for name, unit in units.items()}

    @property
    def learned(self) -> list[str]:
        """The channels to learn from: the polarisation without field."""
        return ["polarisation" + self._branches()[0]]

    @property
    def spectrum_axis(self) -> tuple[str, str, NDArray]:
        """The bias of one cycle, ``(points,)`` V."""
        return "bias", "V", self._steps().bias

    @property
    def spectrum_arrays(self) -> Mapping[str, tuple[tuple[str, ...], str]]:
        """The spectrogram: dims and units of both its parts."""
        return {
            f"spectrogram_{part}": (("frequency", "step"), self._units) for part in ("real", "imag")
        }

    @property
    def spectrum_array_axes(self) -> Mapping[str, tuple[str, str, NDArray]]:
        """Dim, units and values of the axes of the spectrogram."""
        bias = np.asarray(self.driver.bias, float)
        return {
            "frequency": ("frequency", "Hz", np.asarray(self.driver.frequencies, float)),
            "step": ("step", "", np.arange(len(bias))),
            "step_bias": ("step", "V", bias),
            "step_in_field": ("step", "", np.asarray(self.driver.in_field, bool).astype(np.int8)),
        }

    @property
    def spectrum_dtypes(self) -> Mapping[str, str]:
        """The spectrogram is float32."""
        return dict.fromkeys(self.spectrum_arrays, "float32")

    @property
    def spectrum_settings(self) -> Mapping[str, float | str]:
        """The driver's settings, and how the spectrograms are reduced."""
        own: dict[str, float | str] = {
            "cycles": self.driver.cycles,
            "skip_cycles": self.skip_cycles,
        }
        if self.phase_offset is not None:
            own["fixed_phase_offset"] = self.phase_offset
        return {**self.driver.spectrogram_settings, **own}

    @property
    def spectrum_setting_units(self) -> Mapping[str, str]:
        """Setting to units."""
        return {
            **getattr(self.driver, "spectrogram_setting_units", {}),
            "fixed_phase_offset": "rad",
        }

    @property
    def spectrum_seconds(self) -> float | None:
        """How long one spectrogram takes (s); None if the driver does not say."""
        return getattr(self.driver, "spectrum_seconds", None)

    @property
    def spectrum_scalars(self) -> Mapping[str, tuple[str, Scalar]]:
        """Name to units and rule of the numbers of each spectrum."""
        end = self._branches()[0]
        numbers = {
            name: (units, partial(_number, name, end))
            for name, units in units_of("V", self._units).items()
        }
        return {
            "quality": ("", partial(_quality, end)),
            "phase_offset": ("rad", partial(_offset, end, self.phase_offset)),
            **numbers,
        }

    @property
    def hinted(self) -> list[str]:
        """What a live table shows."""
        return ["quality", "imprint", "area"]

    def acquire(self) -> Mapping[str, NDArray]:
        """Take a spectrogram and reduce it.

        Raises
        ------
        InputError
            If it has another shape than the driver said.
        """
        if self.phase_offset is None and not self._warned:
            self._warned = True
            logger.warning(
                "the phase offset is estimated for each spectrogram: where a loop does not switch, "
                "the sign of its polarisation is a coin toss; calibrate() at a place that switches "
                "before the run, or give phase_offset"
            )
        return self._measured(self.phase_offset)

    def _measured(self, offset: float | None) -> dict[str, NDArray]:
        frequencies, steps = np.asarray(self.driver.frequencies, float), self._steps()
        measured = np.asarray(self.driver.acquire())
        shape = (len(frequencies), len(np.asarray(self.driver.bias)))
        if measured.shape != shape:
            raise InputError(
                f"the spectrogram has shape {measured.shape}; expected (frequencies, steps) = "
                f"{shape}: let the driver return what its frequencies and bias say"
            )
        spectrogram = measured.astype(np.complex64)
        reduced = reduce_spectrogram(
            frequencies,
            spectrogram,
            steps,
            offset=offset,
            skip_cycles=self.skip_cycles,
        )
        found: dict[str, NDArray] = {}
        for end, branch in (("", reduced.off), (ON, reduced.on)):
            if branch is not None:
                found |= {f.name + end: getattr(branch, f.name) for f in fields(Branch)}
        return {
            **found,
            "spectrogram_real": spectrogram.real,
            "spectrogram_imag": spectrogram.imag,
        }

    def calibrate(self, *, max_bias: float | None = None) -> float:
        """Take a spectrogram where the tip is, and keep its phase offset from now on.

        Of a loop that does not switch the sign is not known, so this is done once before a run,
        where one does. It applies the whole waveform there, outside any run: no plan counts it as
        dose (`max_per_area`), compares it with its own `max_bias`, or records it.

        Parameters
        ----------
        max_bias
            What neither the bias nor any setting in V or mV may exceed, V; None: only what the
            driver itself checks.

        Returns
        -------
        phase_offset
            rad.

        Raises
        ------
        InputError
            If the waveform goes beyond `max_bias`, and no bias is applied; or if the loop does not
            switch. The phase offset stays as it was.
        """
        self._check_bias(max_bias)
        spectrum = self._measured(None)
        bias, end = self._steps().bias, self._branches()[0]
        if not loop_fields(bias, spectrum["polarisation" + end]).switches:
            raise InputError(
                "the loop measured here does not switch; expected an open one, since the phase of "
                "positive polarisation cannot be told from it: go elsewhere, or to a larger bias"
            )
        self.phase_offset = _offset(end, None, bias, spectrum)
        return self.phase_offset

    def _check_bias(self, max_bias: float | None) -> None:
        if max_bias is None:
            return
        if not 0 <= max_bias < math.inf:
            raise InputError(f"max_bias is {max_bias!r}; expected volts, 0 or more: correct it")
        applied = {"bias": float(np.abs(np.asarray(self.driver.bias, float)).max())}
        scales = {"V": 1.0, "mV": 1e-3}
        for setting, units in self.spectrum_setting_units.items():
            if units in scales and setting in self.spectrum_settings:
                applied[setting] = abs(float(self.spectrum_settings[setting])) * scales[units]
        # Some room for rounding; a comparison with NaN is False.
        allowed = max_bias * (1 + 1e-9)
        beyond = {name: volts for name, volts in applied.items() if not volts <= allowed}
        if beyond:
            said = ", ".join(f"{name} goes to {volts:g} V" for name, volts in beyond.items())
            raise InputError(
                f"{said}, and max_bias allows {max_bias:g} V; no bias was applied: lower it at the "
                "driver, or raise max_bias"
            )

    def abort(self) -> None:
        """End a measurement early; called from another thread."""
        self.driver.abort()


def _quality(ending: str, axis: NDArray, spectrum: Mapping[str, NDArray]) -> float:
    weights = np.nan_to_num(spectrum["amplitude" + ending]) ** 2
    if not weights.any():
        return 0.0
    polarisation = "polarisation" + ending
    trusted = loop_quality(axis, {polarisation: spectrum[polarisation]})
    return trusted * float(np.average(spectrum["fit_quality" + ending], weights=weights))


def _offset(
    ending: str, fixed: float | None, axis: NDArray, spectrum: Mapping[str, NDArray]
) -> float:
    if fixed is not None:
        return fixed
    response = spectrum["amplitude" + ending] * np.exp(1j * spectrum["phase" + ending])
    return phase_offset(response, axis)


def _number(name: str, ending: str, axis: NDArray, spectrum: Mapping[str, NDArray]) -> float:
    return getattr(loop_fields(axis, spectrum["polarisation" + ending]), name)

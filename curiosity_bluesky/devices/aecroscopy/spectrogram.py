"""Band excitation loops through `AEBE.define_BEPS_parameters`: a complex spectrogram each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.devices.aecroscopy.com_thread import AEThread
from curiosity_bluesky.devices.aecroscopy.settings import (
    BEPSWaveform,
    BEPulse,
    finite,
    setting_units,
)
from curiosity_bluesky.errors import InputError

BEPS = "Initialize_BEPS_VS_control_cluster"

_OTHER_WAVEFORM = (
    "BEPyAE's bias waveform is not the one that was declared; expected the same: it is known now, "
    "and will be declared when the spectrometer is staged, so start the run again, or stage() and "
    "unstage() the spectrometer (one loop by hand before the run avoids this)."
)


@dataclass(frozen=True)
class FrequencyBands:
    """Frequencies of a spectrogram, and their source."""

    frequencies: NDArray[np.float64]
    source: str


def bands(pulse: BEPulse, indicator: Any, last: Any) -> FrequencyBands:
    """Find the frequencies (Hz) of the bins that BEPyAE records.

    `AEBE` itself reads them off the pulse's indicator in `fpga_spiral_scan_BE` (bin numbers in
    its fourth element, the frequencies of the FFT in its seventh), and elsewhere spreads as
    many as there are evenly over the band. The first is used if it makes sense: increasing
    and within the band.

    Parameters
    ----------
    pulse
        The pulse that was created.
    indicator
        BEPyAE's ``BE_pulse_parm_indicator_cluster``.
    last
        The last spectrogram on the panel, (steps, frequencies, 2); may be empty.

    Raises
    ------
    InputError
        If neither is there.
    """
    try:
        fft, bins = np.asarray(indicator[6], float), np.asarray(indicator[3], int)
        found = fft[bins] if bins.size and bins.min() >= 0 else np.empty(0)
    except (TypeError, ValueError, IndexError):
        found = np.empty(0)
    inside = np.abs(found - pulse.center_hz) <= 0.6 * pulse.bandwidth_hz
    if found.ndim == 1 and found.size >= 4 and inside.all() and (np.diff(found) > 0).all():
        return FrequencyBands(found, "FFT bins of BEPyAE's pulse")
    try:
        number = np.asarray(last, float).shape[1]
    except (TypeError, ValueError, IndexError):
        number = 0
    if number < 4:
        raise InputError(
            "BEPyAE does not say which frequencies it records, and there is no spectrogram yet to "
            "count them; expected one of the two: take one loop by hand, then connect again."
        )
    half = pulse.bandwidth_hz / 2
    even = np.linspace(pulse.center_hz - half, pulse.center_hz + half, number)
    return FrequencyBands(even, "spread evenly over the band, as AEBE does")


def steps(waveform: BEPSWaveform, told: Any) -> tuple[NDArray, NDArray]:
    """Return the bias of each step (steps,) and whether it is on (steps,) when recorded.

    On and off field alternate, on first, and the waveform that BEPyAE shows has the biases
    of the steps with the field on (the authors' guide to AEcroscopy, June 2023). A step with
    the field off has the bias of the one before.

    Parameters
    ----------
    waveform
        What was asked for.
    told
        BEPyAE's DC waveform, (writes,) or (steps_per_cycle,).

    Raises
    ------
    InputError
        If it is neither, or not a number, or goes beyond what was asked for.
    """
    try:
        volts = np.asarray(told, float)
    except (TypeError, ValueError):
        volts = np.empty(0)
    if volts.shape == (waveform.steps_per_cycle,):
        volts = np.tile(volts, waveform.cycles)
    high = waveform.amplitude_v + abs(waveform.offset_v)
    fits = volts.shape == (waveform.writes,)
    # A comparison with NaN is False.
    if not fits or not (np.abs(volts) <= 1.001 * high + 1e-6).all():
        peak = np.abs(volts).max(initial=0.0)
        raise InputError(
            f"BEPyAE's bias waveform has {volts.size} steps up to {peak:g} V; expected "
            f"{waveform.steps_per_cycle} or {waveform.writes} up to {high:g} V: compare its BEPS "
            "panel with the waveform."
        )
    in_field = np.ones(volts.size, bool)
    if waveform.off_field:
        volts, in_field = np.repeat(volts, 2), np.tile([True, False], volts.size)
    return volts, in_field


def triangle(waveform: BEPSWaveform) -> NDArray[np.float64]:
    """Return the biases (steps_per_cycle,) of a full cycle without phase shift: 0, +, -, 0."""
    phase = np.arange(waveform.steps_per_cycle) / waveform.steps_per_cycle
    shape = np.interp(phase, [0.0, 0.25, 0.75, 1.0], [0.0, 1.0, -1.0, 0.0])
    return waveform.offset_v + waveform.amplitude_v * shape


class AESpectrogram:
    """`SpectrogramDriver` for loops of band excitation at the tip.

    Making one sends pulse and waveform to BEPyAE; no bias is applied before `acquire`.
    The waveform is uploaded again after each scan, whose own takes its place on the DAQ card.

    Parameters
    ----------
    owner
        The thread with the AEBE.
    pulse
        The excitation.
    waveform
        The DC bias.
    max_bias
        What the bias must never exceed, V.
    folder
        Where a measured loop goes that does not fit what was declared: none is thrown away.

    Raises
    ------
    InputError
        If the waveform goes beyond `max_bias` or the DAQ card, or BEPyAE did not take the
        parameters as they were given.
    """

    def __init__(
        self,
        owner: AEThread,
        pulse: BEPulse,
        waveform: BEPSWaveform,
        *,
        max_bias: float,
        folder: Path = Path(),
    ) -> None:
        self._owner, self._pulse, self._waveform, self._folder = owner, pulse, waveform, folder
        self._max_bias = finite("max_bias", max_bias, 0.0, 1e3, "V")
        if waveform.highest_v > self._max_bias:
            raise InputError(
                f"the waveform goes to {waveform.highest_v:g} V; expected at most max_bias = "
                f"{self._max_bias:g} V: lower its amplitude, offset or read_v."
            )
        self._last: NDArray | None = None
        self._took: float | None = None
        self._panel: tuple[Any, ...] = ()
        self._bias_source = ""
        self._told: NDArray | None = None
        self._bands = owner.call(self._prepare, timeout_s=120.0)

    def refresh(self) -> None:
        """Take over the waveform that BEPyAE told with a loop, if it was not the declared one."""
        if self._told is not None:
            self._bias, self._bias_source, self._told = self._told, "BEPyAE", None

    @property
    def frequencies(self) -> NDArray:
        """(frequencies,), Hz."""
        return self._bands.frequencies

    @property
    def bias(self) -> NDArray:
        """(steps,), V: DC bias of each step in order of time; field off, that before."""
        return self._bias

    @property
    def in_field(self) -> NDArray:
        """(steps,) of bool: True where the response is recorded with the bias on."""
        return self._in_field

    @property
    def cycles(self) -> int:
        """Cycles of the bias."""
        return self._waveform.cycles

    @property
    def spectrogram_settings(self) -> Mapping[str, float | str]:
        """What the loops are taken with, for the record."""
        return {
            **self._pulse.settings(),
            **self._waveform.settings(),
            "max_bias": self._max_bias,
            "bias_source": self._bias_source,
            "frequency_source": self._bands.source,
        }

    @property
    def spectrogram_setting_units(self) -> Mapping[str, str]:
        """Setting to units. Not of `max_bias`: it is a bound, and volts are what is applied."""
        return {**setting_units(self._pulse.settings()), **setting_units(self._waveform.settings())}

    @property
    def spectrum_seconds(self) -> float:
        """How long a loop took the last time; before the first, what is to be expected, s."""
        step = self._pulse.duration_s + self._waveform.transition_s + self._waveform.delay_s
        return self._took or self._bias.size * step + 0.1

    def acquire(self) -> NDArray[np.complex128]:
        """Apply the waveform and return the response, (frequencies, steps).

        Raises
        ------
        CallAborted
            If `abort` was called; BEPyAE finishes the loop by itself.
        InputError
            If the panel was changed since: no bias is applied.
        RuntimeError
            If what came back is not a new loop of the declared shape and waveform; it is kept in
            `folder`. If the waveform is another one, no more bias is applied until `refresh`: what
            was declared, the axis of the record too, does not hold.
        """
        if self._told is not None:
            raise RuntimeError(_OTHER_WAVEFORM)
        timeout_s = 3 * self.spectrum_seconds + 60.0
        return self._owner.call(self._take, kind="measurement", timeout_s=timeout_s)

    def abort(self) -> None:
        """Give up a loop; from another thread."""
        self._owner.abort("measurement")

    def _prepare(self, aebe: Any) -> FrequencyBands:
        gate = self._owner.gate
        self._check_card(gate)
        aebe.define_be_parms(be_parms_dict=self._pulse.in_aebe(), feedbackon=False)
        # define_be_parms returns before the pulse is made.
        while gate.getcontrolvalue("BE_pulse_control_cluster")[9]:
            time.sleep(0.1)
        wanted = (self._pulse.center_hz, self._pulse.bandwidth_hz, self._pulse.amplitude_v)
        has = gate.getcontrolvalue("BE_pulse_control_cluster")[:3]
        if not np.allclose(np.asarray(has, float), wanted, rtol=1e-3):
            raise InputError(
                f"BEPyAE holds a pulse of {tuple(has)} (center Hz, band width Hz, amplitude V); "
                f"expected {wanted}: it has limits of its own, choose within them."
            )
        self._upload(aebe)
        result = gate.getcontrolvalue("BEPS_VS_indicator_cluster")
        try:
            self._bias, self._in_field = steps(self._waveform, result[0])
            self._bias_source = "BEPyAE"
        except (InputError, IndexError, TypeError):
            # Nothing there yet, or a loop of before: BEPyAE will say so with the first loop.
            self._bias, self._in_field = steps(self._waveform, triangle(self._waveform))
            self._bias_source = "computed from the parameters"
        pulse_indicator = gate.getcontrolvalue("BE_pulse_parm_indicator_cluster")
        return bands(self._pulse, pulse_indicator, result[1] if len(result) > 1 else ())

    def _check_card(self, gate: Any) -> None:
        """Refuse what the DAQ card cannot do, as far as its indicator says what that is."""
        try:
            card = gate.getcontrolvalue("IO_indicator_cluster")
            rate, reach = float(card[2]), min(float(card[3]), float(card[4])) * float(card[6])
        except (TypeError, ValueError, IndexError):
            return  # a version of BEPyAE that says it in another way
        top = self._waveform.highest_v + self._pulse.amplitude_v
        if top > reach > 0:
            raise InputError(
                f"bias and excitation go to {top:g} V together; expected at most {reach:g} V, the "
                "range of the DAQ card times its amplifier: lower them."
            )
        highest = self._pulse.center_hz + self._pulse.bandwidth_hz / 2
        if highest > rate / 2 > 0:
            raise InputError(
                f"the band goes to {highest:g} Hz; expected at most {rate / 2:g} Hz, half the rate "
                "of the DAQ card: lower center_hz or bandwidth_hz."
            )

    def _upload(self, aebe: Any) -> None:
        aebe.define_BEPS_parameters(
            beps_parms_dict=self._waveform.in_aebe(),
            do_create_waveform=True,
            do_upload_waveform=True,
            do_VS_waveform=False,
            feedbackon=False,
        )
        self._owner.uploaded = "BEPS"
        panel = tuple(self._owner.gate.getcontrolvalue(BEPS)[:18])
        self._check_panel(panel)
        self._panel = panel

    def _check_panel(self, panel: tuple[Any, ...]) -> None:
        """Refuse a panel with other numbers than those asked for: they may be a larger bias."""
        asked = self._waveform.in_aebe()
        wrong = {
            name: has
            for (name, wanted), has in zip(asked.items(), panel, strict=False)
            if not np.isclose(float(has), wanted, rtol=1e-6, atol=1e-12)
        }
        if wrong:
            raise InputError(
                f"BEPyAE's BEPS panel has {wrong}; expected "
                f"{ {name: asked[name] for name in wrong} }: leave the panel alone during a run, "
                "and choose a waveform within BEPyAE's limits."
            )

    def _take(self, aebe: Any) -> NDArray[np.complex128]:
        gate = self._owner.gate
        if self._owner.uploaded == "BEPS":
            self._check_panel(tuple(gate.getcontrolvalue(BEPS)[:18]))
        else:
            self._upload(aebe)
        began = time.monotonic()
        # Not do_beps_specific: it uploads again and writes a file for each point, and cannot
        # shape the data of two-sided or several cycles, which it then loses.
        told, measured, _, _ = aebe.define_BEPS_parameters(do_VS_waveform=True, feedbackon=False)
        self._took = time.monotonic() - began
        try:
            return self._checked(told, np.asarray(measured, float))
        except (RuntimeError, ValueError) as error:
            where = self._keep(told, measured)
            raise RuntimeError(f"{error} What was measured is in {where}.") from error

    def _checked(self, told: Any, measured: NDArray) -> NDArray[np.complex128]:
        expected = (self._bias.size, self.frequencies.size, 2)
        if measured.shape != expected:
            raise RuntimeError(
                f"BEPyAE returned a spectrogram of {measured.shape}; expected {expected} (steps, "
                "frequencies, real and imaginary part): connect again, so that it is asked again."
            )
        bias, _ = steps(self._waveform, told)
        if not np.allclose(bias, self._bias, atol=1e-3 * self._waveform.highest_v + 1e-9):
            self._told = bias
            raise RuntimeError(_OTHER_WAVEFORM)
        response = (measured[..., 0] + 1j * measured[..., 1]).T
        if self._last is not None and np.array_equal(response, self._last):
            raise RuntimeError(
                "BEPyAE returned the numbers of the loop before; expected a new loop: its waveform "
                "did not run, look at its panel."
            )
        self._last = response
        return response.copy()

    def _keep(self, told: Any, measured: Any) -> Path:
        paths = (self._folder / f"spectrogram-{number}.npz" for number in itertools.count())
        path = next(path for path in paths if not path.exists())
        np.savez(path, bias=np.asarray(told), spectrogram=np.asarray(measured))
        return path

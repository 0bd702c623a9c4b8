"""What a band excitation pulse and a loop are made with, checked, and in AEBE's words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from curiosity_bluesky.errors import InputError


def finite(name: str, value: Any, low: float, high: float, units: str) -> float:
    """Return `value` as a float.

    Raises
    ------
    InputError
        If it is no number from `low` to `high`.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (low <= number <= high and math.isfinite(number)):
        reach = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise InputError(
            f"{name} is {value!r}; expected {reach} {units}".rstrip() + ": correct it."
        )
    return number


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` as an int.

    Raises
    ------
    InputError
        If it is no whole number from `low` to `high`.
    """
    number = finite(name, value, low, high, "")
    if number != int(number):
        raise InputError(f"{name} is {value!r}; expected a whole number: round it.")
    return int(number)


def setting_units(settings: Iterable[str]) -> dict[str, str]:
    """Return the units of those settings whose names end in theirs: ``_hz``, ``_s``, ``_v``."""
    units = {"hz": "Hz", "s": "s", "v": "V"}
    ends = {name: name.rpartition("_")[2] for name in settings}
    return {name: units[end] for name, end in ends.items() if end in units}


@dataclass(frozen=True)
class BEPulse:
    """One band excitation pulse: a chirp that excites all frequencies of a band.

    Parameters
    ----------
    center_hz, bandwidth_hz
        The band, Hz. The contact resonance should lie well inside.
    amplitude_v
        Amplitude of the excitation, V.
    duration_s
        Duration of the pulse with its repeats, s.
    repeats
        How often the chirp is repeated within the pulse.
    phase_variation
        As on BEPyAE's panel.

    Raises
    ------
    InputError
        If a number cannot be used.
    """

    center_hz: float
    bandwidth_hz: float
    amplitude_v: float = 1.0
    duration_s: float = 4e-3
    repeats: int = 4
    phase_variation: float = 1.0

    def __post_init__(self) -> None:
        """Check."""
        finite("center_hz", self.center_hz, 1e3, 2e7, "Hz")
        finite("bandwidth_hz", self.bandwidth_hz, 1e2, 2 * float(self.center_hz), "Hz")
        finite("amplitude_v", self.amplitude_v, 0.0, 10.0, "V")
        finite("duration_s", self.duration_s, 1e-5, 10.0, "s")
        whole("repeats", self.repeats, 1, 10_000)
        finite("phase_variation", self.phase_variation, 0.0, 1e3, "")

    def in_aebe(self) -> dict[str, float]:
        """Return what ``AEBE.define_be_parms`` takes: kHz and ms, against the names."""
        return {
            "center_frequency_Hz_00": float(self.center_hz) / 1e3,
            "band_width_Hz_01": float(self.bandwidth_hz) / 1e3,
            "amplitude_V_02": float(self.amplitude_v),
            "phase_variation_03": float(self.phase_variation),
            "repeats_04": int(self.repeats),
            "req_pulse_duration_s_05": float(self.duration_s) * 1e3,
        }

    def settings(self) -> dict[str, float]:
        """Return the numbers for the record."""
        return {f"be_{name}": float(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class BEPSWaveform:
    """The DC bias of a loop: cycles of steps, each followed by a band excitation pulse.

    Parameters
    ----------
    amplitude_v
        Largest bias beside the offset, V.
    offset_v
        Added to each step, V.
    read_v
        Bias while the off-field response is read, V.
    steps_per_cycle, cycles
        Steps of one cycle, and how many cycles a loop has.
    off_field
        Whether each step is followed by one at `read_v`, so that the response is measured
        with the bias on and off by turns; else it is measured with the bias on only.
    transition_s, delay_s
        Time for the change to a step, and the wait after it, s.

    Raises
    ------
    InputError
        If a number cannot be used.
    """

    amplitude_v: float
    offset_v: float = 0.0
    read_v: float = 0.0
    steps_per_cycle: int = 64
    cycles: int = 2
    off_field: bool = True
    transition_s: float = 1e-3
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        """Check."""
        finite("amplitude_v", self.amplitude_v, 0.0, 1e3, "V")
        finite("offset_v", self.offset_v, -1e3, 1e3, "V")
        finite("read_v", self.read_v, -1e3, 1e3, "V")
        whole("steps_per_cycle", self.steps_per_cycle, 4, 100_000)
        whole("cycles", self.cycles, 1, 1000)
        finite("transition_s", self.transition_s, 0.0, 10.0, "s")
        finite("delay_s", self.delay_s, 0.0, 100.0, "s")

    @property
    def highest_v(self) -> float:
        """The largest bias of either sign, V."""
        return max(self.amplitude_v + abs(self.offset_v), abs(self.read_v))

    @property
    def writes(self) -> int:
        """Steps with the bias on in the whole loop."""
        return self.steps_per_cycle * self.cycles

    def in_aebe(self) -> dict[str, float]:
        """Return what ``AEBE.define_BEPS_parameters`` takes, nothing left to the panel.

        ``measure_loops_07`` is 0 for on and off field by turns, 1 for on field only (the
        authors' guide to AEcroscopy, June 2023).
        """
        return {
            "amplitude_V_00": float(self.amplitude_v),
            "offset_V_01": float(self.offset_v),
            "read_voltage_V_02": float(self.read_v),
            "step_per_cycle_03": int(self.steps_per_cycle),
            "num_cycles_04": int(self.cycles),
            "cycle_fraction_05": 0,
            "cycle_phase_shift_06": 0,
            "measure_loops_07": 0 if self.off_field else 1,
            "transition_time_s_08": float(self.transition_s),
            "delay_after_step_s_09": float(self.delay_s),
            "set_pulse_amplitude_V_10": 0.0,
            "set_pulse_duration_s_11": 0.0,
            "FORC_num_cycles_12": 1,
        }

    def settings(self) -> dict[str, float]:
        """Return the numbers for the record."""
        return {f"beps_{name}": float(value) for name, value in asdict(self).items()}

"""Band excitation on the simulated microscope: what its loops look like before any fit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.devices.pfm import sho_response
from curiosity_bluesky.errors import InputError
from sim_devices.microscope import SimMicroscope

Q_VARIES = 0.3
RESONANCE_VARIES = 0.15
SOFTENS = 0.02


class SimBandExcitation:
    r"""Turns the loop at the tip into the spectrogram that band excitation would measure.

    Implements `curiosity_bluesky.devices.SpectrogramDriver`. The microscope takes its time,
    adds its own noise and has its own faults; what it measures, the sample's loop P along the
    bias, is the response without field. With field, electrostatics add to it in proportion to
    the bias. Each response :math:`P e^{i\varphi_0}` drives an oscillator
    (`curiosity_bluesky.devices.pfm.sho_response`) whose resonance and quality factor vary smoothly
    over the sample, and whose resonance is a little lower where the polarisation is switching;
    white noise is added to each bin.

    Parameters
    ----------
    microscope
        The microscope, with a sample of one channel.
    band_hz
        (lowest, highest) frequency, Hz.
    bins
        Number of frequencies.
    cycles
        How often the sample's bias waveform is repeated.
    quality_factor
        Mean Q; it varies by 30 % over the sample. The resonance, in the middle of the band
        on average, varies by 15 % of the band.
    phase_offset
        Phase of positive polarisation, rad.
    electrostatic
        Response with field per V of bias, relative to the standard deviation of the sample's
        loops.
    noise
        Standard deviation of the noise of a bin (of real and imaginary part together),
        relative to the height of the mean resonance at the standard deviation of the sample's
        loops.
    seed
        Seed of that noise, which depends on it, the pixel and how often it was measured.

    Raises
    ------
    InputError
        If the sample has more than one channel, or a number cannot be used.
    """

    def __init__(
        self,
        microscope: SimMicroscope,
        *,
        band_hz: tuple[float, float] = (300e3, 380e3),
        bins: int = 64,
        cycles: int = 1,
        quality_factor: float = 120.0,
        phase_offset: float = 0.6,
        electrostatic: float = 0.05,
        noise: float = 0.02,
        seed: int = 0,
    ) -> None:
        sample = microscope.sample
        if len(sample.spectra) != 1:
            raise InputError(
                f"sample {sample.name!r} has the channels {', '.join(sample.spectra)}; expected "
                "one, its polarisation loop: band excitation is simulated from that"
            )
        positive = {"bins": bins, "cycles": cycles, "quality_factor": quality_factor}
        numbers = {**positive, "phase_offset": phase_offset, "electrostatic": electrostatic}
        for name, value in {**numbers, "noise": noise}.items():
            low = 0 if name in positive or name == "noise" else -math.inf
            if not math.isfinite(value) or value < low or (name in positive and value == 0):
                raise InputError(
                    f"{name} is {value!r}; expected a finite number"
                    f"{' > 0' if name in positive else ' >= 0' if low == 0 else ''}: "
                    "leave it out for a usual one"
                )
        if not 0 < band_hz[0] < band_hz[1] < math.inf:
            raise InputError(
                f"band_hz is {band_hz!r}; expected (lowest, highest) in Hz, the lowest above 0: "
                "for example (300e3, 380e3)"
            )
        self.microscope = microscope
        self._repeat, self._cycles = int(cycles), int(cycles) * _cycles_in(sample.axis)
        self._frequencies = np.linspace(*band_hz, int(bins))
        self._quality, self._phase = float(quality_factor), float(phase_offset)
        [self._cube] = sample.spectra.values()
        self._spread = float(np.nanstd(self._cube))
        self._slope, self._noise = float(electrostatic) * self._spread, float(noise)
        self._seed = int(seed)
        self._repeats: dict[tuple[int, int], int] = {}

    @property
    def frequencies(self) -> NDArray:
        """Frequencies ``(frequencies,)``, Hz."""
        return self._frequencies

    @property
    def bias(self) -> NDArray:
        """Bias of each step ``(steps,)``, V: with field and without take turns."""
        return np.repeat(np.tile(self.microscope.sample.axis, self._repeat), 2)

    @property
    def in_field(self) -> NDArray:
        """``(steps,)``: True, False, True, ..."""
        return np.arange(len(self.bias)) % 2 == 0

    @property
    def cycles(self) -> int:
        """Cycles of the waveform: those of the sample's, times how often it is repeated."""
        return self._cycles

    @property
    def spectrogram_units(self) -> str:
        """Units of the response: those of the sample's loops."""
        [units] = self.microscope.sample.spectrum_units.values()
        return units or "a.u."

    @property
    def spectrogram_settings(self) -> Mapping[str, float | str]:
        """What the spectrograms are taken with."""
        return {
            **self.microscope.spectrum_settings,
            "quality_factor_mean": self._quality,
            "true_phase_offset": self._phase,
            "electrostatic": self._slope,
            "spectrogram_noise": self._noise,
            "spectrogram_seed": self._seed,
        }

    @property
    def spectrogram_setting_units(self) -> Mapping[str, str]:
        """Setting to units."""
        return {**self.microscope.spectrum_setting_units, "true_phase_offset": "rad"}

    @property
    def spectrum_seconds(self) -> float:
        """How long one spectrogram takes, s on the wall: one spectrum, whatever the cycles."""
        return self.microscope.spectrum_seconds

    def oscillator(self, row: int, col: int) -> tuple[float, float]:
        """Resonance (Hz) and quality factor at a pixel, where nothing switches."""
        rows, cols = self.microscope.sample.shape
        u, v = row / max(rows - 1, 1), col / max(cols - 1, 1)
        band = self._frequencies[-1] - self._frequencies[0]
        shift = RESONANCE_VARIES * math.sin(2 * math.pi * u) * math.cos(math.pi * v)
        centre = (self._frequencies[0] + self._frequencies[-1]) / 2
        return centre + shift * band, self._quality * (1 + Q_VARIES * math.sin(3 * u + 2 * v))

    def acquire(self) -> NDArray[np.complex128]:
        """Take a spectrogram at the pixel nearest to the tip, ``(frequencies, steps)``.

        Raises
        ------
        InputError, RuntimeError, ConnectionError
            As `SimMicroscope.acquire` does.
        """
        microscope = self.microscope
        row, col = microscope.sample.pixel(microscope.position("x"), microscope.position("y"))
        [loop] = microscope.acquire().values()
        f0, q = self.oscillator(row, col)
        off = np.tile(loop.astype(float), self._repeat)
        response = np.repeat(off, 2) + np.where(self.in_field, self._slope * self.bias, 0.0)
        softer = 1 - np.exp(-((np.repeat(off, 2) / self._spread) ** 2))
        band = self._frequencies[-1] - self._frequencies[0]
        resonance = f0 - SOFTENS * band * (1 - softer)
        clean = sho_response(
            self._frequencies, np.abs(response), resonance, q, self._phase + np.pi * (response < 0)
        )
        repeat = self._repeats.get((row, col), 0)
        self._repeats[row, col] = repeat + 1
        rng = np.random.default_rng((self._seed, row, col, repeat))
        sigma = self._noise * self._spread * self._quality / math.sqrt(2)
        noise = rng.standard_normal((2, *clean.shape))
        return (clean + sigma * (noise[0] + 1j * noise[1])).T

    def abort(self) -> None:
        """End a measurement early; without one, nothing happens."""
        self.microscope.abort()


def _cycles_in(waveform: NDArray) -> int:
    """How many equal cycles a bias waveform ``(points,)`` has."""
    for cycles in range(len(waveform) // 8, 1, -1):
        if len(waveform) % cycles == 0:
            rows = waveform.reshape(cycles, -1)
            if np.ptp(rows[0]) > 0 and np.allclose(rows, rows[0], atol=1e-6 * np.ptp(waveform)):
                return cycles
    return 1

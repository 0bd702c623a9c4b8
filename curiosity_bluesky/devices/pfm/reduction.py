r"""Reduction of band excitation spectrograms to loops: branches, cycles, sign of polarisation.

The oscillator's response at a step (`sho.SHOFit.response`) is a complex number
:math:`S = A e^{i\varphi}`. Domains that point up and down answer in opposite phases, so the
responses lie on one line through the origin; its direction, the phase offset
:math:`\varphi_0`, is what cables, electronics and the cantilever add. The polarisation signal is
:math:`P = A \cos(\varphi - \varphi_0)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curiosity_bluesky.devices.pfm.sho import SHOFit, fit_sho
from curiosity_bluesky.errors import InputError


@dataclass(frozen=True)
class Steps:
    """The steps of a bias waveform, and where they belong in a loop.

    Parameters
    ----------
    bias
        ``(points,)``: one cycle, V.
    on, off
        ``(cycles, points)``: numbers of the steps recorded with the bias on, and of those
        recorded after it; None where there are no such.
    """

    bias: NDArray[np.float64]
    on: NDArray[np.intp] | None
    off: NDArray[np.intp] | None

    @classmethod
    def of(cls, bias: ArrayLike, in_field: ArrayLike, cycles: int) -> Steps:
        """Sort the steps of a waveform.

        Parameters
        ----------
        bias
            ``(steps,)``: bias of each step in the order of time, V; where `in_field` is False,
            that of the pulse before it.
        in_field
            ``(steps,)``: True where the response is recorded with the bias on.
        cycles
            How often the waveform repeats.

        Raises
        ------
        InputError
            If the steps cannot be sorted into cycles that are alike.
        """
        volts, on = np.asarray(bias, float), np.asarray(in_field, bool)
        if volts.ndim != 1 or volts.shape != on.shape or not np.isfinite(volts).all():
            raise InputError(
                f"bias has shape {volts.shape} and in_field {on.shape}; expected two of (steps,), "
                "the bias finite: give both for each step, in the order of time"
            )
        found: dict[bool, NDArray[np.intp]] = {}
        for field in (True, False):
            numbers = np.flatnonzero(on == field)
            if len(numbers) == 0:
                continue
            if cycles < 1 or len(numbers) % cycles:
                raise InputError(
                    f"{len(numbers)} steps {'with' if field else 'without'} field are not {cycles} "
                    "cycles; expected the same number of steps in each: correct cycles"
                )
            found[field] = numbers.reshape(cycles, -1)
        if not found:
            raise InputError("there are no steps; expected at least one: give the bias waveform")
        waveforms = [volts[row] for numbers in found.values() for row in numbers]
        one = waveforms[-1]
        if any(len(w) != len(one) or not np.allclose(w, one, atol=1e-6) for w in waveforms):
            raise InputError(
                "the bias is not the same in all cycles, with and without field; expected so, "
                "since they are averaged: for a step without field give the bias of the pulse "
                "before it"
            )
        return cls(one, found.get(True), found.get(False))


@dataclass(frozen=True)
class Branch:
    r"""Oscillator parameters along the bias, with the field on or off; each ``(points,)``.

    Parameters
    ----------
    polarisation, amplitude
        P and \|S\| of the mean response S of all cycles, in the units of the spectrogram.
    phase
        Of S, as it was measured: the phase offset is not taken off. rad, in (-pi, pi].
    resonance
        Hz, mean of the cycles.
    quality_factor
        Mean of the cycles.
    fit_quality
        R^2 of the fit, mean of the cycles: 0 to 1.
    """

    polarisation: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    resonance: NDArray[np.float64]
    quality_factor: NDArray[np.float64]
    fit_quality: NDArray[np.float64]


@dataclass(frozen=True)
class ReducedSpectrogram:
    """A spectrogram reduced to loops.

    Parameters
    ----------
    bias
        ``(points,)``: of one cycle, V.
    on, off
        The branches with the field on and off; None where not recorded.
    phase_offset
        rad; NaN if no response was found at all.
    """

    bias: NDArray[np.float64]
    on: Branch | None
    off: Branch | None
    phase_offset: float


def phase_offset(response: ArrayLike, bias: ArrayLike) -> float:
    r"""Estimate the phase of positive polarisation.

    .. math:: \varphi_0 = \tfrac12 \arg \sum_k S_k^2 \pmod \pi

    Doubling the angle folds both domain states onto one direction (Mardia and Jupp, Directional
    Statistics, 2000, section 9.4, on axes); each step counts with the square of its amplitude, so
    that those near a coercive bias, which are noise, hardly count. Of the two directions
    it is the one with :math:`\sum_k (V_k - \bar V) P_k \ge 0`: positive bias leaves positive
    polarisation. Of a loop that does not switch the sign is therefore not known: take
    the offset of one that does, or of many loops at once.

    Parameters
    ----------
    response
        ``(..., points)``: complex response; NaN are left out.
    bias
        ``(points,)`` V.

    Returns
    -------
    phase_offset
        rad, in (-pi, pi]; NaN if all is NaN or 0.
    """
    s, volts = np.broadcast_arrays(np.asarray(response, complex), np.asarray(bias, float))
    known = np.isfinite(s)
    s, volts = s[known], volts[known]
    if not np.abs(s).any():
        return np.nan
    s = s / np.abs(s).max()
    axis = np.angle(np.sum(s**2)) / 2.0
    if np.sum((volts - volts.mean()) * (s * np.exp(-1j * axis)).real) < 0:
        axis += np.pi
    return float(np.angle(np.exp(1j * axis)))


def reduce_spectrogram(
    frequencies: ArrayLike,
    spectrogram: ArrayLike,
    steps: Steps,
    *,
    offset: float | None = None,
    skip_cycles: int = 0,
) -> ReducedSpectrogram:
    """Fit an oscillator to each step and put the steps together to loops.

    Parameters
    ----------
    frequencies
        ``(frequencies,)`` Hz.
    spectrogram
        ``(frequencies, steps)``, complex.
    steps
        What the steps are.
    offset
        Phase offset, rad; None estimates it from the loop, that without field if there is
        one.
    skip_cycles
        How many cycles are left out at the beginning: the first starts at the state that the
        sample happened to be in.

    Raises
    ------
    InputError
        If no cycle is left, or the spectrogram does not fit the frequencies.
    """
    present = [numbers for numbers in (steps.off, steps.on) if numbers is not None]
    if not 0 <= skip_cycles < len(present[0]):
        raise InputError(
            f"{skip_cycles} of {len(present[0])} cycles are to be left out; expected fewer, and at "
            "least one left: lower skip_cycles or record more cycles"
        )
    fit = fit_sho(frequencies, np.asarray(spectrogram).T)
    response = fit.response
    means = [_mean(response[numbers[skip_cycles:]]) for numbers in present]
    if offset is None:
        offset = phase_offset(means[0], steps.bias)
    branches = [
        _branch(fit, numbers[skip_cycles:], mean, offset)
        for numbers, mean in zip(present, means, strict=True)
    ]
    off = branches[0] if steps.off is not None else None
    on = branches[-1] if steps.on is not None else None
    return ReducedSpectrogram(steps.bias, on, off, float(offset))


def _branch(fit: SHOFit, numbers: NDArray, mean: NDArray, offset: float) -> Branch:
    return Branch(
        polarisation=(mean * np.exp(-1j * offset)).real,
        amplitude=np.abs(mean),
        phase=np.where(np.isfinite(mean), np.angle(mean), np.nan),
        resonance=_mean(fit.frequency[numbers]),
        quality_factor=_mean(fit.quality_factor[numbers]),
        fit_quality=fit.r_squared[numbers].mean(axis=0),
    )


def _mean(cycles: NDArray) -> NDArray:
    """Mean over the cycles ``(cycles, points)``; of NaN only if all are."""
    known = np.isfinite(cycles)
    count = known.sum(axis=0)
    total = np.where(known, cycles, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

"""From a spectrogram to loops: which step belongs where, and which way is up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.devices.pfm import (
    Steps,
    phase_offset,
    reduce_spectrogram,
    sho_response,
)
from curiosity_bluesky.errors import InputError
from sim_devices.loops import bias_cycle, switching_loop

BAND = np.linspace(300e3, 380e3, 48)
BIAS = bias_cycle(32, 8.0)
LOOP = switching_loop(BIAS, 3.1, -2.2, 1.0, offset=0.2)


def spectrogram(response: np.ndarray, offset: float, sigma: float = 0.0) -> np.ndarray:
    """Return (frequencies, steps) of real responses (steps,)."""
    phase = offset + np.pi * (response < 0)
    clean = sho_response(BAND, np.abs(response), 340e3, 100.0, phase).T
    parts = np.random.default_rng(0).standard_normal((2, *clean.shape)) * sigma * 100 / np.sqrt(2)
    return clean + parts[0] + 1j * parts[1]


@settings(deadline=None, max_examples=60)
@given(offset=st.floats(-3.14, 3.14), vertical=st.floats(-3, 3), seed=st.integers(0, 9))
def test_positive_bias_leaves_positive_polarisation_whatever_the_cables_do(offset, vertical, seed):
    noise = np.random.default_rng(seed).standard_normal((2, 32)) * 0.05
    response = (LOOP + vertical) * np.exp(1j * offset) + noise[0] + 1j * noise[1]
    got = phase_offset(response, BIAS)
    assert abs(np.angle(np.exp(1j * (got - offset)))) < 0.1
    assert abs(np.angle(np.exp(1j * (phase_offset(-response, BIAS) - offset)))) > 3.0


def test_many_loops_together_have_one_offset():
    """Where half of the loops do not switch, their signs are outvoted."""
    still = np.full(32, -1.0) + 0.01 * np.sin(np.arange(32))
    many = np.stack([LOOP, still, LOOP, still]) * np.exp(2.5j)
    many[0, 3] = np.nan
    assert phase_offset(many, BIAS) == pytest.approx(2.5, abs=0.02)
    assert np.isnan(phase_offset(np.full(32, np.nan), BIAS))
    assert np.isnan(phase_offset(np.zeros(32), BIAS))


@pytest.mark.parametrize("together", [True, False])
def test_branches_and_cycles_are_put_together(together):
    """Fields that take turns step by step, or cycle by cycle; each cycle is different."""
    off = np.stack([LOOP, LOOP + 0.31, LOOP - 0.11])
    on = off + 0.049 * BIAS
    axis = 2 if together else 1
    response = np.stack([on, off], axis=axis).ravel()
    in_field = np.stack([np.ones((3, 32), bool), np.zeros((3, 32), bool)], axis=axis).ravel()
    bias = np.stack([np.tile(BIAS, (3, 1))] * 2, axis=axis).ravel()
    steps = Steps.of(bias, in_field, 3)
    np.testing.assert_array_equal(steps.bias, BIAS)
    got = reduce_spectrogram(BAND, spectrogram(response, 0.9), steps)
    assert got.on is not None and got.off is not None
    assert got.phase_offset == pytest.approx(0.9)
    np.testing.assert_allclose(got.off.polarisation, off.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(got.on.polarisation, on.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(got.off.resonance, 340e3, rtol=1e-6)
    np.testing.assert_allclose(got.off.quality_factor, 100, rtol=1e-6)
    np.testing.assert_allclose(got.off.fit_quality, 1.0)
    np.testing.assert_allclose(
        got.off.amplitude * np.cos(got.off.phase - got.phase_offset), got.off.polarisation
    )
    later = reduce_spectrogram(BAND, spectrogram(response, 0.9), steps, skip_cycles=1)
    assert later.off is not None
    np.testing.assert_allclose(later.off.polarisation, off[1:].mean(axis=0), atol=1e-6)
    fixed = reduce_spectrogram(BAND, spectrogram(response, 0.9), steps, offset=0.9 - np.pi)
    assert fixed.off is not None
    np.testing.assert_allclose(fixed.off.polarisation, -off.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("field", [True, False])
def test_one_branch_alone_is_enough(field):
    steps = Steps.of(BIAS, np.full(32, field), 1)
    got = reduce_spectrogram(BAND, spectrogram(LOOP, -2.0), steps)
    branch, other = (got.on, got.off) if field else (got.off, got.on)
    assert other is None and branch is not None
    np.testing.assert_allclose(branch.polarisation, LOOP, atol=1e-6)


def test_a_step_without_data_is_absent_or_left_to_the_other_cycles():
    response = np.tile(LOOP, 2)
    data = spectrogram(response, 0.4)
    data[:, 5] = np.nan  # in the first cycle only
    data[:, [7, 39]] = 0.0  # in both
    got = reduce_spectrogram(BAND, data, Steps.of(np.tile(BIAS, 2), np.zeros(64, bool), 2)).off
    assert got is not None
    assert got.polarisation[5] == pytest.approx(LOOP[5], abs=1e-6)
    assert got.fit_quality[5] == pytest.approx(0.5) and got.fit_quality[7] == 0
    assert np.isnan([got.polarisation[7], got.phase[7], got.resonance[7]]).all()
    assert np.isfinite(np.delete(got.polarisation, 7)).all()
    nothing = reduce_spectrogram(BAND, np.zeros((48, 32)), Steps.of(BIAS, np.zeros(32, bool), 1))
    assert np.isnan(nothing.phase_offset) and np.isnan(nothing.off.polarisation).all()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.slow
def test_the_error_of_the_polarisation_is_that_of_the_noise():
    """White noise of 5 % of the resonance's height: at most 5 % anywhere on average, no bias."""
    n = 200
    steps = Steps.of(np.tile(BIAS, n), np.zeros(32 * n, bool), n)
    noisy = spectrogram(np.tile(LOOP, n), 0.4, sigma=0.05)
    errors = []
    for k in range(n):
        part = noisy[:, 32 * k : 32 * (k + 1)]
        one = reduce_spectrogram(BAND, part, Steps.of(BIAS, np.zeros(32, bool), 1)).off
        errors.append(one.polarisation - LOOP)  # pyright: ignore[reportOptionalMemberAccess]
    assert np.sqrt(np.mean(np.square(errors), axis=0)).max() < 0.05
    assert np.abs(errors).max() < 0.25
    mean = reduce_spectrogram(BAND, noisy, steps, offset=0.4).off
    assert np.abs(mean.polarisation - LOOP).max() < 0.012  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    ("bias", "in_field", "cycles", "message"),
    [
        (BIAS, np.zeros(31, bool), 1, r"\(steps,\)"),
        (np.full(32, np.nan), np.zeros(32, bool), 1, "finite"),
        (BIAS, np.zeros(32, bool), 3, "correct cycles"),
        (BIAS, np.zeros(32, bool), 0, "correct cycles"),
        (BIAS, np.zeros(32, bool), 2, "not the same in all cycles"),
        (np.repeat(BIAS, 2) * np.tile([1, 0], 32), np.tile([True, False], 32), 1, "pulse before"),
        (np.zeros(0), np.zeros(0, bool), 1, "no steps"),
    ],
)
def test_steps_that_are_no_cycles_are_refused(bias, in_field, cycles, message):
    with pytest.raises(InputError, match=message):
        Steps.of(bias, in_field, cycles)


def test_not_all_cycles_can_be_left_out():
    steps = Steps.of(BIAS, np.zeros(32, bool), 1)
    with pytest.raises(InputError, match="1 of 1 cycles"):
        reduce_spectrogram(BAND, spectrogram(LOOP, 0.0), steps, skip_cycles=1)

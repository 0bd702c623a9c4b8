"""The oscillator fit: exact without noise, as good as can be with it, honest where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import least_squares

from curiosity_bluesky.devices.pfm import SHOFit, fit_sho, sho_response
from curiosity_bluesky.errors import InputError

BAND = np.linspace(300e3, 380e3, 64)


def oscillator(f: NDArray, p: NDArray) -> NDArray:
    """Return the formula of pycroscopy's SHOfunc, written down again; p = (A, f0, Q, phi)."""
    return p[0] * np.exp(1j * p[3]) * p[1] ** 2 / (f**2 - 1j * f * p[1] / p[2] - p[1] ** 2)


def found(fit: SHOFit, k: int | tuple = ()) -> NDArray:
    return np.array([fit.amplitude[k], fit.frequency[k], fit.quality_factor[k], fit.phase[k]])


def bound(f: NDArray, p: NDArray, sigma: float) -> NDArray:
    """Least standard deviations (Cramér and Rao), of white complex noise sigma a bin."""
    jacobian = []
    for k, h in enumerate([1e-6 * p[0], 1e-3, 1e-5, 1e-6]):
        step = np.eye(4)[k] * h
        jacobian.append((oscillator(f, p + step) - oscillator(f, p - step)) / (2 * h))
    j = np.stack(jacobian)
    information = (j.conj() @ j.T).real / (sigma**2 / 2)
    return np.sqrt(np.diag(np.linalg.inv(information)))


def noise(rng: np.random.Generator, sigma: float, shape: tuple[int, ...]) -> NDArray:
    parts = rng.standard_normal((2, *shape)) * sigma / np.sqrt(2)
    return parts[0] + 1j * parts[1]


def test_the_model_is_the_one_that_is_documented():
    p = np.array([2.0, 340e3, 90.0, 0.7])
    np.testing.assert_allclose(sho_response(BAND, *p), oscillator(BAND, p), rtol=1e-12)
    low, top = sho_response(np.array([1.0, 340e3]), *p)
    assert abs(low) == pytest.approx(2.0)  # A far below the resonance
    assert abs(top) == pytest.approx(2.0 * 90)  # A Q on it


@settings(deadline=None, max_examples=60)
@given(
    size=st.floats(1e-12, 1e6),
    resonance=st.floats(280e3, 400e3),
    q=st.floats(6, 400),
    phase=st.floats(-3.1, 3.1),
)
def test_without_noise_the_oscillator_is_found_exactly(size, resonance, q, phase):
    true = np.array([size, resonance, q, phase])
    fit = fit_sho(BAND, oscillator(BAND, true))
    np.testing.assert_allclose(found(fit)[:3], true[:3], rtol=1e-6)
    assert fit.phase == pytest.approx(phase, abs=1e-6)
    assert fit.r_squared == pytest.approx(1.0) and not fit.at_limit


@pytest.mark.parametrize("q", [30.0, 120.0, 300.0])
@pytest.mark.parametrize("relative", [0.02, 0.1])
def test_with_noise_no_unbiased_fit_could_be_better(q, relative):
    true, n = np.array([1.0, 337e3, q, -0.4]), 1500
    sigma = relative * q  # relative to the top of the resonance
    spectra = oscillator(BAND, true) + noise(np.random.default_rng(0), sigma, (n, len(BAND)))
    error = found(fit_sho(BAND, spectra), (slice(None),)) - true[:, None]
    least = bound(BAND, true, sigma)
    spread = error.std(axis=1)
    np.testing.assert_array_less(spread, least * 1.15)
    np.testing.assert_array_less(least * 0.9, spread)
    # The mean error is that of n draws, and less than a tenth of the spread of one.
    np.testing.assert_array_less(np.abs(error.mean(axis=1)), 0.1 * least + 4 * least / np.sqrt(n))


def test_it_is_no_worse_than_scipy_that_begins_at_the_truth():
    rng = np.random.default_rng(1)
    for _ in range(20):
        true = np.array([1.0, rng.uniform(310e3, 370e3), rng.uniform(30, 300), rng.uniform(-3, 3)])
        spectrum = oscillator(BAND, true) + noise(rng, 0.1 * true[2], (len(BAND),))

        def misfit(p, spectrum=spectrum):
            r = oscillator(BAND, p * np.array([1, 1e5, 100, 1])) - spectrum
            return np.concatenate([r.real, r.imag])

        theirs = least_squares(misfit, true / [1, 1e5, 100, 1], xtol=1e-12, ftol=1e-12)
        ours = np.sum(np.abs(oscillator(BAND, found(fit_sho(BAND, spectrum))) - spectrum) ** 2)
        assert ours <= 2 * theirs.cost * (1 + 1e-9)


def test_the_quality_is_the_share_of_the_variance_that_is_no_noise():
    rng, true = np.random.default_rng(2), np.array([1.0, 340e3, 100.0, 0.0])
    clean = oscillator(BAND, true)
    signal = np.mean(np.abs(clean - clean.mean()) ** 2)
    for share in (0.99, 0.8, 0.5):
        sigma = np.sqrt(signal * (1 - share) / share)
        fit = fit_sho(BAND, clean + noise(rng, sigma, (400, len(BAND))))
        assert fit.r_squared.mean() == pytest.approx(share, abs=0.03)
    nothing = fit_sho(BAND, noise(rng, 1.0, (400, len(BAND))))
    assert nothing.r_squared.max() < 0.35 and nothing.r_squared.mean() < 0.12


def test_a_resonance_beyond_the_band_is_found_or_said_to_be_out_of_reach():
    inside = fit_sho(BAND, oscillator(BAND, np.array([1.0, 400e3, 80.0, 0.3])))
    np.testing.assert_allclose(found(inside), [1.0, 400e3, 80.0, 0.3], rtol=1e-5)
    beyond = fit_sho(BAND, oscillator(BAND, np.array([1.0, 480e3, 80.0, 0.3])))
    assert beyond.at_limit and beyond.frequency == pytest.approx(420e3, rel=1e-6)


def test_spectra_of_the_other_sign_of_i_do_not_pass_for_good_ones():
    """An instrument whose transform has the other sign has to be noticed, not fitted."""
    true = np.array([1.0, 340e3, 100.0, 0.5])
    assert fit_sho(BAND, oscillator(BAND, true)).r_squared > 0.999
    assert fit_sho(BAND, oscillator(BAND, true).conj()).r_squared < 0.5


def test_useless_spectra_have_no_oscillator_and_do_not_disturb_the_others():
    true = np.array([1.0, 340e3, 100.0, 0.5])
    clean = oscillator(BAND, true) + noise(np.random.default_rng(3), 5.0, BAND.shape)
    gaps = np.where(np.arange(64) % 3 == 0, np.nan, clean)
    infinite = clean.copy()
    infinite[5] = np.inf
    spectra = np.stack(
        [clean, np.full(64, np.nan), np.zeros(64), np.full(64, 3 - 2j), gaps, clean, infinite]
    )
    spectra[5, 4:] = np.nan
    fit = fit_sho(BAND, spectra)
    for k in (1, 2, 3, 5):
        assert np.isnan(found(fit, k)).all() and fit.r_squared[k] == 0 and not fit.at_limit[k]
    np.testing.assert_allclose(found(fit, 0), found(fit_sho(BAND, clean)), rtol=1e-9)
    for k in (4, 6):  # fewer points, so only as near as the noise allows
        np.testing.assert_allclose(found(fit, k), true, rtol=0.15)


def test_shape_units_and_scale_do_not_matter():
    spectra = oscillator(BAND, np.array([1.0, 340e3, 100.0, 0.5])) + noise(
        np.random.default_rng(4), 5.0, (2, 3, 64)
    )
    fit = fit_sho(BAND, spectra)
    assert fit.frequency.shape == fit.r_squared.shape == fit.at_limit.shape == (2, 3)
    other = fit_sho(BAND / 1e3, spectra * 1e-9)
    np.testing.assert_allclose(other.frequency * 1e3, fit.frequency, rtol=1e-6)
    np.testing.assert_allclose(other.amplitude * 1e9, fit.amplitude, rtol=1e-4)
    np.testing.assert_allclose(other.r_squared, fit.r_squared, rtol=1e-6)
    alone = fit_sho(BAND, spectra[1, 2])
    assert alone.frequency.shape == ()
    np.testing.assert_allclose(alone.frequency, fit.frequency[1, 2], rtol=1e-9)
    assert fit_sho(BAND, np.empty((0, 64))).amplitude.shape == (0,)


@pytest.mark.parametrize(
    ("frequencies", "shape", "message"),
    [
        (BAND[::-1], (64,), "positive and increasing"),
        (BAND - 300e3, (64,), "positive and increasing"),
        (BAND[:3], (3,), "at least 5"),
        (np.where(BAND > 350e3, np.nan, BAND), (64,), "finite"),
        (BAND, (64, 10), "transposed"),
    ],
)
def test_what_cannot_be_fitted_is_refused(frequencies, shape, message):
    with pytest.raises(InputError, match=message):
        fit_sho(frequencies, np.ones(shape, complex))

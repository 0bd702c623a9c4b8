"""Band excitation on the simulated microscope: the loops that come out are those that went in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from curiosity_bluesky.devices import BandExcitation, SpectrogramDriver, Spectrometer
from curiosity_bluesky.devices.pfm import fit_sho, loop_fields
from curiosity_bluesky.errors import InputError
from sim_devices import (
    Clock,
    Faults,
    RecordedSample,
    Sample,
    SimBandExcitation,
    SimMicroscope,
    SyntheticSample,
)


def on_the_film(film: Sample, faults: Faults | None = None, **kwargs) -> SimBandExcitation:
    microscope = SimMicroscope(film, Clock(math.inf), speed_um_per_s=math.inf, faults=faults)
    return SimBandExcitation(microscope, **kwargs)


def go(sim: SimBandExcitation, row: int, col: int) -> None:
    sim.microscope.move("x", float(sim.microscope.sample.x[col]))
    sim.microscope.move("y", float(sim.microscope.sample.y[row]))


def test_it_is_a_driver_of_spectrograms(film):
    sim = on_the_film(film, cycles=3, bins=40)
    assert isinstance(sim, SpectrogramDriver)
    assert sim.acquire().shape == (40, 3 * 16 * 2) == (len(sim.frequencies), len(sim.bias))
    assert sim.cycles == 3
    assert sim.spectrogram_units == "pm"
    np.testing.assert_array_equal(sim.bias[sim.in_field], np.tile(film.axis, 3))


@pytest.mark.parametrize("pixel", [(0, 0), (3, 5), (12, 9)])
def test_without_noise_the_loop_and_the_oscillator_come_back(film, pixel):
    sim = on_the_film(film, noise=0.0, phase_offset=-2.2, electrostatic=0.03)
    go(sim, *pixel)
    got = BandExcitation(sim).acquire()
    loop = film.spectra["response"][pixel].astype(float)
    spread = film.spectra["response"].std()
    np.testing.assert_allclose(got["polarisation"], loop, atol=1e-4 * spread)
    on = loop + 0.03 * spread * film.axis
    np.testing.assert_allclose(got["polarisation_on"], on, atol=1e-4 * spread)
    resonance, q = sim.oscillator(*pixel)
    np.testing.assert_allclose(got["quality_factor"], q, rtol=1e-3)
    assert (got["resonance"] < resonance * (1 + 1e-6)).all()
    assert (got["resonance"] > resonance - 0.02 * 80e3 * (1 + 1e-3)).all()


def test_resonance_and_quality_factor_vary_over_the_sample(film):
    sim = on_the_film(film)
    pairs = np.array([sim.oscillator(row, col) for row in range(16) for col in range(14)])
    assert np.ptp(pairs[:, 0]) > 0.1 * 80e3
    assert np.ptp(pairs[:, 1]) > 0.3 * 120
    inside = (pairs[:, 0] > sim.frequencies[0]) & (pairs[:, 0] < sim.frequencies[-1])
    assert inside.all()


@pytest.mark.slow
def test_with_noise_loops_and_their_numbers_are_near_the_truth(film):
    sim = on_the_film(film, noise=0.05, cycles=2)
    spread, errors, coercive = film.spectra["response"].std(), [], []
    for row in range(0, 16, 3):
        for col in range(0, 14, 3):
            go(sim, row, col)
            got = BandExcitation(sim).acquire()
            loop = film.spectra["response"][row, col]
            errors.append((got["polarisation"] - loop) / spread)
            one, other = loop_fields(film.axis, got["polarisation"]), loop_fields(film.axis, loop)
            coercive.append(one.coercive_positive - other.coercive_positive)
    assert np.sqrt(np.mean(np.square(errors))) < 0.03
    assert np.abs(errors).max() < 0.2
    assert abs(np.mean(errors)) < 0.003
    assert np.nanmedian(np.abs(coercive)) < 0.1


def test_noise_depends_on_seed_pixel_and_repeat(film):
    first, same, other = (on_the_film(film, seed=seed) for seed in (0, 0, 1))
    go(same, 3, 4)
    same.acquire()  # elsewhere: that does not count
    go(same, 0, 0)
    one = first.acquire()
    np.testing.assert_array_equal(one, same.acquire())
    assert (one != first.acquire()).any() and (one != other.acquire()).any()


def test_it_takes_the_time_of_the_microscope_and_has_its_faults(film):
    sim = on_the_film(film, Faults.at({(0, 0): ["nan", "raises", None]}))
    before = sim.microscope.clock.now()
    assert np.isnan(sim.acquire()).all()
    assert sim.microscope.clock.now() - before == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match="unlocked"):
        sim.acquire()
    assert np.isfinite(sim.acquire()).all()


def test_a_spectrogram_under_way_is_broken_off(film):
    microscope = SimMicroscope(film, Clock(), spectrum_s=600.0)
    spectrometer = Spectrometer(BandExcitation(SimBandExcitation(microscope)), name="be")
    assert spectrometer.seconds == 600.0
    status = spectrometer.trigger()
    assert not status.done
    spectrometer.stop()
    with pytest.raises(RuntimeError, match="stopped in the middle"):
        status.wait(10)
    assert np.isnan(spectrometer.channels["polarisation"].get()).all()
    assert microscope.n_spectra == 0


def test_recorded_loops_come_back_from_their_spectrograms():
    """Loops as recorded (three cycles), through oscillators, noise and the fit."""
    pytest.importorskip("mexpsimu")
    sample = RecordedSample.from_mexpsimu("PTO_BEPS_1d3um")
    sim = on_the_film(sample, noise=0.03)
    assert sim.cycles == 3
    spread, rng, errors = sample.spectra["response"].std(), np.random.default_rng(0), []
    driver = BandExcitation(sim, phase_offset=0.6)
    for _ in range(12):
        row, col = rng.integers(65), rng.integers(65)
        go(sim, row, col)
        got = driver.acquire()
        loop = sample.spectra["response"][row, col].reshape(3, 64).mean(axis=0)
        errors.append((got["polarisation"] - loop) / spread)
        off = np.flatnonzero(~sim.in_field)
        raw = (got["spectrogram_real"] + 1j * got["spectrogram_imag"])[:, off]
        fit = fit_sho(sim.frequencies, raw.T)
        strong = fit.amplitude > 0.5 * spread
        resonance, q = sim.oscillator(row, col)
        if strong.any():
            assert np.median(fit.quality_factor[strong]) == pytest.approx(q, rel=0.1)
            assert np.median(fit.frequency[strong]) == pytest.approx(resonance, rel=0.006)
    assert np.sqrt(np.mean(np.square(errors))) < 0.02
    assert abs(np.mean(errors)) < 0.002


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"noise": -0.1}, ">= 0"),
        ({"bins": 0}, "> 0"),
        ({"quality_factor": math.nan}, "> 0"),
        ({"phase_offset": math.inf}, "finite"),
        ({"band_hz": (3e5, 3e5)}, "lowest"),
    ],
)
def test_bad_numbers_are_refused(film, kwargs, message):
    with pytest.raises(InputError, match=message):
        on_the_film(film, **kwargs)


def test_a_sample_needs_one_channel():
    film = SyntheticSample((8, 8), points=16)
    two = Sample(
        name="two",
        images=film.images,
        spectra={"a": film.spectra["response"], "b": film.spectra["response"]},
        axis=film.axis,
        x=film.x,
        y=film.y,
    )
    with pytest.raises(InputError, match="a, b; expected one"):
        on_the_film(two)

"""The dwell setting of a spectrometer: fewer cycles, in less time, and NaN in the rest."""

import numpy as np
import pytest

from curiosity_bluesky.devices import Spectrometer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import Sample
from curiosity_bluesky.utils.cycles import cycles_of
from sim_devices import Clock, SimMicroscope

POINTS, CYCLES = 8, 3
LOOP = np.array([0.0, 1, 2, 1, 0, -1, -2, -1])


def film(cycles: int = CYCLES) -> Sample:
    rng = np.random.default_rng(0)
    return Sample(
        name="cycled",
        images={"height": rng.normal(size=(4, 5))},
        spectra={"response": rng.normal(size=(4, 5, cycles * POINTS))},
        axis=np.tile(LOOP, cycles),
        x=np.arange(5.0),
        y=np.arange(4.0),
        axis_name="bias",
        axis_units="V",
    )


@pytest.fixture
def microscope():
    return SimMicroscope(film(), Clock(np.inf))


def measure(spectrometer: Spectrometer) -> dict:
    spectrometer.trigger().wait(10)
    return {key: reading["value"] for key, reading in spectrometer.read().items()}


@pytest.mark.parametrize(
    ("axis", "cycles"),
    [
        (np.tile(LOOP, 3), 3),
        (np.tile(LOOP, 8), 8),
        (LOOP, 1),  # up and down once
        (np.linspace(-1, 1, 12), 1),
        (np.tile(LOOP, 3) + np.linspace(0, 1e-9, 24), 3),  # as files round
        (np.tile(LOOP, 3) + np.linspace(0, 1, 24), 1),
        (np.append(np.tile(LOOP, 3), 0.0), 1),
    ],
)
def test_the_cycles_of_an_axis(axis, cycles):
    assert cycles_of(axis) == cycles


@pytest.mark.parametrize("dwell", [1, 2, 3])
def test_the_first_cycles_are_those_of_a_full_spectrum_and_the_rest_is_nan(microscope, dwell):
    spectrometer = Spectrometer(microscope, name="afm")
    full = measure(spectrometer)
    assert full["afm_dwell"] == CYCLES and np.isfinite(full["afm_response"]).all()
    spectrometer.dwell.set(dwell).wait(1)
    read = measure(spectrometer)
    n = dwell * POINTS
    np.testing.assert_array_equal(read["afm_response"][:n], full["afm_response"][:n])
    assert np.isnan(read["afm_response"][n:]).all()
    assert read["afm_response"].shape == full["afm_response"].shape
    assert read["afm_dwell"] == dwell
    assert read["afm_quality"] == 1.0  # of what was measured


def test_fewer_cycles_take_less_time():
    clock = Clock(np.inf)
    microscope = SimMicroscope(film(), clock, spectrum_s=3.0)
    spectrometer = Spectrometer(microscope, name="afm")
    for dwell in (1, 2, 3):
        spectrometer.dwell.set(dwell).wait(1)
        before = clock.now()
        measure(spectrometer)
        assert clock.now() - before == pytest.approx(dwell)
    stated = Spectrometer(SimMicroscope(film(), Clock(2.0), spectrum_s=3.0), name="afm")
    assert [stated.dwell.seconds(value) for value in stated.dwell.values] == [0.5, 1.0, 1.5]


def test_the_setting_is_a_data_key_with_its_unit(microscope):
    spectrometer = Spectrometer(microscope, name="afm")
    described = spectrometer.describe()["afm_dwell"]
    assert described["units"] == "cycles" and described["dtype"] == "number"
    assert spectrometer.dwell.values == (1.0, 2.0, 3.0)


def test_staging_asks_for_full_spectra_again(microscope):
    spectrometer = Spectrometer(microscope, name="afm")
    spectrometer.dwell.set(1).wait(1)
    spectrometer.stage()
    try:
        assert spectrometer.dwell.get() == CYCLES
    finally:
        spectrometer.unstage()


def test_a_sample_of_one_cycle_has_no_setting():
    spectrometer = Spectrometer(SimMicroscope(film(1), Clock(np.inf)), name="afm")
    assert spectrometer.dwell is None
    assert "afm_dwell" not in spectrometer.describe()


@pytest.mark.parametrize("value", [0, 4, 1.5, np.nan, "long"])
def test_what_is_no_setting_is_refused(microscope, value):
    spectrometer = Spectrometer(microscope, name="afm")
    with pytest.raises(InputError, match="expected one of 1, 2, 3"):
        spectrometer.dwell.set(value)
    assert spectrometer.dwell.get() == CYCLES


@pytest.mark.parametrize("values", [[0, 1], [2, 1], [1, 1]])
def test_a_driver_with_settings_that_cannot_be_is_refused(microscope, values):
    class Driver(SimMicroscope):
        dwell_values = values

    with pytest.raises(InputError, match="the smallest first"):
        Spectrometer(Driver(film()), name="afm")


def test_averages_record_the_whole_axis():
    class Averaging(SimMicroscope):
        dwell_values, dwell_unit, dwell = (1, 4, 16), "averages", 16

    spectrometer = Spectrometer(Averaging(film(1), Clock(np.inf)), name="afm")
    spectrometer.dwell.set(4).wait(1)
    read = measure(spectrometer)
    assert np.isfinite(read["afm_response"]).all() and read["afm_dwell"] == 4

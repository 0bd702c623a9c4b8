"""A driver of spectrograms becomes a spectrometer; drivers may offer more than spectra."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bluesky.protocols import Readable

from curiosity_bluesky.devices import (
    BandExcitation,
    SpectrogramDriver,
    Spectrometer,
    SpectrometerDriver,
)
from curiosity_bluesky.devices.pfm import loop_fields, sho_response
from curiosity_bluesky.errors import InputError
from sim_devices.loops import bias_cycle, switching_loop

BIAS = bias_cycle(16, 8.0)
LOOP = switching_loop(BIAS, 3.1, -2.2, 1.0, slope=0.01)


class Tip:
    """The least driver that there can be: two cycles of a loop, field off only."""

    frequencies = np.linspace(300e3, 380e3, 32)
    bias = np.tile(BIAS, 2)
    in_field = np.zeros(32, bool)
    cycles = 2
    spectrogram_settings = {"drive_V": 0.5}
    loop = LOOP

    def acquire(self):
        loop = np.tile(self.loop, 2)
        phase = 2.0 + np.pi * (loop < 0)
        return sho_response(self.frequencies, np.abs(loop), 340e3, 90.0, phase).T

    def abort(self):
        pass


def values(spectrometer):
    return {key: reading["value"] for key, reading in spectrometer.read().items()}


def test_the_drivers_fit_their_protocols():
    assert isinstance(Tip(), SpectrogramDriver)
    assert isinstance(BandExcitation(Tip()), SpectrometerDriver)
    assert isinstance(Spectrometer(BandExcitation(Tip())), Readable)


def test_a_measurement_has_the_spectrogram_its_loops_and_their_numbers():
    tip = Tip()
    spectrometer = Spectrometer(BandExcitation(tip), name="be")
    spectrometer.stage()
    spectrometer.trigger().wait(10)
    got = values(spectrometer)
    raw = got["be_spectrogram_real"] + 1j * got["be_spectrogram_imag"]
    np.testing.assert_array_equal(raw, tip.acquire().astype(np.complex64))
    assert got["be_spectrogram_real"].dtype == np.float32
    np.testing.assert_allclose(got["be_polarisation"], LOOP, atol=1e-5)
    np.testing.assert_allclose(got["be_resonance"], 340e3, rtol=1e-5)
    np.testing.assert_allclose(got["be_quality_factor"], 90.0, rtol=1e-4)
    assert got["be_quality"] == pytest.approx(1.0, abs=0.01)
    assert got["be_phase_offset"] == pytest.approx(2.0, abs=1e-5)
    expected = loop_fields(BIAS, got["be_polarisation"])
    assert got["be_coercive_positive"] == expected.coercive_positive
    assert got["be_area"] == expected.area
    assert not any(key.endswith("_on") for key in got)


def test_the_description_has_dims_units_and_axes():
    spectrometer = Spectrometer(BandExcitation(Tip()), name="be")
    described = spectrometer.describe()
    raw = described["be_spectrogram_imag"]
    assert (raw["dims"], raw["shape"]) == (["frequency", "step"], [32, 32])
    assert raw["dtype_numpy"] == "<f4"
    assert described["be_polarisation"]["dims"] == ["bias"]
    assert described["be_resonance"]["units"] == "Hz"
    assert described["be_imprint"]["units"] == "V"
    assert described["be_area"]["units"] == "a.u. V"
    configured = spectrometer.describe_configuration()
    assert configured["be_frequency"]["units"] == "Hz"
    assert [configured[f"be_step{end}"]["dims"] for end in ("", "_bias", "_in_field")] == [
        ["step"]
    ] * 3
    settings = {k: v["value"] for k, v in spectrometer.read_configuration().items()}
    assert settings["be_drive_V"] == 0.5 and settings["be_cycles"] == 2
    assert spectrometer.hints["fields"] == ["be_quality", "be_imprint", "be_area"]


def test_scalars_of_ones_own_take_the_place_of_the_drivers():
    rules = {"first": lambda axis, spectrum: spectrum["polarisation"][0]}
    spectrometer = Spectrometer(BandExcitation(Tip()), name="be", scalars=rules)
    spectrometer.trigger().wait(10)
    assert values(spectrometer)["be_first"] == pytest.approx(LOOP[0], abs=1e-5)
    assert spectrometer.hints["fields"] == ["be_first"] and "be_area" not in values(spectrometer)


def test_only_the_polarisation_is_to_be_learned():
    assert Spectrometer(BandExcitation(Tip()), name="be").learned == ["be_polarisation"]
    with_field = Tip()
    with_field.in_field = np.ones(32, bool)
    assert Spectrometer(BandExcitation(with_field), name="be").learned == ["be_polarisation_on"]


def test_the_settings_are_those_of_the_driver_when_it_is_staged():
    tip = Tip()
    spectrometer = Spectrometer(BandExcitation(tip), name="be")
    tip.frequencies = np.linspace(310e3, 370e3, 24)
    spectrometer.stage()
    assert spectrometer.describe()["be_spectrogram_real"]["shape"] == [24, 32]
    spectrometer.trigger().wait(10)
    assert values(spectrometer)["be_spectrogram_real"].shape == (24, 32)


def test_a_spectrogram_without_data_has_no_quality_and_loses_nothing():
    tip = Tip()
    tip.acquire = lambda: np.full((32, 32), np.nan, complex)
    spectrometer = Spectrometer(BandExcitation(tip), name="be")
    spectrometer.trigger().wait(10)
    got = values(spectrometer)
    assert got["be_quality"] == 0 and got["be_switches"] == 0
    assert np.isnan(got["be_polarisation"]).all() and np.isnan(got["be_area"])
    assert np.isnan(got["be_spectrogram_real"]).all()


def test_a_fixed_phase_offset_turns_loops_over():
    driver = BandExcitation(Tip(), phase_offset=2.0 - math.pi, skip_cycles=1)
    np.testing.assert_allclose(driver.acquire()["polarisation"], -LOOP, atol=1e-5)
    assert driver.spectrum_settings["fixed_phase_offset"] == 2.0 - math.pi
    assert driver.spectrum_settings["skip_cycles"] == 1


def test_the_phase_offset_can_be_kept_from_a_loop_that_switches():
    tip = Tip()
    driver = BandExcitation(tip)
    assert driver.calibrate() == pytest.approx(2.0, abs=1e-5)
    tip.loop = -1.0 + 0.01 * np.sin(np.arange(16))
    np.testing.assert_allclose(driver.acquire()["polarisation"], tip.loop, atol=1e-5)
    with pytest.raises(InputError, match="does not switch"):
        driver.calibrate()
    assert driver.phase_offset == pytest.approx(2.0, abs=1e-5)


def test_a_calibration_applies_no_more_than_it_may():
    tip = Tip()
    tip.spectrogram_settings = {"drive": 2500.0, "read": math.nan, "gain": 90.0}
    tip.spectrogram_setting_units = {"drive": "mV"}
    driver, taken, acquire = BandExcitation(tip), [], tip.acquire
    tip.acquire = lambda: taken.append(1) or acquire()
    with pytest.raises(InputError, match="bias goes to 8 V, and max_bias allows 7 V; no bias"):
        driver.calibrate(max_bias=7.0)
    with pytest.raises(InputError, match="bias goes to 8 V, drive goes to 2.5 V"):
        driver.calibrate(max_bias=2.0)
    with pytest.raises(InputError, match="expected volts, 0 or more"):
        driver.calibrate(max_bias=math.nan)
    tip.spectrogram_setting_units = {"drive": "mV", "read": "V"}
    with pytest.raises(InputError, match="read goes to nan V"):
        driver.calibrate(max_bias=8.0)
    tip.spectrogram_setting_units = {"drive": "mV"}
    assert not taken and driver.phase_offset is None
    assert driver.calibrate(max_bias=8.0) == pytest.approx(2.0, abs=1e-5)


def test_a_sign_that_is_not_calibrated_is_warned_of_once_a_stage(caplog):
    driver = BandExcitation(Tip())
    spectrometer = Spectrometer(driver, name="be")

    def run():
        caplog.clear()
        spectrometer.stage()
        for _ in range(2):
            spectrometer.trigger().wait(10)
        spectrometer.unstage()
        return caplog.text.count("the sign of its polarisation is a coin toss; calibrate()")

    assert [run(), run()] == [1, 1]
    caplog.clear()
    driver.calibrate()
    assert not caplog.records
    assert run() == 0
    described = spectrometer.describe_configuration()
    assert described["be_fixed_phase_offset"]["units"] == "rad"


def test_settings_have_the_units_of_the_driver():
    tip = Tip()
    tip.spectrogram_setting_units = {"drive_V": "V"}
    spectrometer = Spectrometer(BandExcitation(tip), name="be")
    described = spectrometer.describe_configuration()
    assert described["be_drive_V"]["units"] == "V" and "units" not in described["be_cycles"]
    tip.spectrogram_settings = {"drive_V": 500.0}
    tip.spectrogram_setting_units = {"drive_V": "mV"}
    spectrometer.stage()
    assert spectrometer.describe_configuration()["be_drive_V"]["units"] == "mV"
    assert spectrometer.read_configuration()["be_drive_V"]["value"] == 500.0


def test_what_a_driver_was_told_holds_from_the_next_stage():
    class Told(Tip):
        told = 0.5

        def refresh(self):
            self.spectrogram_settings = {"drive_V": self.told}

    tip = Told()
    spectrometer = Spectrometer(BandExcitation(tip), name="be")
    tip.told = 0.7
    assert spectrometer.read_configuration()["be_drive_V"]["value"] == 0.5
    spectrometer.stage()
    assert spectrometer.read_configuration()["be_drive_V"]["value"] == 0.7


def test_what_does_not_fit_is_refused():
    tip = Tip()
    with pytest.raises(InputError, match="finite angle"):
        BandExcitation(tip, phase_offset=math.nan)
    with pytest.raises(InputError, match="from 0 to 1"):
        BandExcitation(tip, skip_cycles=2)
    driver = BandExcitation(tip)
    tip.acquire = lambda: np.zeros((32, 16), complex)
    with pytest.raises(InputError, match=r"\(frequencies, steps\) = \(32, 32\)"):
        driver.acquire()
    tip.cycles = 3
    with pytest.raises(InputError, match="correct cycles"):
        Spectrometer(driver)


class Camera:
    """A driver of spectra that has an image beside each."""

    spectrum_channels = {"current": "A", "drift": "A"}
    spectrum_axis = ("bias", "V", np.linspace(-1, 1, 5))
    spectrum_settings: dict = {}
    spectrum_arrays = {"picture": (("row", "col"), "counts")}
    spectrum_array_axes = {
        "row": ("row", "", np.arange(3)),
        "col": ("col", "", np.arange(4)),
    }
    spectrum_dtypes = {"picture": "uint16"}

    def acquire(self):
        wave = np.linspace(0, 1, 5)
        return {"current": wave, "drift": wave, "picture": np.arange(12, dtype="u2").reshape(3, 4)}

    def abort(self):
        pass


def test_any_driver_may_offer_arrays_of_more_dimensions():
    spectrometer = Spectrometer(Camera(), name="s")
    assert spectrometer.learned == ["s_current", "s_drift"]
    spectrometer.trigger().wait(10)
    assert values(spectrometer)["s_picture"].tolist()[2] == [8, 9, 10, 11]
    described = spectrometer.describe()["s_picture"]
    assert (described["dims"], described["units"]) == (["row", "col"], "counts")
    assert list(spectrometer.scalars) == ["quality", "area"]
    assert list(spectrometer.channels) == ["current", "drift"]
    assert list(spectrometer.arrays) == ["picture"]


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("spectrum_array_axes", {"row": ("row", "", np.arange(3))}, "along col"),
        (
            "spectrum_array_axes",
            {**Camera.spectrum_array_axes, "time": ("row", "s", np.arange(5))},
            "as many as",
        ),
        ("spectrum_arrays", {"bias": (("row", "col"), "")}, "more than one data key"),
    ],
)
def test_arrays_that_do_not_fit_their_axes_are_refused(member, value, message):
    camera = Camera()
    setattr(camera, member, value)
    with pytest.raises(InputError, match=message):
        Spectrometer(camera, name="s")


@pytest.mark.parametrize("chosen", [["currant"], []])
def test_what_is_to_be_learned_has_to_be_a_channel(chosen):
    camera = Camera()
    camera.learned = chosen  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="expected some of its channels current, drift"):
        _ = Spectrometer(camera, name="s").learned

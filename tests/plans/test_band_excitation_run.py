"""A whole run: spectrograms taken on the simulated microscope, into Tiled, and back."""

from __future__ import annotations

import math

import bluesky.plans as bp
import numpy as np
import pytest
from event_model import DocumentNames, sanitize_doc, schema_validators

from curiosity_bluesky import connect, curiosity_plan, read
from curiosity_bluesky.devices import AFMStage, BandExcitation, Imager, Spectrometer
from curiosity_bluesky.devices.pfm import (
    Steps,
    loop_fields,
    phase_offset,
    reduce_spectrogram,
)
from curiosity_bluesky.documents import read_stream
from sim_devices import Clock, SimBandExcitation, SimMicroscope, SyntheticSample


@pytest.fixture
def microscope(film: SyntheticSample) -> SimMicroscope:
    return SimMicroscope(film, Clock(math.inf))


def spectrometer_on(microscope: SimMicroscope, **kwargs) -> Spectrometer:
    driver = SimBandExcitation(microscope, bins=48, cycles=2, noise=0.02)
    return Spectrometer(BandExcitation(driver, **kwargs), name="be")


@pytest.mark.slow
def test_the_record_holds_the_spectrogram_and_all_that_follows_from_it(
    RE, microscope, film, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    spectrometer, stage = spectrometer_on(microscope), AFMStage(microscope, name="stage")
    pixels = [(3, 2), (3, 9), (12, 6)]
    measured = []

    def collect(name, doc):
        schema_validators[DocumentNames[name]].validate(sanitize_doc(doc))
        if name == "event":
            measured.append(doc["data"])

    with connect(tmp_path / "runs") as catalog:
        RE.subscribe(catalog.writer(batch_size=1000))
        x, y = ([float(axis[p]) for p in ps] for axis, ps in
                ((film.x, [c for _, c in pixels]), (film.y, [r for r, _ in pixels])))  # fmt: skip
        RE(bp.list_scan([spectrometer], stage.x, x, stage.y, y), collect)
        points = read_stream(catalog[-1], "primary")

    # The spectrogram, bit by bit, with its axes.
    for part in ("real", "imag"):
        stored = points[f"be_spectrogram_{part}"]
        assert stored.dims == ("event", "frequency", "step") and stored.dtype == np.float32
        expected = np.stack([data[f"be_spectrogram_{part}"] for data in measured])
        np.testing.assert_array_equal(stored, expected)
    driver = spectrometer.driver.driver
    np.testing.assert_array_equal(points.frequency, driver.frequencies)
    np.testing.assert_array_equal(points.step_bias, driver.bias)
    np.testing.assert_array_equal(points.step_in_field, driver.in_field)
    np.testing.assert_array_equal(points.bias, film.axis)
    assert points.frequency.attrs["units"] == "Hz" and points.bias.attrs["units"] == "V"
    assert points.step_bias.dims == ("step",)

    # The loops are the sample's.
    spread = film.spectra["response"].std()
    for k, pixel in enumerate(pixels):
        error = points.be_polarisation.values[k] - film.spectra["response"][pixel]
        assert np.sqrt(np.mean(error**2)) < 0.02 * spread and np.abs(error).max() < 0.1 * spread
        found = loop_fields(film.axis, points.be_polarisation.values[k])
        truth = loop_fields(film.axis, film.spectra["response"][pixel])
        for name in ("coercive_positive", "imprint", "remanence_negative", "area"):
            assert points[f"be_{name}"].values[k] == getattr(found, name)
        assert found.imprint == pytest.approx(truth.imprint, abs=0.15)
        assert found.area == pytest.approx(truth.area, rel=0.03)
    assert points.be_area.attrs["units"] == "pm V"
    assert (points.be_quality > 0.9).all()
    np.testing.assert_allclose(points.be_phase_offset, 0.6, atol=0.01)

    # What was reduced can be reduced again, from the record alone.
    steps = Steps.of(points.step_bias.values, points.step_in_field.values, 2)
    for k in range(len(pixels)):
        raw = points.be_spectrogram_real.values[k] + 1j * points.be_spectrogram_imag.values[k]
        again = reduce_spectrogram(points.frequency.values, raw, steps)
        np.testing.assert_allclose(again.off.polarisation, points.be_polarisation.values[k])
        np.testing.assert_allclose(again.on.resonance, points.be_resonance_on.values[k])
        assert again.phase_offset == pytest.approx(points.be_phase_offset.values[k])
    all_at_once = phase_offset(points.be_amplitude * np.exp(1j * points.be_phase), points.bias)
    assert all_at_once == pytest.approx(0.6, abs=0.01)


@pytest.mark.slow
def test_the_curiosity_plan_runs_on_spectrograms(RE, microscope, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    spectrometer, stage = spectrometer_on(microscope), AFMStage(microscope, name="stage")
    imager = Imager(microscope, name="imager")
    with connect(tmp_path / "runs") as catalog:
        RE.subscribe(catalog.writer(batch_size=1000))
        parameters = {"patch_size": 3, "n_seeds": 6}
        RE(
            curiosity_plan(
                [spectrometer],
                stage.x,
                stage.y,
                imager,
                num_points=8,
                strategy="random",
                options={"parameters": parameters},
            )
        )
        points = read(catalog[-1])
    assert points.be_spectrogram_real.dims == ("point", "frequency", "step")
    truth = microscope.sample.spectra["response"]
    for k in range(8):
        loop = truth[int(points.row[k]), int(points.col[k])]
        error = points.be_polarisation.values[k] - loop
        assert np.sqrt(np.mean(error**2)) < 0.03 * truth.std()

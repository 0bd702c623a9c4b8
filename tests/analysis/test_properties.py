"""Property maps against the truth of a film, and properties of spectra that are known."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from stored import STORED, documents_in
from support import collected_run

from curiosity_bluesky import InputError
from curiosity_bluesky.analysis import (
    predict_from_documents,
    properties_in,
    property_map,
    register_property,
    spectrum_properties,
    vectorised,
)
from curiosity_bluesky.analysis.spectrum_properties import (
    evaluate,
    gap,
    in_units,
    peak_position,
    slope_at_zero,
)
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices.pfm import loop_field_arrays
from curiosity_bluesky.exchange.sample import Sample
from sim_devices import SyntheticSample

CHANNEL = "spectrometer_response"
CURIOUS = documents_in(STORED / "curious.jsonl.gz")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that a test registers are forgotten after it."""
    monkeypatch.setattr(spectrum_properties, "_REGISTERED", {})


def width_of(film: SyntheticSample, spectra: np.ndarray) -> np.ndarray:
    found = loop_field_arrays(film.axis, spectra)
    return (found["coercive_positive"] - found["coercive_negative"]) / 2


@pytest.mark.quick("0.0-*")
@pytest.mark.parametrize(("noise", "least"), [(0.0, 0.95), (0.1, 0.93)])
def test_the_map_of_a_film_is_that_of_its_truth(noise: float, least: float) -> None:
    film = SyntheticSample((20, 20), seed=1, points=32, noise=noise)
    parameters = {"patch_size": 5, "n_seeds": 15, "refit_every": 20}
    _, documents = collected_run(
        RunEngine({}), simulated_instrument(film, speed=math.inf),
        num_points=50, strategy="curious", parameters=parameters,
    )  # fmt: skip

    found = property_map(documents, "coercive_bias")

    measured = np.isfinite(found["coercive_bias_measured"].values)
    np.testing.assert_allclose(
        found["coercive_bias_measured"].values[measured],
        width_of(film, film.target())[measured],
        rtol=1e-5,  # they are recorded in single precision
    )
    elsewhere = np.isfinite(found["coercive_bias"].values) & ~measured
    predicted = found["coercive_bias"].values[elsewhere]
    truth = width_of(film, film.noiseless)[elsewhere]
    assert elsewhere.sum() > 150 and np.isfinite(truth).all()
    error = predicted - truth
    assert np.corrcoef(predicted, truth)[0, 1] > least
    assert abs(error.mean()) < 0.1  # V, of 2 to 4.5; the steps of the bias are 1.25 V
    # The film's own number: where half is switched, which the nucleation step moves a little.
    assert np.corrcoef(predicted, film.truth["coercive_bias"][elsewhere])[0, 1] > least
    # What is said of the error: of one that is measured, so noise counts.
    deviation = found["coercive_bias_deviation"].values[elsewhere]
    off = (predicted - width_of(film, film.target())[elsewhere]) / deviation
    assert np.isfinite(off).mean() > 0.95  # a noisy loop may not count as open
    assert 0.5 < np.sqrt(np.nanmean(off**2)) < 1.5
    assert found["coercive_bias"].attrs["units"] == "V"
    assert found.attrs["deviation"] == "model"


def test_all_that_a_function_returns_is_mapped_at_once_and_reproducibly() -> None:
    found = property_map(CURIOUS, "loop", draws=8)
    one = property_map(CURIOUS, "imprint", CHANNEL, draws=8)
    xr.testing.assert_identical(found[list(one)], one[list(one)])
    assert found["area"].attrs["units"] == "pm V" and "units" not in found["switches"].attrs
    claimed = ~found["no_claim"].values
    for name in ("area", "remanence"):
        for end in ("", "_deviation"):
            np.testing.assert_array_equal(np.isfinite(found[name + end].values), claimed)
    other = property_map(CURIOUS, "area", draws=8, seed=1)
    assert (other["area_deviation"] != found["area_deviation"]).values[claimed].all()
    xr.testing.assert_equal(other["area"], found["area"])


def test_a_network_is_uncertain_by_what_it_was_wrong_by() -> None:
    found = property_map(documents_in(STORED / "published.jsonl.gz"), "area", draws=16)
    assert found.attrs["deviation"] == "residuals"
    assert np.nanmin(found["area_deviation"].values) > 0


def test_of_a_prediction_alone_no_deviation_is_known() -> None:
    prediction = predict_from_documents(CURIOUS)
    found, expected = (property_map(each, "area", draws=2) for each in (prediction, CURIOUS))
    assert found.attrs["deviation"] == "none"
    assert np.isnan(found["area_deviation"].values).all()
    for name in ("area", "area_measured", "distance"):
        xr.testing.assert_equal(found[name], expected[name])


def test_a_property_map_is_a_file_of_netcdf(tmp_path: Path) -> None:
    found = property_map(CURIOUS, "area", draws=2)
    found.to_netcdf(tmp_path / "area.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "area.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read.load(), found)
        assert read["area"].attrs["units"] == "pm V" and read.attrs["deviation"] == "model"


def test_what_cannot_be_mapped_is_refused_with_what_can() -> None:
    prediction = predict_from_documents(CURIOUS)
    with pytest.raises(InputError, match="no property 'nope'.*can be read: coercive_bias, rem"):
        property_map(prediction, "nope")
    with pytest.raises(InputError, match="no channel 'x'; there are spectrometer_response"):
        property_map(prediction, "area", "x")
    with pytest.raises(InputError, match="draws is 1; expected a whole number, 2 or more"):
        property_map(prediction, "area", draws=1)
    sweep = prediction.assign_coords(bias=np.arange(1.0, prediction.sizes["bias"] + 1))
    with pytest.raises(InputError, match="area cannot be read off.*no measured spectrum has it"):
        property_map(sweep, "area")
    can = {one.name for one in properties_in(sweep) if not one.remark}
    assert can == {"peak_position"}


# ---- functions of one's own


def test_a_plain_function_of_one_spectrum_is_enough(own: None) -> None:
    @register_property
    def highest(spectrum: np.ndarray, axis: np.ndarray) -> Any:
        assert spectrum.shape == axis.shape
        return {"highest": (spectrum.max(), "{spectrum}"), "at": (axis[spectrum.argmax()], "V")}

    prediction = predict_from_documents(CURIOUS)
    found = property_map(CURIOUS, "highest", draws=4)
    values = np.where(prediction["no_claim"], np.nan, prediction[CHANNEL].max(dim="bias"))
    np.testing.assert_array_equal(found["highest"].values, values)
    assert found["highest"].attrs["units"] == "pm"
    assert np.isfinite(found["highest_deviation"].values[~found["no_claim"].values]).all()


def test_a_function_may_return_a_number_and_may_fail(own: None) -> None:
    @register_property
    def first(spectrum: np.ndarray, axis: np.ndarray) -> float:
        return spectrum[0]

    @register_property
    def broken(spectrum: np.ndarray, axis: np.ndarray) -> float:
        raise ValueError("no fit")

    @register_property
    @vectorised
    def flat(spectra: np.ndarray, axis: np.ndarray) -> float:
        return 1.0

    found = {one.name: one for one in properties_in(predict_from_documents(CURIOUS))}
    assert found["first"].share == 1 and not found["first"].units
    assert "'broken' fails on these spectra: ValueError: no fit" in found["broken"].remark
    assert "expected (" in found["flat"].remark
    assert found["area"].remark == ""


def test_a_package_brings_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_spectra.py").write_text("def depth(spectrum, axis):\n    return 2.0\n")
    info = tmp_path / "their_spectra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-spectra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        textwrap.dedent(f"""
            [{spectrum_properties.GROUP}]
            depth = their_spectra:depth
            gap = their_spectra:depth
            lost = their_spectra:nothing
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = spectrum_properties.functions()
    assert found["depth"](np.zeros(3), np.zeros(3)) == 2.0
    assert found["gap"] is gap and "lost" not in found


# ---- those that are shipped


def test_the_peak_of_a_parabola_lies_between_its_points() -> None:
    axis = np.array([-2.0, -1.0, 0.5, 1.0, 3.0])
    centres = np.array([-0.8, 0.4, 1.3])
    spectra = 5 - (axis - centres[:, None]) ** 2
    spectra = np.concatenate([spectra, [axis, -axis, np.full(5, np.nan)]])
    [(found, units)] = peak_position(spectra, axis).values()
    np.testing.assert_allclose(found, [*centres, 3.0, -2.0, np.nan], rtol=1e-12)
    assert units == "{axis}"


def test_the_gap_of_a_current_is_between_its_edges_swept_to_and_fro() -> None:
    axis = np.linspace(-2, 2, 401)
    both = np.concatenate([axis, axis[::-1]])

    def current(low: float, high: float) -> np.ndarray:
        return np.clip(both - high, 0, 1) + np.clip(both - low, -1, 0)

    spectra = np.stack([[current(-0.5, 0.8), current(-1.0, 1.0)], [both, current(0.2, 0.6)]])
    [(found, _)] = gap(spectra, both).values()
    # A tenth of the largest magnitude is reached 0.1 beyond an edge, on a line 0.2 either side.
    np.testing.assert_allclose(found, [[1.5, 2.2], [0.4, np.nan]], atol=0.011)
    assert np.isnan(gap(spectra, both + 5)["gap"][0]).all()


def test_the_slope_at_zero_is_that_of_the_line() -> None:
    axis = np.linspace(-1, 1, 41)
    spectra = np.stack([3 * axis + 1, np.sin(2 * axis), axis**2])
    [(found, units)] = slope_at_zero(spectra, axis).values()
    np.testing.assert_allclose(found, [3, 2, 0], atol=0.05)
    assert in_units(units, "nA", "V") == "nA/V"
    assert np.isnan(slope_at_zero(spectra, axis + 2)["slope_at_zero"][0]).all()


def test_too_short_an_axis_is_refused() -> None:
    with pytest.raises(InputError, match="'gap' fails on these spectra.*2 different values"):
        evaluate("gap", gap, np.zeros((4, 2)), np.array([0.0, 1.0]))


def test_units_are_those_of_spectrum_and_axis() -> None:
    given = {
        ("{axis}", "pA", "V"): "V",
        ("{axis}", "pA", ""): "",
        ("{spectrum}/{axis}", "pA", "V"): "pA/V",
        ("{spectrum}/{axis}", "", "V"): "1/V",
        ("{spectrum}/{axis}", "pA", ""): "pA",
        ("{spectrum}/{axis}", "", ""): "",
        ("{spectrum} {axis}", "", "V"): "V",
        ("{spectrum} {axis}", "pm", ""): "pm",
    }
    assert {each: in_units(*each) for each in given} == given


def test_each_channel_is_drawn_by_itself() -> None:
    film = SyntheticSample((14, 12), seed=1, points=16)
    loops = film.spectra["response"]
    two = Sample(
        name="two", images=film.images, spectra={"other": 3 * loops, "response": loops},
        axis=film.axis, x=film.x, y=film.y, image_units=film.image_units,
        spectrum_units={"other": "mV", "response": "pm"}, source="made up",
    )  # fmt: skip
    _, documents = collected_run(RunEngine({}), simulated_instrument(two, speed=math.inf))

    maps = [property_map(documents, "area", f"spectrometer_{key}") for key in two.spectra]

    assert [each["area"].attrs["units"] for each in maps] == ["mV V", "pm V"]
    for name in ("area", "area_measured", "area_deviation"):
        large, small = (each[name].values for each in maps)
        assert np.nanmedian(large / small) == pytest.approx(3.0, rel=0.1)
    assert property_map(documents, "area", draws=2).attrs["channel"] == "spectrometer_other"

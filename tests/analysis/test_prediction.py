"""Predicted spectra at every pixel, from the documents of stored runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stored import EXPECTED, STORED, documents_in

from curiosity_bluesky import CuriosityAgent, InputError
from curiosity_bluesky.analysis import predict_from_documents
from curiosity_bluesky.learning import withheld_pixels


@pytest.mark.parametrize("name", sorted(EXPECTED["documents"]))
def test_the_prediction_of_a_run_is_that_of_its_explorer(name: str) -> None:
    documents = documents_in(STORED / f"{name}.jsonl.gz")
    explorer = CuriosityAgent.from_documents(documents).explorer
    expected = explorer.predict()

    found = predict_from_documents(documents)

    [axis] = set(found.sizes) - {"y", "x"}
    keys = [str(key) for key in found if "x" in found[key].dims and found[key].ndim == 3]
    predicted = [key for key in keys if not key.endswith(("_deviation", "_measured"))]
    both = np.concatenate([found[key].transpose("y", "x", ...) for key in predicted], axis=2)
    np.testing.assert_array_equal(both, expected.spectra)
    np.testing.assert_array_equal(found["x"], explorer.survey.x)
    assert found.attrs["predicted_by"] == explorer.strategy.name
    assert axis == "bias"
    source = "model" if expected.deviation is not None else "residuals"
    assert found.attrs["deviation"] == source
    for key in predicted:
        deviation = found[f"{key}_deviation"].values
        np.testing.assert_array_equal(np.isnan(deviation), np.isnan(found[key].values))
        assert (deviation[~np.isnan(deviation)] >= 0).all() and np.nanmax(deviation) > 0


def test_what_was_measured_lies_beside_what_is_predicted() -> None:
    documents = documents_in(STORED / "curious.jsonl.gz")
    explorer = CuriosityAgent.from_documents(documents).explorer

    found = predict_from_documents(documents)

    measured = {o.pixel: o.spectrum for o in explorer.observations}
    [key] = [str(k) for k in found if str(k).endswith("_measured")]
    taken = ~np.isnan(found[key].values).all(axis=2)
    assert set(zip(*map(list, np.nonzero(taken)), strict=True)) == set(measured)
    for pixel, spectrum in measured.items():
        np.testing.assert_array_equal(found[key].values[pixel], spectrum)
    np.testing.assert_array_equal(found["distance"].values == 0, taken)
    row, col = np.unravel_index(found["distance"].argmax(), taken.shape)
    x, y = explorer.survey.position((int(row), int(col)))
    apart = [np.hypot(x - px, y - py) for px, py in map(explorer.survey.position, measured)]
    assert found["distance"].values[row, col] == pytest.approx(min(apart))
    assert found["distance"].attrs["units"] == found["x"].attrs["units"] == "um"


def test_no_claim_is_made_where_no_patch_fits_and_where_nothing_may_be_measured() -> None:
    documents = documents_in(STORED / "steered.jsonl.gz")
    explorer = CuriosityAgent.from_documents(documents).explorer

    found = predict_from_documents(documents)

    no_patch = np.isnan(explorer.predict().spectra).all(axis=2)
    np.testing.assert_array_equal(found["no_claim"], no_patch | explorer.masked)
    assert found["no_claim"].any() and not found["no_claim"].all()


def test_a_claim_is_made_at_withheld_pixels_which_test_it() -> None:
    [(name, start), *others] = documents_in(STORED / "curious.jsonl.gz")
    share = 0.2
    withheld = withheld_pixels((18, 16), share)
    mask = withheld.astype("|u1")
    mask[:, 5:9] = 1  # nothing may be measured there, whatever is withheld
    masked = []
    for kind, doc in others:
        if kind == "event" and "mask" in doc["data"]:
            doc = {**doc, "data": {**doc["data"], "mask": mask}}
        masked.append((kind, doc))
    documents = [(name, {**start, "curiosity_withhold": share}), *masked]

    found = predict_from_documents(documents)

    predicted = ~np.isnan(found["spectrometer_response"].values).all(axis=2)
    claimed = ~found["no_claim"].values
    inside, away = np.zeros(mask.shape, bool), np.ones(mask.shape, bool)
    inside[:, 6:8], away[:, 4:10] = True, False
    assert (predicted & inside & withheld).any() and (predicted & away & withheld).any()
    assert not claimed[inside].any() and not claimed[(mask == 1) & ~withheld].any()
    np.testing.assert_array_equal(claimed[away], predicted[away])


def test_a_prediction_is_a_file_of_netcdf(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    [(name, start), *others] = documents_in(STORED / "curious.jsonl.gz")
    documents = [(name, {**start, "curiosity_points_estimated": True}), *others]
    found = predict_from_documents(documents)
    found.to_netcdf(tmp_path / "answer.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "answer.nc", engine="h5netcdf") as read:
        xr.testing.assert_identical(read.load(), found)


def test_a_run_without_spectra_is_refused() -> None:
    documents = documents_in(STORED / "curious.jsonl.gz")
    primary = {d["uid"] for n, d in documents if n == "descriptor" and d["name"] == "primary"}
    without = [
        (name, doc)
        for name, doc in documents
        if doc.get("uid") not in primary and doc.get("descriptor") not in primary
    ]
    with pytest.raises(InputError, match="holds no spectrum"):
        predict_from_documents(without)

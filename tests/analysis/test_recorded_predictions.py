"""Predicted spectra that a run records at its end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from support import events, few, grouped, learning_alike, measurable

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.analysis.prediction import dataset_of, rebuild
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import predictions, schema
from curiosity_bluesky.plans import event_streams
from sim_devices import SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=12)


def run_of(strategy: str, **given: Any) -> list[tuple[str, dict[str, Any]]]:
    ins = simulated_instrument(SAMPLE, speed=math.inf)
    options = grouped(strategy=strategy, parameters=few(strategy), seed=2, **given)
    plan = curiosity_plan([ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager, 7, **options)
    documents: list[tuple[str, dict[str, Any]]] = []
    RunEngine()(plan, lambda name, doc: documents.append((name, doc)))
    return documents


@pytest.mark.parametrize("strategy", learning_alike(measurable()))
def test_what_a_run_records_is_what_its_documents_predict(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "BLOCK", 4 * 14 * 12 * 5)
    documents = run_of(strategy)

    explorer, listener = rebuild(documents, None)
    prediction = explorer.predict()
    answer = dataset_of(explorer, listener, prediction)

    blocks = events(documents, schema.PREDICTIONS)
    height = 4  # 16 rows in blocks of 5 at the most, all alike
    assert [each["first_row"] for each in blocks] == list(range(0, 16, height))
    for suffix, name in (("_predicted", ""), ("_deviation", "_deviation")):
        key = f"spectrometer_response{suffix}"
        if answer.attrs["deviation"] != "model" and suffix == "_deviation":
            assert key not in blocks[0]
            continue
        recorded = np.concatenate([each[key] for each in blocks])[:16]
        expected = answer[f"spectrometer_response{name}"].values.astype("<f4")
        np.testing.assert_array_equal(recorded, expected)
        assert np.isfinite(recorded).any()
    if prediction.latent is None:
        assert schema.LATENT not in blocks[0]
    else:
        recorded = np.concatenate([each[schema.LATENT] for each in blocks])[:16]
        np.testing.assert_array_equal(recorded, prediction.latent.astype("<f4"))
        assert np.isfinite(recorded).any()


def test_the_recorded_predictions_say_their_axes_and_units() -> None:
    [described] = [
        doc
        for name, doc in run_of("curious")
        if name == "descriptor" and doc["name"] == schema.PREDICTIONS
    ]

    key = described["data_keys"]["spectrometer_response_predicted"]
    assert key["dims"] == ["y", "x", "bias"] and key["units"] == "pm" and key["shape"][1] == 14
    configured = described["configuration"]["prediction"]
    np.testing.assert_array_equal(configured["data"]["prediction_bias"], SAMPLE.axis)
    units = {name: about["units"] for name, about in configured["data_keys"].items()}
    assert units == {"prediction_bias": "V", "prediction_x": "um", "prediction_y": "um"}


def test_the_last_block_is_filled_with_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "BLOCK", 4 * 14 * 12 * 6)
    blocks = events(run_of("curious"), schema.PREDICTIONS)
    assert [each["first_row"] for each in blocks] == [0, 6, 12]
    assert {each["spectrometer_response_predicted"].shape for each in blocks} == {(6, 14, 12)}
    assert np.isnan(blocks[-1]["spectrometer_response_predicted"][4:]).all()


def test_predictions_are_left_out_where_they_are_not_wanted_or_too_large(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not events(run_of("curious", record_predictions=False), schema.PREDICTIONS)
    monkeypatch.setattr(event_streams, "MOST_PREDICTED", 16 * 14 * 12 - 1)
    with caplog.at_level("INFO"):
        assert not events(run_of("curious"), schema.PREDICTIONS)
    assert "curiosity predict" in caplog.text

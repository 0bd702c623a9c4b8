"""Names that files have and runs cannot: what becomes of them, and that it is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bluesky import RunEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky import connect, curiosity_plan, read
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents.schema import DECISIONS, STREAMS
from curiosity_bluesky.exchange.names import COORDINATES, KEPT, LONGEST, legal_axis, legal_names
from sim_devices import open_sample


@pytest.mark.parametrize(
    ("names", "legal"),
    [
        (["dI/dV", "ch.1"], ["dI_dV", "ch_1"]),
        (["LI Demod 1 X", "Current [AVG]", "a-b"], ["LI Demod 1 X", "Current [AVG]", "a-b"]),
        (["M", "m"], ["M", "m_2"]),
        (["a.b", "a/b", "a_b"], ["a_b_2", "a_b_3", "a_b"]),  # what is legal stays
        (["µx", "Δφ", "Ångström", "T/°C"], ["ux", "Deltaphi", "Angstrom", "T_degC"]),
        (["", " ", "??"], ["channel", "channel_2", "channel_3"]),
        (["Bias", "Quality", "quality"], ["Bias_2", "Quality_2", "quality_3"]),
        (["Z_predicted", "a--b", " Z "], ["Z_predicted_2", "a__b", "Z"]),
        (["x" * 50, "X" * 50], ["x" * LONGEST, "X" * (LONGEST - 2) + "_2"]),
        (
            ["Measurement_000/Channel_000/Fit_000/dI/dV"],
            ["easurement_000_Channel_000_Fit_000_dI_dV"[-LONGEST:]],
        ),
        (["a\nb", "a'b", "a(b)", "50%"], ["a_b", "a_b_2", "a_b_", "50_"]),
    ],
)
def test_names_become_legal_and_stay_distinct(names, legal):
    assert legal_names(names, data=["quality"], configuration=["Bias"]) == legal


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.text(max_size=45), max_size=8))
def test_any_names_become_legal(names):
    legal = legal_names(names, data=["quality"], configuration=["bias"])
    assert len({name.lower() for name in legal}) == len(names) and "bias" not in legal
    for name in legal:
        assert 0 < len(name) <= LONGEST and name == name.strip() and "--" not in name
        assert all(sign.isascii() and (sign.isalnum() or sign in KEPT) for sign in name)
    assert legal_names(legal, data=["quality"], configuration=["bias"]) == legal


def test_an_axis_has_no_name_that_a_point_has():
    assert set(STREAMS[DECISIONS].scalars) < set(COORDINATES)
    for name in ("time", "event", "x", "row"):
        assert legal_axis(name) == f"{name}_axis"
    assert legal_axis("dI/dV") == "dI_dV" and legal_axis("Bias") == "Bias"


def test_a_run_holds_what_a_file_calls_otherwise(tmp_path, caplog):
    rng = np.random.default_rng(0)
    image, cube = rng.normal(size=(2, 8, 8)), rng.normal(size=(8, 8, 6, 5))
    np.savez(
        tmp_path / "f.npz",
        image=image,
        spectra=cube,
        axis=np.arange(5.0),
        image_channels=["Z.1", "x"],
        spectrum_channels=["dI/dV", "M", "m", "time", "µ", ""],
        spectrum_units=["A/V", "V", "A", "s", "m", ""],
        axis_name="time",
    )
    sample = open_sample(tmp_path / "f.npz")
    channels = ["dI_dV", "M", "m_2", "time", "u", "spectrum"]
    assert list(sample.spectra) == channels and list(sample.images) == ["Z_1", "x_2"]
    assert list(sample.spectrum_units.values()) == ["A/V", "V", "A", "s", "m", ""]
    (record,) = caplog.records
    assert "'dI/dV' to 'dI_dV', 'm' to 'm_2', 'µ' to 'u', '' to 'spectrum'" in record.message
    assert "image channels renamed: 'Z.1' to 'Z_1', 'x' to 'x_2'" in record.message
    assert "the axis renamed: 'time' to 'time_axis'" in record.message
    assert record.message.removeprefix("f.npz: ") in sample.source

    instrument = simulated_instrument(sample, speed=math.inf)
    engine = RunEngine({})
    with connect(tmp_path / "runs") as catalog:
        writer = catalog.writer(batch_size=1000)
        engine.subscribe(writer)
        stage = instrument.stage
        settings = {"n_seeds": 2, "patch_size": 3}
        (uid,) = engine(
            curiosity_plan(
                [instrument.spectrometer],
                stage.x,
                stage.y,
                instrument.imager,
                num_points=2,
                strategy="random",
                options={"parameters": settings},
            )
        )
        points = read(catalog[uid])
    assert points["time"].dims == ("point",) and points["time_axis"].dims == ("time_axis",)
    for i, channel in enumerate(channels):
        np.testing.assert_array_equal(
            points[f"spectrometer_{channel}"], cube[points.row, points.col, i]
        )

"""Comparison of two runs: maps on the same axes, their difference, and error curves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine
from matplotlib.figure import Figure
from support import collected_run

from curiosity_bluesky import InputError, connect, read
from curiosity_bluesky.analysis import compare, describe_comparison, property_map
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.cli.app import main
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import error_curve
from curiosity_bluesky.views import draw_comparison
from sim_devices import SyntheticSample


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of three runs: two seeds on one film, and one on a larger film."""
    where = tmp_path_factory.mktemp("compared") / "runs"
    with connect(where) as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        for shape, seed in (((9, 9), 0), ((9, 9), 1), ((12, 11), 0)):
            film = SyntheticSample(shape, seed=3, points=16)
            collected_run(RE, simulated_instrument(film, speed=np.inf), num_points=12, seed=seed)
    return where


@pytest.fixture(scope="module")
def catalog(place: Path):
    with connect(place) as opened:
        yield opened


def test_both_maps_and_their_difference(catalog: Catalog) -> None:
    first, second = catalog[0], catalog[1]
    found = compare(first, second, "remanence", draws=8)
    maps = [property_map(run, "remanence", draws=8) for run in (first, second)]
    for k in range(2):
        np.testing.assert_array_equal(found["remanence"][k], maps[k]["remanence"])
        curve = error_curve(read((first, second)[k]))
        np.testing.assert_array_equal(found["error"][k], curve)
        assert np.isnan(curve[:3]).all() and (curve[-5:] > 0).all()
    difference = maps[1]["remanence"] - maps[0]["remanence"]
    np.testing.assert_array_equal(found["difference"], difference)
    assert found["difference"].attrs["units"] == "pm"
    said = describe_comparison(found)
    assert said["rms_difference"] == pytest.approx(float(np.sqrt((difference**2).mean())))
    assert 0 < said["correlation"] <= 1 and said["pixels"] == 9 * 9


def test_a_run_is_equal_to_itself(catalog: Catalog) -> None:
    said = describe_comparison(compare(catalog[0], catalog[0], draws=4))
    assert said["rms_difference"] == 0 and said["correlation"] == pytest.approx(1)
    assert said["beyond_two_deviations"] == 0


def test_another_grid_is_interpolated_where_both_predict(catalog: Catalog) -> None:
    found = compare(catalog[2], catalog[0], "remanence", draws=4)
    assert found.sizes["y"], found.sizes["x"] == (12, 11)
    inside = (found["y"] <= 0.16) & (found["x"] <= 0.16)  # of the smaller film
    known = np.isfinite(found["difference"])
    assert bool(known.where(inside, True).all()) and not bool(known.where(~inside, False).any())


def test_what_cannot_be_compared_is_refused(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="nonsense"):
        compare(catalog[0], catalog[1], "nonsense")


def test_the_figure_and_the_command(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(place) as opened:
        uids = [opened[k].start["uid"] for k in range(2)]
        figure = Figure()
        draw_comparison(compare(opened[0], opened[1], "remanence", draws=4), figure)
    assert [ax.get_title()[:8] for ax in figure.axes[:2]] == [uid[:8] for uid in uids]
    picture = tmp_path / "both.png"
    command = ["show", *uids, "--property", "remanence", "--catalog", str(place)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--picture", str(picture)])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and picture.read_bytes().startswith(b"\x89PNG")
    assert "remanence, second less first, at 81 pixels: mean" in said and uids[1][:8] in said
    with pytest.raises(SystemExit):
        main([*command, "--json"])
    assert json.loads(capsys.readouterr().out)["comparison"]["units"] == "pm"
    with pytest.raises(SystemExit) as ended:
        main(["show", uids[0], "--property", "remanence", "--catalog", str(place)])
    assert ended.value.code == 2 and "curiosity map" in capsys.readouterr().err

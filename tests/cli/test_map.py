"""``curiosity map``: pictures and numbers of what is read off the spectra of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from bluesky import RunEngine
from matplotlib.figure import Figure
from support import collected_run

from curiosity_bluesky import connect
from curiosity_bluesky.cli import main
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.views import draw_property_maps
from sim_devices import SyntheticSample

FILM = SyntheticSample((10, 9), seed=1, points=16)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A catalogue with one run."""
    where = tmp_path_factory.mktemp("map") / "runs"
    with connect(where) as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        uid, _ = collected_run(RE, simulated_instrument(FILM, speed=math.inf), num_points=8)
        catalog.flush()
    return where, uid


def run(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        main(["map", *map(str, words)])
    said = capsys.readouterr()
    assert end.value.code == code, said.err
    return said.err if code else said.out


def test_a_map_is_drawn_written_and_listed(
    stored: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where, uid = stored
    monkeypatch.chdir(tmp_path)
    said = run(capsys, uid[:8], "coercive_bias", "--catalog", where, "--draws", 4)
    picture = f"{uid[:8]}-coercive_bias.png"
    assert said.split() == ["coercive_bias", "of", "spectrometer_response:", picture]
    assert Path(picture).read_bytes().startswith(b"\x89PNG")

    options = ("--catalog", where, "--draws", 4, "--json")
    about = json.loads(run(capsys, uid, "imprint", "-o", "imprint.nc", *options))
    assert "is there already" in run(capsys, uid, "imprint", "-o", "imprint.nc", *options, code=2)
    assert about["uid"] == uid and about["units"]["imprint_deviation"] == "V"
    with xr.open_dataset("imprint.nc") as maps:
        assert dict(maps.sizes) == {"y": 10, "x": 9}
        assert maps["imprint_measured"].notnull().sum() == 8

    listed = json.loads(run(capsys, uid, "--list", "--catalog", where, "--json"))
    names = {one["name"]: one["remark"] for one in listed}
    assert names["area"] == "" and "peak_position" in names
    assert "coercive_bias" in run(capsys, uid, "--list", "--catalog", where)
    assert "these spectra" in run(capsys, uid, "nope", "--catalog", where, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "or --list"),
        (("area", "--list"), "or --list"),
        (("area", "--draws", 1), "--draws is 1"),
        (("area", "-o", "a.txt"), "ending in .png, .nc"),
        (("area", "-o", "nowhere/a.png"), "in a directory that exists"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    words: tuple[Any, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in run(capsys, "nopenope", *words, code=2)


def test_a_figure_has_three_maps_for_each_property() -> None:
    def of(value: float) -> tuple[tuple[str, str], Any, dict[str, str]]:
        return ("y", "x"), [[value, value + 1], [math.nan, value]], {"units": "V"}

    ends = ("", "_measured", "_deviation")
    variables = {f"{name}{end}": of(k) for k, name in enumerate("ab") for end in ends}
    maps = xr.Dataset(variables, {"y": [0.0, 1.0], "x": [0.0, 2.0]}, {"deviation": "model"})
    figure = Figure()
    draw_property_maps(maps, figure)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 6
    colours = [axes.images[0].get_cmap().name for axes in panels[:3]]
    assert colours == ["viridis", "viridis", "cividis"]
    scales = [axes.images[0].get_clim() for axes in panels[:2]]
    assert scales[0] == scales[1]  # what is measured is compared with what is predicted
    labels = {axes.get_ylabel() for axes in figure.axes if axes not in panels}
    assert labels == {"a (V)", "b (V)"}

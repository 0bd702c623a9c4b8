"""``curiosity predict`` and ``clusters``: what a run has taught, in words and as files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from support import collected_run

from curiosity_bluesky import connect
from curiosity_bluesky.analysis import predict
from curiosity_bluesky.cli.app import main
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run in a catalogue, which tests only read."""
    place = tmp_path_factory.mktemp("predict") / "runs"
    instrument = simulated_instrument(SyntheticSample((12, 10), seed=1, points=16), speed=math.inf)
    with connect(place) as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        uid, _ = collected_run(RE, instrument)
    return uid, place


def test_a_file_holds_what_predict_returns(
    run: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uid, place = run
    file = tmp_path / "answer.nc"
    with pytest.raises(SystemExit) as ended:
        main(["predict", uid[:8], "-o", str(file), "--catalog", str(place), "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] == str(file) and said["run"] == uid and said["strategy"] == "curious"
    with connect(place) as catalog, xr.open_dataset(file, engine="h5netcdf") as read:
        expected = predict(catalog[uid])
        xr.testing.assert_identical(read.load(), expected)
        # What the run recorded at its end is the same, in single precision.
        [recorded] = catalog[uid]["predictions"]["spectrometer_response_predicted"].read()
        np.testing.assert_array_equal(recorded, expected["spectrometer_response"].astype("<f4"))


@pytest.mark.parametrize(
    ("file", "words"),
    [("answer.txt", "ending in .nc"), ("there.nc", "--force"), ("no/such.nc", "exists")],
)
def test_a_file_that_cannot_be_written_is_refused_at_once(
    file: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.nc").touch()
    with pytest.raises(SystemExit) as ended:
        main(["predict", "abcdef", "-o", str(tmp_path / file), "--catalog", str(tmp_path)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_clusters_are_said_and_drawn(
    run: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uid, place = run
    file = tmp_path / "clusters.png"
    there = ["--catalog", str(place)]
    with pytest.raises(SystemExit) as ended:
        main(["clusters", uid[:8], uid, "-k", "3", "-o", str(file), *there, "--json"])
    assert ended.value.code == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second and len(first["share"]) == 3 and sum(first["n_measured"]) == 8
    assert sum(first["n_seeds"]) < 8 and 0 <= first["density"] <= 1
    assert file.read_bytes().startswith(b"\x89PNG")
    refused = ((["-k", "1"], "2 or more and at most 50"), (["-o", "a.jpg"], "ending in .png"))
    for wrong, words in refused:
        with pytest.raises(SystemExit) as ended:
            main(["clusters", uid, *wrong, *there])
        assert ended.value.code == 2 and words in capsys.readouterr().err

"""The command line: the main job, reading it back, and what is said of bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky import RunEngine
from ophyd.sim import SynAxis
from support import collected_run

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog import Catalog, last_scan_id
from curiosity_bluesky.cli import main
from curiosity_bluesky.demo.settings import DemoSample
from sim_devices import open_sample

QUICK = ["--set", "patch_size=3", "--set", "n_seeds=6", "--speed", "10000"]
START = {
    "sample": "synthetic", "image_slice": None, "spectra_slice": None, "speed": 1e4,
    "faults": {}, "drift": 0.0, "devices": "simulated",
}  # fmt: skip
QUICK_RANDOM = [
    *("--strategy", "random", "--set", "patch_size=3", "--set", "n_seeds=6"),
    *("--set", "start_epochs=4", "--speed", "10000"),
]


def curiosity(*arguments: object) -> None:
    """Run the command in this process, as its entry point does."""
    saved, sys.argv = sys.argv, ["curiosity", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, f"exit code {end.code}"
    finally:
        sys.argv = saved


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A catalogue with three runs, read-only; each command joins its server."""
    where = tmp_path_factory.mktemp("counted") / "three"
    with connect(where) as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        uids = [RE(bp.count([SynAxis(name="motor")], md={"sample": s}))[0] for s in "ABB"]
        catalog.flush()
        yield where, uids


@pytest.mark.slow
def test_runs_lists_the_newest_and_says_of_how_many(counted, capsys, monkeypatch):
    where, uids = counted

    def listed(*options):
        curiosity("runs", "--catalog", where, *options)
        return " ".join(capsys.readouterr().out.split())  # where it breaks lines is the path's

    def named(out):
        return [uid for uid in uids if uid[:8] in out]

    assert named(listed()) == uids and listed().startswith("3 runs in")
    out = listed("--last", 2)
    assert named(out) == uids[1:] and out.startswith("the newest 2 of 3 runs in")
    assert listed("--last", 1, "--sample", "B").startswith("the newest 1 of 2 runs in")
    assert [run["uid"] for run in json.loads(listed("--last", 1, "--json"))] == uids[2:]
    monkeypatch.setattr("curiosity_bluesky.cli.runs.LISTED", 2)
    assert named(listed()) == uids[1:] and "--all lists all" in listed()
    assert named(listed("--all")) == uids == [r["uid"] for r in json.loads(listed("--json"))]


def test_a_strategy_that_no_run_has_is_said_and_one_that_is_there_is_not(counted, capsys):
    with pytest.raises(AssertionError, match="exit code 2"):
        curiosity("runs", "--catalog", counted[0], "--strategy", "randon")
    out, err = capsys.readouterr()
    assert not out and "has the strategy 'randon'" in err and "Did you mean 'random'?" in err
    curiosity("runs", "--catalog", counted[0], "--strategy", "random")
    assert capsys.readouterr().out.startswith("0 runs in")


def test_a_strategy_of_which_there_are_runs_alone_is_none_to_complain_of(tmp_path, capsys):
    with connect(tmp_path / "runs") as catalog:
        RE = RunEngine({"scan_id": last_scan_id(catalog)})
        RE.subscribe(catalog.writer())
        RE(bp.count([SynAxis(name="motor")], md={"curiosity_strategy": "mine", "sample": "A"}))
        assert last_scan_id(catalog) == 1
    curiosity("runs", "--catalog", tmp_path / "runs", "--strategy", "mine")
    assert capsys.readouterr().out.startswith("1 run in")
    curiosity("runs", "--catalog", tmp_path / "runs", "--strategy", "mine", "--sample", "B")
    assert capsys.readouterr().out.startswith("0 runs in")
    with connect(tmp_path / "runs", create=False, serve=False) as catalog:
        assert last_scan_id(catalog) == 1 and catalog.reads_files  # no server for that


def test_runs_takes_no_two_ways_to_say_how_many(counted, capsys):
    with pytest.raises(AssertionError, match="exit code 2"):
        curiosity("runs", "--catalog", counted[0], "--all", "--last", 1)
    assert "--all and --last 1 are given" in " ".join(capsys.readouterr().err.split())


def test_the_demo_measures_and_a_new_process_reads_it_back(film_file, tmp_path, capsys):
    runs = tmp_path / "runs"
    curiosity("demo", "--sample", film_file, "--points", 8, "--catalog", runs, "--json", *QUICK)
    result = json.loads(capsys.readouterr().out)
    assert result["points"] == 8 and result["strategy"] == "curious"
    assert Path(result["picture"]).read_bytes().startswith(b"\x89PNG")
    for score in ("test_nmse", "hidden_nmse", "published_score"):
        assert result[score] > 0
    assert result["seconds"] > 0 and result["seconds_per_decision"] > 0

    listed = subprocess.run(
        [Path(sys.executable).with_name("curiosity"), "runs", "--catalog", runs, "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    [run] = json.loads(listed.stdout)
    assert run["uid"] == result["uid"] and run["sample"] == "film" and run["points"] == 8

    curiosity("show", result["uid"][:8], "--catalog", runs, "--json")
    shown = json.loads(capsys.readouterr().out)
    pixels = {(point["row"], point["col"]) for point in shown["points"]}
    assert len(pixels) == 8
    assert all(point["reason"] in ("seed", "curious", "random") for point in shown["points"])
    assert shown["streams"]["survey"] == 1 and shown["streams"]["primary"] == 8


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_a_picture_where_it_was_asked_for(
    film_file, tmp_path, capsys
):
    picture = tmp_path / "here.png"
    where = ("--catalog", tmp_path / "runs", "--picture", picture)
    curiosity("demo", "--sample", film_file, "--points", 8, *where, *QUICK_RANDOM)
    table = capsys.readouterr().out
    for word in ("hidden nMSE", "a decision", "uid", "picture", "film"):
        assert word in table
    assert picture.exists()
    curiosity("runs", "--catalog", tmp_path / "runs", "--strategy", "random")
    assert "8 of 8" in capsys.readouterr().out


@pytest.mark.slow
def test_a_command_ends_with_its_last_line(film_file, tmp_path):
    """No thread of Channel Access is waited for, and nothing is looked for among the modules."""
    code = """
import atexit, gc, os, sys
def last():
    print(sys.modules["ophyd"].get_cl().name, gc.get_freeze_count() > 1e5, file=sys.stderr)
    print("OPHYD_CONTROL_LAYER" in os.environ, file=sys.stderr)
atexit.register(last)
from curiosity_bluesky.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--sample", film_file, "--dry-run", *QUICK],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stderr.splitlines()[-2:] == ["dummy True", "False"], done.stderr


@pytest.mark.slow
def test_no_plot_writes_no_picture(film_file, tmp_path, capsys):
    where = ("--catalog", tmp_path / "runs", "--no-plot", "--json")
    curiosity("demo", "--sample", film_file, "--points", 7, *where, *QUICK_RANDOM)
    assert json.loads(capsys.readouterr().out)["picture"] is None
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.slow
def test_the_same_seed_measures_the_same_pixels(film_file, tmp_path, capsys):
    def pixels(seed: int) -> list[tuple[int, int]]:
        where = ("--catalog", tmp_path / "runs", "--no-plot", "--json", "--seed", seed)
        curiosity("demo", "--sample", film_file, "--points", 9, *where, *QUICK)
        uid = json.loads(capsys.readouterr().out)["uid"]
        curiosity("show", uid, "--catalog", tmp_path / "runs", "--json")
        points = json.loads(capsys.readouterr().out)["points"]
        return [(point["row"], point["col"]) for point in points]

    first = pixels(5)
    assert pixels(5) == first and pixels(6) != first


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [pytest.param("vatsavai2025-latent", marks=pytest.mark.slow), "random"]
)
def test_both_strategies_run_on_the_authors_recording(authors_file, tmp_path, capsys, strategy):
    slices = ("--image-slice", 25, "--spectra-slice", "49:")
    quick = ["--set", "patch_size=5", "--set", "start_epochs=40"]
    quick += [] if strategy == "random" else ["--set", "autoencoder_epochs=1"]
    where = ("--catalog", tmp_path / "runs", "--json", "--no-plot", "--speed", 10000)
    options = ("--sample", authors_file, "--strategy", strategy, "--points", 34)
    curiosity("demo", *options, *slices, *where, *quick)
    result = json.loads(capsys.readouterr().out)
    # 14.49 is the mean spectrum (all 1681 pixels); no sensible learner is ten times worse.
    assert 5 < result["published_score"] < 145
    assert result["test_nmse"] > 0 and result["hidden_nmse"] > 0


@pytest.mark.slow
def test_spectra_of_a_recorded_film_are_replayed_number_for_number(tmp_path, capsys):
    pytest.importorskip("mexpsimu", reason="the recordings come with the extra 'recordings'")
    from curiosity_bluesky import connect, read

    where = ("--catalog", tmp_path / "runs", "--json", "--no-plot")
    curiosity("demo", "--points", 20, *where, *QUICK)
    uid = json.loads(capsys.readouterr().out)["uid"]
    film = open_sample("PTO_BEPS_1d3um")
    with connect(tmp_path / "runs") as catalog:
        ds = read(catalog[uid])
    recorded = film.spectra["response"][ds["row"].values, ds["col"].values]
    np.testing.assert_array_equal(ds["spectrometer_response"].values, recorded)
    np.testing.assert_array_equal(ds["bias"].values, film.axis)


def test_samples_are_listed(capsys):
    curiosity("samples", "--json")
    names = {sample["name"] for sample in json.loads(capsys.readouterr().out)}
    assert "synthetic" in names


def _broken_files(folder: Path) -> None:
    image, spectra = np.random.default_rng(0).random((12, 12)), np.zeros((12, 12, 5))
    spectra += np.arange(5) + image[:, :, None]
    np.savez(folder / "sizes.npz", image=image[:-2], spectra=spectra, axis=np.arange(5))
    holed = image.copy()
    holed[3, 3] = np.nan
    np.savez(folder / "nan.npz", image=holed, spectra=spectra, axis=np.arange(5))
    np.savez(folder / "good.npz", image=image, spectra=spectra, axis=np.arange(5))
    np.save(folder / "cube.npy", np.dstack([image, spectra]))
    (folder / "text.npz").write_text("not an archive")


BAD = {
    "fault that is none": (["--fault", "melts=0.1"], "there is no fault 'melts'; there are raises"),
    "fault without a share": (["--fault", "nan"], "--fault 'nan' is not NAME=VALUE"),
    "fault beyond one": (["--fault", "nan=3"], "nan is 3"),
    "lookahead below zero": (
        ["--lookahead", "-1"],
        "lookahead is -1; expected a whole",
    ),
    "no such sample": (["--sample", "PTO"], "PTO_BEPS_1d3um"),
    "no such file": (["--sample", "none.npz"], "none.npz"),
    "not an archive": (["--sample", "text.npz"], "text.npz"),
    "sizes differ": (["--sample", "sizes.npz"], "10"),
    "NaN in the image": (["--sample", "nan.npz"], "NaN"),
    "patch too large": (["--sample", "good.npz", "--set", "patch_size=13"], "12 x 12"),
    "too many points": (["--sample", "good.npz", "--points", "145"], "145 points"),
    "no points": (["--sample", "good.npz", "--points", "0"], "expected 1 or more"),
    "no such strategy": (["--sample", "good.npz", "--strategy", "randon"], "random"),
    "no such parameter": (
        ["--sample", "good.npz", "--set", "patchsize=3"],
        "Did you mean 'patch_size'?",
    ),
    "a misspelt fault": (["--fault", "nam=0.1"], "Did you mean 'nan'?"),
    "a wrong value": (["--sample", "good.npz", "--set", "patch_size=big"], "whole number"),
    "not name=value": (["--sample", "good.npz", "--set", "patch_size"], "NAME=VALUE"),
    "negative seed": (["--sample", "good.npz", "--seed", "-1"], "seed is -1"),
    "withhold everything": (["--sample", "good.npz", "--withhold", "1"], "withhold is 1"),
    "no slices": (["--sample", "cube.npy"], "--image-slice"),
    "leaking slices": (
        ["--sample", "cube.npy", "--image-slice", "0", "--spectra-slice", "0:"],
        "slice",
    ),
    "catalogue not writable": (["--sample", "good.npz", "--catalog", "good.npz/runs"], "written"),
    "picture nowhere": (["--sample", "good.npz", "--picture", "no/where.png"], "no/where.png"),
    "not a picture": (["--sample", "good.npz", "--picture", "run.foo"], "ending in .png"),
    "zero speed": (["--sample", "good.npz", "--speed", "0"], "speed"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_nothing_is_written(case, tmp_path, capsys, monkeypatch):
    _broken_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    options, said = BAD[case]
    small = [] if "--set" in options else ["--set", "patch_size=3"]
    with pytest.raises(SystemExit) as end:
        sys.argv = ["curiosity", "demo", "--points", "8", *small, *options]
        main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("curiosity: ") and err.count("\n") == 1 and said in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["runs", "--catalog", "none"], "no catalogue at none"),
        (["show", "abcdef", "--catalog", "none"], "no catalogue at none"),
        (["runs", "--catalog", "http://127.0.0.1:9/api/v1"], "is it running"),
        (["serve", "--catalog", "http://127.0.0.1:9/api/v1"], "give a directory"),
        *(
            ([*words, "--catalog", __file__], "(it is a file); expected a directory")
            for words in (["runs"], ["show", "abcdef"], ["serve"], ["index"], ["recover"], ["demo"])
        ),
    ],
)
def test_a_catalogue_that_is_not_there_is_one_clear_line(
    command, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["curiosity", *command])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err and not list(tmp_path.iterdir())


BENCHMARK = ["benchmark", "--samples", "good.npz", "--strategies", "random", "--out", "out"]
SIZES = ["patch-sizes", "--sample", "good.npz", "--out", "out"]
FEW = ["--points", "8", "--n-seeds", "4", "--patch-size", "3", "--seeds", "1"]
BAD_CAMPAIGNS = {
    "no such sample": ([*BENCHMARK, "--samples", "PTO"], "PTO_BEPS_1d3um"),
    "no such file": ([*BENCHMARK, "--samples", "none.npz"], "none.npz"),
    "one name twice": ([*BENCHMARK, "--samples", "good.npz,good.npz"], "two samples are called"),
    "no samples": ([*BENCHMARK, "--samples", ""], "nothing to compare"),
    "a cube without slices": ([*BENCHMARK, "--samples", "cube.npy"], "slice"),
    "not a slice": ([*BENCHMARK, "--samples", "cube.npy[picture=3]"], "image and spectra"),
    "no such strategy": ([*BENCHMARK, "--strategies", "gird"], "Did you mean 'grid'"),
    "no strategies": ([*BENCHMARK, "--strategies", ""], "nothing to compare"),
    "brackets open": ([*BENCHMARK, "--strategies", "grid[components=3"], "cannot be read"),
    "no such parameter": ([*BENCHMARK, "--set", "patchsize=3"], "no strategy has a parameter"),
    "not name=value": ([*BENCHMARK, "--set", "patch_size"], "NAME=VALUE"),
    "no such protocol": ([*BENCHMARK, "--protocols", "fair"], "shared, own or shared,own"),
    "not a patch size": ([*BENCHMARK, "--patch-size", "big"], "number of pixels or own"),
    "a patch of nothing": ([*BENCHMARK, "--patch-size", "0"], "patch_size is 0"),
    "patch too large": ([*BENCHMARK, "--patch-size", "13"], "12 x 12"),
    "too many points": ([*BENCHMARK, "--points", "145"], "145 points"),
    "no points": ([*BENCHMARK, "--points", "0"], "expected 1 or more"),
    "no seeds": ([*BENCHMARK, "--seeds", "0"], "0 seeds"),
    "never scored": ([*BENCHMARK, "--every", "0"], "scored every 0"),
    "withhold everything": ([*BENCHMARK, "--withhold", "1"], "withhold is 1"),
    "withhold nothing": ([*BENCHMARK, "--withhold", "0"], "no pixel is left to test"),
    "no workers": ([*BENCHMARK, "--workers", "0"], "--workers is 0"),
    "out is a file": ([*BENCHMARK, "--out", "good.npz"], "good.npz is a file"),
    "out in a file": ([*BENCHMARK, "--out", "good.npz/out"], "good.npz is a file"),
    "not an address": ([*BENCHMARK, "--scheduler", "nonsense"], "no Dask scheduler answers"),
    "nothing to report": ([*BENCHMARK, "--report-only"], "no trial of this campaign yet"),
    "no such strategy file": ([*BENCHMARK, "--load", "none.py"], "no such Python file"),
    "not a strategy file": ([*BENCHMARK, "--load", "good.npz"], "no such Python file"),
    "sizes: not numbers": ([*SIZES, "--sizes", "3,big"], "numbers of pixels such as 3,5,9"),
    "sizes: none": ([*SIZES, "--sizes", ""], "numbers of pixels such as 3,5,9"),
    "sizes: too large": ([*SIZES, "--sizes", "3,13"], "12 x 12"),
    "sizes: no points": ([*SIZES, "--sizes", "3", "--points", "0"], "expected 1 or more"),
    "sizes: no seeds": ([*SIZES, "--sizes", "3", "--seeds", "0"], "expected 1 or more"),
    "sizes: too many points": ([*SIZES, "--sizes", "3", "--points", "145"], "145 seeds"),
    "sizes: no such sample": ([*SIZES, "--sample", "none.npz"], "none.npz"),
    "sizes: withhold nothing": ([*SIZES, "--sizes", "3", "--withhold", "0"], "to validate"),
    "sizes: no such parameter": ([*SIZES, "--sizes", "3", "--set", "x=1"], "no parameter 'x'"),
    "sizes: out is a file": ([*SIZES, "--sizes", "3", "--out", "good.npz"], "is a file"),
}


@pytest.mark.parametrize("case", BAD_CAMPAIGNS)
def test_a_campaign_that_cannot_be_is_one_clear_line_and_nothing_is_written(
    case, tmp_path, capsys, monkeypatch
):
    _broken_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    (command, *options), said = BAD_CAMPAIGNS[case]
    # What comes later on the command line counts.
    few = FEW if command == "benchmark" else ["--points", "8", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["curiosity", command, *few, *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("curiosity: ")]
    assert len(lines) == 1 and said in lines[0]
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_patch_sizes_are_printed_and_drawn(film_file, tmp_path, capsys):
    quick = ("--points", 12, "--seeds", 1, "--set", "predictor=gp", "--sizes", "3,5")
    curiosity("patch-sizes", "--sample", film_file, "--out", tmp_path / "a", *quick)
    table = capsys.readouterr().out
    curiosity("patch-sizes", "--sample", film_file, "--out", tmp_path / "b", *quick, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["sizes"] == [3, 5] and Path(result["picture"]).exists()
    for loss in (*result["training"], *result["validation"]):
        assert f"{loss:.3f}" in table


def test_a_server_that_goes_away_while_it_is_read_is_one_line(tmp_path, capsys, monkeypatch):
    with connect(tmp_path / "runs"):
        pass

    def runs(self, **_):
        assert self.client is not None  # it is there, and then it ends
        self._connection._server.close()
        self._connection.open = lambda: self._source._client
        return self._asked(lambda client: list(client.values()))

    monkeypatch.setattr(Catalog, "runs", runs)
    monkeypatch.setattr("curiosity_bluesky.catalog.run_source.alive", lambda client: True)
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    monkeypatch.setattr(sys, "argv", ["curiosity", "runs", "--catalog", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("curiosity: the Tiled server went away (") and said.count("\n") == 1


def test_a_dry_run_of_the_demo_writes_nothing(film_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["demo", "--sample", film_file, "--points", 12, "--dry-run", *QUICK]
    curiosity(*command, "--json")
    outline = json.loads(capsys.readouterr().out)
    assert outline["num_points"] == 12 and len(outline["planned"]) == 6
    assert {point["reason"] for point in outline["planned"]} == {"seed"}
    curiosity(*command)
    shown = capsys.readouterr().out
    assert "the survey reaches" in shown and "and the learning: each decision" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["film.npz"]


@pytest.mark.slow
def test_a_demo_on_a_clock_that_never_waits_is_recorded_and_gone_on_with(
    film_file, tmp_path, capsys
):
    """JSON knows no infinity, and the store made the largest float of it."""
    quick = ("--strategy", "random", "--set", "patch_size=3", "--set", "n_seeds=3")
    where = ("--catalog", tmp_path / "runs", "--json")
    quick = ("--points", 4, "--speed", "inf", "--no-plot", *quick)
    curiosity("demo", "--sample", film_file, *quick, *where)
    uid = json.loads(capsys.readouterr().out)["uid"]
    with pytest.raises(AssertionError, match="exit code 2"):
        curiosity("resume", uid, *where)
    error = capsys.readouterr().err
    assert "has all its 4 spectra" in error and error.count("\n") == 1  # no progress before it
    curiosity("resume", uid, "--points", 5, *where)
    result = json.loads(capsys.readouterr().out)
    assert result["points"] == result["num_points"] == 5
    assert result["picture"] is None and not list(tmp_path.rglob("*.png"))  # as it was started
    with connect(tmp_path / "runs", create=False) as catalog:
        assert {catalog[run.uid].start["demo"]["speed"] for run in catalog.runs()} == {"inf"}
        assert [run.scan_id for run in catalog.runs()] == [1, 2]


@pytest.mark.parametrize(
    ("stored", "speed"), [("inf", math.inf), (1.7976e308, math.inf), (None, math.inf), (20.0, 20.0)]
)
def test_the_speed_of_a_stored_demo_is_read_as_it_was_given(stored, speed):
    past = SimpleNamespace(uid="x", start={"demo": {**START, "speed": stored}})
    assert DemoSample.of(past).speed == speed


@pytest.mark.slow
def test_a_killed_demo_is_resumed(film_file, tmp_path, capsys):
    runs = tmp_path / "runs"
    quick = ("--set", "patch_size=3", "--set", "n_seeds=6", "--speed", "1", "--no-plot")
    command = [
        *(Path(sys.executable).with_name("curiosity"), "demo", "--sample", film_file),
        *("--points", "14", "--catalog", runs, *quick),
    ]
    demo = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        [*journals] = (runs / "journal").glob("*.jsonl")
        if journals and journals[0].read_text().count('"attempt"') > 7:
            break
        time.sleep(0.05)
    demo.kill()
    demo.wait()
    curiosity("runs", "--catalog", runs, "--json")
    [killed] = json.loads(capsys.readouterr().out)
    assert killed["status"] == "interrupted"
    curiosity("resume", killed["uid"][:8], "--catalog", runs, "--no-plot", "--json", "--points", 16)
    result = json.loads(capsys.readouterr().out)
    assert result["points"] == result["num_points"] == 16 and result["sample"] == "film"
    with connect(runs, create=False) as catalog:
        points = read(catalog[-1])
        assert catalog[-1].start["curiosity_resumes"] == killed["uid"]
    assert sorted(points["decision_id"].values) == list(range(16))


@pytest.mark.slow
def test_what_cannot_be_resumed_is_one_clear_line(RE, instrument, tmp_path, capsys):
    with connect(tmp_path / "runs") as catalog:
        RE.subscribe(catalog.writer(10))
        uid, _ = collected_run(RE, instrument, num_points=6, strategy="random")
    for wanted, said in (
        (uid, "was not made by `curiosity demo`; resume it where its devices are: RE("),
        ("abcdef", "no run 'abcdef'"),
    ):
        with pytest.raises(AssertionError, match="exit code 2"):
            curiosity("resume", wanted, "--catalog", tmp_path / "runs", "--no-plot")
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


# ---- what the run refuses, the dry run refuses

REFUSED = {
    "a time budget below zero": ["--time-budget", "-1"],
    "no time": ["--time-budget", "0"],
    "a time that is no number": ["--time-budget", "nan"],
    "an endless time": ["--time-budget", "inf"],
    "fewer re-surveys than none": ["--resurvey-every=-1"],
    "no lookahead": ["--lookahead", "-1"],
    "no catalogue": ["--catalog", "https://[::1"],
    "a catalogue in a file": ["--catalog", "good.npz/runs"],
    "no picture": ["--picture", "run.foo"],
    "no warm start": ["--warm-start", "abc"],
    "a drift that is no number": ["--drift", "nan"],
    "a share that is no number": ["--withhold", "nan"],
    "no such option": ["--nonsense", "3"],
    "a word where a number is": ["--points", "many"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_dry_run_refuses_in_one_line_what_the_run_refuses(case, tmp_path, capsys, monkeypatch):
    _broken_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said = []
    for dry in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as end:
            main(["demo", "--sample", "good.npz", "--set", "patch_size=3", *REFUSED[case], *dry])
        out, err = capsys.readouterr()
        assert end.value.code == 2 and out == "" and err.count("\n") == 1
        said.append(err)
    assert said[0] == said[1]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["index", "--workers", "0"], "--workers is 0; expected a whole number, 1 or more"),
        (["export", "abcdef", "o.txt"], "o.txt is asked for; expected a file ending in .hf5"),
        (["runs", "--catalog", "https://[::1"], "the catalogue is 'https://[::1'"),
        (["show", "abcdef", "--catalog", "http://"], "it names no server"),
        (["runs", "--catalog", "a\0b"], "NUL"),
        (["runs", "--catalog", "x" * 300], "too long"),
        (["runs", "--last"], "requires an argument"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_a_command_line_that_cannot_be_is_one_clear_line(
    command, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(command)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    assert err.startswith("curiosity: ") and err.count("\n") == 1 and said in err
    assert not list(tmp_path.iterdir())


def test_more_runs_are_asked_for_than_a_page_or_the_catalogue_holds(counted, capsys):
    where, uids = counted
    for last in (301, 10**25):  # Tiled gives at most 300 at once
        curiosity("runs", "--catalog", where, "--last", last, "--json")
        assert [run["uid"] for run in json.loads(capsys.readouterr().out)] == uids


NOT_UNDERSTOOD = [
    ({"demo": {**START, "laser": 3}}, "was made with the setting"),
    ({"demo": {}}, "was made with the setting none"),
    ({"demo": {**START, "sample": 3}}, "sample is 3"),
    ({"demo": {**START, "speed": "fast"}}, "speed is 'fast'"),
    ({"demo": {**START, "faults": [1]}}, "faults are [1]"),
    ({"demo": {**START, "devices": ["x"]}}, "there are no devices ['x']"),
    ({"demo": 3}, "was not made by `curiosity demo`"),
    ({"curiosity_parameters": 3}, "curiosity_parameters is 3"),
    ({"curiosity_parameters": {"patch_size": [3]}}, "patch_size is [3]"),
    ({"curiosity_strategy": ["curious"]}, "no strategy named ['curious']"),
    ({"curiosity_seed": "none"}, "curiosity_seed is 'none'"),
    ({"curiosity_withhold": "some"}, "curiosity_withhold is 'some'"),
    ({"curiosity_lookahead": {}}, "curiosity_lookahead is {}"),
    ({"curiosity_resurvey_every": None}, "curiosity_resurvey_every is None"),
]


def test_a_start_document_that_cannot_be_understood_is_one_clear_line(tmp_path, capsys):
    """Such as a later version may write, or somebody by hand."""
    image = {"source": "x", "dtype": "array", "shape": [8, 8]}
    descriptor = {
        "uid": "d", "time": 1.0, "name": "survey", "object_keys": {},
        "configuration": {}, "hints": {}, "data_keys": {"height": image},
    }  # fmt: skip
    event = {
        "uid": "e", "descriptor": "d", "time": 1.0, "seq_num": 1, "filled": {},
        "data": {"height": np.eye(8).tolist()}, "timestamps": {"height": 1.0},
    }  # fmt: skip
    with connect(tmp_path / "runs") as catalog:
        for number, (changed, said) in enumerate(NOT_UNDERSTOOD):
            uid = f"{number:08d}-fedc"
            start = {
                "uid": uid, "time": 1.0, "curiosity_strategy": "random", "curiosity_seed": 0,
                "curiosity_parameters": {"patch_size": 3}, "demo": START, **changed,
            }  # fmt: skip
            there = [("start", start), ("descriptor", {**descriptor, "run_start": uid})]
            lines = [json.dumps({"name": n, "doc": d}) for n, d in [*there, ("event", event)]]
            (catalog.journal / f"{uid}.jsonl").write_text("\n".join(lines) + "\n")
            with pytest.raises(SystemExit) as end:
                main(["resume", uid[:8], "--catalog", str(tmp_path / "runs"), "--no-plot"])
            err = capsys.readouterr().err
            assert end.value.code == 2
            assert err.startswith("curiosity: ") and err.count("\n") == 1 and said in err

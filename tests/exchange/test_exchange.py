"""Runs and samples to sidpy and NSID, and back: number for number."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky import preprocessors as bpp
from support import collected_run

pytest.importorskip("pyNSID", reason="the pycroscopy extra is absent")

import h5py
import sidpy
from recordings import write_gwyddion, write_usid

from curiosity_bluesky import connect, curiosity_plan, read
from curiosity_bluesky.cli import main
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange import read_nsid, sample_to_sidpy, to_sidpy, write_nsid
from sim_devices import Sample, SyntheticSample, open_sample


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Tiled, for all runs of this module."""
    with connect(tmp_path_factory.mktemp("exchange") / "runs") as opened:
        yield opened


@pytest.fixture
def RE(catalog):
    engine = RunEngine({})
    engine.subscribe(catalog.writer(batch_size=1000))
    return engine


def film(shape: tuple[int, int] = (6, 5)):
    return simulated_instrument(SyntheticSample(shape, seed=1, points=8), speed=math.inf)


@pytest.fixture(scope="module")
def run(catalog):
    """One finished run of eight points."""
    engine = RunEngine({})
    engine.subscribe(catalog.writer(batch_size=1000))
    instrument = simulated_instrument(SyntheticSample((16, 14), seed=1, points=16), speed=math.inf)
    uid, _ = collected_run(engine, instrument, num_points=8, sample="film")
    return catalog[uid]


@pytest.fixture(scope="module")
def points(run):
    return read(run)


@pytest.fixture(scope="module")
def datasets(run):
    """The run as sidpy datasets, which takes seconds; nobody changes them."""
    return to_sidpy(run, grid=True)


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    """The run in an NSID file; nothing half written is left beside it."""
    path = write_nsid(run, tmp_path_factory.mktemp("nsid") / "run.hf5", grid=True)
    assert list(path.parent.iterdir()) == [path]
    return path


def assert_equal(one: sidpy.Dataset, other: sidpy.Dataset) -> None:
    """Compare what two datasets say, number for number."""
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    for key in ("dtype", "title", "units", "quantity", "modality", "source", "data_type"):
        assert getattr(one, key) == getattr(other, key), key
    assert one._axes.keys() == other._axes.keys()
    for i, axis in one._axes.items():
        assert axis == other._axes[i] and axis.dimension_type == other._axes[i].dimension_type
    assert (one.point_cloud is None) == (other.point_cloud is None)
    if one.point_cloud is not None:
        for key, value in one.point_cloud.items():
            np.testing.assert_array_equal(value, other.point_cloud[key])
    assert_same(one.metadata, other.metadata)


def assert_same(one: object, other: object) -> None:
    if isinstance(one, dict):
        assert isinstance(other, dict) and one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    else:
        np.testing.assert_array_equal(one, other)


def test_a_run_as_sidpy_datasets(run, points, datasets):
    spectra = datasets["spectra/spectrometer_response"]
    np.testing.assert_array_equal(np.asarray(spectra), points["spectrometer_response"])
    assert spectra.dtype == np.float32 and spectra.data_type == sidpy.DataType.POINT_CLOUD
    assert spectra.units == points["spectrometer_response"].attrs["units"] == "pm"
    np.testing.assert_array_equal(spectra.bias.values, points["bias"])
    assert spectra.bias.units == "V" and spectra.bias.dimension_type.name == "SPECTRAL"
    np.testing.assert_array_equal(
        spectra.point_cloud["coordinates"], np.stack([points["x"], points["y"]], axis=1)
    )
    assert spectra.point_cloud["spacial_units"] == "um"
    assert spectra.metadata["points"]["reason"] == list(points["reason"].values)
    start = json.loads(spectra.metadata["run"]["start"])
    assert start["uid"] == spectra.metadata["run"]["uid"] == run.start["uid"]
    assert start["curiosity_parameters"] == dict(run.start["curiosity_parameters"])

    survey = datasets["survey/imager_amplitude"]
    assert survey.data_type == sidpy.DataType.IMAGE and survey.shape == (14, 16)
    assert [survey._axes[i].name for i in (0, 1)] == ["x", "y"] and survey.x.units == "um"
    image = run["survey"]["imager_amplitude"].read()[0]
    np.testing.assert_array_equal(np.asarray(survey).T, image)

    table = datasets["decisions"].metadata["table"]
    errors = np.asarray(datasets["decisions"])[:, table["columns"].index("predicted_error")]
    np.testing.assert_array_equal(errors, points["predicted_error"])
    assert table["reason"] == list(points["reason"].values)
    predicted = run["predictions"]
    for role, suffix in (("prediction", "_predicted"), ("deviation", "_deviation")):
        cube = datasets[f"{role}/spectrometer_response"]
        [block] = predicted[f"spectrometer_response{suffix}"].read()
        np.testing.assert_array_equal(np.asarray(cube), block.transpose(1, 0, 2))
        assert cube.data_type == sidpy.DataType.SPECTRAL_IMAGE and cube.units == "pm"
        np.testing.assert_array_equal(cube.bias.values, points["bias"])
        assert np.isfinite(block).any()
    assert datasets["maps/acquisition"].shape == (14, 16) and datasets["maps/error"].x.units == "um"

    cube, mask = datasets["cube/spectrometer_response"], np.asarray(datasets["mask"]).astype(bool)
    assert cube.data_type == sidpy.DataType.SPECTRAL_IMAGE and cube.dtype == np.float32
    assert (~mask).sum() == 8 and np.isnan(np.asarray(cube)[mask]).all()
    for i in range(8):
        at = np.asarray(cube)[int(points["col"][i]), int(points["row"][i])]
        np.testing.assert_array_equal(at, points["spectrometer_response"][i])


def test_a_run_goes_to_nsid_and_back(datasets, file):
    back = read_nsid(file)
    assert back.keys() == datasets.keys()
    for name, dataset in datasets.items():
        assert_equal(back[name], dataset)


def test_pynsid_reads_it_too(points, datasets, file):
    from pyNSID.io.hdf_utils import get_all_main, read_h5py_dataset

    with h5py.File(file) as opened:
        mains = {item.name.rsplit("/", 1)[0].lstrip("/") for item in get_all_main(opened)}
        assert mains == set(read_nsid(file))
        item = opened["spectra/spectrometer_response/spectrometer_response"]
        dataset = read_h5py_dataset(item)
    assert dataset.data_type == sidpy.DataType.POINT_CLOUD
    np.testing.assert_array_equal(
        dataset.point_cloud["coordinates"],
        datasets["spectra/spectrometer_response"].point_cloud["coordinates"],
    )
    np.testing.assert_array_equal(np.asarray(dataset), points["spectrometer_response"])


def test_an_exported_run_is_a_sample(points, datasets, file, tmp_path):
    sample = open_sample(file)
    assert list(sample.images) == ["imager_amplitude"]
    at = points["row"].values, points["col"].values
    np.testing.assert_array_equal(
        sample.spectra["spectrometer_response"][at], points["spectrometer_response"]
    )
    assert (~sample.mask).sum() == 8 and not sample.mask[at].any()
    assert sample.axis_units == "V" and sample.spectrum_units["spectrometer_response"] == "pm"
    with pytest.raises(InputError, match="images only|no spectra on a grid"):
        points = {name: d for name, d in datasets.items() if name[:5] not in ("cube/", "mask")}
        open_sample(write_nsid(points, tmp_path / "points.hf5"))


def samples() -> dict[str, Sample]:
    rng = np.random.default_rng(0)
    film = SyntheticSample((9, 7), seed=1, points=8)
    mask = np.zeros((5, 4), dtype=bool)
    mask[2, 1] = True
    spectra = rng.normal(size=(5, 4, 6))
    spectra[0, 0, 2] = np.nan
    spectra[2, 1] = np.nan
    two = Sample(
        name="two",
        images={"height": rng.normal(size=(5, 4)), "phase": rng.normal(size=(5, 4)).astype("f4")},
        spectra={"current": spectra, "d current": rng.normal(size=(5, 4, 6)).astype("f4")},
        axis=np.linspace(2, -2, 6),
        x=np.array([0, 0.1, 0.25, 0.3]),  # not evenly spaced
        y=np.linspace(0, 0.8, 5),
        axis_name="delay",
        axis_units="us",
        image_units={"height": "nm"},
        spectrum_units={"current": "nA"},
        mask=mask,
    )
    return {"film": film, "two": two}


def assert_same_sample(one: Sample, other: Sample) -> None:
    for kind in ("images", "spectra"):
        ours, theirs = getattr(one, kind), getattr(other, kind)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
    for key in ("axis", "x", "y", "mask"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
    for key in ("axis_name", "axis_units", "image_units", "spectrum_units"):
        assert getattr(one, key) == getattr(other, key), key


@pytest.mark.parametrize("name", ["film", "two"])
def test_a_sample_goes_to_nsid_and_back(tmp_path, name):
    sample = samples()[name]
    path = write_nsid(sample_to_sidpy(sample), tmp_path / f"{name}.hf5")
    assert_same_sample(open_sample(path), sample)


@pytest.mark.slow
def test_names_that_differ_in_a_sign_alone_lie_side_by_side(RE, catalog, tmp_path):
    names = ["a-b", "a_b", "a b", "dI/dV", "bias"]
    rng = np.random.default_rng(0)
    image, cube = rng.normal(size=(6, 6)), rng.normal(size=(6, 6, len(names), 5))
    np.savez(
        tmp_path / "f.npz", image=image, spectra=cube, axis=np.arange(5.0), spectrum_channels=names
    )
    sample = open_sample(tmp_path / "f.npz")
    legal = [*names[:3], "dI_dV", "bias_2"]
    assert list(sample.spectra) == legal
    back = open_sample(write_nsid(sample_to_sidpy(sample), tmp_path / "sample.hf5"))
    collected_run(
        RE, simulated_instrument(sample, speed=math.inf), num_points=2, strategy="random",
        parameters={"patch_size": 3, "n_seeds": 2},
    )  # fmt: skip
    points = read(catalog[-1])
    exported = open_sample(write_nsid(catalog[-1], tmp_path / "run.hf5", grid=True))
    for i, name in enumerate(legal):
        np.testing.assert_array_equal(back.spectra[name], cube[:, :, i])
        measured = exported.spectra[f"spectrometer_{name}"][points.row, points.col]
        np.testing.assert_array_equal(measured, cube[points.row, points.col, i])


def test_a_sample_goes_to_usid_and_back(tmp_path):
    sample = SyntheticSample((9, 7), seed=1, points=8)
    positions = [("X", "um", sample.x), ("Y", "um", sample.y)]  # fastest first
    along, once = [(sample.axis_name, "V", sample.axis)], [("none", "", np.array([1.0]))]
    image, cube = sample.images["amplitude"], sample.spectra["response"]
    parts = {
        "amplitude": (image.reshape(-1, 1), positions, once, "pm"),
        "response": (cube.reshape(63, 8), positions, along, "pm"),
    }
    write_usid(tmp_path / "film.h5", parts)
    back = open_sample(tmp_path / "film.h5")
    np.testing.assert_array_equal(back.images["amplitude"], image)
    np.testing.assert_array_equal(back.spectra["response"], cube)
    assert back.spectra["response"].dtype == cube.dtype
    # USID keeps the values of axes as float32.
    for key in ("axis", "x", "y"):
        np.testing.assert_array_equal(getattr(back, key), getattr(sample, key).astype("f4"))


def test_many_points_keep_their_coordinates(tmp_path):
    """An attribute of HDF5 1.6 holds 64 KiB, and what is larger is dropped without a word."""
    where = np.random.default_rng(0).random((6000, 2))
    cloud = sidpy.Dataset.from_array(
        np.zeros((6000, 3), "c16"), title="c", datatype="POINT_CLOUD", coordinates=where
    )
    back = read_nsid(write_nsid({"c": cloud}, tmp_path / "c.hf5"))["c"]
    np.testing.assert_array_equal(back.point_cloud["coordinates"], where)
    assert back.dtype == np.complex128  # pyNSID's reader makes complex64 of it


def test_sidpy_draws_it_the_right_way_up(run, datasets):
    pytest.importorskip("matplotlib").use("Agg")
    survey = datasets["survey/imager_amplitude"]
    survey.plot()
    [drawn] = survey.view.fig.axes[0].get_images()
    image = run["survey"]["imager_amplitude"].read()[0]
    np.testing.assert_array_equal(np.asarray(drawn.get_array()), image)


def curiosity(*arguments: object) -> None:
    saved, sys.argv = sys.argv, ["curiosity", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, f"exit code {end.code}"
    finally:
        sys.argv = saved


@pytest.mark.slow
def test_the_command(catalog, run, tmp_path, capsys):
    uid, file = run.start["uid"], tmp_path / "run.hf5"
    where = ("--catalog", catalog.where)
    file.write_text("mine")
    with pytest.raises(AssertionError, match="exit code 2"):
        curiosity("export", uid[:8], file, *where)
    assert "is there already" in capsys.readouterr().err and file.read_text() == "mine"
    curiosity("export", uid[:8], file, "--grid", "--json", "--force", *where)
    said = json.loads(capsys.readouterr().out)
    assert said["uid"] == uid and said["bytes"] == file.stat().st_size
    assert {row["name"] for row in said["datasets"]} == set(read_nsid(file)) >= {"mask"}


@pytest.mark.slow
def test_the_demo_on_a_file_of_pycroscopy(tmp_path, capsys):
    path = write_nsid(sample_to_sidpy(samples()["film"]), tmp_path / "film.hf5")
    arguments = ("--points", 8, "--catalog", tmp_path / "runs", "--json", "--speed", "10000")
    names = ("--image", "amplitude", "--spectra", "response", "--strategy", "random")
    quick = ("--set", "patch_size=3", "--set", "n_seeds=4")
    curiosity("demo", "--sample", path, *names, *arguments, *quick)
    assert json.loads(capsys.readouterr().out)["points"] == 8


@pytest.mark.slow
def test_a_run_without_decisions(RE, catalog, tmp_path, capsys):
    instrument = film()
    stage = instrument.stage
    RE(bp.list_scan([instrument.spectrometer], stage.x, [0, 0.04], stage.y, [0.02, 0]))
    run, file = catalog[-1], tmp_path / "run.hf5"
    curiosity("export", run.start["uid"][:8], file, "--catalog", catalog.where)
    assert "spectra/spectrometer_response" in capsys.readouterr().out
    datasets = read_nsid(file)
    assert "mask" not in datasets
    coordinates = datasets["spectra/spectrometer_response"].point_cloud["coordinates"]
    np.testing.assert_allclose(coordinates, [[0, 0.02], [0.04, 0]])
    with pytest.raises(InputError, match="no survey"):
        to_sidpy(run, grid=True)


@pytest.mark.slow
def test_a_run_that_went_on_is_exported_whole(RE, catalog):
    instrument, few = film(), {"patch_size": 3, "n_seeds": 2}
    stage = instrument.stage
    first, _ = collected_run(RE, instrument, num_points=3, strategy="random", parameters=few)
    catalog.flush()
    devices = ([instrument.spectrometer], stage.x, stage.y, instrument.imager)
    RE(curiosity_plan(*devices, num_points=5, resume=first, options={"catalog": catalog.where}))
    datasets = to_sidpy(catalog[-1], grid=True)
    assert datasets["spectra/spectrometer_response"].shape == (5, 8)
    decisions = datasets["decisions"]
    column = decisions.metadata["table"]["columns"].index("decision_id")
    np.testing.assert_array_equal(np.asarray(decisions)[:, column], np.arange(5))
    assert (np.asarray(datasets["mask"]) == 0).sum() == 5


class Spectrograms:
    """A detector with a picture at each point, as band excitation has: (bias, frequency)."""

    name, parent = "be", None

    def read(self):
        values = np.arange(12, dtype="f4").reshape(3, 4)
        return {"be_raw": {"value": values, "timestamp": 0.0}}

    def describe(self):
        about = {"dtype": "array", "dtype_numpy": "<f4", "shape": [3, 4], "units": "V"}
        return {"be_raw": {**about, "dims": ["bias", "frequency"], "source": "none"}}

    def read_configuration(self):
        return {"be_frequency": {"value": [1.0, 2.0, 4.0, 8.0], "timestamp": 0.0}}

    def describe_configuration(self):
        about = {"dtype": "array", "dtype_numpy": "<f8", "shape": [4], "units": "kHz"}
        return {"be_frequency": {**about, "dims": ["frequency"], "source": "none"}}


@pytest.mark.slow
def test_several_surveys_and_a_detector_of_two_axes(RE, catalog, tmp_path):
    instrument, raws = film(), Spectrograms()
    stage, imager = instrument.stage, instrument.imager

    @bpp.stage_decorator([imager])
    @bpp.run_decorator(md={"motors": ["stage_x", "stage_y"]})
    def plan():
        for _ in range(2):
            yield from bps.trigger_and_read([imager], "survey")
        for x in (0, 0.04):
            yield from bps.mv(stage.x, x)
            yield from bps.trigger_and_read([raws, stage.x, stage.y], "primary")

    RE(plan())
    datasets = to_sidpy(catalog[-1])
    stack = datasets["survey/imager_amplitude"]
    assert stack.data_type == sidpy.DataType.IMAGE_STACK and stack.shape == (2, 5, 6)
    assert [axis.name for axis in stack._axes.values()] == ["survey", "x", "y"]
    raw = datasets["spectra/be_raw"]
    assert raw.shape == (2, 3, 4) and raw.dtype == np.float32 and raw.units == "V"
    np.testing.assert_array_equal(raw.frequency.values, [1, 2, 4, 8])
    assert raw.frequency.units == "kHz"
    path = write_nsid(datasets, tmp_path / "raw.hf5")
    assert_equal(read_nsid(path)["spectra/be_raw"], raw)


def test_refusals(tmp_path, monkeypatch):
    datasets = sample_to_sidpy(samples()["film"])
    path = tmp_path / "a.hf5"
    path.write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        write_nsid(datasets, path)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="directory that exists"):
        write_nsid(datasets, tmp_path / "none" / "a.hf5")
    with pytest.raises(InputError, match="expected an NSID file"):
        read_nsid(path)
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(InputError, match="no NSID dataset"):
        read_nsid(tmp_path / "empty.h5")
    with pytest.raises(InputError, match="'wrong' is a ndarray"):
        write_nsid({**datasets, "wrong": np.zeros(3)}, tmp_path / "b.hf5")
    with monkeypatch.context() as broken:  # it fails on the way
        broken.setattr(h5py.File, "require_group", None)
        with pytest.raises(TypeError):
            write_nsid(datasets, tmp_path / "b.hf5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hf5", "empty.h5"]
    monkeypatch.setitem(sys.modules, "sidpy", None)
    with pytest.raises(InputError, match=r"sidpy.*curiosity-bluesky\[pycroscopy\]"):
        sample_to_sidpy(samples()["film"])


@pytest.mark.slow
def test_the_command_stays_quick():
    """Nothing of pycroscopy is imported until a file of it is met."""
    import subprocess

    code = "import curiosity_bluesky.cli, sim_devices, curiosity_bluesky.exchange, sys; " + (
        "print([m for m in ('h5py', 'sidpy', 'pyNSID', 'SciFiReaders') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"


def test_the_guide_runs(catalog, run, tmp_path, monkeypatch):
    """Each piece of Python in docs/pycroscopy.md, one after the other."""
    pytest.importorskip("matplotlib").use("Agg")
    rng = np.random.default_rng(0)
    positions = [("X", "nm", np.arange(4) * 25.0), ("Y", "nm", np.arange(5) * 50.0)]
    once, along = [("none", "", np.array([1.0]))], [("Bias", "V", np.linspace(-1, 1, 6))]
    parts = {
        "height": (rng.normal(size=(20, 1)), positions, once, "m"),
        "response": (rng.normal(size=(20, 6)), positions, along, "pm"),
    }
    write_usid(tmp_path / "film.h5", parts)
    write_gwyddion(tmp_path / "scan.gwy", {"Height": rng.normal(size=(5, 4))}, (1e-7, 2.5e-7))
    guide = Path(__file__).parents[2] / "docs" / "pycroscopy.md"
    pieces = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    assert len(pieces) == 5
    (tmp_path / "runs").symlink_to(catalog.where)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for piece in pieces:
        # Whatever the tests before it recorded last.
        exec(piece.replace("catalog[-1]", f"catalog[{run.start['uid']!r}]"), names)
    assert names["grid"].shape == (20, 30) and names["grid"].extent_um == (0.145, 0.095)
    assert names["survey"].channels["Height"].shape == (5, 4)

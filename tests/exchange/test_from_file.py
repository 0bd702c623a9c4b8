"""Samples from files that pyNSID, pyUSID and gwyfile write, and from those of vendors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the pycroscopy extra is absent")

import h5py
from recordings import (
    old_numpy,
    write_gwyddion,
    write_igor,
    write_nanonis_grid,
    write_nanonis_scan,
    write_usid,
)

from curiosity_bluesky.errors import InputError
from sim_devices import open_sample

ROWS, COLS, POINTS = 5, 4, 8
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(ROWS, COLS)).astype("f4")
CUBE = RNG.normal(size=(ROWS, COLS, POINTS)).astype("f4")
BIAS = 5 * np.sin(np.linspace(0, 2 * np.pi, POINTS))
POSITIONS = [("X", "nm", np.arange(COLS) * 25.0), ("Y", "nm", np.arange(ROWS) * 50.0)]
PIXELS = ROWS * COLS


def usid_image(values=IMAGE):
    return values.reshape(-1, 1), POSITIONS, [("none", "a.u.", np.array([1.0]))], "m"


def usid_film(path: Path) -> Path:
    axis = [("DC_Offset", "V", BIAS)]
    cube = CUBE.reshape(PIXELS, POINTS)
    write_usid(path, {"height": usid_image(), "response": (cube, POSITIONS, axis, "pm")})
    return path


def test_usid_as_pyusid_writes_it(tmp_path):
    sample = open_sample(usid_film(tmp_path / "film.h5"))
    np.testing.assert_array_equal(sample.images["height"], IMAGE)
    np.testing.assert_array_equal(sample.spectra["response"], CUBE)
    assert sample.spectra["response"].dtype == np.float32
    np.testing.assert_allclose(sample.axis, BIAS, rtol=1e-6)  # pyUSID keeps values as float32
    assert (sample.axis_name, sample.axis_units) == ("DC_Offset", "V")
    np.testing.assert_allclose(sample.x, [0, 0.025, 0.05, 0.075], atol=1e-7)
    np.testing.assert_allclose(sample.y, [0, 0.05, 0.1, 0.15, 0.2], atol=1e-7)
    assert sample.image_units == {"height": "m"} and sample.spectrum_units == {"response": "pm"}
    assert "sha256" in sample.source and sample.name == "film"


def test_usid_agrees_with_pyusid(tmp_path):
    import pyUSID

    path = usid_film(tmp_path / "film.h5")
    with old_numpy(), h5py.File(path) as file:
        main = pyUSID.USIDataset(file["Measurement_000/response_group/response"])
        values = main.get_n_dim_form()
        x_y = [main.n_dim_labels.index(name) for name in ("Y", "X", "DC_Offset")]
    np.testing.assert_array_equal(open_sample(path).spectra["response"], np.transpose(values, x_y))


def beps_file(path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Band excitation as BGlib leaves it: raw spectrograms, and a SHO fit of each step.

    The axes, fastest first, are those of its generator of such files.
    """
    spectral = [
        ("Field", "", np.array([0.0, 1.0])),
        ("DC_Offset", "V", BIAS),
        ("Cycle", "", np.arange(3.0)),
    ]
    names = ["Amplitude [V]", "Frequency [Hz]", "Quality Factor", "Phase [rad]", "R2 Criterion"]
    fits = np.zeros((PIXELS, 3 * POINTS * 2), dtype=[(name, "f4") for name in names])
    truth = {name: RNG.normal(size=fits.shape).astype("f4") for name in names}
    for name, values in truth.items():
        fits[name] = values
    frequency = [("Frequency", "Hz", np.linspace(3e5, 4e5, 6)), *spectral]
    raw = RNG.normal(size=(PIXELS, 6 * fits.shape[1])).astype("c8")
    write_usid(
        path,
        {
            "topography": usid_image(),
            "Raw_Data": (raw, POSITIONS, frequency, "V"),
            "Fit": (fits, POSITIONS, spectral, "compound"),
        },
    )
    loops = {k: v.reshape(ROWS, COLS, 3, POINTS, 2) for k, v in truth.items()}
    return path, loops


def test_of_band_excitation_the_off_field_loop_comes(tmp_path):
    path, loops = beps_file(tmp_path / "beps.h5")
    sample = open_sample(path)
    assert list(sample.spectra) == ["Amplitude", "Phase"]
    assert sample.spectrum_units == {"Amplitude": "V", "Phase": "rad"}
    for name, part in (("Amplitude", "Amplitude [V]"), ("Phase", "Phase [rad]")):
        off = loops[part][..., 0].reshape(ROWS, COLS, 3 * POINTS)  # cycle after cycle
        np.testing.assert_array_equal(sample.spectra[name], off)
    np.testing.assert_allclose(sample.axis, np.tile(BIAS, 3), rtol=1e-6, atol=1e-6)
    assert "Field = 0" in sample.source

    on = open_sample(path, spectra="Amplitude@Field=1@Cycle=2")
    np.testing.assert_array_equal(on.spectra["Amplitude"], loops["Amplitude [V]"][:, :, 2, :, 1])
    assert on.axis.size == POINTS and "Field = 1" in on.source


def test_positions_that_were_never_reached_are_masked(tmp_path):
    path = usid_film(tmp_path / "film.h5")
    with h5py.File(path, "r+") as file:
        group = file["Measurement_000/response_group"]
        for name in ("response", "Position_Indices", "Position_Values"):
            kept, attributes = group[name][: PIXELS - 3], dict(group[name].attrs)
            del group[name]
            group[name] = kept
            group[name].attrs.update(attributes)
        for part in ("Position_Indices", "Position_Values"):
            group["response"].attrs[part] = group[part].ref
    sample = open_sample(path)
    assert sample.mask.sum() == 3 and sample.mask[-1, 1:].all()
    np.testing.assert_array_equal(sample.spectra["response"][~sample.mask], CUBE[~sample.mask])


def nsid_file(path: Path, **changed: object) -> Path:
    """Write an image and a cube with pyNSID, axes in m, y downwards, (x, y, bias)."""
    import sidpy
    from pyNSID.io.hdf_io import write_nsid_dataset

    y, x = np.arange(ROWS)[::-1] * 5e-8, np.arange(COLS) * 2.5e-8
    axes = [("x", x, "m", "SPATIAL"), ("y", y, "m", "SPATIAL"), ("bias", BIAS, "V", "SPECTRAL")]
    arrays = {"height": IMAGE.T, "response": np.swapaxes(CUBE, 0, 1)}
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            dataset = sidpy.Dataset.from_array(values, title=name)
            dataset.units = "pm"
            for i, (label, at, units, kind) in enumerate(axes[: values.ndim]):
                units = changed.get("units", units) if kind == "SPATIAL" else units
                kind = changed.get("kind", kind)
                dataset.set_dimension(i, sidpy.Dimension(at, label, label, units, kind))
            write_nsid_dataset(dataset, file.require_group("m"), name)
    return path


@pytest.mark.parametrize("kind", [None, "UNKNOWN"])
def test_nsid_with_axes_the_other_way_round_and_in_m(tmp_path, kind):
    sample = open_sample(nsid_file(tmp_path / "n.hf5", **({"kind": kind} if kind else {})))
    np.testing.assert_array_equal(sample.images["height"], IMAGE[::-1])
    np.testing.assert_array_equal(sample.spectra["response"], CUBE[::-1])
    assert sample.spectra["response"].dtype == np.float32
    np.testing.assert_array_equal(sample.axis, BIAS)
    np.testing.assert_allclose(sample.y, [0, 0.05, 0.1, 0.15, 0.2])
    np.testing.assert_allclose(sample.x, [0, 0.025, 0.05, 0.075])
    assert sample.spectrum_units == {"response": "pm"}


def test_a_size_that_nobody_recorded_is_said(tmp_path):
    sample = open_sample(nsid_file(tmp_path / "n.h5", units="generic"))
    assert sample.extent_um == (0.75, 1.0) and "size not recorded" in sample.source


def test_the_mean_is_an_image_only_if_asked_for(tmp_path):
    path = tmp_path / "film.h5"
    axis = [("Bias", "V", BIAS)]
    write_usid(path, {"response": (CUBE.reshape(PIXELS, -1), POSITIONS, axis, "pm")})
    with pytest.raises(InputError, match="leaks what is to be predicted"):
        open_sample(path)
    sample = open_sample(path, image="mean")
    np.testing.assert_allclose(sample.images["mean"], CUBE.mean(axis=2), rtol=1e-6)
    assert "leaks" in sample.source

    write_gwyddion(tmp_path / "scan.gwy", {"Height": IMAGE, "Phase": -IMAGE}, (1e-7, 2.5e-7))
    beside = open_sample(path, image=f"{tmp_path / 'scan.gwy'}::Phase")
    np.testing.assert_array_equal(beside.images["Phase"], -IMAGE)
    assert list(open_sample(path, image=str(tmp_path / "scan.gwy")).images) == ["Height", "Phase"]


def test_what_is_not_chosen_is_not_read(tmp_path):
    path = usid_film(tmp_path / "film.h5")
    with h5py.File(path, "r+") as file:  # 640 GB, of which nothing is allocated
        other = file.create_dataset("big", (2000, 2000, 20000), "f8", chunks=(8, 8, 2000))
        for i, (name, kind) in enumerate([("x", "SPATIAL"), ("y", "SPATIAL"), ("b", "SPECTRAL")]):
            scale = file.create_dataset(name, data=np.arange(other.shape[i], dtype=float))
            scale.make_scale(name)
            scale.attrs.update({"units": "nm", "dimension_type": kind})
            other.dims[i].label = name
            other.dims[i].attach_scale(scale)
        other.attrs["main_data_name"] = "big"
    sample = open_sample(path, spectra="response")
    np.testing.assert_array_equal(sample.spectra["response"], CUBE)
    with pytest.raises(InputError, match="spectra along different axes.*'big'"):
        open_sample(path)


def test_nanonis_grid(tmp_path):
    pytest.importorskip("SciFiReaders", reason="the pycroscopy extra is absent")
    path = tmp_path / "grid.3ds"
    bias = np.linspace(-1, 1, POINTS)
    cubes = {"Current (A)": CUBE, "LI Demod 1 X (V)": -CUBE}
    write_nanonis_grid(path, IMAGE, cubes, bias, (4e-9, 10e-9))
    sample = open_sample(path)
    np.testing.assert_array_equal(sample.images["topo"], IMAGE)
    np.testing.assert_array_equal(sample.spectra["Current"], CUBE)
    np.testing.assert_array_equal(sample.spectra["LI Demod 1 X"], -CUBE)
    assert sample.spectrum_units == {"Current": "A", "LI Demod 1 X": "V"}
    np.testing.assert_allclose(sample.axis, bias, rtol=1e-6)
    np.testing.assert_allclose(sample.x, np.arange(4) * 1e-3)
    np.testing.assert_allclose(sample.y, np.arange(5) * 2e-3)
    assert (sample.axis_name, sample.axis_units) == ("Bias", "V")
    assert sample.spectra["Current"].dtype == np.float32


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    path = usid_film(tmp_path / "film.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=r"h5py.*curiosity-bluesky\[pycroscopy\]"):
        open_sample(path)
    (tmp_path / "g.gwy").write_bytes(b"GWYP")
    monkeypatch.setitem(__import__("sys").modules, "gwyfile", None)
    with pytest.raises(InputError, match=r"gwyfile.*curiosity-bluesky\[pycroscopy\]"):
        open_sample(tmp_path / "g.gwy")


def _text(path: Path) -> None:
    path.write_text("no such file")


def _empty(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)


def _images(path: Path) -> None:
    write_gwyddion(path, {"Height": IMAGE}, (1e-7, 1e-7))


def _other_size(path: Path) -> None:
    axis = [("Bias", "V", BIAS)]
    wide = [("X", "nm", np.arange(COLS) * 25.0), ("Y", "nm", np.arange(ROWS) * 99.0)]
    cube = (CUBE.reshape(PIXELS, -1), wide, axis, "pm")
    write_usid(path, {"height": usid_image(), "response": cube})


def _ragged(path: Path) -> None:
    usid_film(path)
    with h5py.File(path, "r+") as file:
        indices = file["Measurement_000/response_group/Spectroscopic_Indices"]
        indices[0, -1] = 99  # one step lies on a bias of its own, beside a second axis
        group = file["Measurement_000/response_group"]
        for name in ("Spectroscopic_Indices", "Spectroscopic_Values"):
            values, attributes = group[name][()], dict(group[name].attrs)
            del group[name]
            group[name] = np.vstack([values, np.arange(POINTS) % 2])
            group[name].attrs.update(attributes)
            group[name].attrs["labels"] = np.array([b"DC_Offset", b"Cycle"])
            group["response"].attrs[name] = group[name].ref


def _nan_image(path: Path) -> None:
    image = IMAGE.copy()
    image[1, 1] = np.nan
    axis = [("Bias", "V", BIAS)]
    cube = (CUBE.reshape(PIXELS, -1), POSITIONS, axis, "pm")
    write_usid(path, {"height": usid_image(image), "response": cube})


def _no_scales(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["response"] = CUBE
        file["response"].attrs["main_data_name"] = "response"


def _cut(path: Path) -> None:
    write_igor(path, {"Height": IMAGE}, (1e-6, 1e-6))
    path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize(
    ("name", "write", "options", "message"),
    [
        ("a.h5", _text, {}, "cannot be read.*expected an HDF5 file"),
        ("a.h5", _empty, {}, "no array with axes"),
        ("a.h5", lambda path: None, {}, "no file"),
        ("a.gwy", _images, {}, r"images only \(Height\).*nothing to replay.*read_images"),
        ("a.gwy", _text, {}, "present Gwyddion format"),
        ("a.3ds", _text, {}, "cannot be read as .3ds"),
        ("a.ibw", _text, {}, "Igor binary wave of version 5"),
        ("a.ibw", _cut, {}, "copy it again"),
        ("a.h5", _other_size, {}, "but of other sizes"),
        ("a.h5", _ragged, {}, "ragged.*save the steps"),
        ("a.h5", _nan_image, {}, "'height' has 1 NaN"),
        ("a.h5", _no_scales, {}, "no dimension scale"),
        ("a.h5", usid_film, {"spectra": "loop"}, "0 spectra 'loop'.*'response'"),
        ("a.h5", usid_film, {"image": "phase"}, "0 images 'phase'.*'height'"),
        ("a.h5", usid_film, {"spectra": "response@Field"}, "NAMES@AXIS=VALUE"),
        ("a.h5", usid_film, {"spectra": "response@Cycle=1"}, "no axis cycle"),
        ("a.h5", usid_film, {"image": 3}, "names of its channels"),
        ("a.h5", usid_film, {"spectra": slice(3)}, "names of its channels"),
    ],
)
def test_refusals(tmp_path, name, write, options, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        open_sample(tmp_path / name, **options)


def test_a_raw_spectrogram_is_refused_in_words(tmp_path):
    path, _ = beps_file(tmp_path / "beps.h5")
    with pytest.raises(InputError, match=r"0 spectra 'Raw_Data'"):
        open_sample(path, spectra="Raw_Data")


REAL = "CURIOSITY_SCIFI_DATASETS"


@pytest.mark.parametrize(
    ("name", "shape", "channels"),
    [
        ("spm/stm/NanonisReader_STS_grid_lockin.3ds", (30, 30), ["topo"]),
        (
            "spm/afm/IgorIBWReader_ImageStack_BTFO_DSO.ibw",
            (256, 256),
            ["HeightRetrace", "AmplitudeRetrace", "DeflectionRetrace", "PhaseRetrace"],
        ),
        (
            "spm/afm/PTO_110_Virgin0001.gwy",
            (256, 256),
            ["HeightRetrace", "AmplitudeRetrace", "DeflectionRetrace", "PhaseRetrace"],
        ),
    ],
)
def test_files_that_instruments_wrote(name, shape, channels):
    from curiosity_bluesky.exchange import read_images

    if REAL not in os.environ:
        pytest.skip(f"${REAL} does not say where github.com/pycroscopy/SciFiDatasets is")
    images = read_images(Path(os.environ[REAL]) / "data" / "microscopy" / name)
    assert list(images) == channels
    assert all(image.shape == shape and np.isfinite(image).all() for image in images.values())
    assert all(image["x"].attrs["units"] == "um" for image in images.values())


def test_images_of_vendors(tmp_path):
    from curiosity_bluesky.exchange import read_images

    pytest.importorskip("SciFiReaders", reason="the pycroscopy extra is absent")
    size = (1e-6, 2e-6)
    write_igor(tmp_path / "a.ibw", {"HeightRetrace": IMAGE, "PhaseRetrace": -IMAGE}, size)
    found = read_images(tmp_path / "a.ibw")
    assert [image.attrs["units"] for image in found.values()] == ["m", "deg"]
    np.testing.assert_array_equal(found["PhaseRetrace"], -IMAGE)
    assert found["HeightRetrace"].dtype == np.float32
    np.testing.assert_allclose(found["HeightRetrace"]["x"], np.linspace(0, 1, COLS))

    both = {"Z": (IMAGE, -IMAGE)}
    for up in (True, False):
        write_nanonis_scan(tmp_path / "a.sxm", both, size, up)
        scan = read_images(tmp_path / "a.sxm")
        np.testing.assert_array_equal(scan["Z"], IMAGE)
        np.testing.assert_array_equal(scan["Z backward"], -IMAGE)
        np.testing.assert_allclose(scan["Z"]["y"], np.arange(ROWS) * 0.4)

    write_gwyddion(tmp_path / "a.gwy", {"Height": IMAGE}, size)
    height = read_images(tmp_path / "a.gwy")["Height"]
    np.testing.assert_array_equal(height, IMAGE.astype(float))
    assert height.dims == ("y", "x") and height.attrs["units"] == "V"
    np.testing.assert_allclose(height["x"], np.arange(COLS) * 0.25)

    images = read_images(usid_film(tmp_path / "film.h5"))
    np.testing.assert_array_equal(images["height"], IMAGE)
    np.testing.assert_array_equal(read_images(nsid_file(tmp_path / "n.h5"))["height"], IMAGE[::-1])

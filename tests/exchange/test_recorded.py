"""RecordedSample: what is read is what was recorded; leaks and bad files are refused."""

from pathlib import Path

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from sim_devices import RecordedSample

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def cube(tmp_path):
    path = tmp_path / "cube.npy"
    values = np.random.default_rng(0).normal(size=(6, 5, 20)).astype(np.float32)
    np.save(path, values)
    return path, values


def save(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.normal(size=(6, 5)),
        "spectra": rng.normal(size=(6, 5, 8)),
        "axis": np.arange(8.0),
        **changes,
    }
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


@pytest.mark.parametrize("words", ["10:", "10::2", ":4", slice(10, 20)])
def test_npy_identity(cube, words):
    path, values = cube
    sample = RecordedSample.from_npy(path, 5, words)
    where = (
        words
        if isinstance(words, slice)
        else slice(*[int(w) if w else None for w in words.split(":")])
    )
    np.testing.assert_array_equal(sample.spectra["spectrum"], values[:, :, where])
    np.testing.assert_array_equal(sample.images["image"], values[:, :, 5])
    assert sample.spectra["spectrum"].dtype == np.float32
    assert (sample.axis_name, sample.axis_units) == ("step", "")
    assert sample.axis[-1] == sample.axis.size - 1


@pytest.mark.parametrize(
    ("image", "spectra", "message"),
    [
        (12, "10:", "leak"),
        (-1, "10:", "leak"),
        (20, "10:", "not in cube.npy; expected a whole number from 0 to 19"),
        (5, "15:15", "empty"),
        (5, "30:", "empty"),
        (5, "abc", "cannot be read"),
        (5, "7", "cannot be read"),
        (5, "10:20:0", "cannot be read"),
    ],
)
def test_npy_bad_slices(cube, image, spectra, message):
    with pytest.raises(InputError, match=message):
        RecordedSample.from_npy(cube[0], image, spectra)


def test_npy_bad_files(tmp_path, cube):
    flat = tmp_path / "flat.npy"
    np.save(flat, np.ones((4, 4)))
    with pytest.raises(InputError, match="2 dimensions"):
        RecordedSample.from_npy(flat, 0, "1:")
    with pytest.raises(InputError, match="there is no file"):
        RecordedSample.from_npy(tmp_path / "none.npy", 0, "1:")
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        RecordedSample.from_npy(objects, 0, "1:")
    with pytest.raises(InputError, match="axis has 3 values"):
        RecordedSample.from_npy(cube[0], 5, "10:", axis=[1, 2, 3])


def test_npz_identity_with_all_options(tmp_path):
    path = tmp_path / "all.npz"
    rng = np.random.default_rng(1)
    mask = np.zeros((6, 5), bool)
    mask[0, 0] = True
    arrays = save(
        path,
        image=rng.normal(size=(2, 6, 5)).astype(np.float32),
        spectra=rng.normal(size=(6, 5, 3, 8)),
        extent_um=np.array([2.0, 3.0]),
        image_channels=np.array(["height", "amplitude"]),
        spectrum_channels=np.array(["a", "b", "c"]),
        spectrum_units=np.array(["pm", "deg", "A"]),
        axis_name=np.array("energy"),
        axis_units="eV",
        mask=mask,
        other=np.ones(3),
    )
    sample = RecordedSample.from_npz(path)
    assert list(sample.images) == ["height", "amplitude"]
    assert sample.spectrum_units == {"a": "pm", "b": "deg", "c": "A"}
    assert (sample.axis_name, sample.axis_units) == ("energy", "eV")
    assert sample.extent_um == (2.0, 3.0)
    assert sample.mask[0, 0] and sample.mask.sum() == 1
    np.testing.assert_array_equal(sample.images["amplitude"], arrays["image"][1])
    np.testing.assert_array_equal(sample.target(), arrays["spectra"].reshape(6, 5, 24))


def test_npz_defaults(tmp_path):
    save(tmp_path / "plain.npz")
    sample = RecordedSample.from_npz(tmp_path / "plain.npz")
    assert list(sample.images) == ["image"] and list(sample.spectra) == ["spectrum"]
    assert sample.extent_um == (pytest.approx(0.8), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": None}, r"has no arrays \['axis'\]"),
        ({"image": np.ones(6)}, "reorder"),
        ({"spectra": np.ones((6, 5))}, "reorder"),
        ({"spectra": np.ones((5, 6, 8))}, "5 x 6 pixels but the images on 6 x 5"),
        ({"extent_um": np.array([1.0, 2.0, 3.0])}, "two positive lengths"),
        ({"image_channels": np.array(["a", "b"])}, "image_channels"),
        ({"spectrum_channels": np.array([1])}, "spectrum_channels"),
        ({"spectra": np.ones((6, 5, 2, 8)), "spectrum_channels": np.array(["a", "a"])}, "differ"),
        ({"axis": np.array([None] * 8, dtype=object)}, "'axis' cannot be read"),
    ],
)
def test_npz_bad_layout(tmp_path, changes, message):
    save(tmp_path / "bad.npz", **changes)
    with pytest.raises(InputError, match=message):
        RecordedSample.from_npz(tmp_path / "bad.npz")


def test_not_an_npz(tmp_path, cube):
    text = tmp_path / "text.npz"
    text.write_text("not numbers")
    with pytest.raises(InputError, match="cannot be read"):
        RecordedSample.from_npz(text)
    with pytest.raises(InputError, match="single array"):
        RecordedSample.from_npz(cube[0])
    save(tmp_path / "ok.npz")
    with pytest.raises(InputError, match="npz archive"):
        RecordedSample.from_npy(tmp_path / "ok.npz", 0, "1:")


def test_the_authors_data():
    path = DATA / "norm_polarization.npy"
    if not path.exists():
        pytest.skip("the authors' data carries no licence, so it is not in this repository")
    sample = RecordedSample.from_npy(path, image=25, spectra="49:")
    assert sample.shape == (49, 49) and sample.axis.size == 50
    np.testing.assert_array_equal(sample.spectra["spectrum"], np.load(path)[:, :, 49:])


def test_mexpsimu_identity():
    registry = pytest.importorskip("mexpsimu.registry", reason="the recordings extra is absent")
    for name, path in registry.discover_datasets().items():
        sample = RecordedSample.from_mexpsimu(name)
        with np.load(path) as recorded:
            np.testing.assert_array_equal(*sample.spectra.values(), recorded["spectra"])
            np.testing.assert_array_equal(*sample.images.values(), recorded["image"])
            np.testing.assert_array_equal(sample.axis, recorded["vstep"])
        width = registry.parse_scan_size_um(name)
        assert sample.extent_um == (width or 1.0,) * 2
        assert ("assumed" in sample.source) == (width is None)


def test_mexpsimu_refusals(monkeypatch):
    pytest.importorskip("mexpsimu", reason="the recordings extra is absent")
    with pytest.raises(InputError, match="leak"):
        RecordedSample.from_mexpsimu(channel="image2")
    with pytest.raises(InputError, match="no image channel 'height'"):
        RecordedSample.from_mexpsimu(channel="height")
    with pytest.raises(InputError, match="no recording 'nonsense'"):
        RecordedSample.from_mexpsimu("nonsense")


def test_without_mexpsimu(monkeypatch):
    monkeypatch.setattr("curiosity_bluesky.exchange.recorded.mexpsimu_recordings", lambda: None)
    with pytest.raises(InputError, match=r'pip install "curiosity-bluesky\[recordings\]"'):
        RecordedSample.from_mexpsimu()

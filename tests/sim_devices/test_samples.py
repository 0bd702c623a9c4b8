"""Samples by name and by path."""

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from sim_devices import RecordedSample, SyntheticSample, list_samples, open_sample


def test_the_list_tells_the_truth():
    infos = list_samples()
    assert infos[0].name == "synthetic"
    for info in infos:
        sample = open_sample(info.name)
        assert sample.name == info.name
        assert sample.shape == info.shape
        assert sample.target().shape[2] == info.points
        assert sample.extent_um == pytest.approx(info.extent_um)


def test_recordings_are_listed():
    pytest.importorskip("mexpsimu", reason="the recordings extra is absent")
    assert "PTO_BEPS_1d3um" in [info.name for info in list_samples()]
    assert isinstance(open_sample("PTO_BEPS_1d3um"), RecordedSample)


def test_without_mexpsimu(monkeypatch):
    monkeypatch.setattr("sim_devices.samples.mexpsimu_recordings", lambda: None)
    assert [info.name for info in list_samples()] == ["synthetic"]
    with pytest.raises(InputError, match=r"curiosity-bluesky\[recordings\]"):
        open_sample("PTO_BEPS_1d3um")


def test_synthetic_with_a_seed():
    sample = open_sample("synthetic", seed=3)
    np.testing.assert_array_equal(sample.target(), SyntheticSample(seed=3).target())


def test_files(tmp_path):
    cube = np.random.default_rng(0).normal(size=(6, 6, 12))
    np.save(tmp_path / "c.npy", cube)
    np.savez(tmp_path / "c.npz", image=cube[..., 0], spectra=cube[..., 2:], axis=np.arange(10.0))
    first = open_sample(tmp_path / "c.npy", image=0, spectra="2:")
    second = open_sample(str(tmp_path / "c.npz"))
    np.testing.assert_array_equal(first.target(), second.target())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("synthetik", {}, "Did you mean 'synthetic'"),
        ("zzz", {}, r"expected one of \['synthetic'"),
        ("none.npz", {}, "no file none.npz"),
        ("none.npy", {"image": 1, "spectra": "3:"}, "no file none.npy"),
        ("none.npy", {}, "--image-slice 25 --spectra-slice 49:"),
        ("none.npy", {"image": 1}, "--image-slice 25 --spectra-slice 49:"),
        ("none.npz", {"image": 1}, "for .npy files only"),
        ("synthetic", {"spectra": "3:"}, "for .npy files only"),
        ("none.npz", {"seed": 1}, "for 'synthetic' only"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(InputError, match=message):
        open_sample(name, **options)

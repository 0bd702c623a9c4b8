"""The learned descriptor: what leaves it alone, what it knows, where its weights come from."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity import learned, training
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.wallpaper import (
    GROUPS,
    Spoiling,
    random_pattern,
    random_texture,
    shaped,
    spoilt,
)


@pytest.fixture(scope="module")
def descriptor():
    return learned.Learned()


def texture(seed=0, side=128, **more):
    rng = np.random.default_rng(seed)
    values = spoilt(shaped(random_texture(rng, side), rng), rng, Spoiling())
    return Image.checked(values, **more)


def changed(image, values, um_per_pixel=None):
    return Image.checked(values, um_per_pixel or image.um_per_pixel, image.period)


def distance(descriptor, one, other):
    return float(np.linalg.norm(descriptor(one) - descriptor(other)))


def test_vectors_are_what_was_promised(descriptor):
    vector = descriptor(texture(um_per_pixel=(0.01, 0.01)))
    assert vector.shape == (descriptor.size,) and vector.dtype == np.float32
    assert np.linalg.norm(vector[:64]) == pytest.approx(1, abs=1e-5)
    assert (descriptor.name, descriptor.version) == ("learned", 1)


@pytest.mark.parametrize("shape", [(128, 128), (97, 97), (64, 200), (33, 48), (256, 256)])
@pytest.mark.parametrize("period", [None, 360.0])
def test_turns_by_90_degrees_and_mirrors_change_nothing(descriptor, shape, period):
    values = texture(3, 256).values[: shape[0], : shape[1]] * 100
    image = Image.checked(values, (0.01, 0.02), period)
    before = descriptor(image)
    others = [descriptor(texture(seed)) for seed in (4, 5)]
    for mirrored in (False, True):
        for turns in range(4):
            other = np.rot90(values.T if mirrored else values, turns)
            # A turn by 90 degrees swaps the axes, and the sizes of a pixel along them.
            size = (0.02, 0.01) if (turns + mirrored) % 2 else (0.01, 0.02)
            after = descriptor(changed(image, other, size))
            np.testing.assert_allclose(after, before, atol=1e-4)
    assert min(np.linalg.norm(before - other) for other in others) > 0.05


def test_offset_gain_tilt_and_units_change_nothing(descriptor):
    image = texture(7)
    before = descriptor(image)
    y = np.arange(128.0)[:, None]
    for values in (image.values * 3e-12, image.values * 1e6 - 7e6, image.values + 0.05 * y - 3):
        np.testing.assert_allclose(descriptor(changed(image, values)), before, atol=2e-3)


def test_the_offset_of_a_phase_changes_nothing_wherever_it_wraps(descriptor):
    # Two kinds of domains 180 degrees apart: a mean on the circle would be chance.
    domains = 170 * (texture(8).values > 0.3) + 4 * texture(9).values
    before = descriptor(Image.checked(domains, period=360))
    for offset in (10, 90, 175, 300):
        turned = Image.checked((domains + offset) % 360, period=360)
        np.testing.assert_allclose(descriptor(turned), before, atol=1e-4)


def test_the_scale_is_an_axis_of_its_own(descriptor):
    values = texture(10).values
    near, far, further = (Image.checked(values, (s, s)) for s in (0.01, 0.02, 5.0))
    unknown = Image.checked(values)
    assert not descriptor(unknown)[64:].any()
    np.testing.assert_array_equal(descriptor(near)[:64], descriptor(far)[:64])
    assert 0.2 < distance(descriptor, near, far) < distance(descriptor, near, further) < 0.72
    gaps = [distance(descriptor, unknown, one) for one in (near, far, further)]
    assert max(gaps) - min(gaps) < 1e-3


def odd():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(64, 64))
    one = np.zeros((40, 40))
    one[7, 30] = 1
    holes = texture(1).values.copy()
    holes[20:70, :100] = np.nan
    return {
        "smallest": rng.normal(size=(16, 16)),
        "long": rng.normal(size=(16, 1500)),
        "noise": noise,
        "one pixel": one,
        "two values": (noise > 0).astype(np.uint8),
        "holes": holes,
        "half a row": np.where(np.arange(64) < 30, np.nan, noise),
        "16 bit": (1000 * noise + 30000).astype(np.uint16),
        "tiny": noise * 1e-300,
        "huge": noise * 1e300,
        "a plane": np.add.outer(np.arange(32.0), np.arange(64.0)),
        "a wave": np.sin(np.arange(256) / 3) * np.ones((256, 1)),
    }


@pytest.mark.parametrize("kind", odd())
@pytest.mark.parametrize("more", [{}, {"um_per_pixel": (1.0, 1e-4)}, {"period": 2 * np.pi}])
def test_whatever_is_an_image_has_a_finite_vector_and_always_the_same(descriptor, kind, more):
    image = Image.checked(odd()[kind], **more)
    before = image.values.copy()
    vector = descriptor(image)
    assert np.isfinite(vector).all()
    np.testing.assert_array_equal(vector, descriptor(image))
    np.testing.assert_array_equal(image.values, before)


def test_names_are_probabilities(descriptor):
    sure = descriptor.names(texture(2))
    assert tuple(sure) == (*GROUPS, "none")
    assert sum(sure.values()) == pytest.approx(1, abs=1e-5)


def test_windows_show_waves_of_ten_pixels_whatever_the_magnification():
    rng = np.random.default_rng(11)
    pattern = random_pattern("p4", rng, 256, (10, 10))
    small, large = pattern.drawn(256)[:128, :128], pattern.drawn(256)
    for values in (small, large, np.kron(small, np.ones((2, 2)))):
        parts, wave = learned.windows(Image.checked(values))
        assert parts.shape == (4, 1, learned.SIDE, learned.SIDE) and wave is None
        found = np.mean([learned.wavelength(part[0]) for part in parts])
        assert learned.WAVE / 1.25 < found < learned.WAVE * 1.25


def test_weights_need_no_pickle_and_are_small():
    file = learned.resources.files("curiosity_bluesky.similarity") / "weights" / "learned-1.npz"
    data = file.read_bytes()
    assert len(data) < 1_500_000
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        assert {arrays[name].dtype.kind for name in arrays.files} <= {"f", "i"}
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
def test_what_is_no_weights_is_said_to_be_none(tmp_path, content):
    file = tmp_path / "w.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match="does not hold the weights"):
        learned.Learned(file)
    np.savez(file, other=np.zeros(3))
    with pytest.raises(InputError, match="does not hold the weights"):
        learned.Learned(file)
    with pytest.raises(InputError, match=r"no\.npz does not hold the weights"):
        learned.Learned(tmp_path / "no.npz")


def test_drawn_motifs_are_those_of_the_generator():
    known = training.stock(1, 1, seed=3)
    rng = torch.Generator().manual_seed(0)
    for n, group in enumerate(GROUPS):
        [image] = training._drawn(known.amplitudes[n : n + 1], known.vectors[n : n + 1] / 10, rng)
        assert abs(float(image.std()) - 1) < 0.25, group
        assert 6 < learned.wavelength(image) < 16, group


def test_training_repeats_itself_from_its_seed(tmp_path):
    small = ["--steps", "3", "--structures", "6", "--motifs", "1"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        command = [sys.executable, "-m", training.__name__, str(tmp_path / f"{name}.npz")]
        subprocess.run([*command, *small, "--seed", seed], check=True, capture_output=True)
    a, b, c = (np.load(tmp_path / f"{name}.npz", allow_pickle=False) for name in "abc")
    assert all((a[name] == b[name]).all() for name in a.files)
    assert any((a[name] != c[name]).any() for name in a.files)
    learned.Learned(tmp_path / "a.npz")
    assert json.loads((tmp_path / "a.json").read_text())[-1]["step"] == 3


def test_training_wants_to_know_when_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path / "a.npz")])
    with pytest.raises(SystemExit):
        training.main()
    assert "--steps or --minutes" in capsys.readouterr().err

"""What the descriptors promise: what changes them, what does not, and what they find."""

from pathlib import Path

import numpy as np
import pytest
from synthetic.augmentation import (
    KINDS,
    Reacquisition,
    ViewSettings,
    random_structure,
    reacquire,
)
from synthetic.wallpaper import random_texture

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity import Image
from curiosity_bluesky.similarity.descriptors import DEFAULT, known, named, names
from curiosity_bluesky.similarity.descriptors.power_spectrum import spectrum
from curiosity_bluesky.similarity.descriptors.scattering import scattered
from curiosity_bluesky.similarity.descriptors.texture import (
    SIZE,
    Texture,
    blocks,
    without_scale,
)
from curiosity_bluesky.similarity.preprocess import LONGEST, preprocess


def textures(n, side=96, noise=0.1):
    rng = np.random.default_rng(3)
    return [random_texture(rng, side) + noise * rng.normal(size=(side, side)) for _ in range(n)]


@pytest.fixture(scope="module")
def texture():
    return Texture()


@pytest.fixture(scope="module")
def apart(texture):
    """Median distance of different structures, seen like those of the tests."""
    vectors = np.array([texture(Image.checked(values)) for values in textures(12)])
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    return float(np.median(distances[np.triu_indices(len(vectors), 1)]))


def away(texture, one, other, **kwargs):
    a, b = (texture(Image.checked(values, **kwargs)) for values in (one, other))
    return float(np.linalg.norm(a - b))


def test_each_descriptor_gives_finite_vectors_of_its_size_and_the_same_again():
    assert next(iter(known())) == DEFAULT == names()[0]
    image = Image.checked(textures(1)[0])
    for name, descriptor in known().items():
        vector = descriptor(image)
        assert descriptor.name == name and named(name) is descriptor
        assert vector.shape == (descriptor.size,) and vector.dtype == np.float32
        assert np.isfinite(vector).all()
        assert np.array_equal(vector, descriptor(image))


def test_a_descriptor_that_does_not_exist_is_refused_with_the_names_of_those_that_do():
    with pytest.raises(InputError, match=f"no descriptor 'nothing'; there are {DEFAULT}"):
        named("nothing")


@pytest.mark.parametrize("period", [None, 360.0])
@pytest.mark.parametrize("shape", [(96, 96), (96, 64), (65, 80)])
def test_quarter_turns_and_mirrors_change_nothing(texture, apart, shape, period):
    values = textures(1)[0][: shape[0], : shape[1]] * (60 if period else 1)
    vector = texture(Image.checked(values, period=period))
    for turns in range(4):
        for other in (np.rot90(values, turns), np.rot90(values, turns)[::-1]):
            moved = texture(Image.checked(other, period=period))
            assert np.linalg.norm(moved - vector) < 1e-3 * apart


def test_the_blocks_of_a_periodic_field_do_not_change_with_its_offset():
    rng = np.random.default_rng(0)
    waves = np.fft.fft2(rng.normal(size=(96, 96)))
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    values = np.real(np.fft.ifft2(waves * np.exp(-(((k - 0.08) / 0.03) ** 2)))).astype(np.float32)
    values = (values - values.mean()) / values.std()
    found = spectrum(values, periodic=True)
    for offset in [(1, 0), (17, 40), (95, 95)]:
        rolled = spectrum(np.roll(values, offset, (0, 1)), periodic=True)
        np.testing.assert_allclose(np.abs(rolled.rings), np.abs(found.rings), atol=1e-5)
        np.testing.assert_allclose(rolled.correlation, found.correlation, atol=1e-5)
        assert rolled.log_length == pytest.approx(found.log_length, abs=1e-5)


def cut(structure, place, angle, side=96):
    """A place, turned by any angle, without contrast or noise of its own."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    return structure.at(place, np.stack([cos * x - sin * y, sin * x + cos * y]))


@pytest.mark.quick("wallpaper")
@pytest.mark.parametrize("kind", ["domains", "wallpaper"])
def test_any_rotation_and_another_place_mirrored_are_near(texture, kind):
    rng = np.random.default_rng(1)
    structures = [random_structure(kind, rng, 96) for _ in range(8)]
    upright, turned, elsewhere = (
        np.array([texture(Image.checked(view(structure))) for structure in structures])
        for view in (
            lambda structure: cut(structure, 0, 0.0),
            lambda structure: cut(structure, 0, 0.6),
            lambda structure: cut(structure, 1, 2.0)[::-1],
        )
    )
    others = np.linalg.norm(upright[:, None] - upright[None], axis=-1)[np.triu_indices(8, 1)]
    assert np.median(np.linalg.norm(turned - upright, axis=1)) < 0.35 * np.median(others)
    assert np.median(np.linalg.norm(elsewhere - upright, axis=1)) < 0.45 * np.median(others)


def test_gain_offset_inversion_and_a_tilt_change_little(texture, apart):
    values = textures(1)[0]
    y, x = np.mgrid[:96, :96] / 96
    for other, share in [
        (1e-9 * values + 3e-9, 1e-3),
        (-values, 1e-3),
        (values + 5 * x - 3 * y, 0.02),
    ]:
        assert away(texture, values, other) < share * apart


def test_offsets_of_single_lines_and_spikes_are_taken_out(texture, apart):
    values = textures(1)[0]
    rng = np.random.default_rng(0)
    for lines in (values + 0.3 * rng.normal(size=(96, 1)), values + 0.3 * rng.normal(size=96)):
        assert away(texture, values, lines) < 0.3 * apart
    spiky = values.copy()
    spiky[rng.integers(96, size=10), rng.integers(96, size=10)] = 1000
    assert away(texture, values, spiky) < 0.5 * apart


def test_stripes_along_the_rows_are_no_line_noise():
    y, x = np.mgrid[:96, :96]
    stripes = np.tanh(4 * np.sin(2 * np.pi * y / 12)) + 0.01 * np.sin(x)
    assert (
        np.corrcoef(preprocess(Image.checked(stripes)).values.ravel(), stripes.ravel())[0, 1] > 0.9
    )


def test_what_was_not_measured_is_filled(texture, apart):
    values = textures(1)[0]
    holes = values.copy()
    holes[20:30, 40:60] = np.nan
    holes[70:] = np.nan
    assert np.isfinite(preprocess(Image.checked(holes)).values).all()
    small = values.copy()
    small[20:26, 40:46] = np.nan
    assert away(texture, values, small) < 0.5 * apart


def test_neither_the_wrap_nor_the_offset_nor_the_sign_of_a_phase_is_seen(texture, apart):
    phase = 70 * textures(1)[0]
    for other in (
        np.mod(phase, 360),
        np.mod(phase + 123, 360) - 180,
        np.mod(-phase, 360),
    ):
        assert away(texture, phase, other, period=360.0) < 1e-3 * apart
    assert away(texture, phase, np.mod(phase + 123, 360)) > 0.5 * apart  # if nobody says so


def test_pixels_that_are_not_square_are_resampled(texture, apart):
    rng = np.random.default_rng(2)
    field = random_structure("domains", rng).view(0, rng, ViewSettings(192, turned=False))
    flat = field[::2]  # every other line, as of a fast scan
    square, flat = Image.checked(field, (0.01, 0.01)), Image.checked(flat, (0.02, 0.01))
    assert preprocess(flat).values.shape == (192, 192)
    assert preprocess(flat).um_per_pixel == 0.01
    assert np.linalg.norm(texture(square) - texture(flat)) < 0.5 * apart
    large = preprocess(Image.checked(np.kron(field, np.ones((3, 2))), (0.01, 0.01)))
    assert max(large.values.shape) == LONGEST
    assert large.um_per_pixel == pytest.approx(0.01 * 576 / LONGEST)


def test_the_scale_has_axes_of_its_own(texture):
    values = textures(1)[0]
    one, two, eight, unknown = (
        texture(Image.checked(values, um and (um, um))) for um in (0.01, 0.02, 0.08, None)
    )
    for other in (two, eight, unknown):
        np.testing.assert_allclose(other[:SIZE], one[:SIZE], atol=1e-4)
    assert 0 < np.linalg.norm(one - two) < np.linalg.norm(one - eight)
    assert not unknown[SIZE:].any()
    # An unknown scale is equally far from all, so that it decides nothing.
    to_unknown = [np.linalg.norm(vector - unknown) for vector in (one, two, eight)]
    np.testing.assert_allclose(to_unknown, to_unknown[0], rtol=1e-4)
    assert np.array_equal(without_scale(two), np.r_[two[:SIZE], np.zeros(len(two) - SIZE)])


def test_the_characteristic_length_follows_the_magnification():
    rng = np.random.default_rng(4)
    structure = random_structure("domains", rng)
    lengths = []
    for scale in (1.0, 2.0):
        how = ViewSettings(scales=(scale, scale), noise=(0.05, 0.05), turned=False)
        image = Image.checked(structure.view(0, np.random.default_rng(0), how))
        lengths.append(spectrum(preprocess(image).values).log_length)
    assert lengths[1] - lengths[0] == pytest.approx(1, abs=0.3)


def test_scattering_sees_what_a_spectrum_cannot():
    """The same amplitudes with other phases have the same spectrum and another scattering."""
    rng = np.random.default_rng(0)
    values = random_structure("particles", rng).view(0, rng, ViewSettings(128, noise=(0.02, 0.02)))
    image = preprocess(Image.checked(values)).values
    waves = np.abs(np.fft.fft2(image))
    phases = np.angle(np.fft.fft2(rng.normal(size=image.shape)))
    scrambled = np.real(np.fft.ifft2(waves * np.exp(1j * phases))).astype(np.float32)
    one, other = spectrum(image, periodic=True), spectrum(scrambled, periodic=True)
    np.testing.assert_allclose(one.rings[:, 0].real, other.rings[:, 0].real, atol=1e-3)
    first, second = (scattered(field).local[:, 1] for field in (image, scrambled))
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_structures_have_views_that_differ(kind):
    rng = np.random.default_rng(0)
    structure = random_structure(kind, rng, 64)
    one, two = (structure.view(place, rng, ViewSettings(64)) for place in (0, 1))
    assert one.shape == two.shape == (64, 64)
    assert np.isfinite([one, two]).all()
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.7


def partners_found(texture, seed, each):
    rng = np.random.default_rng(seed)
    views = [[], []]
    for kind in ["domains", "wallpaper"] * each:
        structure = random_structure(kind, rng)
        for place in (0, 1):
            views[place].append(texture(Image.checked(structure.view(place, rng, ViewSettings()))))
    one, other = np.array(views)
    squares = ((one[:, None] - other[None]) ** 2).sum(-1)
    found = squares.argmin(axis=1) == np.arange(len(one))
    return found[::2].mean(), found.mean()


@pytest.mark.slow
def test_another_place_of_the_same_structure_is_found_among_forty(texture):
    domains, both = partners_found(texture, 80_000, 20)
    assert domains >= 0.85 and both >= 0.9


@pytest.mark.slow
def test_another_place_of_the_same_structure_is_found_among_two_hundred(texture):
    domains, both = partners_found(texture, 80_001, 100)
    assert domains >= 0.7 and both >= 0.9


REAL = Path(__file__).parents[3] / "shared" / "data" / "spm_images.npz"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the recorded scans are not here")
def test_a_recorded_scan_that_is_taken_again_is_found(texture):
    rng = np.random.default_rng(0)
    with np.load(REAL) as file:
        images = [file[name].astype(float) for name in file.files if name.startswith("image")]
    images = images[::4]
    stored = np.array([texture(Image.checked(values)) for values in images])
    ranks = []
    for n, values in enumerate(images):
        # With noise alone it is the first; cropped, rotated and re-scaled mostly so.
        noisy = np.rot90(values)[::-1] + 0.15 * values.std() * rng.normal(size=values.T.shape)
        vector = texture(Image.checked(noisy))
        assert np.argmin(np.linalg.norm(stored - vector, axis=1)) == n
        vector = texture(Image.checked(reacquire(values, rng, Reacquisition())))
        distances = np.linalg.norm(stored - vector, axis=1)
        ranks.append(int((distances < distances[n]).sum()))
    assert np.mean(np.array(ranks) < 1) >= 0.6 and np.mean(np.array(ranks) < 5) >= 0.85


def test_blocks_are_named():
    found = blocks(Image.checked(textures(1)[0]))
    assert list(found.parts) == ["spectrum", "correlation", "scattering", "histogram"]
    assert found.log_um is None

"""Pixels, positions and patches; and how predictions are scored."""

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Observation, Patches, Scorer, Survey, withheld_pixels
from curiosity_bluesky.learning.patches import Rim
from curiosity_bluesky.learning.records import Prediction

sides = st.integers(1, 9)
axes = st.lists(st.floats(0.01, 5), min_size=1, max_size=9)


@st.composite
def surveys(draw):
    """A survey of any shape, and its patches of a size that fits, with the rim and without."""
    shape = draw(sides), draw(sides)
    image = draw(arrays(float, shape, elements=st.floats(-1e6, 1e6)))
    survey = Survey({"a": image, "b": image[::-1] + 1})
    return Patches(survey, draw(st.integers(1, min(shape))), draw(st.sampled_from(get_args(Rim))))


def reflected(place: int, length: int) -> int:
    """The row or column of an image that is seen at `place` in mirrors at its border pixels."""
    place = abs(place)
    return place if place < length else 2 * (length - 1) - place


@given(axes, axes, st.booleans(), st.floats(-50, 50), st.data())
def test_pixel_and_position_are_inverse(steps_x, steps_y, falling, offset, data):
    x, y = np.cumsum(steps_x) + offset, np.cumsum(steps_y) - offset
    x = x[::-1] if falling else x
    survey = Survey({"a": np.zeros((len(y), len(x)))}, x, y)
    pixel = data.draw(st.integers(0, len(y) - 1)), data.draw(st.integers(0, len(x) - 1))
    assert survey.position(pixel) == (x[pixel[1]], y[pixel[0]])
    assert survey.pixel(*survey.position(pixel)) == pixel
    assert survey.pixel(x[pixel[1]] + 0.004, y[pixel[0]] - 0.004) == pixel


@given(surveys())
def test_patches_are_the_squares_round_their_pixels(patches):
    survey, size = patches.survey, patches.size
    rows, cols = survey.shape
    images = patches.images((-1, 1))  # as they are
    assert images.shape == (len(patches), 2, size, size)
    assert images.dtype == np.float32
    for index in range(len(patches)):
        row, col = patches.pixel(index)
        assert patches.index((row, col)) == index
        top, left = row - size // 2, col - size // 2
        down = [reflected(r, rows) for r in range(top, top + size)]
        across = [reflected(c, cols) for c in range(left, left + size)]
        expected = survey.stack[:, down][:, :, across].astype(np.float32)
        assert np.array_equal(images[index], expected)
        middle = survey.stack[:, row, col].astype(np.float32)
        assert np.array_equal(images[index][:, size // 2, size // 2], middle)


@given(surveys())
def test_every_pixel_has_a_number_but_those_that_are_left_out(patches):
    rows, cols = patches.survey.shape
    pixels = [(r, c) for r in range(-1, rows + 1) for c in range(-1, cols + 1)]
    numbers = [patches.index(pixel) for pixel in pixels]
    assert sorted(n for n in numbers if n is not None) == list(range(len(patches)))
    assert [-1 if n is None else n for n in numbers] == patches.indices(pixels).tolist()
    lost = patches.size - 1 if patches.rim == "omit" else 0
    assert len(patches) == (rows - lost) * (cols - lost)


@given(surveys())
def test_flatten_and_unflatten_are_inverse(patches):
    survey = patches.survey
    values = np.random.default_rng(0).random((len(patches), 3))
    image = patches.unflatten(values)
    assert image.shape == (*survey.shape, 3)
    assert np.array_equal(patches.flatten(image), values)
    assert np.isfinite(image).all(axis=2).sum() == len(patches)
    assert all(np.array_equal(image[patches.pixel(i)], v) for i, v in enumerate(values))


def test_patches_do_not_depend_on_the_units_of_the_image(survey):
    images = Patches(survey, 3).images()
    assert images.min() == -1
    assert images.max() == 1
    scaled = Survey({"a": survey.channels["amplitude"] * 1e-9 + 5e-9})
    assert np.allclose(Patches(scaled, 3).images(), images, atol=1e-5)
    assert (Patches(Survey({"a": np.full((5, 5), 3.0)}), 3).images() == 0).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"channels": {}}, "no image channel"),
        ({"channels": {"a": np.zeros(5)}}, r"shape \(5,\)"),
        ({"channels": {"a": np.zeros((0, 5))}}, "expected"),
        ({"channels": {"a": np.zeros((3, 4)), "b": np.zeros((4, 3))}}, "one grid"),
        ({"channels": {"a": np.array([[0, np.nan]])}}, "1 NaN or infinite pixels of 2"),
        ({"channels": {"a": np.zeros((3, 4))}, "x": np.arange(3)}, r"needs \(4,\)"),
        ({"channels": {"a": np.zeros((3, 4))}, "y": [0, 2, 1]}, "rise or fall strictly"),
        ({"channels": {"a": np.zeros((3, 4))}, "y": [0, 1, np.nan]}, "strictly"),
        ({"channels": {"a": np.zeros((3, 4))}, "mask": np.zeros((4, 3))}, "mask"),
    ],
)
def test_surveys_that_cannot_be_used_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        Survey(**arguments)


def explorer_that_predicts(survey, prediction, observed=()):
    """What a scorer looks at."""
    return SimpleNamespace(
        n_observed=len(observed),
        strategy=SimpleNamespace(n_seeds=0),
        budget=10,
        patches=Patches(survey, 3, "omit"),
        predict=lambda: Prediction(prediction, np.zeros(survey.shape)),
        observations=[Observation(pixel, np.ones(3)) for pixel in observed],
    )


def test_nmse_is_one_for_the_mean_spectrum_and_zero_for_the_truth(survey, spectra):
    inner = spectra[1:-1, 1:-1]
    mean = np.broadcast_to(inner.mean(axis=(0, 1)), spectra.shape)
    scorer = Scorer(spectra, np.ones(survey.shape, bool))
    scorer(explorer_that_predicts(survey, mean))
    scorer(explorer_that_predicts(survey, spectra, [(1, 1)]))
    first, second = scorer.scores
    assert (first.test_nmse, first.hidden_nmse) == pytest.approx((1, 1))
    assert first.published_score == pytest.approx(inner.var(axis=(0, 1)).mean() * 12 * 10)
    assert (second.test_nmse, second.hidden_nmse, second.published_score) == (0, 0, 0)
    assert scorer.summary() == {"test_nmse": 0, "hidden_nmse": 0, "published_score": 0}


def test_each_score_has_its_own_pixels(survey, spectra):
    withheld = np.zeros(survey.shape, bool)
    withheld[4, 4] = True
    wrong = spectra.copy()
    wrong[4, 4] += 1.0  # withheld
    wrong[5, 5] += 2.0  # measured: only the published score sees it
    scorer = Scorer(spectra, withheld)
    scorer(explorer_that_predicts(survey, wrong, [(5, 5)]))
    [score] = scorer.scores
    deviation = spectra[1:-1, 1:-1].reshape(120, -1).var(axis=0).mean()
    assert score.test_nmse == pytest.approx(1 / deviation)
    assert score.hidden_nmse == pytest.approx(1 / 119 / deviation)
    assert score.published_score == pytest.approx(5)


def test_withheld_pixels_depend_on_shape_and_share_alone():
    pixels = withheld_pixels((40, 50), 0.2)
    np.random.seed(3)  # noqa: NPY002
    assert np.array_equal(withheld_pixels((40, 50), 0.2), pixels)
    assert abs(pixels.mean() - 0.2) < 0.04
    assert not withheld_pixels((40, 50), 0).any()
    assert (withheld_pixels((40, 50), 0.5) >= pixels).all()


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(InputError, match="withhold"):
        withheld_pixels((4, 4), share)

"""What can be described, and what is refused."""

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity import Image

GOOD = np.random.default_rng(0).normal(size=(20, 30))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([["a"] * 20] * 20), "holds <U1; expected real numbers"),
        (GOOD + 1j, "holds complex128; expected real numbers"),
        (GOOD[0], r"has the shape \(30,\); expected \(rows, cols\), at least 16"),
        (GOOD[:1, :1], r"has the shape \(1, 1\)"),
        (GOOD[:15], r"has the shape \(15, 30\)"),
        (np.zeros((20, 20, 5)), r"has the shape \(20, 20, 5\)"),
        (np.full((20, 20), 3.5), "is 3.5 everywhere"),
        (np.where(np.arange(30) < 18, np.nan, GOOD), "60% of the picture is not a number"),
        (np.full((20, 20), np.nan), "100% of the picture is not a number"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(values, message):
    with pytest.raises(InputError, match=message) as caught:
        Image.checked(values, what="the picture")
    assert "\n" not in str(caught.value) and str(caught.value).count("the picture") >= 1


def test_colours_become_grey_and_transparency_is_left_out():
    colours = np.zeros((20, 20, 4), np.uint8)
    colours[:10, :, 0], colours[10:, :, 1] = 255, 255
    colours[..., 3] = np.arange(20)
    grey = Image.checked(colours).values
    assert grey.shape == (20, 20)
    np.testing.assert_allclose(grey[:10], 255 * 0.2126)
    np.testing.assert_allclose(grey[10:], 255 * 0.7152)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int32, np.float32])
def test_any_real_numbers_will_do_and_keep_their_values(kind):
    values = np.round(np.abs(GOOD)).astype(kind)
    image = Image.checked(values, (0.1, 0.2), 360.0)
    assert image.values.dtype == float
    np.testing.assert_array_equal(image.values, values.astype(float))
    assert (image.um_per_pixel, image.period) == ((0.1, 0.2), 360.0)


def test_what_is_not_finite_counts_as_not_measured():
    values = GOOD.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    image = Image.checked(values)
    assert np.isnan(image.values[0, :3]).all() and np.isfinite(image.values[1:]).all()
    assert np.isinf(values[0, 1])  # what was given is as it was


@pytest.mark.parametrize("steps", [(0.0, 0.1), (np.nan, 0.1)])
def test_a_step_that_is_none_says_nothing_of_the_scale(steps):
    assert Image.checked(GOOD, steps).um_per_pixel is None
    assert Image.checked(GOOD, (-0.1, 0.2)).um_per_pixel == (0.1, 0.2)

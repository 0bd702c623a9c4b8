"""Sample: what it accepts, what it refuses, and where its pixels are."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import pixel_centres
from sim_devices import Sample

ROWS, COLS, POINTS = 5, 7, 6


def parts(**changes):
    rng = np.random.default_rng(0)
    x, y = pixel_centres((ROWS, COLS), (3.0, 2.0))
    return {
        "name": "test",
        "images": {"height": rng.normal(size=(ROWS, COLS))},
        "spectra": {
            "first": rng.normal(size=(ROWS, COLS, POINTS)).astype(np.float32),
            "second": rng.normal(size=(ROWS, COLS, POINTS)),
        },
        "axis": np.arange(POINTS, dtype=float),
        "x": x,
        "y": y,
        **changes,
    }


def test_keeps_the_dtypes_and_the_numbers():
    given_parts = parts()
    sample = Sample(**given_parts)
    assert sample.shape == (ROWS, COLS)
    assert sample.extent_um == (3.0, 2.0)
    assert sample.spectra["first"].dtype == np.float32
    assert sample.spectra["second"].dtype == np.float64
    np.testing.assert_array_equal(sample.spectra["first"], given_parts["spectra"]["first"])
    assert sample.mask.shape == (ROWS, COLS) and not sample.mask.any()
    assert sample.spectrum_units == {"first": "", "second": ""}


def test_is_read_only_and_apart_from_what_was_given():
    given_parts = parts()
    sample = Sample(**given_parts)
    given_parts["images"]["height"][0, 0] = 99.0
    assert sample.images["height"][0, 0] != 99.0
    for array in (sample.images["height"], sample.spectra["first"], sample.axis, sample.mask):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        sample.name = "other"  # type: ignore[misc]


def test_target_has_all_channels_in_order():
    sample = Sample(**parts())
    target = sample.target()
    assert target.shape == (ROWS, COLS, 2 * POINTS) and target.dtype == np.float64
    np.testing.assert_array_equal(target[..., :POINTS], sample.spectra["first"])
    np.testing.assert_array_equal(target[..., POINTS:], sample.spectra["second"])


@given(st.integers(0, ROWS - 1), st.integers(0, COLS - 1), st.floats(-0.49, 0.49))
@settings(max_examples=50, deadline=None)
def test_pixel_is_the_nearest_one(row, col, shift):
    sample = Sample(**parts())
    x = sample.x[col] + shift * sample.x[1]
    y = sample.y[row] - shift * sample.y[1]
    assert sample.pixel(x, y) == (row, col)


@pytest.mark.parametrize("position", [(-0.3, 1.0), (3.3, 1.0), (1.0, 9.0), (float("nan"), 1.0)])
def test_pixel_outside_is_refused(position):
    with pytest.raises(InputError, match="outside the scanned area"):
        Sample(**parts()).pixel(*position)


def spoiled(shape, value, where=(0, 0)):
    array = np.ones(shape)
    array[where] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, "has no images"),
        ({"spectra": {}}, "has no spectra"),
        ({"images": {"a": np.ones((4, 7))}}, "5 x 7 pixels but the images on 4 x 7"),
        (
            {"images": {"a": np.ones((5, 7)), "b": np.ones((7, 5))}},
            r"image 'b' is \(7, 5\) but the first image is \(5, 7\)",
        ),
        ({"images": {"a": spoiled((5, 7), np.nan)}}, "image 'a' has 1 NaN or infinite"),
        ({"images": {"a": spoiled((5, 7), np.inf, 0)}}, "image 'a' has 7 NaN or infinite"),
        ({"images": {"a": np.ones((5, 7, 1))}}, "image 'a' has 3 dimensions"),
        ({"images": {"a": np.empty((0, 7))}}, "is empty"),
        ({"images": {"a": np.full((5, 7), "a")}}, "expected real numbers"),
        ({"images": {"a": np.ones((5, 7), dtype=complex)}}, "expected real numbers"),
        ({"axis": np.arange(5.0)}, "axis has 5 values but spectra 'first' have 6 points"),
        ({"axis": np.full(6, np.nan)}, "axis has 6 NaN"),
        (
            {"spectra": {"s": spoiled((5, 7, 6), np.nan, (2, 3))}},
            r"no finite value at 1 unmasked pixels, the first \(row 2, col 3\)",
        ),
        ({"mask": np.zeros((7, 5), bool)}, r"mask has shape \(7, 5\) but the images have \(5, 7\)"),
        ({"mask": np.full((5, 7), 3)}, "values other than True and False"),
        ({"x": np.zeros(7)}, "x has 7 values from 0 to 0 um; expected 7 increasing"),
        ({"y": np.arange(4.0)}, "y has 4 values from 0 to 3 um; expected 5 increasing"),
        ({"image_units": {"nonsense": "m"}}, "no channels"),
    ],
)
def test_bad_input_has_a_clear_error(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        Sample(**parts(**changes))
    assert "\n" not in str(caught.value)


def test_a_masked_pixel_needs_no_spectrum():
    mask = np.zeros((ROWS, COLS), bool)
    mask[2, 3] = True
    cube = spoiled((ROWS, COLS, POINTS), np.nan, (2, 3))
    cube[0, 0, 0] = np.nan
    sample = Sample(**parts(spectra={"s": cube}, mask=mask))
    assert sample.mask.sum() == 1


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_default_pixels_are_square_and_1_um_on_the_longer_side(rows, cols):
    x, y = pixel_centres((rows, cols))
    assert x.shape == (cols,) and y.shape == (rows,)
    assert x[0] == y[0] == 0.0
    if max(rows, cols) > 1:
        assert max(x[-1], y[-1]) == pytest.approx(1.0)
    if min(rows, cols) > 1:
        assert x[1] == pytest.approx(y[1])


@pytest.mark.parametrize("extent", [(0.0, 1.0), (1.0,), (1.0, float("nan")), 2.0, "ab"])
def test_bad_extent(extent):
    with pytest.raises(InputError, match="two positive lengths"):
        pixel_centres((5, 5), extent)


def test_an_axis_that_is_the_same_everywhere_is_refused():
    with pytest.raises(InputError, match=r"axis is 0 at all its 6 points.*0, 1, 2"):
        Sample(**parts(axis=np.zeros(POINTS)))
    # A loop comes back, and a waveform rests: neither is refused.
    Sample(**parts(axis=np.array([0.0, 1.0, 1.0, 0.0, -1.0, 0.0])))


def test_a_position_that_is_no_number_is_refused_without_a_warning_of_numpy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="increasing pixel centres"):
            Sample(**parts(x=np.array([0, 1, 2, 3, 4, np.inf, np.inf])))


def test_an_image_that_teaches_nothing_is_said(caplog):
    images = {**parts()["images"], "flat": np.full((ROWS, COLS), 7.0)}
    Sample(**parts(images=images))
    (record,) = caplog.records
    assert record.message.startswith("image 'flat' of sample 'test' is 7 everywhere")


@pytest.mark.parametrize(("metres", "hints"), [(1e-7, 1), (1.5e-4, 1), (1e-3, 0), (3.0, 0)])
def test_lengths_that_are_smaller_than_an_atom_are_said(metres, hints, caplog):
    x, y = pixel_centres((ROWS, COLS), (metres, metres / 2))
    Sample(**parts(x=x, y=y))
    assert [record.message.count("are these metres?") for record in caplog.records] == [1] * hints

"""Registration: a shift known by construction is found, and nothing is better than wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import slowly

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans.registration import register
from sim_devices import SyntheticSample, list_samples, open_sample
from sim_devices.drift import Drift, drifting_image

FILM = SyntheticSample((64, 64), seed=4, points=16)
IMAGE = FILM.images["amplitude"].astype(float)
STEP = 0.02
NAMES = [info.name for info in list_samples()]


def moved(image, shift, step=1.0):
    """The image of the sample after it drifted by (x, y), in units of the step."""
    rows, cols = image.shape
    x, y = np.arange(cols) * step, np.arange(rows) * step
    drift = Drift((60 * shift[0] * step, 60 * shift[1] * step))
    return drifting_image(image, x, y, drift, 1.0, 0.0)


def noisy(image, noise, rng):
    return image + noise * np.std(image) * rng.standard_normal(image.shape)


shares = st.floats(0, 0.45), st.floats(0, 2 * np.pi)


@pytest.mark.parametrize("examples", [8, *slowly(40)])
def test_any_shift_is_found_from_scratch_to_a_part_of_a_pixel(examples):
    anything = given(*shares, st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 99))
    settings(max_examples=examples, deadline=None)(anything(shift_is_found))()


def shift_is_found(share, angle, noise, seed):
    rng = np.random.default_rng(seed)
    shift = 64 * share * np.array([np.cos(angle), np.sin(angle)])
    old, new = noisy(IMAGE, noise, rng), noisy(moved(IMAGE, shift), noise, rng)
    found = register({"a": old}, {"a": new}, (STEP, STEP))
    assert found.trusted and found.residual < 0.15
    assert np.hypot(found.dx / STEP - shift[0], found.dy / STEP - shift[1]) < 0.25
    expected = (1 - abs(shift[0]) / 64) * (1 - abs(shift[1]) / 64)
    assert found.overlap == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_samples(name):
    sample = open_sample(name)
    image = np.asarray(next(iter(sample.images.values())), float)
    rng = np.random.default_rng(1)
    step = float(sample.x[1] - sample.x[0]), float(sample.y[1] - sample.y[0])
    for shift in ((0.0, 0.0), (3.4, -1.7), (-0.4 * image.shape[1], 5.2)):
        old, new = noisy(image, 0.3, rng), noisy(moved(image, shift), 0.3, rng)
        found = register({"i": old}, {"i": new}, step)
        assert found.trusted
        assert found.dx / step[0] == pytest.approx(shift[0], abs=0.25)
        assert found.dy / step[1] == pytest.approx(shift[1], abs=0.25)


def test_an_axis_that_falls():
    found = register({"a": IMAGE}, {"a": moved(IMAGE, (4.0, 2.0))}, (STEP, -STEP))
    assert (found.dx, found.dy) == pytest.approx((4 * STEP, -2 * STEP), abs=0.1 * STEP)


def test_on_a_periodic_surface_the_expected_shift_counts():
    x, y = np.meshgrid(np.arange(60), np.arange(60))
    image = np.sin(2 * np.pi * x / 10) + np.sin(2 * np.pi * y / 10)
    for expected in ((0.0, 0.0), (10.0, 0.0), (20.0, -10.0)):
        shift = expected[0] + 1.3, expected[1] - 0.6
        found = register({"a": image}, {"a": moved(image, shift)}, guess_um=expected)
        assert (found.dx, found.dy) == pytest.approx(shift, abs=0.3)


def test_a_wrong_guess_does_no_harm():
    found = register({"a": IMAGE}, {"a": moved(IMAGE, (5.5, -7.0))}, guess_um=(-20.0, 15.0))
    assert found.trusted and (found.dx, found.dy) == pytest.approx((5.5, -7.0), abs=0.2)
    found = register({"a": IMAGE}, {"a": moved(IMAGE, (5.5, -7.0))}, guess_um=(1e6, -1e6))
    assert found.trusted and (found.dx, found.dy) == pytest.approx((5.5, -7.0), abs=0.2)


def test_channels_that_say_nothing_do_not_count():
    rng = np.random.default_rng(0)
    old = {"flat": np.full((64, 64), 3.0), "a": IMAGE, "noise": rng.standard_normal((64, 64))}
    new = {"flat": np.full((64, 64), 5.0), "a": moved(IMAGE, (6.3, 2.2)),
           "noise": rng.standard_normal((64, 64)), "new": IMAGE}  # fmt: skip
    found = register(old, new)
    assert found.trusted and (found.dx, found.dy) == pytest.approx((6.3, 2.2), abs=0.2)


def test_currents_of_picoamperes_are_no_flat_image():
    found = register({"a": 1e-12 * IMAGE + 3e-11}, {"a": 1e-12 * moved(IMAGE, (6.3, 2.2)) + 3e-11})
    assert found.trusted and (found.dx, found.dy) == pytest.approx((6.3, 2.2), abs=0.1)


@pytest.mark.parametrize("what", ["flat", "tilt", "one of them", "noise", "another surface"])
def test_what_shows_nothing_in_common_is_not_trusted(what):
    rng = np.random.default_rng(5)
    plane = np.add.outer(np.arange(64.0), 2 * np.arange(64.0))
    other = SyntheticSample((64, 64), seed=9, points=16).images["amplitude"]
    old, new = {
        "flat": (np.ones((64, 64)), np.ones((64, 64))),
        "tilt": (plane, plane + 7),
        "one of them": (IMAGE, np.zeros((64, 64))),
        "noise": (rng.standard_normal((64, 64)), rng.standard_normal((64, 64))),
        "another surface": (IMAGE, other),
    }[what]
    found = register({"a": old}, {"a": new}, guess_um=(1.0, 2.0))
    assert not found.trusted
    if what in ("flat", "tilt", "one of them"):
        assert np.isnan(found.residual) and (found.dx, found.dy) == (1.0, 2.0)
    else:
        assert found.residual > 0.3


def test_a_shift_that_leaves_too_little_to_compare_is_not_trusted():
    image = IMAGE[:24, :20]
    for beyond in (12.9, 14.0, 16.5):  # 8 of 20 columns, or fewer
        assert not register({"a": image}, {"a": moved(image, (beyond, 0.0))}).trusted


def test_what_cannot_be_registered():
    hole = IMAGE.copy()
    hole[3, 4] = np.nan
    with pytest.raises(InputError, match="channel 'a' has 1 NaN or infinite pixels of 4096"):
        register({"a": IMAGE}, {"a": hole})
    with pytest.raises(InputError, match="no channel in common: a and b"):
        register({"a": IMAGE}, {"b": IMAGE})
    with pytest.raises(InputError, match="expected one shape"):
        register({"a": IMAGE}, {"a": IMAGE[:-1]})
    with pytest.raises(InputError, match="at least 8"):
        register({"a": IMAGE[:5]}, {"a": IMAGE[:5]})
    with pytest.raises(InputError, match="expected finite"):
        register({"a": IMAGE}, {"a": IMAGE}, (0.0, 1.0))

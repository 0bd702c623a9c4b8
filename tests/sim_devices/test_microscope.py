"""SimMicroscope: replay identity, noise, and what it refuses."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.devices.driver_protocols import ImagerDriver, SpectrometerDriver, StageDriver
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import pixel_centres
from sim_devices import Clock, Sample, SimMicroscope, SyntheticSample

FILM = SyntheticSample((9, 12), points=16)


def instant(sample=FILM, **options):
    return SimMicroscope(sample, Clock(math.inf), **options)


def goto(microscope, row, col):
    microscope.move("x", microscope.sample.x[col])
    microscope.move("y", microscope.sample.y[row])


def test_is_a_driver():
    for protocol in (StageDriver, ImagerDriver, SpectrometerDriver):
        assert isinstance(instant(), protocol)


@given(st.integers(0, 8), st.integers(0, 11))
@settings(max_examples=30, deadline=None)
def test_replays_number_for_number(row, col):
    microscope = instant()
    goto(microscope, row, col)
    spectrum = microscope.acquire()
    assert microscope.position("x") == FILM.x[col] and microscope.position("y") == FILM.y[row]
    for name, values in spectrum.items():
        np.testing.assert_array_equal(values, FILM.spectra[name][row, col])
        assert values.dtype == FILM.spectra[name].dtype


def test_scan_replays_and_counts():
    microscope = instant(line_s=2.0)
    images = microscope.scan()
    np.testing.assert_array_equal(images["amplitude"], FILM.images["amplitude"])
    assert list(images) == list(microscope.image_channels)
    assert microscope.clock.now() == pytest.approx(9 * 2.0)
    microscope.acquire()
    assert (microscope.n_scans, microscope.n_spectra) == (1, 1)


def test_what_it_says_of_itself():
    microscope = instant(spectrum_s=0.25)
    assert microscope.limits("x") == (0.0, FILM.x[-1])
    assert microscope.spectrum_axis[:2] == ("bias", "V")
    assert microscope.spectrum_channels == {"response": "pm"}
    assert microscope.spectrum_settings["spectrum_s"] == 0.25
    x, y = microscope.image_axes
    assert (len(y), len(x)) == FILM.shape


@pytest.mark.parametrize("speed", [4.0, math.inf])
def test_the_times_it_states_are_those_on_its_clock(speed):
    microscope = instant(speed_um_per_s=0.3, settle_s=0.5, line_s=2.0, spectrum_s=0.25)
    stated = SimMicroscope(
        FILM, Clock(speed), speed_um_per_s=0.3, settle_s=0.5, line_s=2.0, spectrum_s=0.25
    )
    way = float(FILM.x[4])
    for call, said in [
        (microscope.scan, stated.scan_seconds),
        (microscope.acquire, stated.spectrum_seconds),
        (lambda: microscope.move("x", way), stated.move_seconds("x", -way)),
        (lambda: microscope.move("x", way), stated.move_seconds("x", 0.0)),
    ]:
        began = microscope.clock.now()
        call()
        assert said == pytest.approx((microscope.clock.now() - began) / speed)
    with pytest.raises(InputError, match="expected 'x' or 'y'"):
        stated.move_seconds("z", 1.0)  # type: ignore[arg-type]


def test_noise_depends_on_the_pixel_and_the_repeat_only():
    def measure(pixels, seed=0):
        microscope = instant(noise=0.5, seed=seed)
        out = {}
        for pixel in pixels:
            goto(microscope, *pixel)
            out.setdefault(pixel, []).append(microscope.acquire()["response"])
        return out

    one, two = measure([(1, 2), (3, 4), (1, 2)]), measure([(3, 4), (1, 2), (1, 2)])
    for pixel in one:
        np.testing.assert_array_equal(one[pixel], two[pixel])
    assert (one[1, 2][0] != one[1, 2][1]).any()
    assert (measure([(1, 2)], seed=1)[1, 2][0] != one[1, 2][0]).any()


def test_noise_level():
    microscope = instant(noise=0.2)
    scans = np.array([microscope.scan()["amplitude"] for _ in range(40)])
    spread = (scans - FILM.images["amplitude"]).std() / FILM.images["amplitude"].std()
    assert spread == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("position", [-0.1, 5.0, math.nan, math.inf])
def test_outside_the_area(position):
    with pytest.raises(InputError, match="outside the scanned area"):
        instant().move("x", position)


def test_masked_pixel():
    x, y = pixel_centres((4, 4))
    mask = np.eye(4, dtype=bool)
    cube = np.ones((4, 4, 3))
    cube[mask] = np.nan
    sample = Sample("m", {"i": np.ones((4, 4))}, {"s": cube}, np.arange(3), x, y, mask=mask)
    microscope = instant(sample, noise=1.0)
    with pytest.raises(InputError, match=r"pixel \(row 0, col 0\) is masked"):
        microscope.acquire()
    goto(microscope, 0, 1)
    assert np.isfinite(microscope.acquire()["s"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"speed_um_per_s": 0},
        {"settle_s": -1},
        {"spectrum_s": math.nan},
        {"line_s": math.inf},
        {"noise": -1},
        {"seed": -1},
        {"seed": 0.5},
    ],
)
def test_bad_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        instant(**options)


def test_bad_axis():
    with pytest.raises(InputError, match="expected 'x' or 'y'"):
        instant().position("z")  # type: ignore[arg-type]


def test_another_sample_is_put_under_the_tip():
    scope = SimMicroscope(SyntheticSample((16, 14), seed=1, points=16), Clock(math.inf))
    scope.move("x", scope.limits("x")[1])
    other = SyntheticSample((20, 24), seed=2, points=8)
    scope.load(other)
    assert (scope.position("x"), scope.position("y")) == (other.x[0], other.y[0])
    assert scope.limits("x") == (other.x[0], other.x[-1])
    assert scope.scan().keys() == other.images.keys()
    for name, spectrum in scope.acquire().items():
        assert np.array_equal(spectrum, other.spectra[name][0, 0])


def test_the_sample_is_not_changed_under_a_tip_that_moves():
    sample = SyntheticSample((16, 14), seed=1, points=16)
    scope = SimMicroscope(sample, Clock(), speed_um_per_s=1e-3)
    moving = threading.Thread(target=scope.move, args=("x", scope.limits("x")[1]))
    moving.start()
    while not scope._moves:
        assert moving.is_alive()
    with pytest.raises(RuntimeError, match="moves or measures"):
        scope.load(sample)
    scope.stop("x")
    moving.join()
    scope.load(sample)

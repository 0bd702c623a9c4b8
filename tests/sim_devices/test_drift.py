"""A drifting sample: what is under the tip is the sample at s - drift(t)."""

import math

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import pixel_centres
from sim_devices import Clock, Sample, SimMicroscope, SyntheticSample

FILM = SyntheticSample((12, 20), seed=2, points=16)  # pixels of 0.02 um
STEP = 0.02


def drifting(sample=FILM, pixels_per_s=(0.0, 0.0), **options):
    """A microscope whose sample drifts by so many pixels a second."""
    rate = tuple(60 * STEP * pixels for pixels in pixels_per_s)
    return SimMicroscope(
        sample, Clock(math.inf), settle_s=0, speed_um_per_s=math.inf,
        drift_um_per_min=rate, **options,
    )  # fmt: skip


def ramp(shape=(12, 20)):
    """A sample whose image says where it is: x in pixels."""
    x, y = pixel_centres(shape, ((shape[1] - 1) * STEP, (shape[0] - 1) * STEP))
    image = np.broadcast_to(np.arange(float(shape[1])), shape)
    return Sample("ramp", {"x": image}, {"r": np.ones((*shape, 3))}, np.arange(3.0), x, y)


def test_without_drift_all_is_number_for_number_as_before():
    for options in ({}, {"noise": 0.2, "seed": 3}):
        still, plain = drifting(**options), SimMicroscope(FILM, Clock(math.inf), **options)
        for microscope in (still, plain):
            microscope.move("x", FILM.x[7])
        images, as_before = still.scan(), plain.scan()
        np.testing.assert_array_equal(images["amplitude"], as_before["amplitude"])
        assert images["amplitude"].dtype == FILM.images["amplitude"].dtype
        np.testing.assert_array_equal(still.acquire()["response"], plain.acquire()["response"])
        assert [true.what for true in still.under_tip] == ["scan", "spectrum"]
        assert still.under_tip[1][2:] == (FILM.x[7], 0.0, 0.0, 0.0)


def test_a_spectrum_is_that_of_the_pixel_really_under_the_tip():
    microscope = drifting(pixels_per_s=(0.1, -0.05), spectrum_s=2.0)
    microscope.move("x", FILM.x[15])
    microscope.move("y", FILM.y[3])
    microscope.clock.sleep(59.0)
    measured = microscope.acquire()  # its middle is at 60 s: 6 pixels along x, -3 along y
    np.testing.assert_array_equal(measured["response"], FILM.spectra["response"][6, 9])
    true = microscope.under_tip[-1]
    assert true.seconds == pytest.approx(60)
    assert (true.drift_x, true.drift_y) == pytest.approx((6 * STEP, -3 * STEP))


def test_beyond_its_border_the_sample_goes_on_mirrored():
    microscope = drifting(pixels_per_s=(0.1, 0.0), spectrum_s=0.0)
    microscope.clock.sleep(40.0)  # 4 pixels beyond the left border
    measured = microscope.acquire()
    np.testing.assert_array_equal(measured["response"], FILM.spectra["response"][0, 4])
    microscope.clock.sleep(1e5)  # however far
    assert np.isfinite(microscope.acquire()["response"]).all()


def test_an_image_is_drawn_line_by_line_each_at_its_time():
    microscope = drifting(ramp(), pixels_per_s=(0.05, 0.0), line_s=4.0)
    image = microscope.scan()["x"]
    middle_of_line = (np.arange(12) + 0.5) * 4.0
    expected = np.arange(20)[None, :] - 0.05 * middle_of_line[:, None]
    inside = slice(6, -3)  # the mirror begins at x = 0, and the spline knows
    np.testing.assert_allclose(image[:, inside], expected[:, inside], atol=0.01)


def test_an_image_of_a_drift_of_whole_pixels_is_the_shifted_one():
    microscope = drifting(pixels_per_s=(0.1, 0.1), line_s=0.0)
    first = microscope.scan()["amplitude"]
    np.testing.assert_allclose(first, FILM.images["amplitude"], rtol=1e-5, atol=1e-4)
    microscope.clock.sleep(30.0)
    image, recorded = microscope.scan()["amplitude"], FILM.images["amplitude"]
    np.testing.assert_allclose(image[3:, 3:], recorded[:-3, :-3], rtol=1e-5, atol=1e-4)
    # row 2 is row -1 of the sample: the mirror of row 1
    np.testing.assert_allclose(image[2, 3:], recorded[1, :-3], rtol=1e-5, atol=1e-4)
    assert image.dtype == recorded.dtype


@pytest.mark.parametrize("drift", [(math.nan, 0.0), (1.0,), "fast", (0.0, math.inf), 3.0])
def test_a_drift_that_is_none(drift):
    with pytest.raises(InputError, match="drift_um_per_min is .*expected two finite velocities"):
        SimMicroscope(FILM, drift_um_per_min=drift)

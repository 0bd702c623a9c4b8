"""The figures of a spectrum that the spectrometer records by default."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curiosity_bluesky.devices import loop_area, loop_quality
from sim_devices import Clock, SimMicroscope, list_samples, open_sample

NAN = np.nan


def quality(*channels):
    named = {f"channel {i}": np.array(values) for i, values in enumerate(channels)}
    return loop_quality(np.arange(len(channels[0])), named)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 4.0, 2.0, 3.0], 1.0),
        ([1.0, NAN, 2.0, np.inf], 0.5),
        ([7.0] * 4, 0.0),
        ([7.0, NAN, 7.0, NAN], 0.0),
        ([NAN] * 4, 0.0),
        ([5.0], 0.0),
        # Two equal extremes are chance, three are a rail; so are those with a gap in between.
        ([1.0, 2.0, 9.0, 9.0, 3.0, 9.0, 4.0, 2.5], 1.0),
        ([1.0, 2.0, 9.0, 9.0, 9.0, 3.0, 4.0, 2.5], 5 / 8),
        ([1.0, 2.0, 9.0, NAN, 9.0, 9.0, 4.0, 2.5], 4 / 8),
        # At the ends, at both rails, and not at a plateau between them.
        ([0.0, 0.0, 0.0, 5.0, 5.1, 9.0, 9.0, 9.0], 2 / 8),
        ([0.0, 5.0, 5.0, 5.0, 5.0, 9.0, 3.0, 1.0], 1.0),
        # A noisy signal that is clipped jumps from rail to rail.
        ([0.0, 9.0, 0.0, 9.0, 5.0, 0.0, 9.0, 4.0], 4 / 8),
        ([0, 0, 0, 2, 1, 3], 0.5),
        ([True, True, True, False], 0.0),
    ],
)
def test_quality_of_known_spectra(values, expected):
    assert quality(values) == expected


def test_the_worst_channel_counts():
    good, poor = [1.0, 2.0, 3.0, 4.0], [1.0, NAN, 3.0, 4.0]
    assert quality(good, poor) == quality(poor, good) == 0.75
    assert quality(good, [2.0] * 4) == 0.0
    assert quality(good, good) == 1.0


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN]), min_size=1, max_size=30))
def test_quality_is_a_share_and_does_not_know_the_sign_or_the_direction(values):
    forward = quality(values)
    assert 0 <= forward <= np.mean(np.isfinite(values))
    assert quality(values[::-1]) == quality([-v for v in values]) == forward


def spectra_of(sample, every):
    """Spectra of some pixels of a sample as the instrument would give them."""
    for row, col in np.argwhere(~sample.mask)[::every]:
        yield {name: cube[row, col] for name, cube in sample.spectra.items()}


@pytest.mark.parametrize("name", [info.name for info in list_samples()])
def test_every_bundled_sample_is_good(name):
    sample = open_sample(name)
    seen = [loop_quality(sample.axis, s) for s in spectra_of(sample, every=23)]
    assert len(seen) > 100 and set(seen) == {1.0}


def test_the_authors_recording_is_good(authors_file):
    sample = open_sample(authors_file, image=25, spectra="49:")
    assert {loop_quality(sample.axis, s) for s in spectra_of(sample, every=7)} == {1.0}


@pytest.mark.parametrize("name", [info.name for info in list_samples()])
def test_useless_spectra_of_every_bundled_sample_are_told(name):
    sample = open_sample(name)
    for noise in (0.0, 0.1):
        microscope = SimMicroscope(sample, Clock(float("inf")), noise=noise)
        for row, col in np.argwhere(~sample.mask)[::397]:
            microscope.move("x", sample.x[col])
            microscope.move("y", sample.y[row])
            for kind, worst in (("nan", 0.0), ("flat", 0.0), ("saturated", 0.25)):
                microscope.faults.next(kind)
                assert loop_quality(sample.axis, microscope.acquire()) <= worst


def test_the_area_of_a_square_loop_is_known():
    bias = np.array([-1.0, 1.0, 1.0, -1.0])
    assert loop_area(bias, {"r": np.array([-2.0, -2.0, 2.0, 2.0])}) == pytest.approx(8.0)

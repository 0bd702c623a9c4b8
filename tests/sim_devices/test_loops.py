"""The loop model: bounded, with a memory, and with the coercive biases it was given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.errors import InputError
from sim_devices.loops import bias_cycle, switching_loop


def test_bias_cycle_is_a_triangle():
    bias = bias_cycle(64, 10.0)
    assert bias.shape == (64,)
    assert bias[0] == 0 and bias.max() == 10 and bias.min() == -10
    assert bias.argmax() == 16 and bias.argmin() == 48
    np.testing.assert_allclose(np.abs(np.diff(bias)), 0.625)


@given(
    st.floats(1, 5),
    st.floats(1, 20),
    st.floats(-1, 1),
    st.floats(0.1, 2),
    st.floats(0, 1),
    st.floats(-1, 1),
)
@settings(max_examples=80, deadline=None)
def test_is_bounded_by_the_saturation(coercive, saturation, imprint, width, step, initial):
    loop = switching_loop(
        bias_cycle(40, 10.0),
        coercive,
        -coercive,
        saturation,
        imprint=imprint,
        nucleation_width=width,
        nucleation_step=step,
        nucleation_lead=0.5 * coercive,
        initial=initial,
    )
    assert loop.shape == (40,) and loop.dtype == np.float64
    assert np.abs(loop).max() <= saturation * (1 + 1e-12)
    # Up while the bias rises, down while it falls.
    assert np.all(np.diff(loop[:11]) >= -1e-12)
    assert np.all(np.diff(loop[10:31]) <= 1e-12)


@given(st.floats(2, 6), st.floats(-1.5, 1.5))
@settings(max_examples=10, deadline=None)
def test_crosses_zero_at_the_coercive_biases(coercive, imprint):
    bias = bias_cycle(4000, 10.0)
    loop = switching_loop(bias, coercive, -coercive, 1.0, imprint=imprint, nucleation_width=0.3)
    up, down = slice(0, 1001), slice(1000, 3001)
    positive = np.interp(0.0, loop[up], bias[up])
    negative = np.interp(0.0, loop[down][::-1], bias[down][::-1])
    assert positive == pytest.approx(coercive + imprint, abs=0.02)
    assert negative == pytest.approx(-coercive + imprint, abs=0.02)


def test_keeps_its_state_without_switching():
    small = bias_cycle(40, 1.0)
    for state in (-1.0, 1.0):
        loop = switching_loop(small, 5.0, -5.0, 3.0, nucleation_width=0.3, initial=state)
        np.testing.assert_allclose(loop, 3.0 * state, atol=1e-6)


def test_nucleation_step_switches_early():
    bias = bias_cycle(4000, 10.0)
    plain = switching_loop(bias, 4.0, -4.0, 1.0, nucleation_width=0.3)
    step = switching_loop(
        bias, 4.0, -4.0, 1.0, nucleation_width=0.3, nucleation_step=0.4, nucleation_lead=2.0
    )
    at = np.argmin(np.abs(bias[:1000] - 3.0))
    assert plain[at] < -0.99
    assert step[at] == pytest.approx(-1 + 2 * 0.4, abs=0.01)


def test_broadcasts_and_agrees_with_one_by_one():
    bias = bias_cycle(32, 8.0)
    coercive = np.linspace(2, 4, 3)[:, None]
    saturation = np.linspace(1, 2, 4)
    loops = switching_loop(bias, coercive, -coercive, saturation, offset=0.5, slope=0.1)
    assert loops.shape == (3, 4, 32)
    one = switching_loop(
        bias, coercive[1, 0], -coercive[1, 0], saturation[2], offset=0.5, slope=0.1
    )
    np.testing.assert_array_equal(loops[1, 2], one)


def test_refuses_nonsense():
    with pytest.raises(InputError, match="nucleation_width"):
        switching_loop([0, 1], 1, -1, 1, nucleation_width=0)
    with pytest.raises(InputError, match="exchange"):
        switching_loop([0, 1], -1, 1, 1)

"""The numbers of a loop: right for loops of known truth, absent where there are none."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.devices.pfm import loop_field_arrays, loop_fields, units_of
from curiosity_bluesky.devices.pfm.loops import LoopFields, rising_branch
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.recorded import RecordedSample
from curiosity_bluesky.learning.loop_fit import fit_loop
from sim_devices.loops import bias_cycle, switching_loop

BIAS = bias_cycle(64, 10.0)


@settings(deadline=None, max_examples=100)
@given(
    plus=st.floats(1, 4),
    minus=st.floats(-4, -1),
    shift=st.floats(-1, 1),
    size=st.floats(0.01, 100),
    offset=st.floats(-3, 3),
)
def test_of_a_known_loop_they_are_the_known_numbers(plus, minus, shift, size, offset):
    """The loop is offset + size * tanh, with the branches at plus and minus, all shifted."""
    bias = bias_cycle(400, 10.0)
    loop = switching_loop(
        bias, plus, minus, size, imprint=shift, nucleation_width=0.8, offset=offset * size
    )
    got = loop_fields(bias, loop)
    assert got.switches == 1
    assert got.coercive_positive == pytest.approx(plus + shift, abs=0.02)
    assert got.coercive_negative == pytest.approx(minus + shift, abs=0.02)
    assert got.imprint == pytest.approx((plus + minus) / 2 + shift, abs=0.02)
    after = {w: switching_loop(np.array([v, 0.0]), plus, minus, 1.0, imprint=shift,
                               nucleation_width=0.8, initial=-np.sign(v))[1]
             for w, v in (("up", 10.0), ("down", -10.0))}  # fmt: skip
    assert got.remanence_positive == pytest.approx(size * (after["up"] + offset), abs=0.02 * size)
    assert got.remanence_negative == pytest.approx(size * (after["down"] + offset), abs=0.02 * size)
    assert got.switchable == pytest.approx(2 * size, rel=0.01)
    assert got.middle == pytest.approx(offset * size, abs=0.01 * size)
    # Two steps of height 2 size, one at each coercive bias, enclose this:
    assert got.area == pytest.approx(2 * size * (plus - minus), rel=0.01)


def test_a_parallelogram_has_the_area_and_zeros_that_one_draws():
    bias = np.array([-3, -2, -1, 0, 1, 2, 3, 2, 1, 0, -1, -2.0])
    loop = np.array([-1, -1, -1, -1, -0.5, 0.5, 1, 1, 1, 1, 0.5, -0.5])
    got = loop_fields(bias, loop)
    assert (got.coercive_positive, got.coercive_negative) == (1.5, -1.5)
    assert (got.remanence_positive, got.remanence_negative) == (1.0, -1.0)
    assert got.imprint == 0
    # Between the branches: 0, 1.5, 2, 2, 1.5, 0.5, 0 at -3..3 with unit steps.
    assert got.area == pytest.approx(np.trapezoid([0, 0.5, 1.5, 2, 1.5, 0.5, 0]))


def test_noise_spreads_them_but_does_not_shift_them():
    rng, n, sigma = np.random.default_rng(0), 1500, 0.1
    loop = switching_loop(BIAS, 3.0, -2.0, 1.0, nucleation_width=0.8, offset=0.2)
    true = asdict(loop_fields(BIAS, loop))
    draws = [asdict(loop_fields(BIAS, loop + sigma * rng.standard_normal(64))) for _ in range(n)]
    spread = {"remanence_positive": sigma, "remanence_negative": sigma}  # one point at V = 0
    spread |= {"area": 2 * sigma * BIAS[1] * 8, "switchable": sigma * np.sqrt(2 / 7)}
    spread |= {"coercive_positive": 0.25, "coercive_negative": 0.25, "imprint": 0.15}
    for name, most in spread.items():
        values = np.array([draw[name] for draw in draws])
        assert np.isfinite(values).all()
        assert values.std() < 1.15 * most, name
        assert abs(values.mean() - true[name]) < 0.02 * most + 4 * values.std() / np.sqrt(n), name


@pytest.mark.quick("16")
@pytest.mark.parametrize("points", [16, 64, 200])
def test_what_does_not_switch_has_no_coercive_bias(points):
    """A straight line (a capacitor), a constant, a parabola: with noise and without."""
    bias, rng = bias_cycle(points, 10.0), np.random.default_rng(0)
    for shape in (0.3 * bias, np.zeros(points), 0.02 * bias**2):
        clean = loop_fields(bias, shape)
        assert clean.switches == 0 and np.isnan(clean.coercive_positive)
        noisy = [loop_fields(bias, shape + rng.standard_normal(points)) for _ in range(300)]
        assert np.mean([one.switches for one in noisy]) <= 0.01
        quiet = [one for one in noisy if not one.switches]
        assert np.isnan(
            [[o.coercive_positive, o.coercive_negative, o.imprint] for o in quiet]
        ).all()
        assert np.isfinite([[o.remanence_positive, o.area, o.switchable] for o in quiet]).all()


def test_a_loop_that_runs_the_other_way_round_has_a_negative_area_and_does_not_switch():
    loop = -switching_loop(BIAS, 3.0, -2.0, 1.0)
    got = loop_fields(BIAS, loop)
    assert got.area < 0 and got.switches == 0 and np.isnan(got.imprint)


def test_a_loop_above_zero_has_coercive_biases_but_no_zeros():
    loop = switching_loop(BIAS, 3.0, -2.0, 1.0, offset=5.0)
    assert loop_fields(BIAS, loop).coercive_positive == pytest.approx(3.0, abs=0.1)
    zeros = loop_fields(BIAS, loop, level=0.0)
    assert np.isnan([zeros.coercive_positive, zeros.coercive_negative, zeros.imprint]).all()
    assert zeros.switches == 1 and zeros.remanence_negative > 0


def test_where_the_cycle_begins_does_not_matter_and_gaps_hardly_do():
    loop = switching_loop(BIAS, 3.0, -2.0, 1.0, nucleation_width=1.0)
    loop[0] = -1.0
    expected = asdict(loop_fields(BIAS, loop))
    for shift in (5, 16, 40, 63):
        got = asdict(loop_fields(np.roll(BIAS, shift), np.roll(loop, shift)))
        assert got == pytest.approx(expected)
    gaps = loop.copy()
    gaps[[3, 20, 37]] = np.nan
    assert asdict(loop_fields(BIAS, gaps)) == pytest.approx(expected, abs=0.15, rel=0.03)


def test_without_enough_points_there_is_nothing():
    nothing = asdict(LoopFields())
    few = np.full(64, np.nan)
    few[:7] = 1.0
    for bias, loop in ((BIAS, few), (np.zeros(64), BIAS), (np.linspace(-1, 1, 64)[:5], BIAS[:5])):
        assert asdict(loop_fields(bias, loop)) == pytest.approx(nothing, nan_ok=True)


def test_the_branches_are_told_apart_by_where_the_bias_comes_from():
    assert rising_branch(np.array([0, 1, 2, 1, 0, -1.0])).tolist() == [1, 1, 1, 0, 0, 0]
    assert rising_branch(np.array([0, 1, 1, 0, 0, -1.0])).tolist() == [1, 1, 1, 0, 0, 0]


def test_the_units_are_those_of_the_numbers():
    units = units_of("V", "pm")
    assert list(units) == list(asdict(LoopFields()))
    assert units["coercive_positive"] == units["imprint"] == "V"
    assert units["remanence_negative"] == units["switchable"] == "pm"
    assert units["area"] == "pm V"


def test_bias_and_loop_have_to_fit():
    with pytest.raises(InputError, match="bias of one cycle"):
        loop_fields(BIAS, np.zeros(65))
    with pytest.raises(InputError, match="bias of one cycle"):
        loop_fields(BIAS, np.zeros((2, 64)))


@pytest.mark.quick("PTO_BEPS_3um")
@pytest.mark.parametrize("name", ["PTO_BEPS_1d3um", "PTO_BEPS_3um"])
def test_on_recorded_loops_they_agree_with_a_fitted_loop(name):
    """The fit has smooth branches and takes no single point for granted: an independent way."""
    pytest.importorskip("mexpsimu")
    sample = RecordedSample.from_mexpsimu(name)
    bias = sample.axis[:64]
    loops = sample.spectra["response"].reshape(*sample.shape, 3, 64)[:, :, 1:].mean(axis=2)
    rng, pairs = np.random.default_rng(0), []
    while len(pairs) < 30:
        loop = loops[rng.integers(sample.shape[0]), rng.integers(sample.shape[1])]
        got = loop_fields(bias, loop, level=0.0)
        offset, slope, height, up, down, width = fit_loop(bias, loop)
        fine = np.linspace(bias.min(), bias.max(), 2001)
        branches = [
            offset + slope * fine + height * np.tanh((fine - v) / np.exp(width)) for v in (up, down)
        ]
        signs = [np.flatnonzero((b[:-1] < 0) & (b[1:] >= 0)) for b in branches]
        if got.switches and np.isfinite(got.imprint) and all(len(s) == 1 for s in signs):
            zeros = [fine[s[0]] for s in signs]
            area = np.trapezoid(branches[1] - branches[0], fine)
            pairs.append([[got.coercive_positive, got.coercive_negative, got.area], [*zeros, area]])
    ours, theirs = np.array(pairs).transpose(1, 2, 0)
    difference = np.abs(ours - theirs)
    assert (np.median(difference[:2], axis=1) < 0.5).all()  # V; a step is 0.75 V
    assert np.median(difference[2]) < 0.1 * np.median(theirs[2])
    assert all(np.corrcoef(a, b)[0, 1] > 0.9 for a, b in zip(ours, theirs, strict=True))


def test_many_loops_are_read_as_each_of_them_gaps_or_not():
    rng = np.random.default_rng(3)
    plus, width = rng.uniform(1, 4, (5, 6)), rng.uniform(0.5, 1.5, (5, 6))
    loops = switching_loop(BIAS, plus, -plus, 1.0, nucleation_width=width)
    loops += 0.1 * rng.standard_normal(loops.shape)
    loops[1, 2, [3, 20]] = loops[4, 0, 7:60] = loops[2] = np.nan
    loops[0, 0] = BIAS  # does not switch
    found = loop_field_arrays(BIAS, loops)
    for index in np.ndindex(5, 6):
        one = asdict(loop_fields(BIAS, loops[index]))
        many = {name: values[index] for name, values in found.items()}
        assert many == pytest.approx(one, nan_ok=True, rel=1e-12)
    assert np.isfinite(found["coercive_positive"]).sum() == 30 - 6 - 2
    assert all(values.shape == (0, 3) for values in loop_field_arrays(BIAS, loops[:0, :3]).values())


def test_of_several_cycles_it_is_the_mean_that_is_read():
    rng = np.random.default_rng(4)
    loop = switching_loop(BIAS, 3.0, -2.0, 1.0, nucleation_width=0.8)
    three = np.tile(loop, 3) + 0.1 * rng.standard_normal(192)
    three[70] = np.nan
    mean = np.nanmean(three.reshape(3, 64), axis=0)
    assert asdict(loop_fields(np.tile(BIAS, 3), three)) == asdict(loop_fields(BIAS, mean))

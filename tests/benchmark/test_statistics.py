"""The statistics, on made-up curves of which the answers are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from curiosity_bluesky.benchmark.statistics import (
    Curves,
    compare,
    curves,
    mean_with_interval,
    saving,
)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def made(values, n=None, seeds=None):
    values = np.atleast_2d(np.asarray(values, float))
    n = np.arange(0, 10 * values.shape[1], 10) if n is None else np.asarray(n)
    return Curves(n, np.arange(len(values)) if seeds is None else np.asarray(seeds), values)


N = np.arange(0, 101, 10)
FALLING = 1 - N / 200
"""From 1 to 0.5 in a hundred measurements."""


def test_saving_is_how_many_measurements_the_other_one_needs():
    ours = np.where(N < 50, FALLING, 1 - 75 / 200)  # at 50 what the other has at 75
    found = saving(made(ours), made(FALLING), 50)
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high) == pytest.approx((1.5, 1.5))  # one seed: nothing to resample
    assert str(found) == "1.50 (1.50 to 1.50)"


def test_saving_against_oneself_is_one_and_a_loss_is_below_one():
    assert saving(made(FALLING), made(FALLING), 40).value == pytest.approx(1)
    worse = np.where(N < 50, FALLING, 1 - 25 / 200)
    assert saving(made(worse), made(FALLING), 50).value == pytest.approx(0.5)


def test_a_reference_that_never_gets_there_gives_a_bound():
    found = saving(made(np.full(11, 0.2)), made(FALLING), 40)
    assert found.value == found.low == found.high == np.inf
    assert str(found) == "> 2.50 (> 2.50 to > 2.50)"


def test_a_reference_that_is_there_from_the_start_gives_no_more_than_that():
    found = saving(made(np.full(11, 2.0), N + 10), made(FALLING, N + 10), 100)
    assert str(found) == "< 0.10 (< 0.10 to < 0.10)"


def test_what_was_once_known_is_not_counted_as_lost():
    bumpy = FALLING.copy()
    bumpy[6:] = 0.95  # it was at 0.75 after 50 and forgot
    found = saving(made(np.full(11, 0.80)), made(bumpy), 20)
    assert found.value == pytest.approx(40 / 20)


def test_saving_needs_a_step_that_both_have():
    assert saving(made(FALLING), made(FALLING), 45) is None
    assert saving(made(FALLING), made(FALLING[:3]), 50) is None
    assert saving(made([0.5], [50]), made([0.5], [50]), 50) is None


def test_saving_of_noisy_runs_lies_in_its_interval(rng):
    ours = 1 - 1.5 * N / 200 + rng.normal(size=(20, 11)) * 0.02
    reference = FALLING + rng.normal(size=(20, 11)) * 0.02
    found = saving(made(ours), made(reference), 50)
    assert found.low < found.value < found.high
    assert found.low < 1.5 < found.high and 1.2 < found.value < 1.8


def test_a_band_covers_the_true_mean_as_often_as_it_says(rng):
    truth = np.linspace(1, 0.3, 200)
    low, high = made(truth + rng.normal(size=(20, 200)), np.arange(200)).band()
    covered = ((low <= truth) & (truth <= high)).mean()
    # Percentiles of so few seeds are a little too narrow (about 93 %).
    assert 0.87 < covered < 0.99
    assert (low < high).all()


def test_the_interval_of_a_mean_shrinks_as_the_seeds_grow(rng):
    values = rng.normal(3, 1, 400)
    mean, low, high = mean_with_interval(values)
    assert mean == pytest.approx(values.mean()) and low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert mean_with_interval(np.full(5, 2.0)) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("shift", [-0.8, 0.0, 0.8])
def test_pairs_are_compared_by_wilcoxons_test(rng, shift):
    reference = rng.normal(size=20)
    arm = reference + shift + rng.normal(size=20) * 0.5
    found = compare(arm, reference)
    assert found.p == pytest.approx(stats.wilcoxon(arm, reference).pvalue)
    assert found.difference == pytest.approx((arm - reference).mean())
    assert found.low <= found.difference <= found.high and found.seeds == 20
    assert found.verdict == {-0.8: "better", 0.0: "no different", 0.8: "worse"}[shift]


def test_equal_pairs_are_no_different():
    found = compare(np.ones(9), np.ones(9))
    assert (found.p, found.difference, found.verdict) == (1.0, 0.0, "no different")


def test_fewer_than_six_seeds_prove_nothing():
    assert compare(np.zeros(5), np.arange(1.0, 6)).verdict == "no different"
    assert compare(np.zeros(6), np.arange(1.0, 7)).verdict == "better"


def tidy(arms):
    """Rows of trials.parquet: {arm: {seed: {n: value}}}."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "n_observed": n, "test_nmse": value}
        for arm, runs in arms.items()
        for seed, scores in runs.items()
        for n, value in scores.items()
    )


def test_curves_are_made_of_the_complete_trials():
    table = tidy(
        {
            "ours": {0: {10: 0.9, 20: 0.5}, 1: {10: 0.8, 20: 0.7}, 2: {10: 0.1}},
            "random": {1: {10: 1.0, 20: 0.9}, 2: {10: 1.1, 20: 0.8}},
        }
    )
    found = curves(table, "test_nmse")
    assert list(found) == ["ours", "random"]
    assert found["ours"].seeds.tolist() == [0, 1]  # the third run is not done
    np.testing.assert_allclose(found["ours"].mean, [0.85, 0.6])
    np.testing.assert_allclose(found["random"].at(20), [0.9, 0.8])


def test_an_unfinished_campaign_is_compared_on_the_seeds_that_both_have():
    ours = made([[9, 9, 9], [1, 2, 3], [4, 5, 6]], seeds=[0, 1, 2])
    other = made([[8, 8, 8, 8], [7, 7, 7, 7]], seeds=[1, 2], n=[0, 10, 20, 30])
    mine, theirs = ours.common(other)
    assert mine.seeds.tolist() == theirs.seeds.tolist() == [1, 2]
    assert mine.n.tolist() == theirs.n.tolist() == [0, 10, 20]
    assert mine.at(10).tolist() == [2, 5] and theirs.at(10).tolist() == [8, 7]
    # Seed 0, where ours is far off, has no say: ours is where the other never comes.
    assert saving(ours, other, 20).value == np.inf

"""SyntheticSample: the same from the same seed, physical, and learnable from its image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.errors import InputError
from sim_devices import SyntheticSample


@given(
    st.tuples(st.integers(4, 24), st.integers(4, 24)),
    st.integers(0, 2**32),
    st.integers(8, 40),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_size_and_the_same_from_the_same_seed(shape, seed, points, phase):
    first, second = (SyntheticSample(shape, seed, points, phase=phase) for _ in range(2))
    assert first.shape == shape
    assert first.target().shape == (*shape, points)
    assert np.isfinite(first.target()).all()
    for channel, image in first.images.items():
        np.testing.assert_array_equal(image, second.images[channel])
    np.testing.assert_array_equal(first.target(), second.target())
    for name, values in first.truth.items():
        assert values.shape == shape and np.isfinite(values).all()
        np.testing.assert_array_equal(values, second.truth[name])
    assert set(np.unique(first.truth["domain"])) == {-1.0, 1.0}
    assert (first.truth["coercive_bias"] > 0).all()
    assert (np.abs(first.truth["imprint"]) < first.truth["coercive_bias"]).all()


def test_another_seed_is_another_film():
    assert (SyntheticSample(seed=1).target() != SyntheticSample(seed=2).target()).any()


def test_noise_is_what_was_asked_for():
    sample = SyntheticSample(noise=0.1)
    assert (sample.target() - sample.noiseless).std() == pytest.approx(0.1 * 20.0, rel=0.02)
    clean = SyntheticSample(noise=0.0)
    np.testing.assert_allclose(clean.target(), clean.noiseless, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(clean.truth["domain"], sample.truth["domain"])


def test_physics_of_the_film():
    sample = SyntheticSample(phase=True)
    truth, amplitude = sample.truth, sample.images["amplitude"]
    distance = np.abs(truth["wall_distance"])
    wall, bulk = distance < 0.6, distance > 3
    assert amplitude[wall].mean() < 0.6 * amplitude[bulk].mean()
    assert truth["coercive_bias"][wall].mean() < 0.8 * truth["coercive_bias"][bulk].mean()
    assert (np.sign(truth["imprint"][bulk]) == -truth["domain"][bulk]).all()
    assert np.mean(truth["domain"]) == pytest.approx(0.0, abs=0.02)
    up = (truth["domain"] > 0)[bulk]
    assert (sample.images["phase"][bulk] == np.where(up, 0, 180)).all()
    assert not sample.truth["domain"].flags.writeable and not sample.noiseless.flags.writeable


def test_loops_are_open_and_closed():
    """Open between the branches, and back at the end where they began."""
    sample = SyntheticSample(noise=0.0)
    loops, quarter = sample.noiseless, sample.axis.size // 4
    area = -np.trapezoid(loops, sample.axis, axis=2)
    assert (area > 0).all()
    bulk = np.abs(sample.truth["wall_distance"]) > 2
    np.testing.assert_allclose(loops[bulk][:, 0], loops[bulk][:, -1], atol=3.0)
    assert (loops[:, :, quarter] > 0).all() and (loops[:, :, 3 * quarter] < 0).all()


def test_structure_predicts_the_loops():
    """5 x 5 patches and 200 random pixels explain clearly more than half of the variance."""
    ensemble = pytest.importorskip("sklearn.ensemble", reason="scikit-learn is absent")
    sample = SyntheticSample(seed=0)
    padded = np.pad(sample.images["amplitude"], 2, mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).reshape(-1, 25)
    target = sample.target().reshape(len(patches), -1)
    order = np.random.default_rng(0).permutation(len(patches))
    train, test = order[:200], order[200:]
    model = ensemble.ExtraTreesRegressor(100, random_state=0, n_jobs=1)
    predicted = model.fit(patches[train], target[train]).predict(patches[test])
    residual = ((predicted - target[test]) ** 2).sum()
    explained = 1 - residual / ((target[test] - target[test].mean(0)) ** 2).sum()
    assert explained > 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (3, 8)}, "at least 4"),
        ({"shape": (8.0, 8)}, "whole numbers"),
        ({"shape": 8}, "expected \\(rows, cols\\)"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": None}, "seed is None"),
        ({"points": 4}, "points is 4"),
        ({"max_bias": 0}, "max_bias is 0"),
        ({"max_bias": float("inf")}, "max_bias is inf"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"extent_um": (1.0, -1.0)}, "two positive lengths"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        SyntheticSample(**options)

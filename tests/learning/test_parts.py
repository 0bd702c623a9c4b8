"""The published formulas, each against a computation of its own."""

import types

import numpy as np
import pytest
import sklearn.cluster
import torch
from scipy.stats import hmean
from threadpoolctl import threadpool_limits

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.acquisition import (
    ErrorAndNovelty,
    RandomPixel,
    TopKRandom,
    harmonic_distance,
)
from curiosity_bluesky.learning.nn import architectures, layers
from curiosity_bluesky.learning.nn.error_models import ErrorNetwork
from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor
from curiosity_bluesky.learning.protocols import AcquisitionTerms
from curiosity_bluesky.learning.seeding import KMeansSeeding, RandomSeeding
from curiosity_bluesky.learning.threads import one_thread


@pytest.fixture
def rng():
    return np.random.default_rng(7)


class Known:
    """Features that are what the test says."""

    def __init__(self, values):
        self._values = np.asarray(values, dtype=float)

    def values(self):
        return self._values

    def trainings(self):
        return []


def test_novelty_is_the_harmonic_mean_of_the_distances(rng):
    points, measured = rng.normal(size=(50, 2)), rng.normal(size=(7, 2))
    expected = [hmean([np.linalg.norm(p - m) for m in measured]) for p in points]
    assert np.allclose(harmonic_distance(points, measured), expected)
    assert (harmonic_distance(points, points[:3])[:3] == 0).all()


@pytest.mark.parametrize(("n", "budget", "rate"), [(0, 100, 2.0), (30, 100, 2.0), (7, 9, 0.5)])
def test_acquisition_weighs_error_and_novelty_by_the_published_formula(rng, n, budget, rate):
    error, novelty = rng.random(20) * 1e-6, rng.random(20) * 1e3
    values, weight = ErrorAndNovelty(rate)(AcquisitionTerms(error, novelty, error, n, budget))
    assert weight == pytest.approx(np.exp(-rate * n / budget))
    expected = (1 - weight) * error / error.mean() + weight * novelty / novelty.mean()
    assert np.allclose(values, expected)


def test_acquisition_of_nothing_is_zero_not_nan():
    zeros = np.zeros(5)
    assert (ErrorAndNovelty()(AcquisitionTerms(zeros, zeros, zeros, 3, 9))[0] == 0).all()


def test_choice_is_one_of_the_ten_best_or_at_times_any(rng):
    values, available = rng.random(200), rng.random(200) < 0.5
    left = np.flatnonzero(available)
    best = left[np.argsort(-values[left])][:10]
    draws = [TopKRandom()(values, available, 1, rng)[0] for _ in range(4000)]
    curious = [index for index, reason in draws if reason == "curious"]
    anywhere = [index for index, reason in draws if reason == "random"]
    assert len(curious) + len(anywhere) == len(draws)
    # Four standard deviations of the binomial distribution.
    assert abs(len(anywhere) / 4000 - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 4000)
    assert set(curious) == set(best)
    share = np.bincount(curious, minlength=200)[best] / len(curious)
    assert np.abs(share - 0.1).max() < 4 * np.sqrt(0.1 * 0.9 / len(curious))
    assert set(anywhere) <= set(left)
    assert len(set(anywhere) - set(best)) > 60


@pytest.mark.parametrize("choice", [TopKRandom(), TopKRandom(1, 0.0), RandomPixel()])
@pytest.mark.parametrize("n", [1, 5, 40, 100])
def test_choices_are_distinct_and_available(rng, choice, n):
    available = np.arange(100) % 3 > 0
    chosen = [index for index, _ in choice(rng.random(100), available, n, rng)]
    assert len(set(chosen)) == len(chosen) == min(n, available.sum())
    assert available[chosen].all()


def test_the_best_one_is_the_best_one(rng):
    values = rng.random(30)
    chosen = TopKRandom(1, 0.0)(values, np.ones(30, bool), 3, rng)
    assert [index for index, _ in chosen] == list(np.argsort(-values)[:3])


def test_error_net_moments_are_those_of_many_dropout_passes(rng):
    network = layers.build(lambda: architectures.ErrorNet(3), seed=3)
    x = layers.tensor(rng.normal(size=(6, 3)) * 3)
    passes = 20000
    with torch.inference_mode():
        network.train()
        sampled = network(x.repeat(passes, 1)).view(passes, 6).double()
        network.eval()
        mean, spread = network.moments(x)
        plain = network(x)
    error = sampled.std(0) / np.sqrt(passes)
    assert ((mean - sampled.mean(0)).abs() < 5 * error).all()
    assert ((spread / sampled.std(0) - 1).abs() < 5 / np.sqrt(2 * passes)).all()
    assert torch.allclose(mean, plain)


def test_error_model_does_not_depend_on_the_units_of_the_error(rng):
    features, indices, errors = Known(rng.normal(size=(40, 3))), np.arange(0, 40, 4), rng.random(10)
    predictions = []
    for scale in (1.0, 2.0**40, 2.0**-40):  # powers of two: not even the rounding differs
        model = ErrorNetwork(features, 30, 5, seed=0)
        model.start(indices, errors * scale)
        model.update(indices, errors * scale)
        predictions.append(model.predict())
    for mean, spread in predictions[1:]:
        assert np.array_equal(mean, predictions[0][0])
        assert np.array_equal(spread, predictions[0][1])
    assert (predictions[0][0] >= 0).all()


def test_error_model_learns_where_the_errors_are(rng):
    features = rng.normal(size=(60, 3))
    errors = np.where(features[:, 0] > 0, 4.0, 1.0)
    model = ErrorNetwork(Known(features), 200, 1, seed=0)
    model.start(np.arange(30), errors[:30])
    mean, _ = model.predict()
    unseen = features[30:, 0] > 0
    assert mean[30:][unseen].mean() > 2 * mean[30:][~unseen].mean()


@pytest.mark.parametrize("n", [1, 4, 9, 30])
def test_kmeans_seeds_are_distinct_allowed_pixels(rng, n):
    allowed = rng.random(300) < 0.3
    chosen = KMeansSeeding(Known(rng.normal(size=(300, 3)))).choose(allowed, n, rng)
    assert len(set(chosen)) == n
    assert allowed[chosen].all()


def test_kmeans_puts_a_seed_into_every_cluster(rng):
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9], [30, 30]])
    cluster = rng.integers(5, size=200)
    features = Known(centres[cluster] + rng.normal(size=(200, 2)) * 0.1)
    hits = [
        KMeansSeeding(features).choose(np.ones(200, bool), 5, np.random.default_rng(s))
        for s in range(10)
    ]
    assert np.mean([len(set(cluster[hit])) for hit in hits]) > 4.5


@pytest.mark.parametrize("different", [1, 2, 5])
def test_kmeans_manages_fewer_different_patches_than_seeds(rng, different):
    features = Known(rng.normal(size=(different, 3))[rng.integers(different, size=50)])
    chosen = KMeansSeeding(features).choose(np.ones(50, bool), 12, rng)
    assert len(set(chosen)) == 12


@pytest.mark.parametrize("n", [50, 80])
def test_seeding_with_as_many_seeds_as_pixels_takes_them_all(rng, n):
    for seeding in (KMeansSeeding(Known(rng.normal(size=(50, 3)))), RandomSeeding()):
        assert sorted(seeding.choose(np.ones(50, bool), n, rng)) == list(range(50))


def test_kmeans_does_not_depend_on_which_thread_is_first(monkeypatch, rng):
    centres = []

    class Noted(sklearn.cluster.KMeans):
        def fit(self, *args):
            super().fit(*args)
            centres.append(self.cluster_centers_.tobytes())
            return self

    monkeypatch.setattr(sklearn.cluster, "KMeans", Noted)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    seeding = KMeansSeeding(Known(rng.normal(size=(5000, 3))))
    with threadpool_limits(8):  # as on a machine with eight cores
        for _ in range(10):
            with one_thread():  # as the explorer calls it
                seeding.choose(np.ones(5000, bool), 30, np.random.default_rng(0))
    assert len(centres) == 10
    assert len(set(centres)) == 1


def test_networks_come_from_their_seed_alone():
    def weights(seed):
        network = layers.build(lambda: architectures.Im2Spec(1, 5, 16), seed)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert isinstance(layers.shuffled(3, 2, torch.Generator()), types.GeneratorType)


def test_an_option_that_a_network_does_not_have_is_refused():
    misspelt: dict = {"latent": 2, "start_epoch": 3}
    with pytest.raises(InputError, match="no option 'start_epoch'.*Did you mean 'start_epochs'"):
        Im2SpecPredictor(np.zeros((4, 1, 5, 5)), encoder="linear", **misspelt)

"""The published strategy: its networks, and the figures that its authors' data gives."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from curiosity_bluesky.learning import Explorer, Observation, Scorer, Strategy, Survey
from curiosity_bluesky.learning.nn import layers as nets

DATA = Path(__file__).parents[3] / "shared" / "data" / "norm_polarization.npy"
LIMITS = {"image_limits": (-1, 1), "spectrum_limits": (-1, 1)}


def sizes(module: nn.Module, kind: type) -> list[tuple[int, int]]:
    """Inputs and outputs of the layers of one kind, in order."""
    layers = [m for m in module.modules() if isinstance(m, kind)]
    if kind is nn.Linear:
        return [(m.in_features, m.out_features) for m in layers]
    return [(m.in_channels, m.out_channels) for m in layers]


@pytest.fixture(scope="module")
def built(sample):
    """Networks that a run with the default sizes makes: name to network."""
    made = []
    build = nets.build

    def noted(factory, seed):
        made.append(build(factory, seed))
        return made[-1]

    strategy = Strategy.named(
        "vatsavai2025-latent", n_seeds=2, autoencoder_epochs=1, start_epochs=1, autoencoder_seed=9
    )
    survey = Survey(sample.images, sample.x, sample.y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets, "build", noted)
        explorer = Explorer(survey, strategy)
        for proposal in explorer.propose(2):
            explorer.observe(Observation(proposal.pixel, sample.target()[proposal.pixel]))
        explorer.propose()
    return {type(network).__name__: network for network in made}


def test_im2spec_has_the_published_layers(built, sample):
    points = sample.axis.size
    network = built["Im2Spec"]
    assert sizes(network.convolutions, nn.Conv2d) == [(1, 64), (64, 64), (64, 64)]
    assert (network.to_latent.in_features, network.to_latent.out_features) == (64 * 9 * 9, 2)
    widths = [2, points // 4, points // 2, 3 * points // 4, points, points, points]
    assert sizes(network.decoder, nn.Linear) == list(itertools.pairwise(widths))
    assert [m.probability for m in network.modules() if isinstance(m, nets.Dropout)] == [0.5] * 3
    slopes = [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.1] * 3
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 3


def test_autoencoder_has_the_published_encoder(built):
    network = built["Autoencoder"]
    assert sizes(network.convolutions, nn.Conv2d) == [(1, 64), (64, 64), (64, 64)]
    assert (network.to_latent.in_features, network.to_latent.out_features) == (64 * 9 * 9, 3)
    assert network(torch.zeros(5, 1, 9, 9)).shape == (5, 1, 9, 9)


def test_error_net_is_3_128_1_with_dropout_a_tenth(built):
    network = built["ErrorNet"]
    assert sizes(network, nn.Linear) == [(3, 128), (128, 1)]
    assert network.dropout.probability == 0.1


SEEDS = range(3)

RECORDED = {
    "random seeds": [(0.941, 12.98), (0.947, 13.47), (0.979, 13.23)],
    "k-means seeds": [
        (0.981, 13.54),
        (1.013, 13.68),
        (0.950, 13.32),
        (0.936, 13.10),
        (0.975, 13.51),
        (0.951, 12.89),
        (0.941, 13.27),
    ],
    "random pixels": [(0.948, 13.35), (0.960, 13.60), (0.933, 13.51)],
}
"""Hidden nMSE and smallest published score of single runs.

The first three of each are of the seeds 0, 1, 2 on the machine of
``docs/vatsavai2025-latent.md``, 2026-11-21. The further ones of the k-means seeds are of the seeds
0, 1, 6 and 7 on another machine, 2026-11-30: 0.951 with a standard deviation of 0.017, and 13.19
with 0.26. Elsewhere seed 1 gave a hidden nMSE of 1.106 once; the
score of that run is not known, so it is left out. The mean of three holds one such run.
"""
CHANCE = 0.001
"""How often a learner that is as it was may fall outside of a bound."""


def bounds(arm: str) -> tuple[NDArray, NDArray]:
    """Where the means of as many further runs are, hidden nMSE and published score.

    A prediction interval: the recorded mean is uncertain as well. The standard deviation is
    pooled over the three arms, and Student's t makes up for how few runs it is of.
    """
    runs = [np.array(found) for found in RECORDED.values()]
    freedom = sum(len(found) - 1 for found in runs)
    squares = sum(((found - found.mean(axis=0)) ** 2).sum(axis=0) for found in runs)
    here = np.array(RECORDED[arm])
    error = np.sqrt(squares / freedom * (1 / len(SEEDS) + 1 / len(here)))
    far = stats.t.ppf(1 - CHANCE / 2, freedom) * error
    return here.mean(axis=0) - far, here.mean(axis=0) + far


@pytest.mark.parametrize("arm", RECORDED)
def test_the_bounds_hold_what_was_recorded_and_exclude_the_mean_spectrum(arm):
    low, high = bounds(arm)
    first = np.mean(RECORDED[arm][: len(SEEDS)], axis=0)
    assert (low < first).all() and (first < high).all()
    assert high[1] < 14.49  # the score of always predicting the mean spectrum, same page


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not DATA.exists(), reason=f"the authors' data is not there: {DATA}")
@pytest.mark.parametrize(
    ("arm", "name", "parameters"),
    [
        ("random seeds", "vatsavai2025-latent", {"seeding": "random"}),
        ("k-means seeds", "vatsavai2025-latent", {"seeding": "kmeans"}),
        ("random pixels", "random", {"predictor": "im2spec", "rim": "omit"}),
    ],
    ids=list(RECORDED),
)
def test_the_authors_data_gives_the_published_scores(arm, name, parameters, record_property):
    """The means over the seeds 0, 1, 2 are within what the recorded runs let expect.

    One run is one draw: k-means turns last bits, which another processor rounds otherwise, into
    other seeds (docs/vatsavai2025-latent.md), and these into another hidden nMSE.
    """
    data = np.load(DATA)
    image, spectra = data[:, :, 25], data[:, :, 49:]
    scores = []
    for seed in SEEDS:
        strategy = Strategy.named(name, budget=100, **LIMITS, **parameters)
        explorer = Explorer(Survey({"polarization": image}), strategy, seed)
        scorer = Scorer(spectra, np.zeros(image.shape, bool))
        while not explorer.should_stop()[0]:
            [proposal] = explorer.propose()
            explorer.observe(Observation(proposal.pixel, spectra[proposal.pixel]))
            scorer(explorer)
        scores.append(scorer.summary())
        print(name, parameters, seed, scores[-1])
    record_property("scores", scores)
    means = [np.mean([one[key] for one in scores]) for key in ("hidden_nmse", "published_score")]
    low, high = bounds(arm)
    assert (low <= means).all() and (means <= high).all(), (low, means, high)

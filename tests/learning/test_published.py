"""The published strategy: its networks, and the figures that its authors' data gives."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from curiosity_bluesky.learning import Explorer, Observation, Scorer, Strategy, Survey
from curiosity_bluesky.learning import networks as nets

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


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not DATA.exists(), reason=f"the authors' data is not there: {DATA}")
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vatsavai2025-latent", {"seeding": "random"}),
        ("vatsavai2025-latent", {"seeding": "kmeans"}),
        ("random", {"predictor": "im2spec"}),
    ],
    ids=["random seeds", "k-means seeds", "random pixels"],
)
def test_the_authors_data_gives_the_published_scores(name, parameters, record_property):
    """The mean over three seeds is that of the authors' learner, within what it spreads by itself.

    One seed is one draw: k-means turns last bits, which another processor rounds otherwise, into
    other seeds (docs/vatsavai2025-latent.md), and these into another hidden nMSE. With k-means
    it was 0.981, 1.013 and 0.950 for the seeds 0, 1, 2 where that page was written, and 1.106 for
    seed 1 elsewhere: 0.03 to 0.08 of standard deviation (the authors' own code: 0.93 +- 0.04, five
    runs). So 1.10 is 1 to 4 deviations from the mean of single runs, and of nine one is beyond it
    now and then. The same bounds are asked of the mean of three, which is 2 to 6 of its own
    deviations away: there a learner that learns something else is found.
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
    assert 0.80 <= np.mean([one["hidden_nmse"] for one in scores]) <= 1.10
    assert 12.3 <= np.mean([one["published_score"] for one in scores]) <= 14.6

"""What the tests of the benchmark share: a small recording and arms that learn in an instant."""

import numpy as np
import pytest

from curiosity_bluesky.benchmark import Truth, arms_from
from curiosity_bluesky.learning import Strategy
from sim_devices import SyntheticSample

SMALL = {"refit_every": 50, "start_epochs": 2, "autoencoder_epochs": 1, "error_start_epochs": 2}


def recording(name="film", seed=0, shape=(16, 14)):
    """A generated film as a trial needs it."""
    film = SyntheticSample(shape, points=8, seed=seed)
    images = {channel: np.asarray(image) for channel, image in film.images.items()}
    return Truth(name, images, film.x, film.y, film.target(), np.zeros(shape, bool))


@pytest.fixture(scope="session")
def truth():
    return recording()


@pytest.fixture(scope="session")
def arms():
    """Makes arms from their texts: 12 points, 5 seeds, patches of 5, little training."""

    def make(*texts, points=12, n_seeds=5, patch_size=5, **common):
        known = [Strategy.named(text.split("[")[0]) for text in texts]
        names = {field for strategy in known for field in strategy.parameters}
        common = {**{key: value for key, value in SMALL.items() if key in names}, **common}
        return arms_from(
            texts, points=points, n_seeds=n_seeds, patch_size=patch_size, common=common
        )

    return make

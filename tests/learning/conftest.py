"""What the tests of the learning room share: a small film and cheap strategies."""

import dataclasses

import numpy as np
import pytest

from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from sim_devices import SyntheticSample

SHAPE = (14, 12)
"""Of the small survey."""


@pytest.fixture(scope="session")
def sample():
    """A generated film of 14 x 12 pixels with loops of 16 points."""
    return SyntheticSample(SHAPE, points=16, phase=False)


@pytest.fixture(scope="session")
def spectra(sample):
    """``(rows, cols, points)`` of the sample."""
    return sample.target()


@pytest.fixture
def survey(sample):
    return Survey(sample.images, sample.x, sample.y)


@pytest.fixture(scope="session")
def cheap():
    """Makes a strategy by name that learns in an instant: ``cheap(name, budget=12)``."""

    def make(name: str, **parameters) -> Strategy:
        fields = [field.name for field in dataclasses.fields(Strategy.named(name))]
        few = {field: 2 for field in fields if "epochs" in field}
        small = {"patch_size": 5, "n_seeds": 4, "budget": 12}
        return Strategy.named(name, **few | small | parameters)

    return make


@pytest.fixture(scope="session")
def drive(spectra):
    """Lets an explorer run until it has `n` spectra, default until it stops."""

    def run(explorer: Explorer, n: float = np.inf, truth=spectra, batch: int = 1) -> Explorer:
        while explorer.n_observed < n and not explorer.should_stop()[0]:
            for proposal in explorer.propose(batch):
                spectrum = truth[proposal.pixel]
                number = proposal.decision_id
                explorer.observe(Observation(proposal.pixel, spectrum, decision_id=number))
        return explorer

    return run


def pytest_generate_tests(metafunc):
    """Run every test that asks for a strategy's `name` with all there are."""
    if "name" in metafunc.fixturenames and "name" not in str(metafunc.definition.own_markers):
        metafunc.parametrize("name", Strategy.names())

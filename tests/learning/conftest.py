"""What the tests of the learning room share: a small film and cheap strategies."""

import driven
import numpy as np
import pytest
from driven import SHAPE
from support import each

from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy, Survey
from sim_devices import SyntheticSample


def pytest_generate_tests(metafunc):
    """Run every test that asks for a strategy's `name` with all there are."""
    if "name" in metafunc.fixturenames and not any(
        "name" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    ):
        metafunc.parametrize("name", each(Strategy.names()))


@pytest.fixture(scope="session")
def sample():
    """A generated film with loops of 16 points."""
    return SyntheticSample(SHAPE, points=16)


@pytest.fixture(scope="session")
def spectra(sample):
    """``(rows, cols, points)`` of the sample."""
    return sample.target()


@pytest.fixture(scope="session")
def survey(sample):
    return Survey(sample.images, sample.x, sample.y)


LEFT = 16


@pytest.fixture(scope="session")
def nearly_masked(sample):
    """A survey of which 16 pixels may be measured, and some of the rim: soon it is all measured."""
    mask = np.ones(SHAPE, bool)
    inside = [(r, c) for r in range(2, 12) for c in range(2, 10) if (3 * r + c) % 10 < 2]
    mask[tuple(np.transpose(inside))] = False
    assert len(inside) == LEFT
    mask[[0, 1, 5, 13], [0, 6, 11, 3]] = False  # no whole patch fits around these
    return Survey(sample.images, sample.x, sample.y, mask)


@pytest.fixture(scope="session")
def cheap():
    """Makes a strategy by name that learns in an instant: ``cheap(name, budget=12)``."""
    return driven.cheap


@pytest.fixture(scope="session")
def measured(spectra):
    """Makes the observation that a proposal leads to."""

    def measure(proposal: Proposal, truth=spectra) -> Observation:
        return driven.measure(proposal, truth)

    return measure


@pytest.fixture(scope="session")
def drive(spectra):
    """Lets an explorer run until it has `n` spectra, default until it stops."""

    def run(explorer: Explorer, n: float = np.inf, batch: int = 1, truth=spectra) -> Explorer:
        if truth is not spectra:
            driven.tell(explorer, truth)
        return driven.drive(explorer, truth, n, batch)

    return run


@pytest.fixture(scope="session")
def exactly():
    """Makes of proposals what has to be equal, bit for bit: all but the seconds."""
    return driven.exactly

"""What the tests of the learning room share: a small film and cheap strategies."""

import dataclasses

import numpy as np
import pytest
from support import each, few

from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy, Survey
from curiosity_bluesky.learning.strategies import Oracle
from curiosity_bluesky.learning.strategies.oracle import TrueError
from sim_devices import SyntheticSample
from sim_devices.loops import bias_cycle

SHAPE = (14, 12)
"""Of the small survey: 80 pixels have a whole patch of 5 x 5."""


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


LEFT = 24


@pytest.fixture(scope="session")
def nearly_masked(sample):
    """A survey of which 24 pixels may be measured: soon it is all measured."""
    mask = np.ones(SHAPE, bool)
    inside = [(r, c) for r in range(2, 12) for c in range(2, 10) if (3 * r + c) % 10 < 3]
    mask[tuple(np.transpose(inside))] = False
    assert len(inside) == LEFT
    return Survey(sample.images, sample.x, sample.y, mask)


class Told(Oracle):
    """The oracle, told the truth wherever it is built: a strategy like any other."""

    needs_truth = False

    def build(self, patches, budget, seed, on_epoch):
        rows, cols = patches.survey.shape
        truth = np.tile(SyntheticSample(SHAPE, points=16).target(), (4, 4, 1))[:rows, :cols]
        return super().build(dataclasses.replace(patches, truth=truth), budget, seed, on_epoch)


def tell(explorer: Explorer, truth: np.ndarray) -> None:
    """Let an oracle know what is going to be measured."""
    curiosity = explorer._learner._curiosity
    if isinstance(curiosity, TrueError):
        explorer._learner._curiosity = dataclasses.replace(curiosity, truth=truth)


@pytest.fixture(scope="session")
def cheap():
    """Makes a strategy by name that learns in an instant: ``cheap(name, budget=12)``."""

    def make(name: str, **parameters) -> Strategy:
        strategy = Strategy.named(name, **few(name, **{"budget": 12, **parameters}))
        return Told(**strategy.parameters) if strategy.needs_truth else strategy

    return make


@pytest.fixture(scope="session")
def measured(spectra):
    """Makes the observation that a proposal leads to."""

    def measure(proposal: Proposal, truth=spectra) -> Observation:
        axis = bias_cycle(truth.shape[2], 10.0)
        number = proposal.decision_id
        return Observation(proposal.pixel, truth[proposal.pixel], decision_id=number, axis=axis)

    return measure


@pytest.fixture(scope="session")
def drive(measured, spectra):
    """Lets an explorer run until it has `n` spectra, default until it stops."""

    def run(explorer: Explorer, n: float = np.inf, batch: int = 1, truth=spectra) -> Explorer:
        if truth is not spectra:
            tell(explorer, truth)
        while explorer.n_observed < n and not explorer.should_stop()[0]:
            for proposal in explorer.propose(batch):
                explorer.observe(measured(proposal, truth))
        return explorer

    return run


@pytest.fixture(scope="session")
def exactly():
    """Makes of proposals what has to be equal, bit for bit: all but the seconds."""

    def facts(*proposals: Proposal) -> list[tuple]:
        rows = []
        for proposal in proposals:
            values = {f.name: getattr(proposal, f.name) for f in dataclasses.fields(proposal)}
            del values["seconds"]
            spectrum = values.pop("predicted_spectrum")
            # repr tells all floats apart and makes NaN equal to itself.
            numbers = {key: repr(value) for key, value in values.items()}
            rows.append((numbers, None if spectrum is None else spectrum.tobytes()))
        return rows

    return facts

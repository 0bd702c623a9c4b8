"""Explorers that are driven over a small film, by themselves or in a process of their own."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quickly import few

from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy, Survey
from curiosity_bluesky.learning.strategies import Oracle
from curiosity_bluesky.learning.strategies.oracle import TrueError
from sim_devices import SyntheticSample
from sim_devices.loops import bias_cycle

SHAPE = (14, 12)
"""Of the small survey: 80 pixels have a whole patch of 5 x 5."""


class Told(Oracle):
    """The oracle, told the truth wherever it is built: a strategy like any other."""

    needs_truth = False

    def build(self, patches, budget, seed, on_epoch):
        rows, cols = patches.survey.shape
        truth = np.tile(SyntheticSample(SHAPE, points=16).target(), (4, 4, 1))[:rows, :cols]
        return super().build(dataclasses.replace(patches, truth=truth), budget, seed, on_epoch)


def tell(explorer: Explorer, truth: np.ndarray) -> None:
    """Let an oracle know what is going to be measured."""
    curiosity = explorer._active.learner._curiosity
    if isinstance(curiosity, TrueError):
        explorer._active.learner._curiosity = dataclasses.replace(curiosity, truth=truth)


def cheap(name: str, **parameters: Any) -> Strategy:
    """Return a strategy that learns in an instant."""
    strategy = Strategy.named(name, **few(name, **{"budget": 12, **parameters}))
    return Told(**strategy.parameters) if strategy.needs_truth else strategy


def measure(proposal: Proposal, truth: NDArray) -> Observation:
    """Return the observation that a proposal leads to."""
    axis = bias_cycle(truth.shape[2], 10.0)
    number = proposal.decision_id
    return Observation(proposal.pixel, truth[proposal.pixel], decision_id=number, axis=axis)


def drive(explorer: Explorer, truth: NDArray, n: float = np.inf, batch: int = 1) -> Explorer:
    """Let an explorer run until it has `n` spectra, default until it stops."""
    while explorer.n_observed < n and not explorer.should_stop()[0]:
        for proposal in explorer.propose(batch):
            explorer.observe(measure(proposal, truth))
    return explorer


def exactly(*proposals: Proposal) -> list[tuple]:
    """Return what has to be equal in proposals, bit for bit: all but the seconds."""
    rows = []
    for proposal in proposals:
        values = {f.name: getattr(proposal, f.name) for f in dataclasses.fields(proposal)}
        del values["seconds"]
        spectrum = values.pop("predicted_spectrum")
        # repr tells all floats apart and makes NaN equal to itself.
        numbers = {key: repr(value) for key, value in values.items()}
        rows.append((numbers, None if spectrum is None else spectrum.tobytes()))
    return rows


_DRIVEN: set[str] = set()
"""Strategies that this process has driven."""


def random_states() -> tuple[Any, bytes, bytes]:
    """Return the states of the generators that a whole process shares."""
    numpys = np.random.get_state()[1]  # noqa: NPY002
    return random.getstate(), numpys.tobytes(), torch.get_rng_state().numpy().tobytes()


def with_random_seed(name: str, seed: int, n: int = 8) -> tuple[bool, list[tuple]]:
    """Drive an explorer after all generators of the process were seeded.

    Returns
    -------
    untouched, decisions
        Whether they are as they were, and what was decided, see `exactly`.
    """
    torch.set_num_threads(1)
    sample = SyntheticSample(SHAPE, points=16)
    survey = Survey(sample.images, sample.x, sample.y)
    # What is imported with the first one may draw: rich does, which scikit-learn imports.
    if name not in _DRIVEN:
        drive(Explorer(survey, cheap(name)), sample.target(), n).predict()
        _DRIVEN.add(name)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    before = random_states()
    explorer = drive(Explorer(survey, cheap(name)), sample.target(), n)
    explorer.predict()
    return random_states() == before, exactly(*explorer.decisions)

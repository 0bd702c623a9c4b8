"""One trial: one strategy explores one sample once."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Explorer,
    Observation,
    Proposal,
    Scorer,
    Strategy,
    Survey,
    withheld_pixels,
)

Protocol = Literal["shared", "own"]
FORMAT = 2
"""Part of every trial's key: to be raised when the same trial would give other numbers."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A sample as a trial needs it: plain arrays that travel to any worker.

    Parameters
    ----------
    name
        Of the sample.
    channels
        The survey's images, ``(rows, cols)`` each.
    x, y
        ``(cols,)`` and ``(rows,)``, um.
    spectra
        ``(rows, cols, points)``.
    mask
        ``(rows, cols)``, True where nothing may be measured.
    axis
        ``(points,)`` of the spectra, None if unknown.
    """

    name: str
    channels: dict[str, NDArray]
    x: NDArray
    y: NDArray
    spectra: NDArray
    mask: NDArray[np.bool_] = field(repr=False)
    axis: NDArray | None = None

    @cached_property
    def digest(self) -> str:
        """Tell one recording from another of the same name."""
        parts = [*self.channels.values(), self.x, self.y, self.spectra, self.mask]
        parts += [] if self.axis is None else [self.axis]
        content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """Specification of a trial; equal trials give equal numbers.

    Parameters
    ----------
    sample
        Its name.
    arm
        Label of the strategy.
    strategy
        The strategy, its budget the number of spectra.
    protocol
        ``shared``: the same distinct random seed pixels for all strategies; ``own``: each
        strategy's own seeding.
    seed
        Seed of all random choices, of shared pixels too.
    every
        Numbers of spectra after which to score; also after the seeds and at the end.
    withhold
        Share of the pixels that test what was learned.
    widest
        The largest patch of the arms that leave out the rim: only pixels that have a whole one are
        candidates.
    """

    sample: str
    arm: str
    strategy: Strategy
    protocol: Protocol
    seed: int
    every: int = 5
    withhold: float = 0.2
    widest: int = 9

    def key(self, truth: Truth) -> str:
        """Name of the trial's file: what it depends on, hashed."""
        facts = [
            FORMAT,
            version("curiosity-bluesky"),
            truth.digest,
            self.strategy.to_json(),
            self.protocol,
            self.seed,
        ]
        facts += [self.every, self.withhold, self.widest]
        facts += _own_code(self.strategy)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _own_code(strategy: Strategy) -> list[str]:
    """Source of a strategy that is not ours: edited, it makes another trial."""
    module = sys.modules.get(type(strategy).__module__)
    if module is None or module.__name__.startswith("curiosity_bluesky."):
        return []
    try:
        return [inspect.getsource(module)]
    except (OSError, TypeError):  # typed in, not in a file
        return []


def run_trial(truth: Truth, trial: Trial) -> dict[str, Any]:
    """Explore the sample to the end of the budget.

    Returns
    -------
    dict
        JSON-ready: ``scores`` and ``decisions``, a list of rows each, and what was done.

    Raises
    ------
    InputError
        If the sample and the strategy do not fit.
    """
    withheld = withheld_pixels(truth.mask.shape, trial.withhold)
    area = common_area(truth.mask.shape, trial.widest) & ~truth.mask
    survey = Survey(truth.channels, truth.x, truth.y, withheld | ~area)
    explorer = Explorer(survey, trial.strategy, trial.seed, truth=truth.spectra)
    scorer = Scorer(truth.spectra, withheld, area)
    n_seeds = min(trial.strategy.n_seeds, explorer.budget)
    if trial.protocol == "shared":
        for decision in shared_seeds(survey, n_seeds, trial.seed):
            explorer.record(decision)
            _measure(explorer, truth, decision)
    decisions = [_row(decision, scorer) for decision in explorer.decisions]
    while True:
        n = explorer.n_observed
        done = explorer.should_stop()[0]
        # Before the scoring, which would otherwise do a decision's training for it.
        chosen = [] if done else explorer.propose(min(trial.strategy.batch, explorer.budget - n))
        if n >= n_seeds and (n == n_seeds or done or n % trial.every == 0):
            scorer(explorer)
        if done:
            break
        for decision in chosen:
            decisions.append(_row(decision, scorer))
            _measure(explorer, truth, decision)
    return {
        "sample": trial.sample,
        "arm": trial.arm,
        "strategy": trial.strategy.name,
        "parameters": trial.strategy.parameters,
        "protocol": trial.protocol,
        "seed": trial.seed,
        "scores": [asdict(score) for score in scorer.scores],
        "decisions": decisions,
    }


def common_area(shape: tuple[int, int], widest: int) -> NDArray[np.bool_]:
    """Mark the pixels that have a whole patch of this side, ``(rows, cols)``."""
    rows, cols = shape
    if widest > min(shape):
        raise InputError(
            f"a patch of {widest} does not fit into the {rows} x {cols} pixels; give a smaller "
            "--patch-size"
        )
    area = np.zeros(shape, bool)
    before, after = widest // 2, widest - 1 - widest // 2
    area[before : rows - after, before : cols - after] = True
    return area


def shared_seeds(survey: Survey, n: int, seed: int) -> list[Proposal]:
    """Draw distinct random pixels, the same for every strategy."""
    free = np.argwhere(~survey.mask)
    if n > len(free):
        raise InputError(f"{n} seeds are asked for, but only {len(free)} pixels can be measured")
    chosen = np.random.default_rng([seed, 30]).permutation(free)[:n]
    proposals = []
    for k, (row, col) in enumerate(chosen.tolist()):
        x, y = survey.position((row, col))
        proposals.append(Proposal(k, (row, col), x, y, "seed"))
    return proposals


def _measure(explorer: Explorer, truth: Truth, decision: Proposal) -> None:
    spectrum = truth.spectra[decision.pixel]
    number = decision.decision_id
    explorer.observe(Observation(decision.pixel, spectrum, decision_id=number, axis=truth.axis))


def _row(decision: Proposal, scorer: Scorer) -> dict[str, Any]:
    error = float(scorer.errors[decision.pixel])
    return {
        "decision_id": decision.decision_id,
        "row": decision.pixel[0],
        "col": decision.pixel[1],
        "reason": decision.reason,
        # What the last scored prediction was wrong by at this pixel, before it was measured.
        "error_before": error if np.isfinite(error) else None,
        "seconds": decision.seconds,
    }

"""Number of seeds where none is given: a run of few points is to explore as well."""

from __future__ import annotations

from collections.abc import Collection

from curiosity_bluesky.learning.strategy import Strategy

SHARE = 3
"""One in so many points is a seed at most."""


def seeds_within(points: int | None, n_seeds: int = Strategy.n_seeds) -> int:
    """Return a number of seeds: that of a strategy, and at most a third of the points.

    Parameters
    ----------
    points
        Spectra in the whole run; None for as many as there are pixels.
    n_seeds
        Of the strategy.
    """
    return n_seeds if points is None else max(1, min(n_seeds, points // SHARE))


def limit_seeds(strategy: Strategy, given: Collection[str]) -> Strategy:
    """Return a strategy with at most a third of its budget as seeds, unless their number is given.

    Parameters
    ----------
    strategy
        With the budget of the run.
    given
        Names of the parameters that the user gave.
    """
    n_seeds = seeds_within(strategy.budget, strategy.n_seeds)
    if "n_seeds" in given or n_seeds == strategy.n_seeds:
        return strategy
    return strategy.replace(n_seeds=n_seeds)

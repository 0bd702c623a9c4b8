"""Fallback while the agent is away: a strategy without training, in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from curiosity_bluesky import documents
from curiosity_bluesky.agent.curiosity_agent import CuriosityAgent
from curiosity_bluesky.learning import Strategy


def fallback_strategy(strategy: Strategy, name: str) -> Strategy:
    """Return another strategy that measures as many spectra, under the same limits.

    Parameters
    ----------
    strategy
        Whose place it takes.
    name
        Of the other one.
    """
    return Strategy.named(name, **strategy.limits)


class FallbackAgent:
    """A `CuriosityAgent` with the strategy of `fallback_strategy`, for the same run.

    Parameters
    ----------
    strategy
        Whose place is taken.
    name
        Name of the strategy that takes it.
    seed
        Seed of every random choice.
    """

    def __init__(self, strategy: Strategy, name: str, seed: int) -> None:
        self.instead_of = strategy
        self.name = name
        self.agent = CuriosityAgent(fallback_strategy(strategy, name), seed)
        self._steering: set[str] = set()
        self.learned = 0

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document, except those that would set the strategy that it replaces."""
        self.learned += 1
        if name == "start":  # it cannot start from an earlier run
            doc = {key: value for key, value in doc.items() if key not in documents.WARM}
        if name == "descriptor" and doc["name"] == documents.STEERING:
            self._steering.add(doc["uid"])
        if name == "event" and doc["descriptor"] in self._steering:
            data = doc["data"]
            if data["kind"] == "set":
                wanted = json.loads(data["arguments"])
                strategy = Strategy.recorded(wanted["strategy"], **wanted["parameters"])
                other = fallback_strategy(strategy, self.name)
                about = {"strategy": other.name, "parameters": other.parameters}
                doc = {**doc, "data": {**data, "arguments": json.dumps(about)}}
        self.agent(name, doc)

"""What was done since a run was last closed: one that was killed and resumed is one run here."""

from __future__ import annotations

from dataclasses import dataclass, field

from curiosity_bluesky.documents import Translator
from curiosity_bluesky.learning import (
    BEGUN,
    OUT_OF_REACH,
    Explorer,
    Failure,
    Observation,
    SteeringRequest,
    Strategy,
)
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import MASKED

CROWDED = "max_per_area: "
NOT_GOOD = "its spectrum is not of the quality that is asked for, and it is taken no more"
"""Why a point was given up after a change of what is asked for."""

_NO_FAULT = (MASKED, CROWDED, NOT_GOOD, OUT_OF_REACH)
"""How the reasons begin for which a point is given up through no fault of the instrument."""


@dataclass
class VisitCount:
    """Visits and failures since the last run of a lineage that was closed, or since the first.

    Parameters
    ----------
    strategy
        As it is now.
    most
        Pixels that can be measured.
    before
        Good spectra of the runs up to the one that was closed.
    budget
        The largest number of spectra that was asked for.
    visited
        Decision and attempt of each spectrum that was taken, or begun: a pause, or a kill, that
        has one repeated adds none.
    in_a_row
        Points given up since the last good spectrum.
    last
        Why the last of them was.
    """

    strategy: Strategy
    most: int
    before: int = 0
    budget: int = 0
    visited: set[tuple[int, int]] = field(default_factory=set)
    in_a_row: int = 0
    last: str = ""

    @staticmethod
    def begun(explorer: Explorer) -> VisitCount:
        """Return the beginning of one, with what the runs before have left."""
        most = int(explorer.patches.allowed.sum())
        return VisitCount(explorer.strategy, most, explorer.n_observed, explorer.budget)

    @staticmethod
    def of(past: InterruptedRun, closed: VisitCount | None, now: Explorer) -> VisitCount:
        """Return the one that a run goes on with.

        Parameters
        ----------
        past
            The runs before.
        closed
            What began where the last of them that was closed had ended, see
            `InterruptedRun.closed`; None: none was, or no other came after it.
        now
            What is known now.
        """
        if past.closed == len(past.runs):
            return VisitCount.begun(now)
        if closed is None:
            most = int(now.patches.allowed.sum())
            closed = VisitCount(past.strategy, most, budget=past.strategy.budget or most)
        closed.replay(past)
        return closed

    def replay(self, past: InterruptedRun) -> None:
        """Take in the documents of the runs that were killed."""
        translate = Translator()
        given_up: set[int] = set()
        for k, run in enumerate(past.runs):
            for name, doc in run:
                for item in translate(name, doc):
                    if k < past.closed:
                        continue
                    if isinstance(item, SteeringRequest):
                        self.act(item)
                    elif isinstance(item, Observation):
                        self._observed(item)
                    elif isinstance(item, Failure) and item.reason != BEGUN:
                        self._failed(item, given_up)

    def act(self, act: SteeringRequest) -> None:
        """Know what somebody asked for."""
        if act.kind == "set":
            self.strategy = Strategy.named(act.arguments["strategy"], **act.arguments["parameters"])
            asked = self.strategy.budget or self.most
            # A budget that is lowered forbids nothing that was allowed, and decided, before.
            self.budget = max(self.budget, asked) if self.visited else asked

    def _observed(self, observation: Observation) -> None:
        if observation.decision_id is None:
            return
        if observation.doses:
            self.visited.add((observation.decision_id, observation.repeat))
        if observation.quality >= self.strategy.min_quality:
            self.in_a_row = 0

    def _failed(self, failure: Failure, given_up: set[int]) -> None:
        number = failure.decision_id
        if failure.doses:
            self.visited.add((number, failure.attempt))
        if failure.given_up and number not in given_up and not failure.reason.startswith(_NO_FAULT):
            given_up.add(number)
            self.in_a_row += 1
            self.last = failure.reason

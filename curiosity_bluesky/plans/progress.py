"""Counts of a run: points, attempts, doses and the budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from curiosity_bluesky.documents import Translator
from curiosity_bluesky.learning import Explorer, Failure, Observation, SteeringRequest, Strategy
from curiosity_bluesky.learning.survey import Pixel
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.utils.point_failure import FailureKind


@dataclass
class RunCount:
    """Counts of a run; one that was killed and the run that goes on with it count as one.

    Parameters
    ----------
    strategy
        The strategy as it is now: the scientist may have changed it.
    most
        Pixels that can be measured.
    before
        Good spectra of the runs up to the last one that was closed.
    added
        Pixels that the scientist added and that were not decided on yet.
    asked
        Largest number of spectra that was asked for.
    visited
        Decision and attempt of each spectrum that was taken, or begun: a pause, or a kill, that
        has one repeated adds none.
    in_a_row
        Points given up since the last good spectrum.
    last
        Why the last of them was given up.
    decided
        Decisions, those of the runs before included.
    measured
        Good spectra, those of the runs before included.
    doses
        Pixel of each spectrum that the sample took, useless and failed ones too.
    """

    strategy: Strategy
    most: int
    before: int = 0
    asked: int = 0
    visited: set[tuple[int, int]] = field(default_factory=set)
    in_a_row: int = 0
    last: str = ""
    decided: int = 0
    measured: int = 0
    doses: list[Pixel] = field(default_factory=list)
    added: int = 0

    @staticmethod
    def begun(explorer: Explorer) -> RunCount:
        """Return the counts at the beginning of a run, with what the runs before have left."""
        most = int(explorer.patches.allowed.sum())
        count = RunCount(explorer.strategy, most, explorer.n_observed, explorer.budget)
        count._know(explorer)
        return count

    @staticmethod
    def resumed(past: InterruptedRun, closed: RunCount | None, now: Explorer) -> RunCount:
        """Return the counts that a run goes on with.

        Parameters
        ----------
        past
            The runs before.
        closed
            Counts at the end of the last of them that was closed, see `InterruptedRun.closed`;
            None: none was, or no other came after it.
        now
            What is known now.
        """
        if past.closed == len(past.runs):
            return RunCount.begun(now)
        if closed is None:
            most = int(now.patches.allowed.sum())
            closed = RunCount(past.strategy, most, asked=past.strategy.budget or most)
        closed._replay(past)
        closed.strategy = now.strategy
        closed._know(now)
        return closed

    @property
    def budget(self) -> int:
        """Spectra in the whole run, as it is asked for now."""
        return self.strategy.budget or self.most

    @property
    def left(self) -> int:
        """Spectra that are to come, as far as the budget says."""
        return max(0, self.budget - self.measured)

    @property
    def new(self) -> int:
        """Good spectra since the last run that was closed."""
        return self.measured - self.before

    @property
    def wanted(self) -> int:
        """Spectra that were asked for since the last run that was closed."""
        return max(0, self.asked - self.before)

    def act(self, act: SteeringRequest) -> None:
        """Count what the scientist asks for."""
        self.added += act.kind == "add"
        if act.kind == "set":
            recorded = act.arguments
            self.strategy = Strategy.recorded(recorded["strategy"], **recorded["parameters"])
            # A budget that is lowered forbids nothing that was allowed, and decided, before.
            self.asked = max(self.asked, self.budget) if self.visited else self.budget

    def _know(self, explorer: Explorer) -> None:
        self.decided, self.measured = len(explorer.decisions), explorer.n_observed
        self.doses, self.added = explorer.doses, len(explorer.wishes)
        self.most = int(explorer.patches.allowed.sum())

    def _replay(self, past: InterruptedRun) -> None:
        """Count what is in the documents of the runs that were killed."""
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
                    elif isinstance(item, Failure):
                        self._failed(item, given_up)

    def _observed(self, observation: Observation) -> None:
        if observation.decision_id is None:
            return
        if observation.doses:
            self.visited.add((observation.decision_id, observation.repeat))
        if observation.quality >= self.strategy.min_quality:
            self.in_a_row = 0

    def _failed(self, failure: Failure, given_up: set[int]) -> None:
        number, kind = failure.decision_id, failure.kind
        if kind is FailureKind.BEGUN:
            return
        if failure.doses:
            self.visited.add((number, failure.attempt))
        if failure.given_up and number not in given_up and kind.is_fault:
            given_up.add(number)
            self.in_a_row += 1
            self.last = failure.reason

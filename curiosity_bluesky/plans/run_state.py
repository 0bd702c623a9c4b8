"""State of a run: what the parts of the plan share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bluesky.protocols import Movable, Readable

from curiosity_bluesky.agent import Agent, DecisionResult
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Proposal, Strategy, Survey
from curiosity_bluesky.learning.density_limit import DensityLimit
from curiosity_bluesky.plans.background import BackgroundCall
from curiosity_bluesky.plans.drift import DriftTracker
from curiosity_bluesky.plans.dwell import dwell_setting
from curiosity_bluesky.plans.options import DriftCorrection, RunOptions, SafetyLimits
from curiosity_bluesky.plans.progress import RunCount
from curiosity_bluesky.plans.readings import SpectrumReader
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.plans.time_budget import DeviceTimes, TimeEstimate
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure
from curiosity_bluesky.utils.run_end import EndKind, RunEnd
from curiosity_bluesky.utils.wording import plural


@dataclass
class RunState:
    """What the parts of the plan share, and where the run is.

    Parameters
    ----------
    agent, strategy, seed
        What decides, and the strategy and the seed that the run began with.
    detectors, x, y, imager, tip
        As for `curiosity_plan`.
    options, safety, drift, time_budget
        As for `curiosity_plan`.
    steering
        Requests of the scientist.
    clock
        Seconds on the clock that the drift goes by.
    """

    agent: Agent
    strategy: Strategy
    seed: int
    detectors: Sequence[Readable]
    x: Movable
    y: Movable
    imager: Readable
    tip: Movable | None
    options: RunOptions
    safety: SafetyLimits
    drift: DriftCorrection
    time_budget: float | None
    steering: Steering
    clock: Callable[[], float] = time.time
    count: RunCount = field(init=False)
    """Points, attempts, doses and the budget, those of the runs before included."""
    pending: deque[Proposal] = field(default_factory=deque)
    attempts: dict[int, tuple[int, float | None]] = field(default_factory=dict)
    """First attempt at what the run before had begun to measure, see `Explorer.outstanding`."""
    broken_off: dict[int, int] = field(default_factory=dict)
    """Doses that the sample may have had there, in an attempt that ended with the run before."""
    points_given: bool = True
    """Whether the number of spectra was given, and not only the time."""
    raised: int | None = None
    """The number of spectra that the time seemed to allow when it was last looked at."""
    mapped: int = 0
    """Decisions when the maps were last written."""
    trouble: RunEnd | None = None
    """What the plan paused for."""
    ahead: BackgroundCall[DecisionResult] | None = None
    """The decision under way."""
    pace: TimeEstimate = field(init=False)
    """How long it takes, and what is left."""
    survey: Survey = field(init=False)
    tolerance: tuple[float, float] = (np.inf, np.inf)
    """Distance from its target that each motor may end at, um."""
    ended: RunEnd | None = None
    tracker: DriftTracker = field(init=False)
    """Where the survey's pixels are by now."""
    spectra: SpectrumReader = field(init=False)
    """What the spectra before were like."""
    dwell: Any = field(init=False)
    """The detector's dwell setting, None if it has none."""
    uid: str = ""
    """Of its documents; "" until it is open, and where no RunEngine answers."""

    def opened(self, uid: str | None) -> None:
        """Know the uid of its documents."""
        self.uid = uid or ""

    def __post_init__(self) -> None:
        self.dwell = dwell_setting(self.detectors)
        if self.dwell is None and self.strategy.dwell_seconds is not None:
            names = ", ".join(detector.name for detector in self.detectors)
            raise InputError(
                f"the run measures with a dwell setting, and {names} has none; give the detector "
                "that it began with"
            )
        self.spectra = SpectrumReader(self.detectors)
        devices = self.x, self.y, self.imager
        self.tracker = DriftTracker(*devices, *self.resurvey, self.clock, self.tip)

    @property
    def resurvey(self) -> tuple[int, float]:
        """Points and minutes between two surveys, 0: never."""
        return self.drift.resurvey_every, self.drift.resurvey_minutes

    @property
    def times(self) -> DeviceTimes:
        """How long things take, as far as the devices say; they are asked now."""
        return DeviceTimes.of(self.detectors, self.x, self.y, self.imager, self.tip)

    def begin(self, explorer: Explorer, began: float, count: RunCount | None = None) -> None:
        """Know the survey, and let the scientist steer from now on.

        Parameters
        ----------
        explorer
            What is known.
        began
            When the run began, as `time.monotonic` counts.
        count
            Counts of the runs that this one goes on with, if any.
        """
        self.survey = survey = explorer.survey
        self.count = RunCount.begun(explorer) if count is None else count
        self.pace = TimeEstimate(
            self.times, explorer.reach, explorer.strategy.batch, began, *self.resurvey
        )
        self.mapped = self.count.decided
        if self.options.attended:  # the scientist looked after each pause that these had led to
            self.count.in_a_row %= self.options.max_failures
        steps = (np.diff(axis) if len(axis) > 1 else [np.inf] for axis in (survey.x, survey.y))
        self.tolerance = tuple(float(np.abs(step).min() / 2) for step in steps)  # pyright: ignore[reportAttributeAccessIssue]
        acts = explorer.masked, explorer.n_acts
        self.steering.begin(survey, explorer.strategy, *acts, self.room)

    def room(self, budget: int | None) -> int | None:
        """Return how many spectra of a budget are left, less the pixels that were added.

        None where the run goes on for as long as its time allows.
        """
        if self.time_budget is not None and not self.points_given:
            return None
        return (budget or self.count.most) - self.count.measured - self.count.added

    @property
    def remaining(self) -> float:
        """Seconds that the run is expected to go on after the point that is next, NaN: unknown."""
        seconds = self.pace.ahead(self.pending, max(0, self.count.left - 1))
        seconds = np.nan if seconds is None else seconds
        if self.time_budget is not None:
            seconds = np.fmin(seconds, max(0.0, self.time_budget - self.pace.elapsed))
        return float(seconds)

    def refusal(self, proposal: Proposal) -> PointFailure | None:
        """Say why a proposal must not be measured any more; None if nothing speaks against it."""
        return self.steering.refusal(proposal) or self.crowded(proposal)

    def crowded(self, proposal: Proposal) -> PointFailure | None:
        """Say so if there are spectra enough around a proposal; None if there may be one more."""
        limit = self.count.strategy.max_per_area
        if limit is None:
            return None
        if not DensityLimit(self.survey, limit, self.count.doses).full[proposal.pixel]:
            return None
        return PointFailure(
            FailureKind.CROWDED,
            f"{limit[0]} {plural(limit[0], 'spectrum', 'spectra')} within {limit[1]:g} um of each "
            f"other {plural(limit[0], 'is', 'are')} allowed, and so many were taken there",
        )

    def dose(self, proposal: Proposal) -> PointFailure | None:
        """Count one more spectrum at a proposal, or say why there may be none."""
        why = self.crowded(proposal)
        if why is None:
            self.count.doses.append(proposal.pixel)
        return why

    def spent(self) -> RunEnd | None:
        """Say so if the sample was measured as often as it may be, whatever came of it.

        It does not depend on what was learned: spectra that are never good enough must not go on
        without end.
        """
        count, visits = self.count, len(self.count.visited)
        if visits < count.wanted * (1 + self.options.retries):
            return None
        if count.measured >= count.budget:
            return RunEnd(EndKind.BUDGET, f"{count.measured} of {count.budget} spectra measured")
        return RunEnd(
            EndKind.VISITS,
            f"the sample was measured {visits} times for {count.wanted} spectra, as often "
            f"as {self.options.retries} retries allow, and {count.new} of them "
            "were good enough; look at the instrument, and at what min_quality asks for",
        )

    def late(self) -> RunEnd | None:
        """Say so if the next point would not be done in time; None if there is time for it."""
        if self.time_budget is None:
            return None
        needed = self.pace.ahead(self.pending, 1) or 0.0
        if self.tracker.due():
            needed += self.pace.costs.survey or 0.0
        if self.pace.elapsed + needed <= self.time_budget:
            return None
        return RunEnd(EndKind.TIME, f"{self.time_budget:g} s leave no time for another point")

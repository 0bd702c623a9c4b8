"""What a run costs in time: before it, and what is left of it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Proposal, Strategy, Survey
from curiosity_bluesky.learning.scan_path import short_path

_RECENT = 30
"""Number of newest points over which the unforeseen time is averaged."""

_PRIOR = 3

SHORTEST = 1 / 16
"""The first re-survey comes after this part of the points or minutes, or after one point."""

_PAIRS = 200
"""So many random legs say how far the next pixel is, as a rule."""


@dataclass(frozen=True)
class DeviceTimes:
    """How long things take (s), as far as the devices say: `None` is not known.

    They are asked once, at the beginning: in the middle of a run a device may have lost its
    instrument.

    Parameters
    ----------
    survey
        The overview image.
    spectrum
        One spectrum: of several detectors, which measure together, the slowest.
    x, y
        A move along each axis: settling (s), and s/um of way; a move of no length takes no time.
    lift
        Lifting the tip before a move and lowering it after it, together.
    dwell_seconds
        Dwell settings of the detector with the seconds of a spectrum; `spectrum` is a full one.
    """

    survey: float | None
    spectrum: float | None
    x: tuple[float, float] | None
    y: tuple[float, float] | None
    lift: float | None = 0.0
    dwell_seconds: tuple[tuple[float, float], ...] = ()

    @staticmethod
    def of(detectors: Sequence[Any], x: Any, y: Any, imager: Any, tip: Any = None) -> DeviceTimes:
        """Ask the devices, see docs/devices.md."""
        spectra = [stated_seconds(detector) for detector in detectors]
        known = [seconds for seconds in spectra if seconds is not None]
        return DeviceTimes(
            survey=stated_seconds(imager),
            spectrum=max(known, default=0.0) if len(known) == len(spectra) else None,
            x=_rate(x),
            y=_rate(y),
            lift=0.0 if tip is None else stated_seconds(tip),
            dwell_seconds=_dwell_seconds(detectors),
        )

    @property
    def speed(self) -> float | None:
        """How fast the tip travels, um/s: that of the slower axis."""
        if self.x is None or self.y is None:
            return None
        slowest = max(self.x[1], self.y[1])
        return 1.0 / slowest if slowest > 0 else np.inf

    @property
    def dwell(self) -> float | None:
        """What a point costs wherever it is: settling, lifting and the spectrum (s)."""
        if self.x is None or self.y is None:
            return None
        return _total([max(self.x[0], self.y[0]), self.lift, self.spectrum])

    @property
    def visit(self) -> tuple[float, float] | None:
        """What a visit costs beside the spectrum: settling and lifting (s), and speed (um/s)."""
        if self.x is None or self.y is None or self.lift is None or self.speed is None:
            return None
        # A virtual clock moves in no time; JSON knows no infinity.
        return max(self.x[0], self.y[0]) + self.lift, min(self.speed, 1e12)

    def saved(self, proposals: Iterable[Proposal]) -> float:
        """Seconds that short spectra take less than full ones."""
        if not self.dwell_seconds:
            return 0.0
        known, full = dict(self.dwell_seconds), self.dwell_seconds[-1][1]
        return sum(full - known.get(p.dwell or np.nan, full) for p in proposals)

    def points(self, places: NDArray, start: NDArray | None = None) -> float | None:
        """Return how long it takes to measure at places in their order (s).

        Parameters
        ----------
        places
            ``(places, 2)``, x and y in um.
        start
            ``(2,)``, where the tip is; default: it is at the first place already.
        """
        if not len(places):
            return 0.0
        each = _total([self.spectrum, self.lift])
        if self.x is None or self.y is None or each is None:
            return None
        ways = np.abs(np.diff(places, axis=0, prepend=places[:1] if start is None else [start]))
        settle, per_um = np.array([self.x, self.y]).T
        # Both axes move at once.
        legs = np.where(ways > 0, settle + per_um * ways, 0.0).max(axis=1)
        return float(legs.sum()) + len(places) * each

    def usual(self, survey: Survey, batch: int = 1) -> float | None:
        """Return what a point costs as a rule (s), if pixels are chosen all over the survey.

        Parameters
        ----------
        survey
            Pixels that are masked are not gone to.
        batch
            So many are visited on a short path.
        """
        rows, cols = np.nonzero(~survey.mask)
        if not len(rows):
            return None
        # The same pixels each time, so that the same question has the same answer.
        drawn = np.random.default_rng(0).integers(len(rows), size=_PAIRS)
        places = np.stack([survey.x[cols[drawn]], survey.y[rows[drawn]]], axis=1)
        for k in range(0, len(places), batch if batch > 1 else len(places) + 1):
            part = places[k : k + batch]
            places[k : k + batch] = part[short_path(part, places[k - 1] if k else None)]
        spent = self.points(places)
        return None if spent is None else spent / len(places)


@dataclass
class TimeEstimate:
    """How long a run goes on, from what it should cost and what it did cost so far.

    The unforeseen, the learning above all, is the mean over the newest points of what they took
    longer than they should have. The seeds, which nothing is learned for, say nothing about
    the points after them.

    Parameters
    ----------
    costs
        What things should cost.
    survey
        Where the pixels lie.
    batch
        See `DeviceTimes.usual`.
    began
        When the run began, as `time.monotonic` counts.
    every, minutes
        When the survey is taken again, as in `DriftTracker`; 0: never.
    """

    costs: DeviceTimes
    survey: Survey
    batch: int = 1
    began: float = field(default_factory=time.monotonic)
    every: int = 0
    minutes: float = 0.0
    _done: int = 0
    _should: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _extra: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _usual: float | None = field(init=False)
    _then: float = field(init=False)
    _at: NDArray | None = None
    _seeding: bool = True

    def __post_init__(self) -> None:
        self._then = time.monotonic()
        self._usual = self.costs.usual(self.survey, self.batch)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, pauses included."""
        return time.monotonic() - self.began

    def forget(self) -> None:
        """Do not count the time since the point before: it was no point that took it."""
        self._then = time.monotonic()

    def point(self, proposal: Proposal) -> None:
        """Know that a point is done."""
        now, place = time.monotonic(), np.array([proposal.x, proposal.y])
        should = self.costs.points(place[None], self._at) or 0.0
        should = max(0.0, should - self.costs.saved([proposal]))
        extra = max(0.0, now - self._then - should)
        if self._seeding and proposal.reason != "seed":
            # The first training takes its time once; of the next it is not known yet.
            self._seeding, extra = False, float(np.mean(self._extra or [0.0]))
            self._should.clear()
            self._extra.clear()
        if self._extra:
            # A night with the tip paused over dinner says nothing about the points to come.
            extra = min(extra, 20 * (float(np.median(self._extra)) + should) + 10.0)
        self._then, self._at, self._done = now, place, self._done + 1
        self._should.append(should)
        self._extra.append(extra)

    @property
    def seconds_per_point(self) -> float | None:
        """What the next point will take, as far as anything is known (s)."""
        return self._usual if not self._extra else self._leg() + float(np.mean(self._extra))

    def _leg(self) -> float:
        """Return what a point should cost where it is not known which: as those of late did."""
        if self._usual is None:
            return float(np.mean(self._should))
        # As if what is usual had been seen a few times.
        return (_PRIOR * self._usual + sum(self._should)) / (_PRIOR + len(self._should))

    def ahead(self, pending: Iterable[Proposal], n: int) -> float | None:
        """Return how long it takes to measure `n` more points, of which some are known (s)."""
        each = self.seconds_per_point
        if each is None:
            return None
        first = list(islice(pending, n))
        known = np.array([[p.x, p.y] for p in first]).reshape(-1, 2)
        should = self.costs.points(known, self._at)
        should = None if should is None else max(0.0, should - self.costs.saved(first))
        extra = float(np.mean(self._extra)) if self._extra else 0.0
        unknown = n if should is None else n - len(known)
        spent = unknown * each + (n - unknown) * extra + (should or 0.0)
        return spent + self._resurveys(n, spent) * (self.costs.survey or 0.0)

    def _resurveys(self, n: int, seconds: float) -> int:
        """How many re-surveys come in the next `n` points, which take so many seconds.

        So it is where the drift is steady, see `drift.Tracker`; as there, points or minutes,
        what is over first begins both again.
        """
        points = [0, self._done, self._done + n]
        times = [0.0, self.elapsed, self.elapsed + seconds]
        at, share, count = 0.0, SHORTEST, 0
        while True:
            ends = [at + points_between(self.every, share)] if self.every else []
            if self.minutes:
                then = np.interp(at, points, times) + 60 * self.minutes * share
                # The survey is not taken again in the middle of a point.
                ends.append(max(at + 1, np.ceil(np.interp(then, times, points, right=np.inf))))
            at = min(ends, default=np.inf)
            if at > points[-1]:
                return count
            count += at > self._done
            share = next_interval(share)


def spectra_in(
    seconds: float,
    costs: DeviceTimes,
    survey: Survey,
    strategy: Strategy,
    resurvey: tuple[int, float] = (0, 0.0),
) -> int:
    """How many spectra there is time for, surveys included; all pixels where that is not known.

    Parameters
    ----------
    seconds
        For the whole run.
    costs, survey, strategy
        What is to be measured, and what it costs.
    resurvey
        After how many points, and minutes, the survey is taken again; 0: never.
    """
    pace = TimeEstimate(costs, survey, strategy.batch, time.monotonic(), *resurvey)
    most = int(strategy.patches(survey).allowed.sum())
    if not pace.seconds_per_point:
        return most
    left = seconds - (costs.survey or 0.0)
    fits = bisect_right(range(1, most + 1), left, key=lambda n: pace.ahead([], n) or 0.0)
    return max(1, fits)


def next_interval(share: float) -> float:
    """Return the share of the whole interval between re-surveys that follows a share."""
    return min(1.0, 2 * share)


def points_between(every: int, share: float) -> int:
    """Return the points between two re-surveys, of `every` at most."""
    return max(1, round(every * share))


def stated_seconds(device: Any) -> float | None:
    """Return how long a device says that its measurement takes (s), None if it does not say."""
    seconds = _asked(lambda: getattr(device, "seconds", None))
    return None if seconds is None or callable(seconds) else float(seconds)


def _dwell_seconds(detectors: Sequence[Any]) -> tuple[tuple[float, float], ...]:
    """Return the dwell settings of the detectors with their seconds, as far as they say."""
    found = []
    for detector in detectors:
        setting: Any = getattr(detector, "dwell", None)
        for value in getattr(setting, "values", ()):
            seconds = _asked(lambda value=value, setting=setting: setting.seconds(value))
            found += [] if seconds is None else [(float(value), float(seconds))]
    return tuple(found)


def _rate(motor: Any) -> tuple[float, float] | None:
    """Return settling (s) and s/um of a motor: the straight line through two moves."""
    near, far = (_asked(lambda way=way: motor.seconds(way)) for way in (1.0, 2.0))
    if near is None or far is None:
        return None
    per_um = max(0.0, far - near)
    return max(0.0, near - per_um), per_um


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except InputError:  # what it says is no time
        raise
    except Exception:  # it does not say, or its instrument is gone, as others will find out
        return None


def _total(seconds: Sequence[float | None]) -> float | None:
    known = [part for part in seconds if part is not None]
    return float(sum(known)) if len(known) == len(seconds) else None

"""Drift of a real tip: the survey is taken again, and targets follow the sample."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Movable, Readable, Triggerable
from bluesky.utils import MsgGenerator
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Proposal, Survey
from curiosity_bluesky.learning.survey import fill_masked
from curiosity_bluesky.plans import device_faults, safety, stubs
from curiosity_bluesky.plans.registration import Registration, register
from curiosity_bluesky.plans.stream_assets import with_stream_assets
from curiosity_bluesky.plans.time_budget import (
    SHORTEST,
    next_interval,
    points_between,
    stated_seconds,
)
from curiosity_bluesky.utils.point_failure import FailureKind, PointFailure

logger = logging.getLogger(__name__)

_FIXES = 3
"""So many of the newest trusted re-surveys say how fast the sample drifts."""

_SURPRISE = 0.5
"""By so much of a pixel the sample may be off the line before the next re-survey comes sooner."""

_IN_VAIN = 3
"""After so many re-surveys in a row that showed nothing, they are tried less and less often."""

_SHORT_S = 60.0
"""A gap of so many seconds is never worth an image, however quick the points are."""


@dataclass(frozen=True)
class DriftSample:
    """A drift (um) that was measured, in seconds since the first survey."""

    seconds: float
    x: float
    y: float


@dataclass
class DriftTracker:
    """Knows where the survey's pixels are by now.

    The sample was at (0, 0) when the first survey was taken. Each re-survey that is trusted is
    a fix; between them the drift goes on along a straight line through the newest one, with
    the slope of the newest three (least squares). How long that may be relied on is tried out:
    the first re-survey comes after a sixteenth of `every` or `minutes`, and whenever one was
    where it was expected to within half a pixel, the interval to the next is doubled, up to the
    whole; else it is halved. One that fails or is not trusted leaves the interval as it is.
    After a gap of more than twice the longest interval so far, in time, a re-survey is due as well:
    the plan was paused.

    Parameters
    ----------
    x, y, imager
        As for `curiosity_plan`.
    every
        Points between two re-surveys at most; 0 for never.
    minutes
        Minutes between two re-surveys at most; 0 for never.
    clock
        What time it is, s.
    tip
        Lowered for each image; None: there is none that is lifted.
    """

    x: Movable
    y: Movable
    imager: Readable
    every: int = 0
    minutes: float = 0.0
    clock: Callable[[], float] = time.time
    tip: Movable | None = None
    number: int = 0
    """Re-surveys so far."""
    fixes: list[DriftSample] = field(default_factory=lambda: [DriftSample(0.0, 0.0, 0.0)])
    """What was measured in this run."""
    points: int = 0
    """Points that were visited since a re-survey was last tried."""
    blind: bool = False
    """Whether the drift is of too long ago to be extrapolated, as after a resume."""
    _share: float = SHORTEST  # of the whole interval, until the next
    _origin: float = 0.0  # of the seconds, on the clock
    _tried: float = 0.0
    _longest: float = 0.0  # interval between two that were tried, s
    _in_vain: int = 0  # re-surveys in a row
    _rate_before: tuple[float, float] = (0.0, 0.0)
    _stale: bool = False  # the fixes are of the run before
    _now: bool = False
    _out: NDArray[np.bool_] | None = None  # of reach, as the explorer knows it
    _known: bool = False  # whether that is of the last re-survey

    @property
    def on(self) -> bool:
        """Whether drift is corrected at all."""
        return self.every > 0 or self.minutes > 0

    @property
    def seconds(self) -> float:
        """Seconds since the first survey."""
        return self.clock() - self._origin

    @property
    def unseen(self) -> float:
        """Seconds since the newest fix."""
        return self.seconds - self.fixes[-1].seconds

    # ---- the first survey, here or in the run that is resumed

    def look(self, mask: NDArray | None, timeout: float | None = None) -> MsgGenerator[Survey]:
        """Take the first survey, as `stubs.take_survey` does."""
        began = self.clock()
        survey = yield from stubs.take_survey(self.imager, mask, timeout)
        self._origin = self._middle(began)
        return survey

    def recall(self, past: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Know the drift from the documents of the runs before; a re-survey is due at once.

        How far the sample crept meanwhile is not known, so nothing is to be measured before a
        re-survey is trusted; the rate of before counts until there are two fixes of this run.
        """
        when, seconds, streams = time.time(), None, {}
        for name, doc in past:
            if name == "descriptor":
                streams[doc["uid"]] = doc["name"]
            for event in documents.events_in(name, doc):
                stream = streams.get(event["descriptor"])
                if stream == documents.SURVEY and seconds is None:
                    when, seconds = event["time"], 0.0
                elif stream == documents.DRIFT:
                    data = event["data"]
                    when, seconds = event["time"], float(data["seconds"])
                    self.number = max(self.number, int(data["resurvey"]))
                    if documents.OUT_OF_REACH in data:
                        self._out = np.asarray(data[documents.OUT_OF_REACH], bool)
                    if data["trusted"]:
                        x, y = float(data["drift_x"]), float(data["drift_y"])
                        self.fixes.append(DriftSample(seconds, x, y))
        # By the clock on the wall, whatever clock the run goes by.
        self._tried = (seconds or 0.0) + max(0.0, time.time() - when)
        self._origin = self.clock() - self._tried
        self._rate_before, self.fixes = self.rate, self.fixes[-1:]
        self._stale = self._now = self.blind = True

    # ---- where a pixel is

    def drift(self, seconds: float) -> tuple[float, float]:
        """Return the drift (x, y) in um at a time since the first survey (s)."""
        last = self.fixes[-1]
        rate_x, rate_y = self.rate
        ahead = seconds - last.seconds
        return last.x + rate_x * ahead, last.y + rate_y * ahead

    @property
    def rate(self) -> tuple[float, float]:
        """How fast the sample drifts (x, y), um/s: slope of the newest fixes."""
        if len(self.fixes) < 2:
            return self._rate_before
        newest = np.array([(f.seconds, f.x, f.y) for f in self.fixes[-_FIXES:]])
        t, *positions = (newest - newest.mean(axis=0)).T
        rate_x, rate_y = (float((t * p).sum() / (t**2).sum()) for p in positions)
        return rate_x, rate_y

    def aim(
        self, proposal: Proposal, detectors: Sequence[Any]
    ) -> MsgGenerator[tuple[tuple[float, float], PointFailure | None]]:
        """Return where a pixel is by now (x, y) in um, and why the tip may not go there if so.

        It is aimed at where the pixel is at half the time of the spectrum, as far as the
        detectors say how long that takes.
        """
        if not self.on:
            return (proposal.x, proposal.y), None
        spectrum = max((stated_seconds(detector) or 0.0 for detector in detectors), default=0.0)
        dx, dy = self.drift(self.seconds + spectrum / 2)
        target = proposal.x + dx, proposal.y + dy
        for motor, position in zip((self.x, self.y), target, strict=True):
            try:
                [refused] = yield from stubs.refusals(motor, [position])
            except OSError:  # it has lost its instrument: the visit fails, and is tried again
                continue
            if refused is not None:
                # The explorer is to know at once, unless it does, or it is not known.
                self._now |= self._known and self._out is not None and not self._out[proposal.pixel]
                text = f"drifted by ({dx:.3g}, {dy:.3g}) um; {refused}"
                return target, PointFailure(FailureKind.OUT_OF_REACH, text)
        return target, None

    # ---- taking the survey again

    def due(self) -> bool:
        """Say whether it is time for a re-survey."""
        if not self.on:
            return False
        return (
            self._now
            or self._overdue
            or (self.every > 0 and self.points >= self._gap)
            or (self.minutes > 0 and self.seconds - self._tried >= self._gap_s)
        )

    @property
    def _overdue(self) -> bool:
        """Whether so much time has passed since a re-survey was tried that something came between.

        How long that is, is not known before the first one.
        """
        return self._longest > 0 and self.seconds - self._tried > self._limit

    @property
    def _limit(self) -> float:
        return max(2 * self._longest, _SHORT_S)

    @property
    def _gap(self) -> int:
        """Points until the next re-survey."""
        return points_between(self.every, self._share)

    @property
    def _gap_s(self) -> float:
        """Seconds until the next re-survey."""
        return 60 * self.minutes * self._share

    def resurvey(
        self, survey: Survey, n_decisions: int, timeout: float, retries: int, retry_wait: float
    ) -> MsgGenerator[None]:
        """Take the survey again, register it, and write one event of the ``drift`` stream.

        What fails is tried again `retries` times; then the run goes on with the drift
        extrapolated, unless that is `blind`.

        Parameters
        ----------
        survey
            The first one.
        n_decisions
            How many decisions there are.
        timeout, retries, retry_wait
            As for `curiosity_plan`; a slow imager has more time, see `stubs.survey_timeout`.
        """
        image = when = None
        # Without any fix there is nothing to extrapolate: it is as blind as it was before.
        self.blind |= self._overdue and (self._stale or len(self.fixes) > 1)
        for attempt in range(retries + 1):
            if attempt:
                yield from bps.sleep(retry_wait)
            began = self.clock()
            image, failed = yield from self._taken(survey, timeout)
            when = self._middle(began) - self._origin
            if failed is None:
                break
            logger.warning("re-survey, attempt %d: %s", attempt + 1, failed)
        visited, now = self.points, self.seconds
        gap = now - self._tried
        # One night with the plan paused does not make the nights after it usual.
        self._longest = max(self._longest, min(gap, self._limit) if self._longest else gap)
        self.points, self._tried, self._now = 0, now, False
        if image is None or when is None:
            if not self.blind:
                logger.error("no re-survey: the run goes on with the drift extrapolated")
            self._known = False
            self._nothing_seen()
            return
        per_point = gap / visited if visited else 0.0
        yield from self._written(survey, image, when, n_decisions, per_point)

    def _nothing_seen(self) -> None:
        """Keep the interval; but what never works is not to be tried with each point."""
        self._in_vain += 1
        if self._in_vain >= _IN_VAIN:
            self._share = next_interval(self._share)
        self._now = self.blind

    def _taken(
        self, survey: Survey, timeout: float
    ) -> MsgGenerator[tuple[Mapping[str, NDArray] | None, str | None]]:
        """Take an image; return it, or say what failed."""
        # Each time, since a pause lifts the tip.
        failed = yield from safety.lower_tip(self.tip, timeout)
        if failed:
            return None, failed
        if isinstance(self.imager, Triggerable):
            allowed = stubs.survey_timeout(self.imager, timeout)
            failed = yield from device_faults.wait_for_all(
                [device_faults.GuardedTrigger(self.imager)], allowed
            )
            if failed:
                return None, failed
        # A pause from here on does not take it again: what is written is what was registered.
        yield from bps.checkpoint()
        try:
            image, axes = yield from stubs.image_of(self.imager)
        except device_faults.NOT_OURS:
            raise
        except Exception as error:  # whatever an instrument raises when it is read
            yield from bps.checkpoint()  # it is not to be read again after a pause
            return None, device_faults.in_words(error)
        shapes = {np.shape(channel) for channel in image.values()}
        if shapes != {survey.shape} or not all(
            _alike(axes.get(name, there), there)
            for name, there in (("x", survey.x), ("y", survey.y))
        ):
            return None, "the imager's grid is not that of the first survey"
        return {key: fill_masked(channel, survey.mask) for key, channel in image.items()}, None

    def _written(
        self,
        survey: Survey,
        image: Mapping[str, NDArray],
        when: float,
        n_decisions: int,
        per_point: float,
    ) -> MsgGenerator[None]:
        """Register an image and write what came of it; a point takes `per_point` seconds."""
        expected = self.drift(when)
        steps = [(axis[-1] - axis[0]) / max(1, len(axis) - 1) for axis in (survey.x, survey.y)]
        try:
            found = yield from stubs.call_in_thread(
                register, survey.channels, image, (float(steps[0]), float(steps[1])), expected
            )
        except InputError as error:
            logger.warning("re-survey: %s", error)
            found = Registration(*expected, np.nan, 0.0, False)
        self.number += 1
        if found.trusted:
            self.fixes = [
                *([] if self._stale else self.fixes),
                DriftSample(when, found.dx, found.dy),
            ]
            off = np.array([found.dx - expected[0], found.dy - expected[1]]) / steps
            # The first re-survey of a run: how fast it drifts was not known, or hours ago.
            surprised = len(self.fixes) > 2 and float(np.hypot(*off)) > _SURPRISE
            self._share = (
                max(SHORTEST, self._share / 2) if surprised else next_interval(self._share)
            )
            self._stale = self.blind = False
            self._in_vain = 0
        else:
            logger.warning(
                "re-survey %d is not trusted (residual %.2g, overlap %.2g)%s", self.number,
                found.residual, found.overlap, "" if self.blind else ": the drift is extrapolated",
            )  # fmt: skip
            self._nothing_seen()
        gaps = [self._limit] if self._longest else []  # points may have waited for hours
        gaps += [self._gap * per_point] if self.every else []
        gaps += [self._gap_s] if self.minutes else []
        out = yield from self._out_of_reach(survey, min(gaps))
        rate_x, rate_y = self.rate
        values = {
            **{"resurvey": self.number, "seconds": when, "n_decisions": n_decisions},
            **{"drift_x": found.dx, "drift_y": found.dy, "rate_x": rate_x, "rate_y": rate_y},
            **{"expected_x": expected[0], "expected_y": expected[1]},
            **{"residual": found.residual, "overlap": found.overlap, "trusted": found.trusted},
        }
        record = documents.drift_record(values, out)
        try:
            yield from stubs.read_into_event(
                documents.DRIFT, [with_stream_assets(self.imager), record]
            )
        except device_faults.NOT_OURS:
            raise
        except Exception as error:  # it could be read a moment ago
            logger.error(
                "re-survey %d is not written: %s", self.number, device_faults.in_words(error)
            )
            return
        yield from bps.save()
        yield from bps.checkpoint()

    def _out_of_reach(self, survey: Survey, ahead: float) -> MsgGenerator[NDArray[np.bool_]]:
        """Return the pixels that the tip may not be sent to now or in `ahead` seconds.

        Those of before where the drift is not known, or a motor lost its instrument.
        """
        before = np.zeros(survey.shape, bool) if self._out is None else self._out
        self._known = not self.blind
        if self.blind:
            return before
        try:
            self._out = yield from self._refused(survey, ahead)
        except OSError as error:
            logger.warning("what is out of reach is not known: %s", device_faults.in_words(error))
            self._known = False
            return before
        return self._out

    def _refused(self, survey: Survey, ahead: float) -> MsgGenerator[NDArray[np.bool_]]:
        """Ask the motors which pixels the tip may not be sent to now or in `ahead` seconds."""
        now, out = self.seconds, np.zeros(survey.shape, bool)
        for seconds in (now, now + ahead):
            refused = []
            for motor, axis, drift in zip(
                (self.x, self.y), (survey.x, survey.y), self.drift(seconds), strict=True
            ):
                places = [float(place) for place in axis + drift]
                answers = yield from stubs.refusals(motor, places)
                refused.append(np.array([answer is not None for answer in answers]))
            out |= refused[0][None, :] | refused[1][:, None]
        return out

    def _middle(self, began: float) -> float:
        """Return the middle of a scan that has just ended (s on the clock)."""
        now, seconds = self.clock(), stated_seconds(self.imager)
        # A pause may have had it repeated: what it takes tells more than when it began.
        return now - seconds / 2 if seconds else (began + now) / 2


def _alike(here: NDArray, there: NDArray) -> bool:
    same = 1e-3 * float(np.ptp(there))
    return here.shape == there.shape and np.allclose(here, there, rtol=0, atol=same)

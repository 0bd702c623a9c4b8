"""Record of a run: decisions, observations, failures and steering, the explorer's state."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.masks import decode_mask
from curiosity_bluesky.learning.records import (
    REASONS,
    Failure,
    Observation,
    Proposal,
    ReachableArea,
    SteeringRequest,
)
from curiosity_bluesky.learning.survey import LARGEST_VALUE, Pixel, Survey
from curiosity_bluesky.utils.masked import filled_with_nan
from curiosity_bluesky.utils.point_failure import FailureKind

NOTHING = -1.0
"""Quality of a spectrum without any number, or with one that is too large to be learned."""
DERIVED = ("decisions", "observations", "good", "n_good", "pending", "taken", "_decided")
"""Cache of what is asked for many times a decision, for one state of a long run."""


class History:
    """Decisions, spectra, failures and acts of people, each once and in any order.

    Parameters
    ----------
    survey
        Says which pixels there are.
    min_quality
        Spectra of a lower quality are kept, and nothing else: the pixel counts as not
        measured.
    """

    def __init__(self, survey: Survey, min_quality: float) -> None:
        self._min_quality = min_quality
        self.points: int | None = None
        self._survey = survey
        self._decisions: dict[int, Proposal] = {}
        self._observations: dict[tuple, Observation] = {}
        self._failed: dict[int, Failure] = {}
        self._tried: dict[int, int] = {}
        self._wasted: dict[tuple[int | Pixel, int], int] = {}
        self._begun: dict[tuple[int | Pixel, int], int] = {}
        self._acts: dict[int, SteeringRequest] = {}
        self._reach: dict[int, ReachableArea] = {}
        self._resumed_at = 0

    @property
    def min_quality(self) -> float:
        """Least quality of a spectrum that is learned from."""
        return self._min_quality

    @min_quality.setter
    def min_quality(self, least: float) -> None:
        self._changed()
        self._min_quality = least

    def _changed(self) -> None:
        for name in DERIVED:
            self.__dict__.pop(name, None)

    # ---- what comes in

    def record(self, decision: Proposal) -> None:
        """Record a decision, see `Explorer.record`."""
        self._inside(decision.pixel)
        known = self._decisions.get(decision.decision_id)
        if known is not None and known.pixel != as_pixel(decision.pixel):
            raise InputError(
                f"decision {decision.decision_id} is pixel {known.pixel} already, "
                f"not {decision.pixel}; give the new one a number of its own"
            )
        if decision.reason not in REASONS:
            raise InputError(f"reason {decision.reason!r} is not one of {', '.join(REASONS)}")
        self._changed()
        self._decisions.setdefault(decision.decision_id, decision)

    def observe(self, observation: Observation) -> None:
        """Record a spectrum, see `Explorer.observe`."""
        pixel = self._inside(observation.pixel)
        if np.iscomplexobj(observation.spectrum):
            raise InputError(
                f"the spectrum at pixel {pixel} is complex; give its real and imaginary parts, or "
                "amplitude and phase, one behind the other"
            )
        spectrum = np.array(filled_with_nan(observation.spectrum), dtype=float)
        if spectrum.ndim != 1 or not spectrum.size:
            raise InputError(f"the spectrum has shape {spectrum.shape}; expected (points,)")
        if self.points not in (None, spectrum.size):
            raise InputError(
                f"the spectrum at pixel {pixel} has {spectrum.size} points, "
                f"those before have {self.points}"
            )
        quality = observation.quality
        spectrum[~np.isfinite(spectrum)] = np.nan  # an overflow is a gap like any other
        huge = np.abs(spectrum) > LARGEST_VALUE
        if huge.any() or np.isnan(spectrum).all():
            if quality > 0:
                why = (
                    f"reaches {np.abs(spectrum[huge]).max():g}, more than the {LARGEST_VALUE:g} "
                    "that can be learned from"
                    if huge.any()
                    else "holds no finite number"
                )
                raise InputError(f"the spectrum at pixel {pixel} {why}; call fail()")
            quality = NOTHING  # never good, whatever is asked for
            spectrum[huge] = np.nan
        self.points = spectrum.size
        self._changed()
        number, repeat = observation.decision_id, observation.repeat
        key = (*pixel, repeat) if number is None else (number, repeat)
        if number is not None:
            self._begun.pop((number, repeat), None)
        self._observations.setdefault(
            key,
            dataclasses.replace(observation, pixel=pixel, spectrum=spectrum, quality=quality),
        )

    def fail(self, failure: Failure) -> None:
        """Record that a decision could not be measured, or not in one attempt."""
        self._changed()
        number, tried = failure.decision_id, failure.attempt + 1
        if failure.kind is FailureKind.BEGUN:
            self._begun[number, failure.attempt] = failure.doses
            return
        self._begun.pop((number, failure.attempt), None)
        self._wasted[number, failure.attempt] = failure.doses
        self._tried[number] = max(self._tried.get(number, 0), tried)
        if failure.given_up:
            self._failed[number] = failure

    def steer(self, act: SteeringRequest) -> None:
        """Record a steering request, see `Explorer.steer`."""
        if act.kind == "add":
            pixel = self._inside((act.arguments["row"], act.arguments["col"]))
            if self._survey.mask[pixel]:
                raise InputError(f"pixel {pixel} is masked: nothing may be measured there")
        if act.kind == "mask" and decode_mask(act.arguments).shape != self._survey.shape:
            raise InputError(
                f"the mask has shape {decode_mask(act.arguments).shape}, "
                f"the survey {self._survey.shape}"
            )
        self._changed()
        self._acts.setdefault(act.act_id, act)

    def limit(self, reach: ReachableArea) -> None:
        """Record which pixels are out of reach now, see `Explorer.limit`."""
        if reach.out_of_reach.shape != self._survey.shape:
            raise InputError(
                f"out_of_reach has shape {reach.out_of_reach.shape}, "
                f"the survey {self._survey.shape}"
            )
        self._changed()
        self._reach.setdefault(reach.number, reach)

    def _inside(self, pixel: Pixel) -> Pixel:
        pixel, (rows, cols) = as_pixel(pixel), self._survey.shape
        if not (0 <= pixel[0] < rows and 0 <= pixel[1] < cols):
            raise InputError(f"pixel {pixel} is outside the survey of {rows} x {cols} pixels")
        return pixel

    def resume(self) -> None:
        """Forget what ended with the run before: its last batch if not all of it, its stop.

        Of a batch that was not written to its end nothing was measured, and it is proposed
        again.
        """
        self._changed()
        self._resumed_at = self.n_acts
        # An attempt of which no more is known: the sample may have had its dose.
        self._wasted.update(self._begun)
        self._begun.clear()
        following = self.decisions[-1].to_come if self._decisions else 0
        for decision in reversed(self.decisions if following else []):
            if decision.to_come != following:
                break
            del self._decisions[decision.decision_id]
            following += 1
        self._changed()

    # ---- what there is

    @cached_property
    def decisions(self) -> list[Proposal]:
        """All decisions in their order."""
        return [self._decisions[key] for key in sorted(self._decisions)]

    @property
    def batches(self) -> list[list[Proposal]]:
        """All decisions in their order, those that were made at once together."""
        batches: list[list[Proposal]] = [[]]
        for decision in self.decisions:
            batches[-1].append(decision)
            if not decision.to_come:
                batches.append([])
        return [batch for batch in batches if batch]

    @cached_property
    def observations(self) -> list[Observation]:
        """All spectra in their canonical order: by decision, those without one first.

        An observation that came without a decision's number belongs to the decision for
        its pixel, if there is one.
        """
        decided = self._decided
        # Numbered ones first, so that where both have one decision the order is the same again.
        given = sorted(self._observations.values(), key=lambda o: o.decision_id is None)
        matched = [
            dataclasses.replace(o, decision_id=decided[o.pixel])
            if o.decision_id is None and o.pixel in decided
            else o
            for o in given
        ]
        return sorted(
            matched,
            key=lambda o: (-1 if o.decision_id is None else o.decision_id, o.pixel, o.repeat),
        )

    @cached_property
    def _decided(self) -> dict[Pixel, int]:
        """The first decision for each pixel."""
        return {p.pixel: p.decision_id for p in reversed(self.decisions)}

    @cached_property
    def good(self) -> list[Observation]:
        """The spectra that are good enough to learn from, in their canonical order."""
        return [o for o in self.observations if o.quality >= self.min_quality]

    @cached_property
    def n_good(self) -> int:
        """Number of the spectra that are good enough."""
        return len(self.good)

    @property
    def doses(self) -> list[Pixel]:
        """Pixels of all doses, useless and failed spectra included, once for each dose."""
        doses = dict(self._wasted)
        for o in self._observations.values():
            key = o.pixel if o.decision_id is None else o.decision_id, o.repeat
            doses[key] = max(doses.get(key, 0), o.doses)
        places = {number: decision.pixel for number, decision in self._decisions.items()}
        return [
            places[where] if isinstance(where, int) else where
            for (where, _), n in doses.items()
            for _ in range(n)
            if not isinstance(where, int) or where in places
        ]

    @cached_property
    def pending(self) -> list[Proposal]:
        """Decisions that were neither measured well enough nor given up."""
        done = {o.decision_id for o in self.good} | self.given_up
        return [p for p in self.decisions if p.decision_id not in done]

    def attempts(self, decision_id: int) -> tuple[int, float | None]:
        """Return the number of attempts at a decision, as far as the record says.

        With it, the quality of the last spectrum where the record does not say yet that it was
        too bad.
        """
        tried = self._tried.get(decision_id, 0)
        bad = {o.repeat + 1: o for o in self._observations.values() if o.decision_id == decision_id}
        last = max([0, *bad])
        return (last, bad[last].quality) if last > tried else (tried, None)

    def broken_off(self, decision_id: int) -> int:
        """Doses of an attempt at a decision that began, and of which no failure is on record."""
        key = decision_id, self._tried.get(decision_id, 0)
        seen = self._observations.get(key)
        return max(self._wasted.get(key, 0), 0 if seen is None else seen.doses)

    @property
    def given_up(self) -> set[int]:
        """Numbers of the decisions that failed or were vetoed."""
        return set(self._failed) | {a.arguments["decision_id"] for a in self.acts_of("veto")}

    @cached_property
    def taken(self) -> set[Pixel]:
        """Pixels that are not to be proposed: measured, decided on, barred.

        A pixel that was given back is free again once a spectrum was measured elsewhere: a
        place that cannot be measured must not be proposed over and over. Given up twice, it
        is barred. One that was out of reach is free again once it is known to be within.
        """
        given_up = self.given_up
        barred = {number for number, failure in self._failed.items() if failure.bar}
        barred |= {act.arguments["decision_id"] for act in self.acts_of("veto")}
        latest = max((o.decision_id or -1 for o in self.good), default=-1)
        taken = {o.pixel for o in self._observations.values()}
        away = {n for n, f in self._failed.items() if f.kind is FailureKind.OUT_OF_REACH}
        known = self._reach[max(self._reach)].n_decisions if self._reach else 0
        barred |= {number for number in away if number >= known}
        faulty = given_up - away
        failures = Counter(p.pixel for p in self._decisions.values() if p.decision_id in faulty)
        return taken | {
            p.pixel
            for p in self._decisions.values()
            if p.decision_id not in given_up
            or p.decision_id in barred
            or p.decision_id > latest
            or failures[p.pixel] > 1
        }

    @property
    def masked(self) -> NDArray[np.bool_]:
        """``(rows, cols)``, True where the survey or a mask set by hand forbids a spectrum."""
        masked = self._survey.mask.copy()
        for act in self.acts_of("mask"):
            masked |= decode_mask(act.arguments)
        return masked

    @property
    def out_of_reach(self) -> NDArray[np.bool_]:
        """``(rows, cols)``, True where the tip cannot be sent by now, as far as is known."""
        if not self._reach:
            return np.zeros(self._survey.shape, bool)
        return self._reach[max(self._reach)].out_of_reach

    @property
    def wishes(self) -> list[Pixel]:
        """Pixels that were added by hand and not decided on yet, in their order."""
        granted = Counter(p.pixel for p in self._decisions.values() if p.reason == "manual")
        wishes, masked = [], self.masked | self.out_of_reach
        for act in self.acts_of("add"):
            pixel = act.arguments["row"], act.arguments["col"]
            granted[pixel] -= 1
            if granted[pixel] < 0 and not masked[pixel]:
                wishes.append(pixel)
        return wishes

    @property
    def n_acts(self) -> int:
        """Number of the next act."""
        return max(self._acts, default=-1) + 1

    def acts_of(self, kind: str) -> list[SteeringRequest]:
        """Return all acts of one kind in their order; a stop counts in its own run."""
        first = self._resumed_at if kind == "stop" else 0
        return [
            self._acts[n] for n in sorted(self._acts) if self._acts[n].kind == kind and n >= first
        ]

    def without_newest(self, n: int) -> History:
        """Return the history as if the `n` newest decisions had no outcome yet."""
        if not n:
            return self
        newest = set(sorted(self._decisions)[-n:])
        decided = self._decided
        twin = copy.copy(self)
        twin._changed()
        twin._observations = {
            key: o
            for key, o in self._observations.items()
            if (decided.get(o.pixel) if o.decision_id is None else o.decision_id) not in newest
        }
        twin._wasted = {key: n for key, n in self._wasted.items() if key[0] not in newest}
        twin._failed = {number: how for number, how in self._failed.items() if number not in newest}
        return twin


def as_pixel(pixel: Pixel) -> Pixel:
    """Return a pixel of whole numbers as Python has them."""
    return int(pixel[0]), int(pixel[1])

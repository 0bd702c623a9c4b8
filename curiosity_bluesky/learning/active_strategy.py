"""Active strategy: what an explorer learns and chooses by, until it is given another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.history import History
from curiosity_bluesky.learning.prior_run import PriorRun
from curiosity_bluesky.learning.protocols import (
    CostAware,
    DrawingLearner,
    DwellAware,
    EpochHook,
    Stopping,
)
from curiosity_bluesky.learning.records import Proposal, Reason, Scores, TrainingData
from curiosity_bluesky.learning.selection import Selection
from curiosity_bluesky.learning.strategy import Strategy
from curiosity_bluesky.learning.survey import Pixel, Survey
from curiosity_bluesky.utils.run_end import EndKind, RunEnd

FULL_AT_FIRST = 5
"""Spectra measured in full at first, where the strategy chooses how long."""
MAPS = ("error", "novelty", "uncertainty", "acquisition")


class ActiveStrategy:
    """A strategy on a survey: its patches, its budget, its seeds and its learner.

    Parameters
    ----------
    survey, strategy, seed, on_epoch, truth, earlier
        See `Explorer`. A strategy that cannot use the truth or the earlier run does without.

    Raises
    ------
    InputError
        If a patch is larger than the image, if the budget is more than the pixels, or if the
        strategy cannot choose by time and is asked to.
    """

    def __init__(
        self,
        survey: Survey,
        strategy: Strategy,
        seed: int,
        *,
        on_epoch: EpochHook,
        truth: NDArray | None,
        earlier: PriorRun | None,
    ) -> None:
        self.strategy = strategy
        self.patches = strategy.patches(
            survey,
            truth if strategy.needs_truth else None,
            earlier if strategy.supports_warm_start else None,
        )
        self.budget = strategy.points(self.patches)
        self.learner = strategy.build(self.patches, self.budget, seed, on_epoch)
        if strategy.per_second is not None:
            if not isinstance(self.learner, CostAware):
                raise InputError(f"{strategy.name} cannot choose by time; leave per_second out")
            self.learner.set_cost(None)  # says where it cannot
        self._seeds: list[int] | None = None

    def choose(
        self, history: History, n: int, rng: Generator
    ) -> list[tuple[Pixel, Reason, dict[str, Any]]]:
        """Return the next pixels, at most `n`: added by hand, seeds, then the learner's choice.

        Each with its reason and, where a model chose it, the fields of the proposal that say
        what the model expects there.
        """
        choosing = Selection(self.patches, self.strategy, history)
        chosen: list[tuple[Pixel, Reason, dict[str, Any]]] = []
        for pixel in history.wishes[:n]:
            chosen.append((pixel, "manual", {}))
            choosing.claim(pixel)
        for index in self._seeds_to_come(history, choosing):
            if len(chosen) < n and choosing.available[index]:
                chosen.append((self.patches.pixel(index), "seed", {}))
                choosing.claim(chosen[-1][0])
        if len(chosen) < n and choosing.available.any():
            observed = self.training_data(history)
            scores = self.learner.score(observed) if len(observed) else None
            picked = choosing.pick(self.learner, scores, n - len(chosen), rng)
            expected: list[dict[str, Any]] = [{}] * len(picked)
            if scores is not None:
                spectra = self.learner.predict(observed, np.array([i for i, _ in picked]))
                each = zip(picked, spectra, strict=True)
                expected = [
                    self._expected(index, scores, spectrum) for (index, _), spectrum in each
                ]
            for (index, reason), fields in zip(picked, expected, strict=True):
                chosen.append((self.patches.pixel(index), reason, fields))
        dwells = self._dwells([(pixel, reason) for pixel, reason, _ in chosen], history)
        return [
            (pixel, reason, {**fields, "dwell": dwell})
            for (pixel, reason, fields), dwell in zip(chosen, dwells, strict=True)
        ]

    def _dwells(
        self, chosen: Sequence[tuple[Pixel, Reason]], history: History
    ) -> list[float | None]:
        """Return the dwell setting of each pixel; None where the detector has none.

        Where the learner chooses, the first few are measured in full, and one whenever their number
        has doubled: what the later cycles tell is learned from these, and checked. So are those
        that a person asked for.
        """
        full, dwell = self.strategy.full_dwell, self.strategy.dwell
        if dwell != "auto" or self.strategy.dwell_seconds is None:
            return [full if isinstance(dwell, str) else dwell] * len(chosen)
        dwells: list[float | None] = [p.dwell for p in history.decisions]
        before = len(dwells)
        for pixel, reason in chosen:
            n = len(dwells)
            due = n < FULL_AT_FIRST or n.bit_count() == 1  # 8, 16, 32, ...
            if reason == "manual" or due:
                dwells.append(full)
            elif reason == "seed":
                dwells.append(self.strategy.dwell_seconds[0][0])
            else:
                index = self.patches.index(pixel)
                learner = self.learner
                assert isinstance(learner, DwellAware) and index is not None
                dwells.append(learner.dwell(index) or full)
        return dwells[before:]

    def end(self, history: History) -> RunEnd | None:
        """Return the end that the run has reached, None if it has not."""
        for act in history.acts_of("stop"):
            return RunEnd(EndKind.MANUAL, act.arguments.get("reason") or "ended by hand")
        if history.n_good >= self.budget:
            done = f"{history.n_good} of {self.budget} spectra measured"
            return RunEnd(EndKind.BUDGET, done + _left_out(history.wishes))
        if not (history.pending or history.wishes):
            choosing = Selection(self.patches, self.strategy, history)
            if not choosing.available.any():
                within = " within reach" if history.out_of_reach.any() else ""
                return RunEnd(EndKind.PIXELS, f"{within}{choosing.crowded}")
        if isinstance(self.learner, Stopping):
            why = self.learner.stop_reason(self.training_data(history))
            if why is not None:
                return RunEnd(EndKind.STRATEGY, why)
        return None

    def _seeds_to_come(self, history: History, choosing: Selection) -> list[int]:
        """Return the available seeds that were never decided on."""
        decisions = history.decisions
        wanted = min(self.strategy.n_seeds, self.budget)
        # Counted by the record: on another machine the networks may name other seeds.
        wanted -= sum(p.reason == "seed" for p in decisions)
        if history.acts_of("set"):  # the strategy before had seeds of its own
            wanted = min(wanted, self.strategy.n_seeds - len(decisions))
        if wanted <= 0:
            return []
        if self._seeds is None:
            seeds = self.learner.seeds(min(self.strategy.n_seeds, self.budget))
            self._seeds = [int(index) for index in seeds]
            if self.strategy.batch > 1:  # seeds are a batch as well
                self._seeds = choosing.on_a_path(self._seeds)
        # A seed that failed and was given back is the strategy's to choose, not a seed again.
        decided = {p.pixel for p in decisions}
        free = choosing.available
        left = [i for i in self._seeds if free[i] and self.patches.pixel(i) not in decided]
        return left[:wanted]

    def training_data(self, history: History) -> TrainingData:
        """Return what can be learned from: good spectra of candidates that are not masked."""
        good, points = history.good, history.points or 0
        indices = self.patches.indices([o.pixel for o in good])
        usable = np.flatnonzero((indices >= 0) & self.patches.allowed[indices])
        spectra = np.array([good[k].spectrum for k in usable]).reshape(len(usable), points)
        axes = (o.axis for o in good if o.axis is not None)
        axis = next((axis for axis in axes if len(axis) == points), None)
        dwell = None
        if self.strategy.dwell_seconds is not None:
            measured = [good[k].dwell for k in usable]
            dwell = np.array([self.strategy.full_dwell if d is None else d for d in measured])
        return TrainingData(indices[usable], spectra, axis, dwell)

    def maps(self, observed: TrainingData) -> dict[str, NDArray]:
        """Return error, novelty, uncertainty and acquisition, see `Explorer.maps`."""
        scores = self.learner.score(observed) if len(observed) else None
        nothing = np.full(len(self.patches), np.nan)
        maps = {name: getattr(scores, name, None) for name in MAPS}
        return {
            name: self.patches.unflatten(nothing if values is None else values)
            for name, values in maps.items()
        }

    def draws(self, observed: TrainingData, n: int, row: int, seed: int) -> NDArray | None:
        """Return draws of the spectra in one row of the survey, learning first if there is news.

        Noise included, as in the deviation of `Explorer.predict`. Correlated along a spectrum, not
        from one pixel to the next. A row at a time: a thousand draws of a map are much memory.

        Parameters
        ----------
        observed
            What is known.
        n
            How many of each spectrum.
        row
            Number of the row.
        seed
            The same seed, the same draws.

        Returns
        -------
        NDArray or None
            ``(n, cols, points)``, NaN where nothing is predicted; None where the strategy has no
            posterior, or nothing is known.
        """
        if not isinstance(self.learner, DrawingLearner) or not len(observed):
            return None
        cols = self.patches.survey.shape[1]
        indices = self.patches.indices([(row, col) for col in range(cols)])
        inside = np.flatnonzero(indices >= 0)
        rng = np.random.default_rng([seed, row])
        drawn = self.learner.draws(observed, n, rng, indices[inside])
        if drawn is None:
            return None
        found = np.full((n, cols, drawn.shape[2]), np.nan)
        found[:, inside] = drawn
        return found

    def expected_spectra(
        self, batch: Sequence[Proposal], observed: TrainingData
    ) -> dict[int, NDArray]:
        """Return the spectra that were expected of a batch of decisions, by their numbers.

        Only of those that a model chose. All of them are predicted at once, as they were when
        the batch was decided: alone, they come out the same but for rounding.
        """
        at = {p.decision_id: self.patches.index(p.pixel) for p in batch if p.model_version}
        indices = {number: index for number, index in at.items() if index is not None}
        if not indices:
            return {}
        known = observed.first(batch[-1].n_observed)
        predicted = self.learner.predict(known, np.array(list(indices.values())))
        return dict(zip(indices, predicted, strict=True))

    def _expected(self, index: int, scores: Scores, spectrum: NDArray) -> dict[str, Any]:
        """Return the fields of a proposal that say what the model expects at a candidate."""

        def at(values: NDArray | None) -> float:
            return np.nan if values is None else float(values[index])

        return {
            "predicted_error": at(scores.error),
            "novelty": at(scores.novelty),
            "uncertainty": at(scores.uncertainty),
            "acquisition": at(scores.acquisition),
            "exploration_weight": scores.exploration_weight,
            "model_version": self.learner.model_version,
            "predicted_spectrum": spectrum,
        }


def _left_out(wishes: list[Pixel]) -> str:
    """Say which pixels were added for which the budget had no spectrum left, "" if none was."""
    if not wishes:
        return ""
    shown = ", ".join(f"({row}, {col})" for row, col in wishes[:5])
    more = f" and {len(wishes) - 5} more" if len(wishes) > 5 else ""
    pixels = "pixel" if len(wishes) == 1 else "pixels"
    return f"; the added {pixels} {shown}{more} left out"

"""The explorer: decides where to measure next, and can say why."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.networks import EpochHook
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.protocols import Flagging, Stopping, Supposing
from curiosity_bluesky.learning.records import (
    REASONS,
    Flag,
    Observation,
    Observed,
    Prediction,
    Proposal,
    Reason,
    Scores,
    Training,
)
from curiosity_bluesky.learning.strategy import Strategy
from curiosity_bluesky.learning.survey import Pixel, Survey
from curiosity_bluesky.learning.threads import one_thread

MAPS = ("error", "novelty", "uncertainty", "acquisition")


class Explorer:
    """Proposes pixels and learns from what is measured there.

    Its state is its data: the same observations and decisions, given to a new explorer with
    the same survey, strategy and seed, lead to the same next proposal. In which order they
    are given does not matter. It is not thread safe; the agent is.

    Parameters
    ----------
    survey
        The overview image.
    strategy
        How to learn and choose; its name is enough.
    seed
        Seed of every random choice.
    on_epoch
        Called after every epoch of a training as ``on_epoch(model, epoch, epochs)``. What
        it raises ends the training and comes out of the call that asked for it; nothing
        half-learned is kept.
    truth
        ``(rows, cols, points)``, the spectra everywhere, for strategies that need to know
        them: only a benchmark does.

    Raises
    ------
    InputError
        If a patch is larger than the image, or the budget is more than the pixels.

    Examples
    --------
    >>> import numpy as np
    >>> survey = Survey({"amplitude": np.random.default_rng(0).random((20, 20))})
    >>> explorer = Explorer(survey, Strategy.named("random", patch_size=3, n_seeds=2))
    >>> [proposal] = explorer.propose()
    >>> explorer.observe(Observation(proposal.pixel, np.zeros(8)))
    >>> explorer.n_observed
    1
    """

    def __init__(
        self,
        survey: Survey,
        strategy: Strategy | str,
        seed: int = 0,
        *,
        on_epoch: EpochHook = lambda model, epoch, epochs: None,
        truth: NDArray | None = None,
    ) -> None:
        if isinstance(strategy, str):
            strategy = Strategy.named(strategy)
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise InputError(f"the seed is {seed!r}; expected a whole number from 0 to 2**63 - 1")
        seed = int(seed)  # torch takes no number of numpy's
        self.survey = survey
        self.strategy = strategy
        self.seed = seed
        self.patches = Patches(survey, strategy.patch_size, truth if strategy.needs_truth else None)
        candidates = int(self.patches.allowed.sum())
        if not candidates:
            raise InputError("the mask leaves no pixel to measure; unmask some")
        budget = strategy.budget if strategy.budget is not None else candidates
        if budget > candidates:
            raise InputError(
                f"{budget} points are asked for, but only {candidates} pixels can be measured "
                f"({survey.shape[0]} x {survey.shape[1]} less the rim where no patch of "
                f"{strategy.patch_size} fits and less the masked ones); ask for at most "
                f"{candidates}"
            )
        self.budget = budget
        self._learner = strategy.build(self.patches, budget, seed, on_epoch)
        self._decisions: dict[int, Proposal] = {}
        self._observations: dict[tuple, Observation] = {}
        self._failed: dict[int, str] = {}
        self._barred: set[Pixel] = set()
        self._seeds: list[int] | None = None
        self._points: int | None = None
        self._asked = 0.0

    # ---- what has happened

    @property
    def decisions(self) -> list[Proposal]:
        """All decisions in their order, measured or not."""
        return [self._decisions[key] for key in sorted(self._decisions)]

    @property
    def observations(self) -> list[Observation]:
        """All observations in their canonical order: by decision, those without one first.

        An observation that came without a decision's number belongs to the decision for
        its pixel, if there is one.
        """
        decided = {p.pixel: p.decision_id for p in reversed(self.decisions)}
        # Numbered ones first, so that where both have one decision the order is the same again.
        given = sorted(self._observations.values(), key=lambda o: o.decision_id is None)
        matched = [
            o
            if o.decision_id is not None
            else dataclasses.replace(o, decision_id=decided.get(o.pixel))
            for o in given
        ]
        return sorted(
            matched,
            key=lambda o: (-1 if o.decision_id is None else o.decision_id, o.pixel, o.repeat),
        )

    @property
    def pending(self) -> list[Proposal]:
        """Decisions that were neither measured nor failed."""
        done = {o.decision_id for o in self.observations} | set(self._failed)
        return [p for p in self.decisions if p.decision_id not in done]

    @property
    def n_observed(self) -> int:
        """Number of spectra measured."""
        return len(self._observations)

    @property
    def reach(self) -> Survey:
        """The survey with everything masked that is never proposed, such as the rim."""
        candidates = self.patches.unflatten(self.patches.allowed.astype(float)) == 1
        return dataclasses.replace(self.survey, mask=~candidates)

    def observe(self, observation: Observation) -> None:
        """Take in a measured spectrum.

        Any order, any pixel, and as often as one likes: an observation of the same decision
        (without one: of the same pixel and repeat) counts once, the first time.

        Raises
        ------
        InputError
            If the pixel is outside the survey, if the spectrum is not ``(points,)``, has
            another length than those before, or holds no number at all.
        """
        pixel = self._inside(observation.pixel)
        spectrum = np.array(observation.spectrum, dtype=float)
        if spectrum.ndim != 1 or not spectrum.size:
            raise InputError(f"the spectrum has shape {spectrum.shape}; expected (points,)")
        if self._points not in (None, spectrum.size):
            raise InputError(
                f"the spectrum at pixel {pixel} has {spectrum.size} points, "
                f"those before have {self._points}"
            )
        if not np.isfinite(spectrum).any():
            raise InputError(f"the spectrum at pixel {pixel} holds no finite number; call fail()")
        spectrum[~np.isfinite(spectrum)] = np.nan  # an overflow is a gap like any other
        self._points = spectrum.size
        number = observation.decision_id
        key = (*pixel, observation.repeat) if number is None else (number,)
        self._observations.setdefault(
            key, dataclasses.replace(observation, pixel=pixel, spectrum=spectrum)
        )

    def record(self, decision: Proposal) -> None:
        """Take in a decision made elsewhere: by hand, or in a run that is replayed.

        Raises
        ------
        InputError
            If another pixel was decided under this number, if the pixel is outside the survey,
            or if the reason is unknown.
        """
        self._inside(decision.pixel)
        known = self._decisions.get(decision.decision_id)
        if known is not None and known.pixel != _pixel(decision.pixel):
            raise InputError(
                f"decision {decision.decision_id} is pixel {known.pixel} already, "
                f"not {decision.pixel}; give the new one a number of its own"
            )
        if decision.reason not in REASONS:
            raise InputError(f"reason {decision.reason!r} is none of {', '.join(REASONS)}")
        self._decisions.setdefault(decision.decision_id, decision)

    def fail(self, proposal: Proposal, reason: str, *, bar: bool = False) -> None:
        """Give back the pixel of a proposal that could not be measured, or bar it.

        Parameters
        ----------
        proposal
            What was proposed.
        reason
            What went wrong.
        bar
            True: never propose this pixel again.
        """
        self.record(proposal)
        self._failed[proposal.decision_id] = reason
        if bar:
            self._barred.add(proposal.pixel)

    # ---- what next

    @one_thread()
    def propose(self, n: int = 1) -> list[Proposal]:
        """Return the next pixels to measure: never measured, pending, barred or masked ones.

        Seeds come first. After them the strategy learns from all observations, if there are
        new ones, and chooses. Fewer than `n` come back when the pixels run out.
        """
        if n < 1:
            raise InputError(f"{n} proposals are asked for; expected 1 or more")
        started = time.perf_counter()
        available = self._available()
        chosen: list[tuple[int, Reason]] = []
        for index in self._seeds_to_come(available)[:n]:
            chosen.append((index, "seed"))
            available[index] = False
        scores, spectra = None, None
        if len(chosen) < n and available.any():
            observed = self._observed()
            scores = self._learner.score(observed) if len(observed) else None
            rng = np.random.default_rng([self.seed, len(self._decisions)])
            if isinstance(self._learner, Supposing):
                under_way = [self.patches.index(p.pixel) for p in self.pending]
                under_way = [i for i in under_way if i is not None] + [i for i, _ in chosen]
                self._learner.suppose(np.array(under_way, dtype=np.intp))
            chosen += self._learner.choose(scores, available, n - len(chosen), rng)
            if scores is not None:
                spectra = self._learner.predict(observed, np.array([i for i, _ in chosen]))
        seconds = (time.perf_counter() - started + self._asked) / max(1, len(chosen))
        self._asked = 0.0
        first = max(self._decisions, default=-1) + 1
        proposals = []
        for k, (index, reason) in enumerate(chosen):
            pixel = self.patches.pixel(index)
            x, y = self.survey.position(pixel)
            proposal = Proposal(first + k, pixel, x, y, reason, seconds=seconds)
            proposal = dataclasses.replace(proposal, n_observed=self.n_observed)
            if scores is not None and spectra is not None and reason != "seed":
                proposal = self._with_scores(proposal, scores, index, spectra[k])
            self.record(proposal)
            proposals.append(proposal)
        return proposals

    @one_thread()
    def should_stop(self) -> tuple[bool, str]:
        """Say whether the run has reached its end, and why."""
        if self.n_observed >= self.budget:
            return True, f"budget: {self.n_observed} of {self.budget} spectra measured"
        if not self.pending and not self._available().any():
            return True, "no pixel is left to measure"
        if isinstance(self._learner, Stopping):
            started = time.perf_counter()
            why = self._learner.enough(self._observed())
            self._asked += time.perf_counter() - started  # it may have trained
            if why is not None:
                return True, why
        return False, f"{self.n_observed} of {self.budget} spectra measured"

    # ---- what is known

    @one_thread()
    def predict(self) -> Prediction:
        """Return the expected spectra of every pixel, learning first if there is news.

        Raises
        ------
        InputError
            If nothing was observed yet.
        """
        observed = self._observed()
        if not len(observed):
            raise InputError("nothing was observed yet, so nothing can be predicted")
        spectra = self.patches.unflatten(self._learner.predict(observed))
        return Prediction(spectra, self.maps()["uncertainty"])

    @one_thread()
    def maps(self) -> dict[str, NDArray]:
        """Return error, novelty, uncertainty and acquisition, ``(rows, cols)`` each.

        NaN where no patch fits, and everywhere where the strategy has no such map.
        """
        observed = self._observed()
        scores = self._learner.score(observed) if len(observed) else None
        nothing = np.full(len(self.patches), np.nan)
        maps = {name: getattr(scores, name, None) for name in MAPS}
        return {
            name: self.patches.unflatten(nothing if values is None else values)
            for name, values in maps.items()
        }

    @one_thread()
    def flags(self) -> list[Flag]:
        """Return the regions that structure does not explain, the most striking first."""
        learner = self._learner
        return learner.flags(self._observed()) if isinstance(learner, Flagging) else []

    def take_trainings(self) -> list[Training]:
        """Return the trainings since the last call, for the record."""
        return self._learner.take_trainings()

    # ---- inside

    def _inside(self, pixel: Pixel) -> Pixel:
        pixel, (rows, cols) = _pixel(pixel), self.survey.shape
        if not (0 <= pixel[0] < rows and 0 <= pixel[1] < cols):
            raise InputError(f"pixel {pixel} is outside the survey of {rows} x {cols} pixels")
        return pixel

    def _available(self) -> NDArray[np.bool_]:
        taken = {o.pixel for o in self._observations.values()} | self._barred
        taken |= {p.pixel for p in self.decisions if p.decision_id not in self._failed}
        available = self.patches.allowed.copy()
        for pixel in taken:
            if (index := self.patches.index(pixel)) is not None:
                available[index] = False
        return available

    def _seeds_to_come(self, available: NDArray[np.bool_]) -> list[int]:
        """Return the available seeds that were never decided on."""
        wanted = min(self.strategy.n_seeds, self.budget)
        # Counted by the record: on another machine the networks may name other seeds.
        wanted -= sum(p.reason == "seed" for p in self._decisions.values())
        if wanted <= 0:
            return []
        if self._seeds is None:
            seeds = self._learner.seeds(min(self.strategy.n_seeds, self.budget))
            self._seeds = [int(index) for index in seeds]
        # A seed that failed and was given back is the strategy's to choose, not a seed again.
        decided = {p.pixel for p in self._decisions.values()}
        left = [i for i in self._seeds if available[i] and self.patches.pixel(i) not in decided]
        return left[:wanted]

    def _observed(self) -> Observed:
        """Return what can be learned from: whole patches at unmasked pixels."""
        observations = self.observations
        known = [(self.patches.index(o.pixel), o.spectrum) for o in observations]
        usable = [(i, s) for i, s in known if i is not None and self.patches.allowed[i]]
        indices = np.array([i for i, _ in usable], dtype=np.intp)
        spectra = np.array([s for _, s in usable]).reshape(len(usable), self._points or 0)
        axes = (o.axis for o in observations if o.axis is not None)
        axis = next((axis for axis in axes if len(axis) == self._points), None)
        return Observed(indices, spectra, axis)

    def _with_scores(
        self, proposal: Proposal, scores: Scores, index: int, spectrum: NDArray
    ) -> Proposal:
        def at(values: NDArray | None) -> float:
            return np.nan if values is None else float(values[index])

        return dataclasses.replace(
            proposal,
            predicted_error=at(scores.error),
            novelty=at(scores.novelty),
            uncertainty=at(scores.uncertainty),
            acquisition=at(scores.acquisition),
            exploration_weight=scores.exploration_weight,
            model_version=self._learner.model_version,
            predicted_spectrum=spectrum,
        )


def _pixel(pixel: Pixel) -> Pixel:
    return int(pixel[0]), int(pixel[1])

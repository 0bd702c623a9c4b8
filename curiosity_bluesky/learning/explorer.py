"""The explorer: proposes pixels, learns from spectra, and gives its reasons."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning.active_strategy import ActiveStrategy
from curiosity_bluesky.learning.history import History
from curiosity_bluesky.learning.patches import Patches
from curiosity_bluesky.learning.prior_run import PriorRun
from curiosity_bluesky.learning.protocols import EpochHook, Flagging, ProbabilisticLearner
from curiosity_bluesky.learning.records import (
    ACT_KINDS,
    Anomaly,
    Failure,
    Observation,
    Prediction,
    Proposal,
    ReachableArea,
    SteeringRequest,
    Training,
)
from curiosity_bluesky.learning.strategy import Strategy
from curiosity_bluesky.learning.survey import Pixel, Survey
from curiosity_bluesky.learning.threads import one_thread
from curiosity_bluesky.utils.run_end import EndKind, RunEnd


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
    earlier
        A run to start from: what the strategy expects is what was measured there, until the
        spectra here say otherwise. None: it starts knowing nothing.

    Raises
    ------
    InputError
        If a patch is larger than the image, if the budget is more than the pixels, or if the
        strategy cannot start from the earlier run.

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
        earlier: PriorRun | None = None,
    ) -> None:
        if isinstance(strategy, str):
            strategy = Strategy.named(strategy)
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise InputError(f"the seed is {seed!r}; expected a whole number from 0 to 2**63 - 1")
        self.seed = int(seed)  # torch takes no number of numpy's
        self.survey = survey
        self._on_epoch = on_epoch
        self._truth = truth
        if earlier is not None:
            if not strategy.supports_warm_start:
                raise InputError(
                    f"{strategy.name} cannot start from an earlier run: only strategies whose "
                    "predictor is a Gaussian process on the spectra can, such as 'curious'; leave "
                    "warm_start out"
                )
            earlier.check_survey(survey)
        self.earlier = earlier
        self._history = History(survey, strategy.min_quality)
        self._start_with(strategy)

    def _start_with(self, strategy: Strategy) -> None:
        """Take up a strategy: with its own learner, which knows nothing yet."""
        self._active = ActiveStrategy(
            self.survey,
            strategy,
            self.seed,
            on_epoch=self._on_epoch,
            truth=self._truth,
            earlier=self.earlier,
        )
        self._history.min_quality = strategy.min_quality
        self._asked = 0.0

    @property
    def strategy(self) -> Strategy:
        """How it learns and chooses at present."""
        return self._active.strategy

    @property
    def patches(self) -> Patches:
        """The candidates: the pixels that the strategy may propose and predicts."""
        return self._active.patches

    @property
    def budget(self) -> int:
        """Number of spectra after which the run ends."""
        return self._active.budget

    # ---- what has happened

    @property
    def decisions(self) -> list[Proposal]:
        """All decisions in their order, measured or not."""
        return list(self._history.decisions)

    @property
    def observations(self) -> list[Observation]:
        """All observations in their canonical order: by decision, those without one first.

        An observation that came without a decision's number belongs to the decision for
        its pixel, if there is one.
        """
        return list(self._history.observations)

    @property
    def pending(self) -> list[Proposal]:
        """Decisions that were neither measured well enough nor given up."""
        return list(self._history.pending)

    @property
    def n_observed(self) -> int:
        """Number of spectra measured, those that are good enough to learn from."""
        return self._history.n_good

    @property
    def doses(self) -> list[Pixel]:
        """Pixels of all doses, useless and failed spectra included, once for each dose."""
        return self._history.doses

    def broken_off(self, decision_id: int) -> int:
        """Doses of an attempt at a decision that began, and of which no failure is on record."""
        return self._history.broken_off(decision_id)

    @property
    def wishes(self) -> list[Pixel]:
        """Pixels that were added by hand and not decided on yet, in their order."""
        return self._history.wishes

    @property
    def n_acts(self) -> int:
        """Number of the next act."""
        return self._history.n_acts

    @property
    def masked(self) -> NDArray[np.bool_]:
        """``(rows, cols)``, True where the survey or a mask set by hand forbids a spectrum."""
        return self._history.masked

    @property
    def reach(self) -> Survey:
        """The survey with everything masked that the strategy never proposes."""
        candidates = self.patches.unflatten(self.patches.allowed.astype(float)) == 1
        return dataclasses.replace(self.survey, mask=~candidates)

    def observe(self, observation: Observation) -> None:
        """Record a measured spectrum.

        Any order, any pixel, and as often as one likes: an observation of the same decision
        and repeat (without a decision: of the same pixel and repeat) counts once, the first
        time.

        Raises
        ------
        InputError
            If the pixel is outside the survey, if the spectrum is not ``(points,)``, has
            another length than those before, or holds no number at all without saying so by
            its quality; if it is not along the axis of the earlier run.
        """
        if self.earlier is not None:
            points = np.size(observation.spectrum)
            self.earlier.check_spectrum(points, observation.axis)
        self._history.observe(observation)

    def record(self, decision: Proposal) -> None:
        """Record a decision made elsewhere: by hand, or in a run that is replayed.

        Raises
        ------
        InputError
            If another pixel was decided under this number, if the pixel is outside the survey,
            or if the reason is unknown.
        """
        self._history.record(decision)

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
        self._history.record(proposal)
        self._history.fail(Failure(proposal.decision_id, reason, bar))

    def take_failure(self, failure: Failure) -> None:
        """Record that an attempt to measure failed; the last one is like `fail`."""
        self._history.fail(failure)

    def resume(self) -> None:
        """Know that the run was broken off here, and that another one goes on with it.

        A batch of decisions that was not written to its end is forgotten, and proposed again;
        a stop that was asked for was that of the run before.
        """
        self._history.resume()

    def steer(self, act: SteeringRequest) -> None:
        """Carry out a steering request in the middle of a run; the same one counts once.

        A pixel that was added is proposed before all others. A mask and a veto hold for
        proposals to come. Another strategy, or other parameters, learns again from all that
        was measured.

        Raises
        ------
        InputError
            If the act cannot be done: outside the survey, no such strategy, ...
        """
        if act.kind not in ACT_KINDS:
            raise InputError(f"act {act.kind!r} is not one of {', '.join(ACT_KINDS)}")
        if act.kind == "set":
            wanted = Strategy.recorded(act.arguments["strategy"], **act.arguments["parameters"])
            # The last one counts, in whatever order they come in.
            later = any(known.act_id > act.act_id for known in self._history.acts_of("set"))
            if wanted != self.strategy and not later:
                self._start_with(wanted)
        self._history.steer(act)

    def limit(self, reach: ReachableArea) -> None:
        """Know which pixels are out of reach by now: they are not proposed until they are within.

        Raises
        ------
        InputError
            If it does not fit the survey.
        """
        self._history.limit(reach)

    # ---- what next

    @one_thread()
    def propose(self, n: int = 1, *, lookahead: int = 0) -> list[Proposal]:
        """Return the next pixels to measure: never measured, pending, barred or masked ones.

        Pixels that were added by hand come first, then the seeds. After them the strategy learns
        from all observations, if there are new ones, and chooses. Fewer than `n` come back
        when the pixels run out.

        Parameters
        ----------
        n
            How many.
        lookahead
            Number of the newest decisions whose outcome is not looked at: they count as
            under way. A plan that decides while it still measures has the same proposals
            however fast either is, and so has its replay.
        """
        if n < 1:
            raise InputError(f"{n} proposals are asked for; expected 1 or more")
        started = time.perf_counter()
        history = self._history.without_newest(lookahead)
        rng = np.random.default_rng([self.seed, len(history.decisions)])
        chosen = self._active.choose(history, n, rng)
        seconds = (time.perf_counter() - started + self._asked) / max(1, len(chosen))
        self._asked = 0.0
        first = max((p.decision_id for p in history.decisions), default=-1) + 1
        proposals = []
        for k, (pixel, reason, expected) in enumerate(chosen):
            x, y = self.survey.position(pixel)
            proposal = Proposal(
                *(first + k, pixel, x, y, reason),
                n_observed=history.n_good,
                seconds=seconds,
                to_come=len(chosen) - 1 - k,
                decided_by=self.strategy.name,
                **expected,
            )
            self.record(proposal)
            proposals.append(proposal)
        return proposals

    @one_thread()
    def outstanding(self, *, expected: bool = True) -> list[tuple[Proposal, int, float | None]]:
        """Return what was decided in a run that was broken off and still has to be measured.

        To be called after a replay; see `resume`. What the model expected at each pixel, which
        no decision records, is predicted again, from the spectra that it knew.

        Parameters
        ----------
        expected
            False: without that, so that nothing is learned for it.

        Returns
        -------
        list of (Proposal, int, float or None)
            Each with the number of its next attempt, since others may have failed, and the
            quality of its last spectrum where the record does not say yet that it failed.
        """
        self.resume()
        observed = self._active.training_data(self._history)
        pending = {p.decision_id for p in self.pending}
        outstanding = []
        for batch in self._history.batches:
            if not pending & {proposal.decision_id for proposal in batch}:
                continue
            spectra = self._active.expected_spectra(batch, observed) if expected else {}
            for proposal in batch:
                number = proposal.decision_id
                if number in pending:
                    spectrum = spectra.get(number)
                    proposal = dataclasses.replace(proposal, predicted_spectrum=spectrum)
                    outstanding.append((proposal, *self._history.attempts(number)))
        return outstanding

    def decide(self, n: int = 1, *, lookahead: int = 0) -> tuple[list[Proposal], RunEnd | None]:
        """Return the next proposals, at most `n`, and why the run has reached its end, if so.

        Neither where the budget is under way and may still fail: ask again when it is not.

        Parameters
        ----------
        n, lookahead
            See `propose`.
        """
        end = self._end(lookahead)
        if end is not None:
            return [], end
        history = self._history.without_newest(lookahead)
        room = self.budget - history.n_good - len(history.pending)
        proposals = self.propose(min(n, room), lookahead=lookahead) if room > 0 else []
        if not proposals and not self.pending:
            if lookahead:  # what is not looked at has come in
                return self.decide(n)
            return [], RunEnd(EndKind.PIXELS)
        return proposals, None

    def should_stop(self, *, lookahead: int = 0) -> tuple[bool, str]:
        """Return whether the run has reached its end, and why; for `lookahead` see `propose`."""
        end = self._end(lookahead)
        if end is not None:
            return True, str(end)
        history = self._history.without_newest(lookahead)
        return False, f"{history.n_good} of {self.budget} spectra measured"

    @one_thread()
    def _end(self, lookahead: int) -> RunEnd | None:
        """Return the end that the run has reached, None if it has not."""
        started = time.perf_counter()
        end = self._active.end(self._history.without_newest(lookahead))
        self._asked += time.perf_counter() - started  # the strategy may have trained
        return end

    # ---- what is known

    @one_thread()
    def predict(self) -> Prediction:
        """Return the expected spectra of every pixel, learning first if there is news.

        Raises
        ------
        InputError
            If nothing was observed yet.
        """
        observed = self._active.training_data(self._history)
        if not len(observed):
            raise InputError("nothing was observed yet, so nothing can be predicted")
        spectra = self.patches.unflatten(self._active.learner.predict(observed))
        learner, more = self._active.learner, (None, None)
        if isinstance(learner, ProbabilisticLearner):
            more = learner.deviation(observed), learner.latent(observed)
        return Prediction(
            spectra,
            self.maps()["uncertainty"],
            *(None if each is None else self.patches.unflatten(each) for each in more),
        )

    @one_thread()
    def draws(self, n: int, row: int, *, seed: int = 0) -> NDArray | None:
        """Return draws of the spectra in one row of the survey, see `ActiveStrategy.draws`."""
        return self._active.draws(self._active.training_data(self._history), n, row, seed)

    @one_thread()
    def maps(self, *, lookahead: int = 0) -> dict[str, NDArray]:
        """Return error, novelty, uncertainty and acquisition, ``(rows, cols)`` each.

        NaN where a pixel is no candidate, and everywhere where the strategy has no such map. For
        `lookahead` see `propose`.
        """
        history = self._history.without_newest(lookahead)
        return self._active.maps(self._active.training_data(history))

    @one_thread()
    def flags(self) -> list[Anomaly]:
        """Return the regions that structure does not explain, the most striking first."""
        learner = self._active.learner
        return (
            learner.flags(self._active.training_data(self._history))
            if isinstance(learner, Flagging)
            else []
        )

    def take_trainings(self) -> list[Training]:
        """Return the trainings since the last call, for the record."""
        return self._active.learner.take_trainings()

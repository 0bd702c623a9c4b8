"""The agent: documents in, proposals out, round one explorer."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from curiosity_bluesky.documents import (
    WARM_SPECTRA,
    WARM_START,
    Item,
    Translator,
    in_order,
    strategy_from,
    tell,
)
from curiosity_bluesky.errors import CuriosityError, InputError
from curiosity_bluesky.learning import (
    Anomaly,
    Explorer,
    Prediction,
    PriorRun,
    Proposal,
    Strategy,
    Survey,
    Training,
)
from curiosity_bluesky.learning.protocols import EpochHook
from curiosity_bluesky.learning.threads import return_free_memory
from curiosity_bluesky.utils.at_exit import call_at_exit
from curiosity_bluesky.utils.run_end import RunEnd

logger = logging.getLogger(__name__)

TRIM_EVERY = 20
"""Decisions after which the process returns free memory."""
_SAY_EVERY = 5.0
"""Seconds between two log messages about a long training."""

Watcher = Callable[[Explorer], None]
"""Called with the explorer after each time that it may have learned."""


@dataclass(frozen=True, eq=False)
class DecisionResult:
    """Result of `CuriosityAgent.decide`.

    Parameters
    ----------
    proposals
        Where to measure next.
    end
        The end that the run has reached, None if it has not.
    trainings
        What was trained for it.
    maps
        The maps, where they were asked for and there is a model.
    """

    proposals: list[Proposal]
    end: RunEnd | None
    trainings: list[Training]
    maps: dict[str, NDArray] | None


class TrainingCancelled(CuriosityError):
    """The training was cancelled: its result is not needed any more."""


class AgentUnreachable(CuriosityError):
    """The remote agent does not answer, and no fallback strategy is set."""


class Agent(Protocol):
    """Protocol of agents, local or remote; see `CuriosityAgent`.

    Strategy and seed of a run are those of its start document; an agent that was made with its
    own goes by these.
    """

    @property
    def strategy(self) -> Strategy | None:
        """Its own strategy; None: that of each run."""
        ...

    @property
    def seed(self) -> int | None:
        """Its own seed; None: that of each run."""
        ...

    def remember(self, earlier: PriorRun) -> None:
        """Store the spectra of an earlier run, for a run whose start document names it."""
        ...

    @property
    def address(self) -> str | None:
        """Address of the agent; None if it runs in this process."""
        ...

    @property
    def resumable(self) -> bool:
        """Whether it has the documents of a run."""
        ...

    @property
    def explorer(self) -> Explorer:
        """Explorer with all documents so far; read-only."""
        ...

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document, in next to no time."""
        ...

    def suggest(self, num_points: int = 1) -> list[Proposal]:
        """Propose where to measure next."""
        ...

    def decide(
        self, num_points: int = 1, *, lookahead: int = 0, maps: bool = False
    ) -> DecisionResult:
        """Return the next proposals, or the reason why the run ends.

        Raises
        ------
        AgentUnreachable
            If it is not there: it is to be asked again.
        """
        ...

    def outstanding(self) -> list[tuple[Proposal, int, float | None]]:
        """Return the points that an interrupted run still has to measure."""
        ...

    def pending(self) -> list[Proposal]:
        """Return the decisions that are neither measured well enough nor given up."""
        ...

    def maps(self) -> dict[str, NDArray]:
        """Return the maps; none where they are not available."""
        ...

    def flags(self) -> list[Anomaly]:
        """Return the anomalies: regions that structure does not explain."""
        ...

    def predict(self) -> Prediction | None:
        """Return the predicted spectra at every pixel; None where there are none."""
        ...

    def should_stop(self) -> tuple[bool, str]:
        """Say whether the run has reached its end, and why."""
        ...

    def take_trainings(self) -> list[Training]:
        """Return the trainings since the last call, for the record."""
        ...

    def cancel(self) -> None:
        """Cancel the training under way."""
        ...


_AGENTS: weakref.WeakSet[CuriosityAgent] = weakref.WeakSet()


def _end_trainings() -> None:
    # torch aborts the process if its thread is still computing when the interpreter goes.
    for agent in list(_AGENTS):
        agent.cancel()
        if agent._busy.acquire(timeout=5.0):
            agent._busy.release()


call_at_exit(_end_trainings)


class CuriosityAgent:
    """Agent that proposes the next points from the documents of a run.

    It is a document callback: subscribe it to a RunEngine or to any dispatcher, or give it
    the documents of a stored run. It learns from documents and from nothing else. Taking in
    a document costs next to nothing; training happens in `suggest`, which is to be called
    where it may take its time. Both are safe to call from different threads.

    Parameters
    ----------
    strategy
        How to learn and choose, or its name. Default: what the start document says.
    seed
        Seed of every random choice. Default: what the start document says.
    survey
        For runs that take no survey themselves.
    watchers
        Called with the explorer whenever it may have learned, in the thread that trained.
    on_epoch
        Called after every epoch of a training as ``on_epoch(model, epoch, epochs)``.
    earlier
        The run that the predictor starts from, for runs whose start document names it.

    Raises
    ------
    InputError
        If there is no strategy of this name.

    Examples
    --------
    ::

        agent = CuriosityAgent("curious", seed=0)
        RE.subscribe(agent)              # or dispatcher.subscribe(agent)
        agent = CuriosityAgent.from_documents(run.documents())
        [proposal] = agent.suggest()
    """

    address: str | None = None
    """None: this agent runs in this process."""

    def __init__(
        self,
        strategy: Strategy | str | None = None,
        seed: int | None = None,
        *,
        survey: Survey | None = None,
        watchers: Iterable[Watcher] = (),
        on_epoch: EpochHook | None = None,
        earlier: PriorRun | None = None,
    ) -> None:
        self.strategy = Strategy.named(strategy) if isinstance(strategy, str) else strategy
        self.seed = seed
        self.watchers = list(watchers)
        self.on_epoch = on_epoch
        self.earlier = earlier
        self._translate = Translator(survey)
        self._survey = survey
        # Documents wait here until the explorer is free: the RunEngine never waits for it.
        self._inbox: deque[Item | None] = deque([survey])
        self._explorer: Explorer | None = None
        self._decisions = 0
        self._busy = threading.Lock()
        self._cancelled = threading.Event()
        _AGENTS.add(self)

    @classmethod
    def from_documents(
        cls, documents: Iterable[tuple[str, Mapping[str, Any]]], **kwargs: Any
    ) -> CuriosityAgent:
        """Make an agent that knows all documents of a run, such as ``run.documents()``.

        Raises
        ------
        InputError
            If the run started from an earlier one, and ``earlier=`` is not that.
        """
        agent = cls(**kwargs)
        for name, doc in in_order(documents):
            agent(name, doc)
        agent._started_from()
        return agent

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document.

        One that opens a new run makes the agent start afresh, unless the run goes on with
        the one before.
        """
        goes_on = name == "start" and self._translate.goes_on(doc)
        items = self._translate(name, doc)
        if name == "start" and not goes_on:
            # Each run has its own flag: a training of the run before stays cancelled.
            self._cancelled = threading.Event()
            self._inbox.clear()
            self._inbox.extend([None, self._survey])
        self._inbox.extend(items)

    def remember(self, earlier: PriorRun) -> None:
        """Store the spectra of an earlier run, for a run whose start document names it."""
        self.earlier = earlier

    # ---- where training happens: to be called off the RunEngine's loop

    def suggest(self, num_points: int = 1) -> list[Proposal]:
        """Learn from all documents so far and propose where to measure next.

        Parameters
        ----------
        num_points
            How many pixels to propose; fewer come back when they run out.

        Raises
        ------
        InputError
            If no survey has come in yet.
        TrainingCancelled
            If `cancel` was called.
        """
        with self._busy:
            explorer = self._updated()
            proposals = explorer.propose(num_points)
            self._show(explorer)
        return proposals

    def decide(
        self, num_points: int = 1, *, lookahead: int = 0, maps: bool = False
    ) -> DecisionResult:
        """Learn from all documents so far; return the next proposals, or why the run ends.

        Parameters
        ----------
        num_points, lookahead
            See `Explorer.decide`.
        maps
            Whether to return the maps that the decision goes by.

        Raises
        ------
        InputError, Cancelled
            As `suggest`.
        """
        with self._busy:
            explorer = self._updated()
            proposals, end = explorer.decide(num_points, lookahead=lookahead)
            # No maps before there is a model: asking for them would train one on half the seeds.
            due = maps and bool(proposals) and proposals[-1].model_version > 0
            shown = explorer.maps(lookahead=lookahead) if due else None
            trainings = explorer.take_trainings()
            self._show(explorer)
            self._decisions += 1
            if self._decisions % TRIM_EVERY == 0:
                return_free_memory()
        return DecisionResult(proposals, end, trainings, shown)

    @property
    def resumable(self) -> bool:
        """Whether it has the documents of a run."""
        return bool(self._translate.start)

    def outstanding(self, *, expected: bool = True) -> list[tuple[Proposal, int, float | None]]:
        """Return the points that an interrupted run still has to measure, with their attempts.

        It may train for that, unless what is `expected` there is left out; see
        `Explorer.outstanding`.
        """
        with self._busy:
            return self._updated().outstanding(expected=expected)

    def pending(self) -> list[Proposal]:
        """Return the decisions that are neither measured well enough nor given up."""
        with self._busy:
            return self._updated().pending

    def maps(self) -> dict[str, NDArray]:
        """Learn from all documents so far and return the maps, see `Explorer.maps`."""
        with self._busy:
            explorer = self._updated()
            maps = explorer.maps()
            self._show(explorer)
        return maps

    def flags(self) -> list[Anomaly]:
        """Learn from all documents so far; return the anomalies."""
        with self._busy:
            return self._updated().flags()

    def predict(self) -> Prediction | None:
        """Learn from all documents so far; return the predicted spectra at every pixel.

        None where nothing was measured.
        """
        with self._busy:
            explorer = self._updated()
            return explorer.predict() if explorer.n_observed else None

    def should_stop(self) -> tuple[bool, str]:
        """Say whether the run has reached its end, and why."""
        with self._busy:
            return self._updated().should_stop()

    def take_trainings(self) -> list[Training]:
        """Return the trainings since the last call, for the record."""
        with self._busy:
            return self._updated().take_trainings()

    @property
    def explorer(self) -> Explorer:
        """Explorer with all documents so far; read-only."""
        with self._busy:
            return self._updated()

    def cancel(self) -> None:
        """Cancel a training that runs in any thread: its result is not needed."""
        self._cancelled.set()

    def _show(self, explorer: Explorer) -> None:
        for watcher in self.watchers:
            watcher(explorer)

    def _updated(self) -> Explorer:
        while True:
            try:
                item = self._inbox.popleft()
            except IndexError:  # also where another run began between a look and a pop
                break
            if item is None:
                self._explorer = None
            elif isinstance(item, Survey):
                self._explorer = self._new_explorer(item)
            elif self._explorer is not None:
                tell(self._explorer, item)
        if self._explorer is None:
            raise InputError(
                "the agent has no survey yet; give it the documents of a run that takes one, "
                "or CuriosityAgent(survey=...)"
            )
        return self._explorer

    def _new_explorer(self, survey: Survey) -> Explorer:
        strategy, seed = self.strategy, self.seed
        if strategy is None or seed is None:
            recorded = strategy_from(self._translate.start)
            strategy = recorded[0] if strategy is None else strategy
            seed = recorded[1] if seed is None else seed
        cancelled, said = self._cancelled, time.monotonic()

        def on_epoch(model: str, epoch: int, epochs: int) -> None:
            nonlocal said
            if cancelled.is_set():
                raise TrainingCancelled(f"{model} was broken off after epoch {epoch} of {epochs}")
            if self.on_epoch is not None:
                self.on_epoch(model, epoch, epochs)
            elif time.monotonic() > said + _SAY_EVERY:
                said = time.monotonic()
                logger.info("training the %s: epoch %d of %d", model, epoch, epochs)

        return Explorer(survey, strategy, seed, on_epoch=on_epoch, earlier=self._started_from())

    def _started_from(self) -> PriorRun | None:
        """Return the earlier run that the predictor starts from, as the start document says."""
        start = self._translate.start
        if not start:  # no run, only a survey
            return self.earlier
        uid = start.get(WARM_START)
        if uid is None:
            return None
        spectra = int(start[WARM_SPECTRA])
        if self.earlier is None or self.earlier.uid != uid or len(self.earlier) < spectra:
            raise InputError(
                f"run {start['uid']} started from {spectra} spectra of run {uid}, and cannot be "
                "followed without them; give earlier=documents.prior_run_from(...) of that run's "
                "documents"
            )
        return self.earlier.first(spectra)

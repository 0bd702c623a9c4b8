"""A decision of a stored run, and what was known when it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.agent import CuriosityAgent
from curiosity_bluesky.agent.remote.fallback import fallback_strategy
from curiosity_bluesky.documents import (
    LOOKAHEAD,
    PREDICTED,
    PRIMARY,
    SURVEY,
    Document,
    Item,
    ReplayedRun,
    Translator,
    channel_keys,
    events_in,
    in_order,
    replay_run,
    tell,
)
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Explorer,
    PriorRun,
    Proposal,
    ResumeMarker,
    SteeringRequest,
    Strategy,
    Survey,
)
from curiosity_bluesky.learning.history import History
from curiosity_bluesky.learning.selection import Selection

_IN_PLACE = ", in place of "
"""Between the name of a strategy and that of the agent whose place it took, in ``decided_by``."""


@dataclass
class DecisionHistory:
    """Documents of one run, and where each of its decisions stands in them.

    Attributes
    ----------
    documents
        All of them, those of the runs that it went on with first.
    begins : dict
        Number of a decision to the number of documents before those that were made with it.
    starts : dict
        Number of a decision to the start document of the piece that it was made in.
    errors : dict
        Number of a decision to the root mean square of what was predicted less what was measured.
    units, survey_units : dict
        Units of the channels of the spectra and of the survey, "" for none.
    """

    documents: list[Document]
    begins: dict[int, int] = field(default_factory=dict)
    starts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    survey_units: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(documents: Iterable[Document]) -> DecisionHistory:
        """Read documents; of several runs the last one counts, with those that it went on with."""
        log, translate, run = DecisionHistory(in_order(documents)), Translator(), None
        descriptors: dict[str, Mapping[str, Any]] = {}
        first, to_come, batch = 0, 0, 0
        for position, (name, doc) in enumerate(log.documents):
            if name == "start":
                to_come = 0
                if not translate.goes_on(doc):
                    log, run, first = DecisionHistory(log.documents), None, position
            if name == "descriptor":
                descriptors[doc["uid"]] = doc
                log._describe(doc)
            for event in events_in(name, doc):
                log._note(descriptors.get(event["descriptor"]), event["data"])
            for item in translate(name, doc):
                if isinstance(item, Survey):
                    run = ReplayedRun(item, 0.0)
                elif run is not None:
                    tell(run, item)
                if isinstance(item, ResumeMarker) and run is not None:
                    # Of a batch that was not written to its end nothing was measured.
                    kept = {p.decision_id for p in run.decisions}
                    log.begins = {n: at for n, at in log.begins.items() if n in kept}
                if isinstance(item, Proposal) and item.decision_id not in log.begins:
                    batch = batch if to_come and to_come == item.to_come + 1 else position
                    to_come = item.to_come
                    log.begins[item.decision_id] = batch - first
                    log.starts[item.decision_id] = translate.start
        log.documents = log.documents[first:]
        return log

    def _describe(self, descriptor: Mapping[str, Any]) -> None:
        keys = descriptor["data_keys"]
        if descriptor["name"] == PRIMARY:
            self.units |= {key: keys[key].get("units") or "" for key in channel_keys(descriptor)}
        elif descriptor["name"] == SURVEY:
            self.survey_units |= {key: about.get("units") or "" for key, about in keys.items()}

    def _note(self, descriptor: Mapping[str, Any] | None, data: Mapping[str, Any]) -> None:
        if descriptor is None or descriptor["name"] != PRIMARY or "decision_id" not in data:
            return
        keys = channel_keys(descriptor)
        if all(f"{key}{PREDICTED}" in data for key in keys):
            off = [np.subtract(data[key], data[f"{key}{PREDICTED}"]) for key in keys]
            squares = np.concatenate(off) ** 2
            if np.isfinite(squares).any():
                self.errors[int(data["decision_id"])] = float(np.sqrt(np.nanmean(squares)))

    @property
    def uid(self) -> str:
        """Of the newest piece; "" without a run."""
        return next((d["uid"] for n, d in reversed(self.documents) if n == "start"), "")

    @cached_property
    def history(self) -> History:
        """All that happened in the run."""
        run = replay_run(self.documents)
        if run is None or not self.begins:
            raise InputError(
                f"run {self.uid or 'without a start document'} holds no decision; expected a run "
                "of curiosity_plan after its survey"
            )
        return run

    def decision(self, number: int) -> Proposal:
        """Return a decision by its number.

        Raises
        ------
        InputError
            If there is none of this number.
        """
        found = {p.decision_id: p for p in self.history.decisions}
        if number not in found:
            raise InputError(
                f"decision {number} is asked for; run {self.uid[:8]} has the decisions "
                f"{min(found)} to {max(found)}, see `curiosity show {self.uid[:8]}`"
            )
        return found[number]


@dataclass
class PastDecision:
    """One decision with what was known when it was made.

    Parameters
    ----------
    log
        The run.
    number
        Of the decision.
    earlier
        The run that it started from, where it did.

    Raises
    ------
    InputError
        If the run has no such decision, or started from a run that is not given.
    """

    log: DecisionHistory
    number: int
    earlier: PriorRun | None = None

    def __post_init__(self) -> None:
        self.decision = self.log.decision(self.number)
        at = self.log.begins[self.number]
        self.batch = [p for p in self.log.history.decisions if self.log.begins[p.decision_id] == at]
        """What was decided together, this one included."""
        self.start = self.log.starts[self.number]
        """Start document of the piece of the run in which it was made."""
        self.lookahead = int(self.start.get(LOOKAHEAD, 0))
        self._documents = self.log.documents[:at]
        run = replay_run(self._documents)
        assert run is not None  # a decision comes after the survey
        self.history = run.without_newest(self.lookahead)
        """What had happened, as far as the decision looked at it."""

    @property
    def unit(self) -> str:
        """Unit of the spectra; "" for none, and where the channels have different ones."""
        units = set(self.log.units.values())
        return units.pop() if len(units) == 1 else ""

    @property
    def fallback(self) -> str:
        """Name of the strategy that took the place of an agent that was away, else ""."""
        name, away, _ = self.decision.decided_by.partition(_IN_PLACE)
        return name if away else ""

    @cached_property
    def agent_explorer(self) -> Explorer:
        """The explorer of the run, as it was before the decision."""
        return CuriosityAgent.from_documents(self._documents, earlier=self.earlier).explorer

    @cached_property
    def explorer(self) -> Explorer:
        """The explorer that decided, as it was before the decision."""
        if not self.fallback:
            return self.agent_explorer
        return self.variant(fallback_strategy(self.agent_explorer.strategy, self.fallback))

    @cached_property
    def _items(self) -> list[Item]:
        translate = Translator()
        items = [item for name, doc in self._documents for item in translate(name, doc)]
        return [item for item in items if not isinstance(item, Survey)]

    def variant(
        self,
        strategy: Strategy | None = None,
        change: Callable[[Item], Item | None] = lambda item: item,
    ) -> Explorer:
        """Return an explorer for which something was different.

        Parameters
        ----------
        strategy
            All along; None: the one that decided.
        change
            What it is told of each item of the run, None for nothing.
        """
        like = self.agent_explorer
        strategy = strategy or self.explorer.strategy
        earlier = like.earlier if strategy.supports_warm_start else None
        explorer = Explorer(like.survey, strategy, like.seed, earlier=earlier)
        for item in self._items:
            if isinstance(item, SteeringRequest) and item.kind == "set":
                told = {"strategy": strategy.name, "parameters": strategy.parameters}
                item = dataclasses.replace(item, arguments=told)
            changed = change(item)
            if changed is not None:
                tell(explorer, changed)
        return explorer

    def choice_of(self, explorer: Explorer) -> Proposal | None:
        """Return what an explorer proposes in place of this decision, None for nothing."""
        together = 1 + self.batch[0].to_come
        proposals = explorer.propose(together, lookahead=self.lookahead)
        place = [p.decision_id for p in self.batch].index(self.number)
        return proposals[place] if place < len(proposals) else None

    @cached_property
    def has_model(self) -> bool:
        """Whether there was a model of the spectra: there is none before the seeds are measured."""
        explored = any(p.model_version for p in [*self.history.decisions, *self.batch])
        seeds = min(self.explorer.strategy.n_seeds, self.explorer.budget)
        return explored or self.history.n_good >= seeds

    @cached_property
    def maps(self) -> dict[str, NDArray]:
        """The maps that the decision went by, ``(rows, cols)``, those with any number in them."""
        if not self.has_model:
            return {}
        maps = self.explorer.maps(lookahead=self.lookahead)
        return {name: values for name, values in maps.items() if np.isfinite(values).any()}

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """``(rows, cols)``, True where a spectrum could be proposed."""
        patches = self.explorer.patches
        free = Selection(patches, self.explorer.strategy, self.history).available
        return patches.unflatten(free.astype(float)) == 1

"""Client side of a remote agent, for a plan."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.agent.curiosity_agent import AgentUnreachable, CuriosityAgent, DecisionResult
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.agent.remote.client import AgentClient
from curiosity_bluesky.agent.remote.codec import decode
from curiosity_bluesky.agent.remote.fallback import FallbackAgent, fallback_strategy
from curiosity_bluesky.agent.remote.protocol import (
    CHUNK,
    AgentRefused,
    decided_of,
    plain_earlier,
    plain_strategy,
    record_of,
    single_events,
)
from curiosity_bluesky.agent.remote.run_log import RunLog
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.learning import (
    Anomaly,
    Explorer,
    Prediction,
    PriorRun,
    Proposal,
    Strategy,
    Training,
)

logger = logging.getLogger(__name__)

PATIENCE = 15.0
FALLBACK = "farthest"
PROBE = 1.0
"""Seconds to the first word of an agent that was away, each time that it is asked."""
_HELLO = 3.0
"""Seconds to the first word before the run begins."""
_TRIES = 6
"""Restarts of the agent within one decision until it counts as away."""
_SAY_EVERY = 5.0

AWAY = (AgentUnreachable, AgentRefused, tokens.NoToken)
"""Errors in the middle of a run that mean: there is no answer."""


class RemoteAgent:
    """Client of an agent in another process, such as ``curiosity agent`` starts.

    It is to a plan what `CuriosityAgent` is, and a document callback like it: what the agent has
    not got yet of the documents goes along with each question. An agent that was restarted is
    told what it lacks, and decides as the one before would have.

    Parameters
    ----------
    address
        Of the agent, ``tcp://HOST:PORT``.
    strategy, seed, earlier
        As for `CuriosityAgent`.
    fallback
        Name of the strategy that decides here while the agent is away; it should be one that
        needs no training. None: no strategy does, and `decide` raises `AgentUnreachable`.
    patience
        Seconds without a word from the agent until it is away. While it trains, it says so.
    token
        Of the agent; None: ``$CURIOSITY_AGENT_TOKEN``, or what an agent on this machine has left.

    Raises
    ------
    InputError
        If one of them cannot be.

    Examples
    --------
    ::

        agent = RemoteAgent("tcp://127.0.0.1:5577", "curious", seed=0)
        RE(explore(agent, [spectrometer], stage.x, stage.y, imager))
    """

    def __init__(
        self,
        address: str,
        strategy: Strategy | str | None = None,
        seed: int | None = None,
        *,
        fallback: str | None = FALLBACK,
        patience: float = PATIENCE,
        token: str | None = None,
        earlier: PriorRun | None = None,
    ) -> None:
        if not 0 < patience < np.inf:
            raise InputError(f"agent_patience is {patience}; expected seconds, more than 0")
        self._local = CuriosityAgent(strategy, seed, earlier=earlier)
        if fallback is not None:
            fallback_strategy(
                self._local.strategy or Strategy.named(fallback), fallback
            )  # or it complains
        self.strategy, self.seed, self.earlier = self._local.strategy, seed, earlier
        self.address: str | None = address
        self.fallback = fallback
        self.patience = patience
        self._line = AgentClient(address, token)
        self._run = RunLog()
        self._away = False
        self._said = 0.0

    # ---- in the RunEngine's thread: nothing here waits

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document; it goes to the agent with the next question."""
        self._local(name, doc)
        if name == "start":
            run = self._run
            if not run.uids or doc.get(documents.RESUMES) != run.uids[-1]:
                run = self._run = RunLog()
                run.warm = documents.WARM_START in doc
            run.uids.append(doc["uid"])
        for one, content in single_events(name, doc):
            self._run.add(one, content)

    def remember(self, earlier: PriorRun) -> None:
        """Store the spectra of an earlier run, for a run whose start document names it."""
        self.earlier = earlier
        self._local.remember(earlier)

    def cancel(self) -> None:
        """Cancel the training under way, here and at the agent."""
        run = self._run
        run.cancelled.set()
        if run.number and not self._away:
            self._line.tell({"what": "cancel", "run": run.root, "client": run.client})

    @property
    def resumable(self) -> bool:
        """Whether it has the documents of a run."""
        return self._local.resumable

    @property
    def explorer(self) -> Explorer:
        """Local explorer with all documents, untrained; read-only."""
        return self._local.explorer

    def pending(self) -> list[Proposal]:
        """Return the decisions that are neither measured well enough nor given up."""
        return self._local.pending()

    # ---- where it may take its time: to be called off the RunEngine's loop

    def hello(self, strategy: Strategy | None = None) -> None:
        """Check, before a run begins, that the agent answers or a fallback strategy is set.

        Parameters
        ----------
        strategy
            Of the run; None: its own.

        Raises
        ------
        InputError
            If it does not know the token or the strategy, or speaks another protocol; if it is
            away and no fallback strategy is set.
        """
        try:
            message = {"what": "hello", "strategy": plain_strategy(strategy or self.strategy)}
            self._line.ask(message, min(_HELLO, self.patience))
        except AgentUnreachable as error:
            self._away = True
            if self.fallback is None:
                raise Unreachable(
                    f"{error}; start it (`curiosity agent --bind {self.address}`), or have a "
                    f"strategy take its place: options={{'agent_lost': {FALLBACK!r}}}"
                ) from None
            logger.error(
                "%s; until it does, %s decides in its place, the seeds too", error, self.fallback
            )

    def suggest(self, num_points: int = 1) -> list[Proposal]:
        """Propose where to measure next, see `CuriosityAgent.suggest`; it waits for the agent."""
        run = self._run
        with run.busy:
            try:
                reply = self._ask(run, "suggest", n=num_points)
            except AWAY as error:
                return self._stand_in(run, error).suggest(num_points)
            return self._given(run, [record_of(Proposal, p) for p in reply["proposals"]])

    propose = suggest

    def decide(
        self, num_points: int = 1, *, lookahead: int = 0, maps: bool = False
    ) -> DecisionResult:
        """Return the next proposals, or the reason why the run ends; see `CuriosityAgent.decide`.

        Raises
        ------
        AgentUnreachable
            If the agent is away and no strategy takes its place.
        InputError, TrainingCancelled
            As `CuriosityAgent.decide`.
        """
        run = self._run
        with run.busy:
            try:
                reply = self._ask(run, "decide", n=num_points, lookahead=lookahead, maps=maps)
            except AWAY as error:
                stand_in = self._stand_in(run, error)
                decided = stand_in.decide(num_points, lookahead=lookahead)
                by = f"{self.fallback}, in place of {self._name} at {self.address}"
                proposals = [dataclasses.replace(p, decided_by=by) for p in decided.proposals]
                return DecisionResult(proposals, decided.end, [], None)
            decided = decided_of(reply["decided"])
            self._given(run, decided.proposals)
            return dataclasses.replace(decided, trainings=run.new_trainings(decided.trainings))

    def outstanding(self) -> list[tuple[Proposal, int, float | None]]:
        """Return the points that an interrupted run still has to measure, with their attempts.

        What is expected there the agent alone can say.
        """
        run = self._run
        with run.busy:
            try:
                reply = self._ask(run, "outstanding")
            except AWAY as error:
                self._stand_in(run, error)
                return self._local.outstanding(expected=False)
            self._local.outstanding(expected=False)  # so that it knows, too, that it goes on
            return [(record_of(Proposal, p), n, q) for p, n, q in reply["outstanding"]]

    def maps(self) -> dict[str, NDArray]:
        """Return the maps, see `Explorer.maps`; none while the agent is away."""
        return self._asked_or("maps", "maps", {})

    def flags(self) -> list[Anomaly]:
        """Return the anomalies; none while the agent is away."""
        return [record_of(Anomaly, flag) for flag in self._asked_or("flags", "flags", [])]

    def predict(self) -> Prediction | None:
        """Return the predicted spectra at every pixel; None while the agent is away."""
        found = self._asked_or("predict", "prediction", None)
        return None if found is None else Prediction(**found)

    def should_stop(self) -> tuple[bool, str]:
        """Say whether the run has reached its end, and why."""
        run = self._run
        with run.busy:
            try:
                enough, why = self._ask(run, "should_stop")["should_stop"]
            except AWAY as error:
                return self._stand_in(run, error).should_stop()
            return enough, why

    def take_trainings(self) -> list[Training]:
        """Return the trainings since the last call, for the record."""
        found = self._asked_or("take_trainings", "trainings", [])
        return self._run.new_trainings(record_of(Training, training) for training in found)

    def _asked_or(self, what: str, key: str, otherwise: Any) -> Any:
        run = self._run
        with run.busy:
            try:
                return self._ask(run, what)[key]
            except AWAY as error:
                self._lost(error, f"{what.replace('_', ' ')} are left out")
                return otherwise

    # ---- asking

    def _ask(self, run: RunLog, what: str, **args: Any) -> dict[str, Any]:
        """Ask about all documents so far, and send those that the agent lacks."""
        total = len(run.log)
        for _ in range(_TRIES):
            new = run.log[run.sent : total]
            if sum(len(data) for _, data in new) > CHUNK:
                self._send(run, new)
                new = []
            message = {
                "what": what,
                "args": args,
                "first": run.sent,
                "keys": list(run.keys)[run.sent : total],
                "documents": new,
                "given": sorted(run.given),
            }
            try:
                reply = self._say(run, message)
            except AWAY:
                raise
            except InputError as error:
                # What is wrong with the documents, or the strategy, is wrong here, too.
                self._local.explorer  # noqa: B018
                raise AgentUnreachable(
                    f"the agent at {self.address} cannot follow: {error}"
                ) from error
            if not reply.get("behind"):
                run.sent = total
                if reply["instance"] != run.instance:
                    run.relearned = bool(run.instance)
                    run.instance = reply["instance"]
                return reply
            self._open(run, total)
        raise AgentUnreachable(
            f"the agent at {self.address} loses what it is told, again and again"
        )

    def _open(self, run: RunLog, total: int) -> None:
        """Restart the agent's session with all documents; it names those that it lacks."""
        message = {
            "what": "open",
            "keys": list(run.keys)[:total],
            "strategy": plain_strategy(self.strategy),
            "seed": self.seed,
            "earlier": plain_earlier(self.earlier if run.warm else None),
        }
        missing = self._say(run, message)["missing"]
        self._send(run, [run.log[k] for k in missing])
        run.sent = total

    def _send(self, run: RunLog, log: Sequence[tuple[str, bytes]]) -> None:
        """Send documents, a part at a time."""
        part, size = [], 0
        for name, data in log:
            if part and size + len(data) > CHUNK:
                self._say(run, {"what": "documents", "documents": part})
                part, size = [], 0
            part.append((name, data))
            size += len(data)
        if part:
            self._say(run, {"what": "documents", "documents": part})

    def _say(self, run: RunLog, message: Mapping[str, Any]) -> dict[str, Any]:
        run.number += 1
        message = {"run": run.root, "runs": run.uids, "client": run.client, **message}
        first = min(PROBE, self.patience) if self._away else self.patience
        reply = self._line.ask(
            {"n": run.number, **message},
            self.patience,
            cancelled=run.cancelled,
            heard=self._heard,
            first=first,
        )
        if self._away:
            self._away = False
            logger.warning("the agent at %s answers again", self.address)
        return reply

    def _heard(self, doing: str, seconds: float) -> None:
        if time.monotonic() > self._said + _SAY_EVERY and seconds > _SAY_EVERY:
            self._said = time.monotonic()
            logger.info("the agent at %s: %s", self.address, doing)

    # ---- what is made of the answers

    @property
    def _name(self) -> str:
        return self._local.explorer.strategy.name

    def _given(self, run: RunLog, proposals: list[Proposal]) -> list[Proposal]:
        run.given |= {proposal.decision_id for proposal in proposals}
        return proposals

    def _lost(self, error: Exception, so: str) -> None:
        if not self._away:
            logger.error("%s; %s", error, so)
        self._away = True

    def _stand_in(self, run: RunLog, error: Exception) -> CuriosityAgent:
        """Return the fallback agent, with all documents."""
        first = not self._away
        if self.fallback is None:
            self._away = True
            raise AgentUnreachable(str(error))
        self._lost(error, f"until it answers, {self.fallback} decides in its place")
        if first or run.stand_in is None:
            explorer = self._local.explorer
            instead_of = self.strategy or explorer.strategy
            run.stand_in = FallbackAgent(instead_of, self.fallback, explorer.seed)
        for name, data in run.log[run.stand_in.learned :]:
            run.stand_in(name, decode(data))
        return run.stand_in.agent

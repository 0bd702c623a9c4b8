"""The agent of a plan where the agent is another process."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.agent.curiosity_agent import AgentUnreachable, CuriosityAgent, DecisionResult
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.agent.remote.client import AgentClient
from curiosity_bluesky.agent.remote.codec import decode, encode
from curiosity_bluesky.agent.remote.fallback import FallbackAgent, fallback_strategy
from curiosity_bluesky.agent.remote.protocol import (
    CHUNK,
    LARGEST,
    LEARNED,
    AgentRefused,
    decided_of,
    key_of,
    plain_earlier,
    plain_strategy,
    record_of,
    single_events,
)
from curiosity_bluesky.documents import training_values
from curiosity_bluesky.documents.files import external_keys
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.learning import Anomaly, Explorer, PriorRun, Proposal, Strategy, Training

logger = logging.getLogger(__name__)

PATIENCE = 15.0
FALLBACK = "farthest"
PROBE = 1.0
"""Seconds that an agent which was away has for its first word, each time that it is asked."""
_HELLO = 3.0
"""Seconds that it has before the run begins."""
_TRIES = 6
"""An agent that is restarted so often within one decision is away."""
_SAY_EVERY = 5.0

AWAY = (AgentUnreachable, AgentRefused, tokens.NoToken)
"""What it comes to in the middle of a run that there is no answer."""


@dataclass
class _Run:
    """What one run has had of documents, and how far the agent knows them."""

    uids: list[str] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)
    log: list[tuple[str, bytes]] = field(default_factory=list)
    descriptors: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    files: documents.ExternalFiles = field(default_factory=documents.ExternalFiles)
    client: str = field(default_factory=lambda: secrets.token_hex(8))
    number: int = 0
    sent: int = 0
    given: set[int] = field(default_factory=set)
    """Decisions that the agent was heard to make, and that are not written yet."""
    instance: str = ""
    anew: bool = False
    """The agent has learned everything anew since it last told of trainings."""
    told: set[str] = field(default_factory=set)
    stand_in: FallbackAgent | None = None
    busy: threading.Lock = field(default_factory=threading.Lock)
    cancelled: threading.Event = field(default_factory=threading.Event)


class RemoteAgent:
    """Asks an agent elsewhere, such as ``curiosity agent`` starts, where to measure next.

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
        needs no training. None: nobody does, and `decide` raises `AgentUnreachable`.
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

        agent = RemoteExplorer("tcp://127.0.0.1:5577", "curious", seed=0)
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
        self._run = _Run()
        self._away = False
        self._said = 0.0

    # ---- in the RunEngine's thread: nothing here waits

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take in one document; it goes to the agent with the next question."""
        here = self._local
        here.strategy, here.seed, here.earlier = self.strategy, self.seed, self.earlier
        here(name, doc)
        if name == "start":
            run = self._run
            if not run.uids or doc.get(documents.RESUMES) != run.uids[-1]:
                run = self._run = _Run()
            run.uids.append(doc["uid"])
        for one, content in single_events(name, doc):
            self._take(self._run, one, content)

    def _take(self, run: _Run, name: str, doc: Mapping[str, Any]) -> None:
        """Keep a document for the agent, if it learns from such."""
        if name in ("stream_resource", "stream_datum"):
            run.files(name, doc)  # files are read here: the agent may have other disks
            return
        if name == "descriptor":
            if doc["run_start"] not in run.uids or doc["name"] not in LEARNED:
                return
            run.descriptors[doc["uid"]] = doc
            if doc["name"] == documents.SURVEY and external_keys(doc["data_keys"]):
                keys = _without_files(doc["data_keys"])
                doc = {**doc, "uid": _filled(doc["uid"]), "data_keys": keys}
        elif name == "event":
            if doc["descriptor"] not in run.descriptors:
                return
            descriptor = run.descriptors[doc["descriptor"]]
            if descriptor["name"] == documents.SURVEY:
                if filed := run.files.data(descriptor, doc["seq_num"]):
                    whole, data = _filled(doc["descriptor"]), {**doc["data"], **filed}
                    doc = {**doc, "descriptor": whole, "data": data}
            elif descriptor["name"] == documents.DECISIONS:
                run.given.discard(int(doc["data"]["decision_id"]))
        elif name != "start":
            return
        key = key_of(name, doc)
        if key is None or key in run.keys:
            return
        data = _packed(name, doc)
        run.keys[key] = None
        run.log.append((name, data))

    def cancel(self) -> None:
        """Break off a training under way, here and there: nobody waits for it any more."""
        run = self._run
        run.cancelled.set()
        if run.number and not self._away:
            self._line.tell({"what": "cancel", "run": _root(run), "client": run.client})

    @property
    def resumable(self) -> bool:
        """Whether it knows the documents of a run."""
        return self._local.resumable

    @property
    def explorer(self) -> Explorer:
        """What is known here, from the documents; it has learned nothing. Only to look at."""
        return self._local.explorer

    def pending(self) -> list[Proposal]:
        """Return what was decided and neither measured well enough nor given up."""
        return self._local.pending()

    # ---- where it may take its time: to be called off the RunEngine's loop

    def hello(self) -> None:
        """Make sure, before a run begins, that the agent can be asked, or can be done without.

        Raises
        ------
        InputError
            If it does not know the token or the strategy, or speaks another protocol; if it is
            away and nobody is to take its place.
        """
        try:
            message = {"what": "hello", "strategy": plain_strategy(self.strategy)}
            self._line.ask(message, min(_HELLO, self.patience))
        except AgentUnreachable as error:
            self._away = True
            if self.fallback is None:
                raise Unreachable(
                    f"{error}; start it (`curiosity agent --bind {self.address}`), or have a "
                    f"strategy take its place: agent_lost={FALLBACK!r}"
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
        """Propose what is next, or say why there is nothing; see `CuriosityAgent.decide`.

        Raises
        ------
        AgentAway
            If the agent is, and nobody takes its place.
        InputError, Cancelled
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
                return DecisionResult(proposals, decided.reason, [], None)
            decided = decided_of(reply["decided"])
            self._given(run, decided.proposals)
            return dataclasses.replace(decided, trainings=_untold(run, decided.trainings))

    def outstanding(self) -> list[tuple[Proposal, int, float | None]]:
        """Return what a run that was broken off still has to measure, and in which attempt.

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
        """Return what structure does not explain; nothing while the agent is away."""
        return [record_of(Anomaly, flag) for flag in self._asked_or("flags", "flags", [])]

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
        return _untold(self._run, [record_of(Training, training) for training in found])

    def _asked_or(self, what: str, key: str, otherwise: Any) -> Any:
        run = self._run
        with run.busy:
            try:
                return self._ask(run, what)[key]
            except AWAY as error:
                self._lost(error, f"{what.replace('_', ' ')} are left out")
                return otherwise

    # ---- asking

    def _ask(self, run: _Run, what: str, **args: Any) -> dict[str, Any]:
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
                    run.anew = bool(run.instance)
                    run.instance = reply["instance"]
                return reply
            self._open(run, total)
        raise AgentUnreachable(
            f"the agent at {self.address} loses what it is told, again and again"
        )

    def _open(self, run: _Run, total: int) -> None:
        """Have the agent begin anew with all documents: it says which of them it lacks."""
        message = {
            "what": "open",
            "keys": list(run.keys)[:total],
            "strategy": plain_strategy(self.strategy),
            "seed": self.seed,
            "earlier": plain_earlier(self.earlier),
        }
        missing = self._say(run, message)["missing"]
        self._send(run, [run.log[k] for k in missing])
        run.sent = total

    def _send(self, run: _Run, log: Sequence[tuple[str, bytes]]) -> None:
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

    def _say(self, run: _Run, message: Mapping[str, Any]) -> dict[str, Any]:
        run.number += 1
        message = {"run": _root(run), "runs": run.uids, "client": run.client, **message}
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

    def _given(self, run: _Run, proposals: list[Proposal]) -> list[Proposal]:
        run.given |= {proposal.decision_id for proposal in proposals}
        return proposals

    def _lost(self, error: Exception, so: str) -> None:
        if not self._away:
            logger.error("%s; %s", error, so)
        self._away = True

    def _stand_in(self, run: _Run, error: Exception) -> CuriosityAgent:
        """Return who decides in place of the agent, knowing all documents."""
        first = not self._away
        if self.fallback is None:
            self._away = True
            raise AgentUnreachable(str(error))
        self._lost(error, f"until it answers, {self.fallback} decides in its place")
        if first or run.stand_in is None:
            explorer = self._local.explorer
            run.stand_in = FallbackAgent(
                self.strategy or explorer.strategy, self.fallback, explorer.seed
            )
        for name, data in run.log[run.stand_in.learned :]:
            run.stand_in(name, decode(data))
        return run.stand_in.agent


def _root(run: _Run) -> str:
    return run.uids[0] if run.uids else ""


def _filled(descriptor: str) -> str:
    """Return the uid of a stream whose images are in its events.

    By its own uid the agent may know the stream already, from a proxy or a catalogue, without them.
    """
    return f"{descriptor} filled"


def _without_files(data_keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return data keys as those of arrays that are in the event."""
    return {
        key: {k: v for k, v in about.items() if k != "external"} for key, about in data_keys.items()
    }


def _packed(name: str, doc: Mapping[str, Any]) -> bytes:
    """Pack a document; of an event, what cannot be sent is left out: nothing is learned from it.

    Raises
    ------
    InputError
        If that is not enough, or if it is too large.
    """
    try:
        data = encode(doc)
    except InputError:
        if name != "event":
            raise
        data = encode({**doc, "data": {k: v for k, v in doc["data"].items() if _sendable(v)}})
    if len(data) > LARGEST // 2:
        raise InputError(
            f"a document ({name}) of {len(data) / 2**20:.0f} MiB is more than an agent elsewhere "
            f"takes ({LARGEST // 2**21} MiB); take a smaller survey, or leave out agent="
        )
    return data


def _sendable(value: Any) -> bool:
    try:
        encode(value)
    except InputError:
        return False
    return True


def _untold(run: _Run, trainings: list[Training]) -> list[Training]:
    """Leave out what an agent that learned everything anew tells a second time."""
    keys = []
    for training in trainings:
        values = training_values(training)
        values.pop("seconds")
        keys.append(repr(values))
    new = [t for t, key in zip(trainings, keys, strict=True) if not (run.anew and key in run.told)]
    run.told |= set(keys)
    run.anew = False
    return new

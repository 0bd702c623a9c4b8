"""Session of one remote plan: the documents that its agent has learned from."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from curiosity_bluesky import documents
from curiosity_bluesky.agent.curiosity_agent import CuriosityAgent
from curiosity_bluesky.agent.remote.protocol import (
    plain,
    plain_decided,
    plain_prediction,
)
from curiosity_bluesky.agent.remote.store import DocumentStore
from curiosity_bluesky.documents import Document
from curiosity_bluesky.errors import CuriosityError, InputError
from curiosity_bluesky.learning import PriorRun, Proposal, Strategy
from curiosity_bluesky.learning.survey import Pixel


class SessionBehind(CuriosityError):
    """The session lacks documents; the client is to open it again and to send them."""


class Session:
    """One `CuriosityAgent`, fed with documents in the order in which its plan had them.

    What it answers depends on these documents alone, and not on what was asked before: a
    proposal that never became a decision (not delivered, or another agent decided meanwhile)
    is forgotten, by learning everything again.

    Parameters
    ----------
    strategy, seed, earlier
        As for `CuriosityAgent`.
    keys
        Of the documents to begin with, in their order.
    """

    def __init__(
        self,
        strategy: Strategy | None,
        seed: int | None,
        earlier: PriorRun | None,
        keys: Sequence[str],
    ) -> None:
        self._given = strategy, seed, earlier
        self._order = list(keys)
        self._cancelled = False
        self.doing = ""
        self.used = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        strategy, seed, earlier = self._given
        self.agent = CuriosityAgent(strategy, seed, earlier=earlier, on_epoch=self._on_epoch)
        self.instance = secrets.token_hex(8)
        """Identifier of this agent; a restarted one has another, and repeats trainings."""
        self._fed = 0
        self._streams: dict[str, str] = {}
        self._promised: dict[int, Pixel] = {}
        if self._cancelled:
            self.agent.cancel()

    def _on_epoch(self, model: str, epoch: int, epochs: int) -> None:
        self.doing = f"training the {model}: epoch {epoch} of {epochs}"

    @property
    def learned(self) -> int:
        """Number of documents that it has learned from."""
        return self._fed

    def begins_with(self, keys: Sequence[str]) -> bool:
        """Return whether its documents are the beginning of a sequence."""
        return self._order == list(keys[: len(self._order)])

    def extend(self, first: int, keys: Sequence[str]) -> None:
        """Append the keys of the next documents.

        Parameters
        ----------
        first
            How many its plan had before these.
        keys
            Their keys; those that it knows already are passed over.

        Raises
        ------
        Behind
            If it does not know all before.
        """
        if first > len(self._order):
            raise SessionBehind
        if self._order[first : first + len(keys)] != list(keys[: len(self._order) - first]):
            raise SessionBehind  # another history than the one it knows
        self._order.extend(keys[len(self._order) - first :])

    def cancel(self) -> None:
        """Cancel a training for good."""
        self._cancelled = True
        self.agent.cancel()

    def answer(
        self, store: DocumentStore, runs: Sequence[str], what: str, given: Sequence[int], args: Any
    ) -> dict[str, Any]:
        """Learn, and answer.

        Parameters
        ----------
        store
            Where the documents are.
        runs
            uids of the run and of those that it went on with.
        what, args
            What is asked, see `protocol.ASKED`.
        given
            Numbers of the decisions that the plan was told, and has not written yet.

        Raises
        ------
        Behind
            If the store has forgotten some.
        InputError, Cancelled
            As `CuriosityAgent`.
        """
        self.doing = "reading documents"
        new = self._fetched(store, runs)
        written = self._decisions(new)
        others = any(self._promised.get(n, pixel) != pixel for n, pixel in written.items())
        lost = set(self._promised) - set(written) - set(given)
        if others or (lost and what in ("decide", "suggest", "outstanding")):
            self._begin()
            new = self._fetched(store, runs)
            written = self._decisions(new)
        for name, doc in new:
            self.agent(name, doc)
        if self._cancelled:  # a run that begins has forgotten it
            self.agent.cancel()
        self._fed = len(self._order)
        for number in written:
            self._promised.pop(number, None)
        self.doing = "working"
        return {"instance": self.instance} | self._asked(what, args)

    def _fetched(self, store: DocumentStore, runs: Sequence[str]) -> list[Document]:
        wanted = self._order[self._fed :]
        found = store.have(runs, wanted)
        if len(found) < len(wanted):
            raise SessionBehind
        return [found[key] for key in wanted]

    def _decisions(self, new: Sequence[Document]) -> dict[int, Pixel]:
        """Return the decisions among documents, number to pixel."""
        found = {}
        for name, doc in new:
            if name == "descriptor":
                self._streams[doc["uid"]] = doc["name"]
            elif name == "event" and self._streams.get(doc["descriptor"]) == documents.DECISIONS:
                data = doc["data"]
                found[int(data["decision_id"])] = int(data["row"]), int(data["col"])
        return found

    def _asked(self, what: str, args: Mapping[str, Any]) -> dict[str, Any]:
        agent = self.agent
        if what == "decide":
            decided = agent.decide(args["n"], lookahead=args["lookahead"], maps=args["maps"])
            self._promise(decided.proposals)
            return {"decided": plain_decided(decided)}
        if what == "suggest":
            proposals = agent.suggest(args.get("n", 1))
            self._promise(proposals)
            return {"proposals": [plain(proposal) for proposal in proposals]}
        if what == "outstanding":
            left = agent.outstanding()
            return {"outstanding": [[plain(p), attempt, quality] for p, attempt, quality in left]}
        if what == "maps":
            return {"maps": agent.maps()}
        if what == "flags":
            return {"flags": [plain(flag) for flag in agent.flags()]}
        if what == "should_stop":
            return {"should_stop": list(agent.should_stop())}
        if what == "take_trainings":
            return {"trainings": [plain(training) for training in agent.take_trainings()]}
        if what == "predict":
            return {"prediction": plain_prediction(agent.predict())}
        raise InputError(f"an agent cannot be asked for {what!r}")

    def _promise(self, proposals: Sequence[Proposal]) -> None:
        self._promised |= {p.decision_id: p.pixel for p in proposals}

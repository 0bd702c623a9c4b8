"""Store of the documents that an agent has received, each once."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from curiosity_bluesky import documents
from curiosity_bluesky.agent.remote.protocol import LEARNED, key_of, single_events
from curiosity_bluesky.documents import Document


@dataclass
class RunDocuments:
    """The documents of one run.

    Parameters
    ----------
    documents
        Key to name, document and the way by which it came first.
    streams
        uid of a descriptor to the name of its stream.
    repeated
        How many came again.
    """

    documents: dict[str, tuple[str, Mapping[str, Any], str]] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    repeated: int = 0

    def in_order(self) -> list[str]:
        """Return the keys of all documents, each after those that it depends on."""

        def rank(key: str) -> int:
            name, doc, _ = self.documents[key]
            if name == "event":
                return 3 if self.streams[doc["descriptor"]] == documents.SURVEY else 4
            return {"start": 0, "descriptor": 1, "stop": 5}.get(name, 2)

        return sorted(self.documents, key=rank)


class DocumentStore:
    """Documents of the latest runs, the oldest dropped first.

    Safe to use from several threads. A document of a run whose start it has not heard, or an
    event of a stream without a descriptor, is passed over: a client that asks about the run
    says then that it is missing.

    Parameters
    ----------
    keep
        Runs; of more, the one that was longest not heard of is forgotten.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._runs: OrderedDict[str, RunDocuments] = OrderedDict()
        self._run_of: dict[str, str] = {}
        self._lock = threading.RLock()

    def __call__(self, source: str, name: str, doc: Mapping[str, Any]) -> None:
        """Process a document.

        Parameters
        ----------
        source
            By which way it came.
        name, doc
            As a RunEngine emits it.

        Raises
        ------
        InputError
            If it is no document.
        """
        for one, content in single_events(name, doc):
            key = key_of(one, content)
            if key is not None:
                with self._lock:
                    self._put(key, source, one, content)

    def _put(self, key: str, source: str, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start":
            uid = str(doc["uid"])
            self._runs.setdefault(uid, RunDocuments())
        else:
            uid = doc.get("run_start") or self._run_of.get(doc.get("descriptor", ""), "")
            if name == "stream_resource" and uid not in self._runs:
                uid = ""
        run = self._runs.get(uid)
        if run is None:
            return
        self._runs.move_to_end(uid)
        if name == "descriptor":
            run.streams[doc["uid"]] = doc["name"]
            self._run_of[doc["uid"]] = uid
        if name == "event" and run.streams[doc["descriptor"]] not in LEARNED:
            return
        if key in run.documents:
            run.repeated += 1
            return
        run.documents[key] = name, doc, source
        while len(self._runs) > self._keep:
            _, old = self._runs.popitem(last=False)
            for descriptor in old.streams:
                self._run_of.pop(descriptor, None)

    def have(self, runs: Iterable[str], keys: Iterable[str]) -> dict[str, Document]:
        """Return the documents of some runs that it has, by their keys."""
        with self._lock:
            known = [self._runs[uid].documents for uid in runs if uid in self._runs]
            for uid in runs:  # they are needed: not the first to be forgotten
                if uid in self._runs:
                    self._runs.move_to_end(uid)
            found = {}
            for key in keys:
                for run in known:
                    if key in run:
                        found[key] = run[key][:2]
            return found

    def keys(self, uid: str) -> list[str]:
        """Return the keys of all documents of a run, each after those that it depends on."""
        with self._lock:
            return self._runs[uid].in_order() if uid in self._runs else []

    def start(self, uid: str) -> Mapping[str, Any] | None:
        """Return the start document of a run, None if the run is unknown."""
        found = self.have([uid], [f"start {uid}"])
        return found[f"start {uid}"][1] if found else None

    def newest(self) -> str | None:
        """Return the uid of the run that arrived last."""
        with self._lock:
            return next(reversed(self._runs), None)

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return for each run the numbers of documents by source, and of repetitions."""
        with self._lock:
            return {
                uid: {
                    "documents": len(run.documents),
                    "from": dict(Counter(source for *_, source in run.documents.values())),
                    "repeated": run.repeated,
                }
                for uid, run in self._runs.items()
            }

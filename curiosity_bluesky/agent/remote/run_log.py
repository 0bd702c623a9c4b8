"""Documents of one run that an agent in another process learns from."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from curiosity_bluesky import documents
from curiosity_bluesky.agent.remote.codec import encode
from curiosity_bluesky.agent.remote.fallback import FallbackAgent
from curiosity_bluesky.agent.remote.protocol import LARGEST, LEARNED, key_of
from curiosity_bluesky.documents import training_values
from curiosity_bluesky.documents.files import external_keys
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Training


@dataclass
class RunLog:
    """Documents of one run in the order in which they came, and how many the agent has.

    Attributes
    ----------
    uids
        Of the run and of those that it goes on with, the first run first.
    log
        Name and encoded content of each document; ``keys`` has its key in the same order.
    warm
        Whether it started from an earlier run.
    sent
        Number of documents that the agent has.
    given
        Decisions that the agent was heard to make, and that are not written yet.
    relearned
        Whether the agent has learned everything again since it last told of trainings.
    """

    uids: list[str] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)
    log: list[tuple[str, bytes]] = field(default_factory=list)
    descriptors: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    files: documents.ExternalFiles = field(default_factory=documents.ExternalFiles)
    client: str = field(default_factory=lambda: secrets.token_hex(8))
    warm: bool = False
    number: int = 0
    sent: int = 0
    given: set[int] = field(default_factory=set)
    instance: str = ""
    relearned: bool = False
    told: set[str] = field(default_factory=set)
    stand_in: FallbackAgent | None = None
    busy: threading.Lock = field(default_factory=threading.Lock)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def root(self) -> str:
        """The uid of the first run; "" before there is one."""
        return self.uids[0] if self.uids else ""

    def add(self, name: str, doc: Mapping[str, Any]) -> None:
        """Store a document for the agent, if it is of a kind that it learns from.

        Parameters
        ----------
        name
            Of the document.
        doc
            Its content.

        Raises
        ------
        InputError
            If it cannot be sent.
        """
        if name in ("stream_resource", "stream_datum"):
            self.files(name, doc)  # files are read here: the agent may have other disks
            return
        if name == "descriptor":
            if doc["run_start"] not in self.uids or doc["name"] not in LEARNED:
                return
            self.descriptors[doc["uid"]] = doc
            if doc["name"] == documents.SURVEY and external_keys(doc["data_keys"]):
                keys = _without_files(doc["data_keys"])
                doc = {**doc, "uid": _filled(doc["uid"]), "data_keys": keys}
        elif name == "event":
            if doc["descriptor"] not in self.descriptors:
                return
            descriptor = self.descriptors[doc["descriptor"]]
            if descriptor["name"] == documents.SURVEY:
                if filed := self.files.data(descriptor, doc["seq_num"]):
                    whole, data = _filled(doc["descriptor"]), {**doc["data"], **filed}
                    doc = {**doc, "descriptor": whole, "data": data}
            elif descriptor["name"] == documents.DECISIONS:
                self.given.discard(int(doc["data"]["decision_id"]))
        elif name != "start":
            return
        key = key_of(name, doc)
        if key is None or key in self.keys:
            return
        data = _encoded(name, doc)
        self.keys[key] = None
        self.log.append((name, data))

    def new_trainings(self, trainings: Iterable[Training]) -> list[Training]:
        """Return trainings without the repetitions of an agent that was restarted.

        Parameters
        ----------
        trainings
            As the agent tells of them.
        """
        told = list(trainings)
        keys = []
        for training in told:
            values = training_values(training)
            values.pop("seconds")
            keys.append(repr(values))
        again = self.told if self.relearned else set()
        new = [one for one, key in zip(told, keys, strict=True) if key not in again]
        self.told |= set(keys)
        self.relearned = False
        return new


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


def _encoded(name: str, doc: Mapping[str, Any]) -> bytes:
    """Encode a document; of an event, what cannot be sent is left out: nothing is learned from it.

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

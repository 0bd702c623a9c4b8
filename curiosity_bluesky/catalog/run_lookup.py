"""The run that each document is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RunLookup:
    """Finds the run of a document: the one that it names, or that of what it refers to."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}  # of descriptors and resources of open runs
        self._latest = "other"

    def __call__(self, name: str, doc: Mapping[str, Any]) -> str:
        """Return the uid of the run of a document, the documents being in their order."""
        if name == "start":
            self._latest = doc["uid"]
            return doc["uid"]
        if name == "stop":
            run = doc["run_start"]
            self._parents = {uid: of for uid, of in self._parents.items() if of != run}
            return run
        if name in ("descriptor", "resource", "stream_resource"):
            # A resource need not say whose it is; it comes between start and stop of its run.
            run = self._parents[doc["uid"]] = doc.get("run_start") or self._latest
            return run
        # Events and stream datums refer to a descriptor, datums to a resource.
        return self._parents.get(doc.get("descriptor") or doc.get("resource") or "", self._latest)

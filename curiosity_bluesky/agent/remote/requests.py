"""Requests to an agent that serves several plans, and the replies to those that fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from curiosity_bluesky.agent.curiosity_agent import TrainingCancelled
from curiosity_bluesky.agent.remote.session import Session, SessionBehind
from curiosity_bluesky.errors import CuriosityError, InputError
from curiosity_bluesky.learning import PriorRun

logger = logging.getLogger(__name__)


class FetchRuns(Protocol):
    """Reader of runs in a catalogue, see `sources.CatalogReader`."""

    def __call__(self, uids: Sequence[str], /) -> None:
        """Copy the documents of some runs into the store."""
        ...

    def earlier(self, start: Mapping[str, Any], /) -> PriorRun | None:
        """Return the run that one started from."""
        ...


@dataclass
class Request:
    """Request of a plan that the agent works on."""

    client: tuple[str, str]
    number: int
    id: str
    identity: bytes
    session: Session | None = None
    cancelled: bool = False
    since: float = field(default_factory=time.monotonic)


class RequestError(CuriosityError):
    """Reply to a request that cannot be served: a kind, and words."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


def failure_reply(error: Exception) -> dict[str, Any]:
    """Return the reply to a request that failed.

    Parameters
    ----------
    error
        Why it failed.
    """
    if isinstance(error, SessionBehind):
        return {"behind": True}
    if isinstance(error, RequestError):
        return {"error": error.kind, "text": str(error)}
    if isinstance(error, InputError):
        return {"error": "input", "text": str(error)}
    if isinstance(error, TrainingCancelled):
        return {"error": "cancelled", "text": str(error)}
    logger.error("a request failed", exc_info=error)
    return {"error": "failed", "text": f"{type(error).__name__}: {' '.join(str(error).split())}"}

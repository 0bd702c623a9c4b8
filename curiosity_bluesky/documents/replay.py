"""Replay of a run: what its documents tell, told to an explorer or to a history alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from curiosity_bluesky.documents.translate import Item, Translator
from curiosity_bluesky.learning import (
    Failure,
    Observation,
    Proposal,
    ReachableArea,
    ResumeMarker,
    SteeringRequest,
    Survey,
)
from curiosity_bluesky.learning.history import History

_MIN_QUALITY = 0.5
"""Of a run that does not say what quality a spectrum needs."""


class RunListener(Protocol):
    """What can be told the items of a run: an `Explorer`, or a `ReplayedRun`."""

    def record(self, decision: Proposal) -> None:
        """Record a decision."""
        ...

    def observe(self, observation: Observation) -> None:
        """Record a spectrum."""
        ...

    def take_failure(self, failure: Failure) -> None:
        """Record a failed attempt."""
        ...

    def steer(self, act: SteeringRequest) -> None:
        """Record a request of the scientist."""
        ...

    def limit(self, reach: ReachableArea) -> None:
        """Record which pixels are out of reach."""
        ...

    def resume(self) -> None:
        """Record that the run goes on after an interruption."""
        ...


def tell(listener: RunListener, item: Item) -> None:
    """Tell a listener one item of a run; a survey begins a new one and is not told.

    Parameters
    ----------
    listener
        An explorer, or a run that is only read.
    item
        Anything but a `Survey`, as `Translator` returns it.
    """
    match item:
        case Proposal():
            listener.record(item)
        case Observation():
            listener.observe(item)
        case SteeringRequest():
            listener.steer(item)
        case ReachableArea():
            listener.limit(item)
        case ResumeMarker():
            listener.resume()
        case Failure():
            listener.take_failure(item)


class ReplayedRun(History):
    """History of a run that is only read: nothing is built that could learn from it.

    Parameters
    ----------
    survey
        Of the run.
    min_quality
        What a spectrum needs to be learned from, 0 to 1.
    """

    def __init__(self, survey: Survey, min_quality: float) -> None:
        super().__init__(survey, min_quality)
        self.survey = survey

    def take_failure(self, failure: Failure) -> None:
        """Record a failed attempt, see `History.fail`."""
        self.fail(failure)

    def steer(self, act: SteeringRequest) -> None:
        """Record a request of the scientist; one that sets the strategy sets `min_quality`."""
        super().steer(act)
        if act.kind == "set":
            self.min_quality = (
                self.acts_of("set")[-1].arguments["parameters"].get("min_quality", self.min_quality)
            )


def replay_run(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> ReplayedRun | None:
    """Return the history of a run, None if it has no survey.

    Parameters
    ----------
    documents
        All of the run, and before them those of the runs that it went on with.

    Raises
    ------
    InputError
        If a document cannot be understood.
    """
    translate, min_quality = Translator(), _MIN_QUALITY
    run: ReplayedRun | None = None
    for name, doc in documents:
        items = translate(name, doc)
        if name == "start":
            parameters = doc.get("curiosity_parameters") or {}
            min_quality = parameters.get("min_quality", min_quality)
            if run is not None:
                run.min_quality = min_quality
        for item in items:
            if isinstance(item, Survey):
                run = ReplayedRun(item, min_quality)
            elif run is not None:
                tell(run, item)
    return run

"""Why a decision was made: in words with numbers, rebuilt from the documents of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from curiosity_bluesky.agent.prior_runs import prior_run_of
from curiosity_bluesky.analysis.past_decision import DecisionHistory, PastDecision
from curiosity_bluesky.analysis.reading import whole_run
from curiosity_bluesky.analysis.why_words import (
    acquisition_name,
    at,
    bad_neighbour,
    expected_there,
    header,
    measured_since,
    reason_in_words,
)
from curiosity_bluesky.documents import SQUARED, Document, Item
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Failure,
    Observation,
    PriorRun,
    Proposal,
    SteeringRequest,
    Strategy,
    Survey,
)
from curiosity_bluesky.learning.records import TrainingData
from curiosity_bluesky.learning.strategies import (
    Curious,
    GaussianProcessStrategy,
    Theory,
    Vatsavai2025Latent,
)
from curiosity_bluesky.learning.survey import Pixel

if TYPE_CHECKING:  # handed over by whoever has one
    from curiosity_bluesky.catalog import Catalog

RUNNERS_UP = 4
"""Runners-up that are named."""
NEAREST = 5
"""Nearest spectra whose errors are looked at."""


@dataclass(frozen=True)
class RunnerUp:
    """A place that was nearly chosen.

    Parameters
    ----------
    pixel, x, y
        Where: ``(row, col)`` and the position in um.
    rank
        Among all candidates, by the acquisition, 1 for the largest.
    share
        Its acquisition divided by that of the chosen pixel.
    """

    pixel: Pixel
    x: float
    y: float
    rank: int
    share: float


@dataclass(frozen=True)
class Counterfactual:
    """What would have been chosen had one thing been different.

    Parameters
    ----------
    without
        What is left out, in words.
    pixel, x, y
        What would have been chosen, in um.
    away
        Its distance to what was chosen, um; 0 where it is the same pixel.
    """

    without: str
    pixel: Pixel
    x: float
    y: float
    away: float

    def __str__(self) -> str:
        if not self.away:
            return f"{self.without}, the same pixel"
        return f"{self.without}, {at(self.pixel, self.x, self.y)}, {self.away:.3g} um away"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a decision was made, see `explain`.

    Parameters
    ----------
    uid
        Of the run.
    decision
        As it was recorded.
    paragraphs
        In words, with units.
    maps
        Dims ``(y, x)``, in um: the channels of the survey as ``survey_<channel>``, what the
        decision went by (of ``error``, ``novelty``, ``uncertainty`` and ``acquisition`` those that
        the strategy has) and ``available``, where a spectrum could be proposed.
    known
        Decisions whose spectra it knew.
    under_way
        Decisions that were not measured yet, and those that were made together with it.
    runners_up, counterfactuals
        What was nearly chosen, and what would have been.
    agrees
        Whether the decision comes out again, rebuilt from the documents.
    """

    uid: str
    decision: Proposal
    paragraphs: tuple[str, ...]
    maps: xr.Dataset
    known: tuple[Proposal, ...]
    under_way: tuple[Proposal, ...]
    runners_up: tuple[RunnerUp, ...]
    counterfactuals: tuple[Counterfactual, ...]
    agrees: bool

    def __str__(self) -> str:
        return "\n\n".join(self.paragraphs)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the maps, JSON-ready."""
        decision = dataclasses.asdict(self.decision)
        del decision["predicted_spectrum"]
        # JSON has no NaN.
        decision = {key: None if value != value else value for key, value in decision.items()}
        return {
            "uid": self.uid,
            "decision": decision,
            "paragraphs": list(self.paragraphs),
            "known": [p.decision_id for p in self.known],
            "under_way": [p.decision_id for p in self.under_way],
            "runners_up": [dataclasses.asdict(place) for place in self.runners_up],
            "counterfactuals": [dataclasses.asdict(other) for other in self.counterfactuals],
            "agrees": self.agrees,
        }


def explain(run: Any, number: int, *, without: Sequence[int] = ()) -> Explanation:
    """Explain a decision of a run.

    What the decision knew is rebuilt from the documents before it: the model, its maps, and which
    pixels could be chosen.

    Parameters
    ----------
    run
        A run from a catalogue, read together with those that it went on with.
    number
        Of the decision, from 0, as in ``decision_id``.
    without
        Numbers of decisions: what would have been chosen had their spectra not been measured?

    Returns
    -------
    Explanation
        Its text is ``str(explanation)``.

    Raises
    ------
    InputError
        If the run has no such decision, was not made by `curiosity_plan`, or began from a run that
        is not in the catalogue any more; if a spectrum in `without` was not known.
    """
    documents, earlier = whole_run(run)
    return explain_from_documents(documents, number, earlier=earlier, without=without)


def explain_in_catalog(
    catalog: Catalog, uid: str, number: int, *, without: Sequence[int] = ()
) -> Explanation:
    """Explain a decision of a run in a catalogue, also of one that is still measured.

    Parameters
    ----------
    catalog
        Where the run is, and those that it rests on.
    uid
        Of the run, or its first characters.
    number, without
        See `explain`.

    Raises
    ------
    InputError
        See `explain`.
    """
    pieces = catalog.lineage(uid)
    earlier = prior_run_of(catalog, pieces[0][0][1])
    documents = chain.from_iterable(pieces)
    return explain_from_documents(documents, number, earlier=earlier, without=without)


def explain_from_documents(
    documents: Iterable[Document],
    number: int,
    *,
    earlier: PriorRun | None = None,
    without: Sequence[int] = (),
) -> Explanation:
    """Explain a decision from documents, also of a run that is still measured.

    Parameters
    ----------
    documents
        All of the run, and before them those of the runs that it went on with.
    earlier
        The run that it started from, where it did.
    number, without
        See `explain`.

    Raises
    ------
    InputError
        See `explain`.
    """
    past = PastDecision(DecisionHistory.of(documents), number, earlier)
    known = [o.decision_id for o in past.history.good if o.decision_id is not None]
    for spectrum in without:
        if spectrum not in known:
            raise InputError(
                f"without={spectrum} is asked for; decision {number} knew the spectra of "
                f"{_ranges(known) or 'no decision'}"
            )
    decision, maps, free = past.decision, past.maps, past.available
    runners_up = _runners_up(past, maps, free)
    again = past.choice_of(past.explorer)  # which records it: so what it went by comes before
    agrees = again is not None and _same(decision, again)
    others = _counterfactuals(past, maps, free, without)
    paragraphs = [header(past), reason_in_words(past, maps, free)]
    if maps:
        paragraphs.append(expected_there(past, maps, free))
    if "acquisition" in maps and (bad := bad_neighbour(past, *_errors(past), NEAREST)):
        paragraphs.append(bad)
    if runners_up:
        words = [f"{at(p.pixel, p.x, p.y)} with {100 * p.share:.3g} % of it" for p in runners_up]
        name = acquisition_name(past.explorer.strategy)
        paragraphs.append(f"Runners-up by {name}, one for each place: {'; '.join(words)}.")
    if others:
        words = "; ".join(map(str, others))
        paragraphs.append(f"What would have been chosen: {words}.")
    paragraphs += [measured_since(past), _check(decision, again, agrees)]
    decisions = {p.decision_id: p for p in past.history.decisions}
    return Explanation(
        past.log.uid,
        decision,
        tuple(filter(None, paragraphs)),
        _dataset(past, maps, free),
        tuple(decisions[k] for k in known if k in decisions),
        tuple(p for p in [*past.history.pending, *past.batch] if p.decision_id != number),
        runners_up,
        others,
        agrees,
    )


def _same(decision: Proposal, again: Proposal) -> bool:
    scores = [(p.acquisition, p.predicted_error) for p in (decision, again)]
    return (decision.pixel, decision.reason) == (again.pixel, again.reason) and bool(
        np.allclose(*scores, rtol=1e-3, atol=0.0, equal_nan=True)
    )


def _check(decision: Proposal, again: Proposal | None, agrees: bool) -> str:
    if agrees:
        return "Rebuilt from the documents before it, the decision comes out the same."
    if again is None:
        found = "none comes out"
    elif again.pixel != decision.pixel:
        found = f"{at(again.pixel, again.x, again.y)} ({again.reason}) comes out"
    else:
        found = f"the same pixel comes out, with another reason ({again.reason}) or other scores"
    return (
        f"Rebuilt from the documents before it, the decision is NOT the same: {found}. It was made "
        "elsewhere, by another version or on another processor; the numbers above are those of "
        "the rebuilt model."
    )


def _runners_up(
    past: PastDecision, maps: dict[str, NDArray], free: NDArray[np.bool_]
) -> tuple[RunnerUp, ...]:
    """Return the best places that were not chosen, none a neighbour of another."""
    decision, survey = past.decision, past.explorer.survey
    values = maps.get("acquisition")
    if values is None or not values[decision.pixel] > 0:
        return ()
    open_to = free & np.isfinite(values)
    apart = max(2, past.explorer.strategy.patch_size // 2)
    taken = [p.pixel for p in past.batch]
    found: list[RunnerUp] = []
    rows, cols = np.nonzero(open_to)
    for k in np.argsort(-values[open_to], kind="stable"):
        pixel = int(rows[k]), int(cols[k])
        if all(max(abs(pixel[0] - r), abs(pixel[1] - c)) > apart for r, c in taken):
            taken.append(pixel)
            rank = int((values[open_to] > values[pixel]).sum()) + 1
            share = float(values[pixel] / values[decision.pixel])
            found.append(RunnerUp(pixel, *survey.position(pixel), rank, share))
        if len(found) == RUNNERS_UP:
            break
    return tuple(found)


def _errors(past: PastDecision) -> tuple[dict[int, float], str]:
    """Return the errors of the known spectra, by decision, and how they were predicted.

    Where a Gaussian process learns, each is predicted by all others, the seeds too; where a network
    does, what it predicted before they were measured is on record.
    """
    good = [o for o in past.history.good if o.decision_id is not None]
    strategy, patches = past.explorer.strategy, past.explorer.patches
    if not isinstance(strategy, GaussianProcessStrategy):
        numbers = {o.decision_id for o in good}
        known = {k: e for k, e in past.log.errors.items() if k in numbers}
        return known, "was predicted badly before it was measured"
    indices = patches.indices([o.pixel for o in good])
    usable = [k for k, i in enumerate(indices) if i >= 0 and patches.allowed[i]]
    spectra = np.array([good[k].spectrum for k in usable])
    if len(usable) < 3:
        return {}, ""
    observed = TrainingData(indices[usable], spectra)
    predictor = strategy.gp(patches)
    predictor.start(observed)
    errors = np.sqrt(predictor.errors(observed))
    numbers = [good[k].decision_id for k in usable]
    return {
        int(number): float(error)
        for number, error in zip(numbers, errors, strict=True)
        if number is not None
    }, "is predicted badly by all others"


def _counterfactuals(
    past: PastDecision,
    maps: dict[str, NDArray],
    free: NDArray[np.bool_],
    without: Sequence[int],
) -> tuple[Counterfactual, ...]:
    decision, survey, strategy = past.decision, past.explorer.survey, past.explorer.strategy
    found: list[Counterfactual] = []

    def add(what: str, chosen: Pixel | None) -> None:
        if chosen is not None:
            x, y = survey.position(chosen)
            away = float(np.hypot(x - decision.x, y - decision.y))
            found.append(Counterfactual(what, chosen, x, y, away))

    def propose(**changed: Any) -> Pixel | None:
        proposal = past.choice_of(past.variant(**changed))
        return None if proposal is None else proposal.pixel

    if past.fallback:
        away = past.choice_of(past.agent_explorer)
        named = past.agent_explorer.strategy.name
        add(f"by {named}, had the agent answered", None if away is None else away.pixel)
    if decision.reason == "manual":

        def unasked(item: Item) -> Item | None:
            if not isinstance(item, SteeringRequest) or item.kind != "add":
                return item
            here = (item.arguments["row"], item.arguments["col"]) == decision.pixel
            return None if here else item

        add(f"by {strategy.name}, without the request for this pixel", propose(change=unasked))
    if decision.reason == "curious" and (plain := _without_error(strategy)) is not None:
        add(f"without the error term ({plain[1]})", propose(strategy=plain[0]))
    if decision.reason == "curious" and isinstance(strategy, Vatsavai2025Latent):
        novelty = np.where(free, maps["novelty"], -np.inf)
        best = np.unravel_index(int(np.argmax(novelty)), novelty.shape)
        add("without the error term (by novelty alone)", (int(best[0]), int(best[1])))
    for number in without:

        def missing(item: Item, number: int = number) -> Item | None:
            if isinstance(item, Observation) and item.decision_id == number:
                return Failure(number, "left out", bar=True)
            return item

        add(f"without the spectrum of decision {number}", propose(change=missing))
    return tuple(found)


def _without_error(strategy: Strategy) -> tuple[Strategy, str] | None:
    """Return a strategy without its error term, and what it then goes by; None of none."""
    if strategy.name == "curious" and strategy.parameters["weights"] != "none":
        return strategy.replace(weights="none"), "all places count alike: the variance alone"
    if isinstance(strategy, Theory):
        plain = strategy.as_kind(Curious, weights="none")
        return plain, "the variance of the spectra alone, no fitted loop"
    return None


def _dataset(past: PastDecision, maps: dict[str, NDArray], free: NDArray[np.bool_]) -> xr.Dataset:
    survey: Survey = past.explorer.survey
    unit = past.unit
    variables: dict[str, Any] = {}
    for name, image in survey.channels.items():
        units = past.log.survey_units.get(name)
        variables[f"survey_{name}"] = (("y", "x"), image, {"units": units} if units else {})
    for name, values in maps.items():
        powers = SQUARED.get(past.explorer.strategy.name, {})
        units = {2: f"{unit}^2", 1: unit, 0: "1"}[powers.get(name, 0)]
        known = unit or not powers.get(name)
        variables[name] = (("y", "x"), values, {"units": units} if known else {})
    variables["available"] = (("y", "x"), free)
    coordinates = {
        "y": ("y", survey.y, {"units": "um"}),
        "x": ("x", survey.x, {"units": "um"}),
    }
    about = {"uid": past.log.uid, "decision_id": past.number}
    return xr.Dataset(variables, coordinates, about)


def _ranges(numbers: Iterable[int]) -> str:
    """Return numbers in few words: 0 to 8, 10."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs)

"""Words for a past decision: what was known, what was expected, and what came out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.analysis.past_decision import PastDecision
from curiosity_bluesky.documents import SQUARED, Proposal
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.learning.survey import Pixel

BADLY = 1.5
"""A spectrum is predicted badly where its error is so many times the median."""

_GAIN = "expected gain"
_ACQUISITION = {
    "curious": _GAIN,
    "theory": _GAIN,
    "variance": "posterior variance",
    "lcmd": "distance from the measured structures",
}
_MEANING = {
    "curious": "by which its spectrum is expected to lower the mean squared error of the map",
    "theory": "by which its spectrum is expected to lower the misfit of the loops over the map",
    "variance": "of the Gaussian process, which knows least there",
    "lcmd": "squared, in the feature space of the kernel",
    "dkl": "of a property of the spectrum",
}
_DKL = {
    "ei": "expected improvement",
    "ucb": "upper confidence bound",
    "variance": "posterior variance",
}


def acquisition_name(strategy: Strategy) -> str:
    """Return what a strategy maximises, in words."""
    if strategy.name == "dkl":
        return _DKL[strategy.parameters["rule"]]
    return _ACQUISITION.get(strategy.name, "acquisition")


def at(pixel: Pixel, x: float, y: float) -> str:
    """Return a place in words."""
    return f"({x:.3g} um, {y:.3g} um), row {pixel[0]}, column {pixel[1]}"


def ordinal(n: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, ..."""
    end = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th") if n % 100 not in (11, 12, 13) else "th"
    return f"{n:,}{end}"


def header(past: PastDecision) -> str:
    """Say which decision it is, where, by whom, and from what."""
    decision, log = past.decision, past.log
    spectrum = _number_of_spectrum(past)
    piece = past.start["uid"]
    where = f"run {log.uid[:8]}"
    if piece != log.uid:
        where = f"run {piece[:8]}, with which run {log.uid[:8]} goes on"
    by = decision.decided_by or past.explorer.strategy.name
    knew = f"{decision.n_observed} spectr{'um' if decision.n_observed == 1 else 'a'}"
    if past.explorer.earlier is not None:
        prior = past.explorer.earlier
        knew += f" and the {len(prior)} of run {prior.uid[:8]}, from which it started"
    seconds = f" in {decision.seconds:.2g} s" if decision.seconds >= 1e-3 else ""
    together = ""
    if len(past.batch) > 1:
        place = [p.decision_id for p in past.batch].index(past.number) + 1
        together = f" It is the {ordinal(place)} of a batch of {len(past.batch)}, made at once."
    return (
        f"Decision {past.number} of {where}{spectrum}: {at(decision.pixel, decision.x, decision.y)}"
        f". It was made by {by} from {knew}{seconds}.{together}"
    )


def _number_of_spectrum(past: PastDecision) -> str:
    numbers = [o.decision_id for o in past.log.history.good]
    if past.number in numbers:
        return f" ({ordinal(numbers.index(past.number) + 1)} spectrum)"
    return " (no spectrum)"


def reason_in_words(past: PastDecision, maps: dict[str, NDArray], free: NDArray[np.bool_]) -> str:
    """Say why this pixel, and how far the nearest spectrum is."""
    reason, strategy = past.decision.reason, past.explorer.strategy
    if reason == "seed":
        before = [p for p in past.log.history.decisions if p.decision_id <= past.number]
        number = ordinal(sum(p.reason == "seed" for p in before))
        n = min(strategy.n_seeds, past.explorer.budget)
        said = f"It is the {number} of {n} seeds, which are measured before anything is learned"
        if strategy.parameters.get("seeding") in ("representative", "kmeans"):
            said += ": pixels that stand for all structures of the survey"
    elif reason == "manual":
        said = "It was added by hand (steer.add), and such pixels come before all others"
    elif reason == "design":
        said = f"{strategy.name} plans its pixels without looking at the spectra"
    elif reason == "repeat":
        said = "It was decided elsewhere, to measure this pixel again"
    elif reason == "random" and "acquisition" not in maps:
        said = "It is a random pixel"
    elif reason == "random":
        said = "It is a random pixel, of which the strategy takes one now and then"
    else:
        said = _by_rank(past, maps, free)
    if past.fallback:
        said += ". The agent was away, so the decision was not its own"
    return f"{said}.{_dwell(past)} {_nearest(past)}"


def _dwell(past: PastDecision) -> str:
    """Say how long the spectrum was to be measured; "" where the detector has no dwell setting."""
    dwell, full = past.decision.dwell, past.explorer.strategy.full_dwell
    if dwell is None or full is None:
        return ""
    return f" It was to be measured with {dwell:g} of {full:g} (the dwell setting)."


def _by_rank(past: PastDecision, maps: dict[str, NDArray], free: NDArray[np.bool_]) -> str:
    pixel, strategy = past.decision.pixel, past.explorer.strategy
    if "acquisition" not in maps:
        return f"{strategy.name} chose it without a map"
    values, name = maps["acquisition"], acquisition_name(strategy)
    candidates = values[free & np.isfinite(values)]
    rank = int((candidates > values[pixel]).sum()) + 1
    largest = "largest" if rank == 1 else f"{ordinal(rank)}-largest"
    meaning = _MEANING.get(strategy.name)
    meaning = f" ({meaning})" if meaning else ""
    said = f"It has the {largest} {name}{meaning} of {len(candidates):,} candidates"
    weight = past.decision.exploration_weight
    if "novelty" in maps and 0 < weight < 1:
        said += f"; novelty counts {100 * weight:.3g} %, the expected error the rest"
    if rank > 1:
        said += f". {_why_not_first(past)}"
    return said


def _why_not_first(past: PastDecision) -> str:
    strategy = past.explorer.strategy
    if "best" in strategy.parameters:
        return f"One of the {strategy.parameters['best']} best is drawn at random"
    if strategy.per_second is not None or strategy.dwell == "auto":
        return "The gain is divided by the seconds that the spectrum and the way to it take"
    if strategy.name == "lcmd":
        return "Only the cluster with the largest sum of these distances is looked at"
    pending = len(past.history.pending)
    if pending or len(past.batch) > 1:
        others = len(past.batch) - 1
        return (
            f"{pending} pixel{'s' * (pending != 1)} under way and {others} of the same batch count "
            "as measured, which lowers it around them"
        )
    return "The maps are rebuilt, and do not rank it first"


def _nearest(past: PastDecision) -> str:
    near = _neighbours(past)
    if not near:
        return "Nothing was measured before."
    away, number, _ = near[0]
    return f"The nearest spectrum is that of decision {number}, {away:.3g} um away."


def _neighbours(past: PastDecision) -> list[tuple[float, int, Proposal]]:
    """Return the known spectra, the nearest first: distance (um), decision."""
    known = {o.decision_id for o in past.history.good}
    here = past.decision
    near = [
        (math.hypot(p.x - here.x, p.y - here.y), p.decision_id, p)
        for p in past.history.decisions
        if p.decision_id in known
    ]
    return sorted(near, key=lambda each: each[:2])


def expected_there(past: PastDecision, maps: dict[str, NDArray], free: NDArray[np.bool_]) -> str:
    """Say what the model expects at the pixel, compared with the other candidates."""
    pixel, strategy, unit = past.decision.pixel, past.explorer.strategy, past.unit
    powers = SQUARED.get(strategy.name, {})
    names = {
        "error": f"expected {'misfit of the loop' if strategy.name == 'theory' else 'error'}",
        "novelty": "novelty",
        "uncertainty": "uncertainty (standard deviation)",
    }
    said = []
    for key, name in names.items():
        if key not in maps or not np.isfinite(maps[key][pixel]):
            continue
        values = maps[key]
        others = values[free & np.isfinite(values)]
        if powers.get(key) == 2:  # a root mean square is in the units of the spectra
            values, others, name = np.sqrt(values), np.sqrt(others), f"{name} (root mean square)"
        here, median = float(values[pixel]), float(np.median(others)) if others.size else 0.0
        found = [f"{here:.3g} {unit}"] if powers.get(key) and unit else []
        if median > 0:
            below = 100 * float((others < here).mean())
            found.append(
                f"{here / median:.3g} times the median of the candidates (more than at "
                f"{below:.0f} % of them)"
            )
        if found:
            said.append(f"The {name} there is {', '.join(found)}.")
    gain = maps.get("acquisition")
    if gain is not None and powers.get("acquisition") == 2 and np.isfinite(gain[pixel]):
        of = float(gain[pixel] / np.nanmean(maps["error"]))
        what = "misfit" if strategy.name == "theory" else "error"
        said.append(
            f"Its spectrum is expected to lower the mean squared {what} of the map by "
            f"{100 * of:.2g} %."
        )
    return " ".join(said)


def bad_neighbour(past: PastDecision, errors: dict[int, float], how: str, nearest: int) -> str:
    """Say which of the nearest spectra is predicted worst; "" where nothing is known of them."""
    near = [each for each in _neighbours(past)[:nearest] if each[1] in errors]
    median = float(np.median(list(errors.values()))) if errors else 0.0
    if not near or not median > 0:
        return ""
    away, number, there = max(near, key=lambda each: errors[each[1]])
    times = errors[number] / median
    if times < BADLY:
        return (
            f"None of the {len(near)} nearest spectra {how}: at most {times:.2g} times the median "
            "error."
        )
    value = f"{errors[number]:.3g} {past.unit}, " if past.unit else ""
    seed = ", a seed" if there.reason == "seed" else ""
    side = direction(past.decision.pixel, there.pixel)
    return (
        f"Of the {len(near)} nearest spectra that of decision {number}{seed}, {away:.3g} um "
        f"{side}, {how}: an error (root mean square) of {value}{times:.2g} times the median."
    )


def direction(here: Pixel, there: Pixel) -> str:
    """Return where a pixel lies as seen from another one, in the picture: row 0 is at the top."""
    down, right = there[0] - here[0], there[1] - here[1]
    if not (down or right):
        return "at the same pixel"
    vertical = "below" if down > 0 else "above"
    horizontal = "to the right" if right > 0 else "to the left"
    if abs(down) > 2 * abs(right):
        return vertical
    if abs(right) > 2 * abs(down):
        return horizontal
    return f"{vertical} and {horizontal}"


def measured_since(past: PastDecision) -> str:
    """Say what came of the decision."""
    history, number = past.log.history, past.number
    measured = {o.decision_id: o for o in history.observations}
    if number not in {o.decision_id for o in history.good}:
        if number in measured:
            quality = measured[number].quality
            return f"Its spectrum was too bad to be learned from (quality {quality:.2g} of 1)."
        return "It was given up." if number in history.given_up else "It is not measured yet."
    error = past.log.errors.get(number)
    if error is None:
        return "Its spectrum was measured; nothing had been predicted."
    value = f"{error:.3g} {past.unit}" if past.unit else ""
    others = [e for k, e in past.log.errors.items() if k != number]
    times = ""
    if others and np.median(others) > 0:
        times = f"{error / np.median(others):.2g} times the median of the run"
    compared = ", ".join(filter(None, (value, times)))
    if not compared:
        return "Its spectrum was measured."
    return f"Its spectrum differed from the prediction by (root mean square) {compared}."

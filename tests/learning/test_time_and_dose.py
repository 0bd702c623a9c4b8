"""Short paths, what teaches most per second, and no more spectra on one spot than allowed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import (
    Explorer,
    Failure,
    Observation,
    Proposal,
    Strategy,
    Survey,
)
from curiosity_bluesky.learning.density_limit import DensityLimit
from curiosity_bluesky.learning.scan_path import short_path, travel

TIMED = {"curious", "theory", "variance", "dkl", "oracle"} | {
    f"vatsavai2025-{kind}" for kind in ("latent", "mcd", "ensemble", "spec2im")
}
"""Strategies that choose by a value, which can be divided by the time."""

PLACES = arrays(
    float, st.tuples(st.integers(0, 12), st.just(2)), elements=st.floats(0, 3, width=32)
)


def length(places, start=None):
    way = places if start is None else np.vstack([start, places])
    return travel(np.diff(way, axis=0), np.zeros(2)).sum()


@given(PLACES)
@settings(max_examples=60, deadline=None)
def test_a_path_visits_each_place_once_and_is_never_longer_than_the_nearest_neighbour(places):
    start = np.zeros(2)
    order = short_path(places, start)
    assert sorted(order) == list(range(len(places)))
    at, left, nearest = start, list(range(len(places))), 0.0
    while left:
        k = min(left, key=lambda i, at=at: travel(places[i][None], at)[0])
        nearest += travel(places[k][None], at)[0]
        at = places[k]
        left.remove(k)
    assert length(places[order], start) <= nearest + 1e-6


def test_a_path_through_few_places_is_nearly_the_shortest_there_is():
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(30):
        places, start = rng.random((6, 2)), rng.random(2)
        best = min(length(places[list(p)], start) for p in itertools.permutations(range(6)))
        excess.append(length(places[short_path(places, start)], start) / best)
    assert min(excess) >= 1 - 1e-12 and np.mean(excess) < 1.1


def test_no_spot_gets_more_spectra_than_allowed(name, survey, cheap, drive):
    limit = 2, 0.05
    explorer = drive(Explorer(survey, cheap(name, max_per_area=limit, budget=9), seed=2))
    assert len(explorer.decisions) == 9
    check_doses(explorer, limit)


@pytest.mark.quick("limit1", "limit2")
@pytest.mark.parametrize("limit", [(1, 0.0), (1, 0.25), (2, 0.3)])
def test_the_limit_holds_until_no_pixel_is_left(limit, survey, cheap, drive):
    explorer = drive(Explorer(survey, cheap("random", max_per_area=limit, budget=None), seed=2))
    check_doses(explorer, limit)
    enough, why = explorer.should_stop()
    assert enough
    if len(explorer.decisions) < 80:
        assert f"at most {limit[0]} within {limit[1]:g} um" in why


def check_doses(explorer, limit):
    places = np.array([[d.x, d.y] for d in explorer.decisions])
    most, radius = limit
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    for k in range(len(places)):
        assert (apart[k, :k] <= radius).sum() < most


def test_a_batch_keeps_the_limit_too(survey, cheap, drive):
    explorer = Explorer(survey, cheap("curious", max_per_area=(1, 0.25), budget=30, batch=6))
    drive(explorer, batch=6)
    places = np.array([[d.x, d.y] for d in explorer.decisions])
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 0.25


def test_what_failed_may_have_had_its_bias_and_counts(survey, cheap):
    explorer = Explorer(survey, cheap("random", max_per_area=(2, 0.0)))
    proposal = Proposal(0, (5, 5), *survey.position((5, 5)), "manual")
    explorer.record(proposal)
    explorer.take_failure(Failure(0, "lost", attempt=0, given_up=False, doses=2))
    explorer.take_failure(Failure(0, "the tip did not lift", attempt=1, given_up=False))
    assert explorer.doses == [(5, 5)] * 2
    # A useless spectrum and its failure are one dose; a pause may have made it two.
    explorer.take_failure(Failure(0, "quality 0", attempt=2, doses=1))
    explorer.observe(Observation((5, 5), np.arange(16.0), 2, 0.0, decision_id=0, doses=2))
    assert explorer.doses == [(5, 5)] * 4
    explorer.observe(Observation((6, 6), np.arange(16.0)))
    assert explorer.doses.count((6, 6)) == 1


def test_what_became_of_the_newest_is_not_looked_at_with_lookahead(survey, cheap):
    """Or proposals would depend on which document was faster."""
    proposals = []
    for told in (False, True):
        explorer = Explorer(survey, cheap("curious", max_per_area=(2, 0.05), n_seeds=4), seed=0)
        for proposal in explorer.propose(5):
            explorer.observe(
                Observation(proposal.pixel, np.arange(16.0), decision_id=proposal.decision_id)
            )
        newest = explorer.propose()[0]
        if told:
            explorer.take_failure(
                Failure(newest.decision_id, "lost", attempt=0, given_up=False, doses=1)
            )
        proposals.append([p.pixel for p in explorer.propose(4, lookahead=1)])
    assert proposals[0] == proposals[1]


@given(st.integers(1, 3), st.floats(0.0, 0.12), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_no_spectrum_ever_has_more_neighbours_than_allowed(most, radius, seed):
    survey = Survey({"height": np.zeros((12, 10))}, np.arange(10) * 0.02, np.arange(12) * 0.02)
    crowding, rng = DensityLimit(survey, (most, radius)), np.random.default_rng(seed)
    taken = []
    for _ in range(60):
        free = np.argwhere(~crowding.full)
        if not len(free):
            break
        pixel = tuple(map(int, free[rng.integers(len(free))]))
        crowding.add(pixel)
        taken.append(survey.position(pixel))
    places = np.array(taken)
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    assert (apart <= radius).sum(axis=1).max() <= most


def test_a_crowded_pixel_is_full_and_its_neighbours_as_far_as_the_radius(survey):
    step = survey.x[1] - survey.x[0]
    crowding = DensityLimit(survey, (2, 1.5 * step), [(5, 5), (5, 6)])
    full = {tuple(map(int, p)) for p in np.argwhere(crowding.full)}
    # Also where the new one would have one neighbour only: that one would have two then.
    assert full == {(row, col) for row in (4, 5, 6) for col in (4, 5, 6, 7)}


@pytest.mark.parametrize("batch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_per_second_travels_less_for_the_same_spectra(name, batch, survey, cheap, drive):
    if name not in TIMED:
        with pytest.raises(InputError, match="per_second"):
            Explorer(survey, cheap(name, per_second=(1.0, 1.0)))
        return
    ways = []
    for rates in (None, (0.01, 0.01)):  # travel is nearly all that it costs
        strategy = cheap(name, per_second=rates, budget=16, batch=batch)
        explorer = drive(Explorer(survey, strategy, seed=3), batch=batch)
        later = [[d.x, d.y] for d in explorer.decisions if d.reason != "seed"]
        ways.append(length(np.array(later)))
    assert ways[1] < 0.9 * ways[0]


def test_per_second_changes_nothing_where_travel_takes_no_time(survey, cheap, drive):
    pixels = []
    for rates in (None, (1.0, 1e12)):
        explorer = drive(Explorer(survey, cheap("curious", per_second=rates, budget=20), seed=1))
        pixels.append([d.pixel for d in explorer.decisions])
    assert pixels[0] == pixels[1]


def test_a_batch_is_visited_on_a_short_path_from_where_the_tip_is(survey, cheap, measured):
    explorer = Explorer(survey, cheap("random", n_seeds=4, budget=40, batch=12), seed=0)
    for _ in range(2):
        before = explorer.decisions[-1:]
        proposals = explorer.propose(12)
        for proposal in proposals:
            explorer.observe(measured(proposal))
    places = np.array([[p.x, p.y] for p in proposals])
    start = np.array([before[0].x, before[0].y])
    assert [p.to_come for p in proposals] == list(range(11, -1, -1))
    assert np.allclose(places, places[short_path(places, start)])
    rng = np.random.default_rng(0)
    usual = np.mean([length(places[rng.permutation(12)], start) for _ in range(50)])
    assert length(places, start) < 0.6 * usual


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"max_per_area": (0, 1.0)}, "1 or more spectra"),
        ({"max_per_area": (1, -0.1)}, "0 um or more"),
        ({"max_per_area": 3}, "2 numbers"),
        ({"per_second": (1.0, 0.0)}, "above 0 um/s"),
        ({"per_second": (-1.0, 1.0)}, "0 s or more"),
    ],
)
def test_limits_that_cannot_be(parameters, said):
    with pytest.raises(InputError, match=said):
        Strategy.named("curious", **parameters)

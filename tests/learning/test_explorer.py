"""What the explorer proposes, for every strategy."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from driven import with_random_seed

from curiosity_bluesky.learning import Explorer, Observation, Proposal, Survey

CANDIDATES = 80
"""Pixels of the small survey that have a whole patch of 5 x 5."""
LEFT = 16
"""Pixels of the nearly masked one that have one, too."""


def allowed(survey: Survey) -> set[tuple[int, int]]:
    """Return the pixels that are not masked and have a whole patch."""
    pixels = {tuple(map(int, pixel)) for pixel in np.argwhere(~survey.mask)}
    return {(row, col) for row, col in pixels if 2 <= row < 12 and 2 <= col < 10}


@pytest.mark.parametrize(
    ("budget", "batch"),
    [
        *((budget, batch) for budget in (1, 2, 11) for batch in (1, 3)),
        pytest.param(None, 3, marks=pytest.mark.slow),
        # All pixels one by one, and the same number by name: minutes, over all strategies.
        pytest.param(None, 1, marks=pytest.mark.slow),
        pytest.param(CANDIDATES, 1, marks=pytest.mark.slow),
        pytest.param(CANDIDATES, 3, marks=pytest.mark.slow),
    ],
)
def test_proposals_are_distinct_whole_patches_up_to_the_budget(
    name, budget, batch, survey, cheap, drive
):
    explorer = drive(Explorer(survey, cheap(name, budget=budget, rim="omit"), seed=1), batch=batch)
    pixels = [decision.pixel for decision in explorer.decisions]
    wanted = CANDIDATES if budget is None else budget
    assert len(set(pixels)) == len(pixels)
    assert wanted <= len(pixels) < wanted + batch
    assert all(2 <= row < 12 and 2 <= col < 10 for row, col in pixels)
    assert explorer.should_stop()[0]
    if wanted == CANDIDATES:
        assert len(pixels) == CANDIDATES
        assert explorer.propose() == []


def test_the_last_pixel_is_measured_too_and_masked_ones_are_never_proposed(
    name, nearly_masked, cheap, drive
):
    explorer = drive(Explorer(nearly_masked, cheap(name, budget=None, rim="omit"), seed=1), batch=3)
    pixels = {decision.pixel for decision in explorer.decisions}
    assert pixels == allowed(nearly_masked)
    assert len(explorer.decisions) == LEFT
    assert explorer.propose() == []
    assert explorer.should_stop()[0]


def test_with_the_rim_every_pixel_is_measured_and_predicted(name, nearly_masked, cheap, drive):
    explorer = drive(Explorer(nearly_masked, cheap(name, budget=None, rim="reflect"), seed=1))
    assert {decision.pixel for decision in explorer.decisions} == set(
        zip(*np.nonzero(~nearly_masked.mask), strict=True)
    )
    assert np.isfinite(explorer.predict().spectra).all()
    assert np.array_equal(explorer.reach.mask, nearly_masked.mask)


def test_pending_pixels_are_never_proposed(name, nearly_masked, cheap, measured):
    explorer = Explorer(nearly_masked, cheap(name, budget=LEFT, rim="omit"))
    late = [explorer.propose(3)[0] for _ in range(4)]
    for proposal in late:
        explorer.observe(measured(proposal))
    proposals = [p for _ in range(4) for p in explorer.propose(4)]
    assert {p.pixel for p in proposals}.isdisjoint(p.pixel for p in late)
    assert len({d.pixel for d in explorer.decisions}) == len(explorer.decisions) == LEFT
    assert len(explorer.pending) == LEFT - 4
    assert not explorer.should_stop()[0], "it waits for what is pending"


def test_measured_pixels_are_never_proposed(name, nearly_masked, cheap, spectra, drive):
    explorer = Explorer(nearly_masked, cheap(name, budget=None, rim="omit"))
    by_hand = sorted(allowed(nearly_masked))[::6]
    for pixel in by_hand:
        explorer.observe(Observation(pixel, spectra[pixel]))
    drive(explorer, batch=2)
    pixels = {decision.pixel for decision in explorer.decisions}
    assert len(pixels) == LEFT - len(by_hand)
    assert pixels.isdisjoint(by_hand)


def test_seeds_come_first_and_then_every_proposal_has_its_scores(name, survey, cheap, drive):
    explorer = drive(Explorer(survey, cheap(name)))
    reasons = [decision.reason for decision in explorer.decisions]
    assert reasons[:4] == ["seed"] * 4
    assert set(reasons[4:]) <= {"curious", "random", "design"}
    assert [decision.n_observed for decision in explorer.decisions] == list(range(12))
    for decision in explorer.decisions:
        assert survey.position(decision.pixel) == (decision.x, decision.y)
        scored = decision.model_version > 0
        assert scored == np.isfinite(decision.acquisition)
        if name.startswith("vatsavai2025"):
            assert scored == np.isfinite(decision.novelty)
        assert scored == (decision.predicted_spectrum is not None)
        assert decision.reason != "curious" or scored


def test_a_batch_larger_than_the_seeds_claims_no_curiosity_before_there_is_a_model(
    name, survey, cheap
):
    proposals = Explorer(survey, cheap(name, budget=40)).propose(40)
    assert [p.reason for p in proposals[:4]] == ["seed"] * 4
    assert {p.reason for p in proposals[4:]} <= {"random", "design"}
    rows = np.mean([p.pixel[0] for p in proposals[4:]])
    assert 4 < rows < 9, "spread over the image, not the top rows"


def test_scores_are_the_maps_at_the_pixel(name, survey, cheap, drive):
    explorer = drive(Explorer(survey, cheap(name)), 7)
    maps = explorer.maps()
    assert set(maps) == {"error", "novelty", "uncertainty", "acquisition"}
    [proposal] = explorer.propose()
    for key, attribute in {"error": "predicted_error"}.items() | {
        (key, key) for key in ("novelty", "uncertainty", "acquisition")
    }:
        assert maps[key].shape == survey.shape
        left_out = np.isnan(maps[key])
        if explorer.strategy.rim == "omit":
            assert left_out[:2].all() and left_out[:, -2:].all()
        else:
            assert left_out.all() or not left_out.any()
        assert repr(float(maps[key][proposal.pixel])) == repr(getattr(proposal, attribute))
    if proposal.predicted_spectrum is not None:
        predicted = explorer.predict().spectra[proposal.pixel]
        # Equal to rounding: all pixels at once are another matrix product than one alone.
        assert np.allclose(proposal.predicted_spectrum, predicted, rtol=1e-5, atol=1e-5)


def test_a_failed_pixel_comes_back_and_a_barred_one_never_does(name, nearly_masked, cheap, drive):
    explorer = Explorer(nearly_masked, cheap(name, budget=None, rim="omit"))
    back, barred = explorer.propose(2)
    explorer.fail(back, "no contact")
    explorer.fail(barred, "dust", bar=True)
    assert explorer.pending == []
    drive(explorer, batch=2)
    later = [d.pixel for d in explorer.decisions if d.decision_id > 1]
    assert later.count(back.pixel) == 1
    assert barred.pixel not in later
    assert explorer.n_observed == LEFT - 1
    assert explorer.should_stop() == (True, "no pixel is left to measure")


def test_a_decision_made_by_hand_is_pending_and_numbered_on(name, survey, cheap):
    explorer = Explorer(survey, cheap(name))
    explorer.record(Proposal(7, (6, 6), *survey.position((6, 6)), "manual"))
    proposals = explorer.propose(5)
    assert [p.decision_id for p in proposals] == [8, 9, 10, 11, 12]
    assert (6, 6) not in {p.pixel for p in proposals}


@pytest.fixture(scope="module")
def process():
    """A process of its own: in this one, threads of other tests draw random numbers as well."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_global_random_states_are_neither_used_nor_touched(name, process):
    (untouched, decisions), (still, again) = process.map(with_random_seed, (name, name), (1, 2))
    assert untouched
    assert still
    assert len(decisions) == 8
    assert decisions == again


def test_the_seed_decides(name, survey, cheap, drive):
    first, again, other = (
        [d.pixel for d in drive(Explorer(survey, cheap(name), seed), 8).decisions]
        for seed in (0, np.int64(0), 1)
    )
    assert first == again != other

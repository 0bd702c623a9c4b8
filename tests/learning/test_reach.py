"""What is out of reach is not proposed, and is free again once it is within."""

import itertools

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import OUT_OF_REACH, Explorer, Failure, ReachableArea


def reach(survey, number, columns, n_decisions):
    out = np.zeros(survey.shape, bool)
    out[:, columns] = True
    return ReachableArea(number, out, n_decisions)


def test_the_newest_counts_in_whatever_order_they_come(survey, cheap, measured):
    cols = survey.shape[1]
    items = [
        reach(survey, 1, slice(cols // 2, None), 2),
        reach(survey, 3, slice(None, cols // 2), 4),
        reach(survey, 2, slice(None), 3),
    ]
    chosen = set()
    for order in itertools.permutations(items):
        explorer = Explorer(survey, cheap("random"), 1)
        for proposal in explorer.propose(4):
            explorer.observe(measured(proposal))
        for item in order:
            explorer.limit(item)
        proposals = explorer.propose(5)
        assert all(proposal.pixel[1] >= cols // 2 for proposal in proposals)
        chosen.add(tuple(proposal.pixel for proposal in proposals))
    assert len(chosen) == 1


def test_where_nothing_is_within_reach_the_run_is_over(survey, cheap):
    explorer = Explorer(survey, cheap("random"), 1)
    explorer.limit(reach(survey, 1, slice(None), 0))
    assert explorer.propose() == []
    assert explorer.should_stop() == (True, "no pixel is left to measure within reach")
    explorer.limit(reach(survey, 2, slice(0, 0), 0))
    assert len(explorer.propose()) == 1 and not explorer.should_stop()[0]


def test_a_pixel_that_was_out_of_reach_is_free_again_once_it_is_within(survey, cheap, measured):
    explorer = Explorer(survey, cheap("grid"), 1)
    lost, found = explorer.propose(2)
    for _ in range(3):  # however often: it is no fault of the pixel
        explorer.take_failure(Failure(lost.decision_id, f"{OUT_OF_REACH}: drifted"))
    explorer.observe(measured(found))
    taken = explorer._history.taken
    assert lost.pixel in taken  # until a re-survey says that it is within reach
    explorer.limit(reach(survey, 1, slice(0, 0), 2))
    assert lost.pixel not in explorer._history.taken


def test_a_wish_out_of_reach_waits(survey, cheap):
    from curiosity_bluesky.learning import SteeringRequest

    explorer = Explorer(survey, cheap("random"), 1)
    explorer.steer(SteeringRequest(0, "add", {"row": 5, "col": 5}))
    explorer.limit(reach(survey, 1, slice(4, 7), 0))
    assert explorer.propose()[0].reason == "seed"
    explorer.limit(reach(survey, 2, slice(0, 0), 1))
    assert explorer.propose()[0].pixel == (5, 5)


def test_a_reach_of_another_survey(survey, cheap):
    with pytest.raises(InputError, match="out_of_reach has shape"):
        Explorer(survey, cheap("random")).limit(ReachableArea(1, np.zeros((2, 2), bool), 0))

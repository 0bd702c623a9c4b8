"""State is data: the same observations and decisions lead to the same next proposal."""

import dataclasses
import functools
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import learning_alike, slowly

from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy


def replayed(explorer: Explorer, items, **kwargs) -> Explorer:
    """A new explorer that was told these decisions and observations."""
    new = Explorer(explorer.survey, explorer.strategy, explorer.seed, **kwargs)
    for item in items:
        if isinstance(item, Proposal):
            new.record(item)
        else:
            new.observe(item)
    return new


@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_leads_to_the_same_proposal(name, data, survey, cheap, drive, exactly):
    explorer = drive(Explorer(survey, cheap(name), seed=3), 7)
    items = [*explorer.decisions, *explorer.observations]
    [expected] = explorer.propose()
    # An observation finds its decision by its number or by its pixel.
    unnumbered = data.draw(st.sets(st.integers(0, 6)))
    items = [
        dataclasses.replace(i, decision_id=None)
        if isinstance(i, Observation) and i.decision_id in unnumbered
        else i
        for i in items
    ]
    order = data.draw(st.permutations(items))
    looked = data.draw(st.integers(1, len(items)))
    told = replayed(explorer, order[:looked])
    told.maps()  # may train on what is there so far
    for item in order[looked:]:
        (told.record if isinstance(item, Proposal) else told.observe)(item)
    assert exactly(*told.propose()) == exactly(expected)


def test_the_order_does_not_matter_when_a_decided_pixel_was_measured_twice(
    name, survey, cheap, measured, spectra, exactly
):
    explorer = Explorer(survey, cheap(name))
    decisions = explorer.propose(4)
    again = Observation(decisions[0].pixel, spectra[0, 0])  # nobody numbered it
    items = [*decisions, *map(measured, decisions), again]
    first, second = replayed(explorer, items), replayed(explorer, items[::-1])
    assert exactly(*first.propose()) == exactly(*second.propose())


def test_observing_is_idempotent(name, survey, cheap, drive, exactly):
    explorer = drive(Explorer(survey, cheap(name)), 6)
    told = replayed(explorer, [*explorer.decisions, *explorer.observations * 3])
    told.maps()
    for observation in explorer.observations:
        told.observe(observation)
    assert told.n_observed == 6
    assert exactly(*told.propose()) == exactly(*explorer.propose())


@pytest.fixture(scope="module")
def uninterrupted(survey, cheap, drive):
    """Return the run of a strategy to its end, which tests only read."""
    return functools.cache(lambda name: drive(Explorer(survey, cheap(name), seed=5)))


@pytest.mark.quick("2-*")
@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
@pytest.mark.parametrize("half", [2, 7, *slowly(0, 4)])
def test_a_run_thrown_away_half_way_and_rebuilt_goes_on_like_the_uninterrupted_one(
    name, half, uninterrupted, drive, exactly
):
    whole = uninterrupted(name)
    after = drive(replayed(whole, [*whole.decisions[:half], *whole.observations[:half]]))
    assert exactly(*after.decisions) == exactly(*whole.decisions)
    assert np.array_equal(after.predict().spectra, whole.predict().spectra, equal_nan=True)


def test_a_proposal_that_was_never_measured_is_not_forgotten(name, survey, cheap, drive, exactly):
    whole = drive(Explorer(survey, cheap(name), seed=5), 6)
    whole.propose()
    told = replayed(whole, [*whole.decisions, *whole.observations])
    assert [p.decision_id for p in told.pending] == [6]
    assert exactly(*told.propose(2)) == exactly(*whole.propose(2))


@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
def test_looking_at_maps_and_predictions_changes_nothing(name, survey, cheap, drive, exactly):
    plain, looked_at = (Explorer(survey, cheap(name), seed=2) for _ in range(2))
    for n in range(1, 10):
        drive(plain, n)
        drive(looked_at, n)
        looked_at.maps()
        looked_at.predict()
    assert exactly(*looked_at.decisions[4:]) == exactly(*plain.decisions[4:])


@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
def test_a_worker_thread_proposes_what_the_main_thread_does(name, survey, cheap, drive, exactly):
    here = drive(Explorer(survey, cheap(name)), 9)
    there: list[Explorer] = []
    thread = threading.Thread(target=lambda: there.append(drive(Explorer(survey, cheap(name)), 9)))
    thread.start()
    thread.join()
    assert exactly(*there[0].decisions) == exactly(*here.decisions)


class Stop(Exception):
    """What breaks a training off."""


@pytest.mark.quick("1-*")
@pytest.mark.parametrize("name", learning_alike(Strategy.names()))
@pytest.mark.parametrize("epoch", [1, 4, *slowly(2, 3, 5, 9)])
def test_a_training_broken_off_leaves_no_trace(name, epoch, survey, cheap, drive, exactly):
    calls = []

    def on_epoch(model: str, done: int, epochs: int) -> None:
        assert 1 <= done <= epochs and (epochs == 2 or model == "Gaussian process")
        calls.append(model)
        if len(calls) == epoch:
            raise Stop

    undisturbed = Explorer(survey, cheap(name))
    disturbed = Explorer(survey, cheap(name), on_epoch=on_epoch)
    stopped = 0
    for n in range(1, 9):
        drive(undisturbed, n)
        for _ in range(2):
            try:
                drive(disturbed, n)
                disturbed.predict()
            except Stop:
                stopped += 1
    # What has nothing to train cannot be broken off.
    assert stopped == (len(calls) >= epoch)
    undisturbed.predict()
    assert exactly(*disturbed.propose()) == exactly(*undisturbed.propose())
    assert exactly(*disturbed.decisions) == exactly(*undisturbed.decisions)


def test_a_replay_is_the_same_however_many_threads_the_process_uses(survey, cheap, measured):
    """The number of threads is not part of the state: another machine decides alike."""

    def decided(threads: int) -> list[tuple]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            explorer = Explorer(survey, cheap("vatsavai2025-latent"), seed=3)
            for _ in range(7):
                [proposal] = explorer.propose()
                explorer.observe(measured(proposal))
            assert torch.get_num_threads() == threads  # and it is given back
        finally:
            torch.set_num_threads(before)
        return [(p.pixel, repr(p.predicted_error), repr(p.novelty)) for p in explorer.decisions]

    assert decided(1) == decided(2) == decided(4)


def test_a_run_begun_elsewhere_gets_no_more_seeds_than_were_planned(survey, cheap, measured):
    """Even if the networks of the other machine had named other seeds."""
    explorer = Explorer(survey, cheap("vatsavai2025-latent", n_seeds=4), seed=3)
    own = {p.pixel for p in explorer.propose(4)}
    others = [p for p in Explorer(survey, cheap("random", n_seeds=70), 1).propose(70)]
    others = [p for p in others if p.pixel not in own][:4]
    rebuilt = Explorer(survey, cheap("vatsavai2025-latent", n_seeds=4), seed=3)
    for number, seed in enumerate(others):
        decision = dataclasses.replace(seed, decision_id=number)
        rebuilt.record(decision)
        rebuilt.observe(measured(decision))
    [following] = rebuilt.propose()
    assert following.reason != "seed"

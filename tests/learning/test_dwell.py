"""How long to measure: short spectra are completed, trusted less, and chosen where they pay."""

import dataclasses

import driven
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Proposal, Strategy
from curiosity_bluesky.learning.gp.completion import Completion, Cycles, ShortSpectra
from curiosity_bluesky.learning.records import TrainingData

CYCLES = 3
SETTINGS = ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0))
POINTS = 16


def of_cycles(spectra, noise=0.0, seed=0):
    """Spectra of three cycles, each with its own noise, ``(rows, cols, 3 * points)``."""
    rng = np.random.default_rng(seed)
    full = np.tile(spectra, CYCLES)
    return full + noise * spectra.std() * rng.normal(size=full.shape)


def measured(proposal: Proposal, truth) -> Observation:
    """What a detector reads with the dwell setting of a proposal."""
    spectrum = truth[proposal.pixel].copy()
    spectrum[int(proposal.dwell) * truth.shape[2] // CYCLES :] = np.nan
    full = driven.measure(proposal, truth)
    axis = np.tile(full.axis[::CYCLES], CYCLES)
    return dataclasses.replace(full, spectrum=spectrum, axis=axis, dwell=proposal.dwell)


def strategy(name="curious", **parameters) -> Strategy:
    parameters = {"dwell": "auto", "dwell_seconds": SETTINGS, "patch_size": 5, **parameters}
    return Strategy.named(name, n_seeds=8, **parameters)


def explored(survey, truth, n, **parameters) -> Explorer:
    explorer = Explorer(survey, strategy(**parameters), seed=1)
    while explorer.n_observed < n:
        for proposal in explorer.propose():
            explorer.observe(measured(proposal, truth))
    return explorer


def dwells(explorer: Explorer) -> list:
    return [decision.dwell for decision in explorer.decisions]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dwell", [1, 2])
def test_cycles_are_found_in_what_short_spectra_recorded(channels, dwell):
    block = np.arange(CYCLES * POINTS) < dwell * POINTS
    recorded = np.tile(block, channels)
    cycles = Cycles.found(recorded, dwell, CYCLES)
    assert cycles == Cycles(POINTS, CYCLES)
    np.testing.assert_array_equal(cycles.recorded(len(recorded), dwell), recorded)
    last = cycles.last(len(recorded), dwell)
    missing = np.flatnonzero(~recorded)
    assert recorded[last].all() and ((missing - last) % POINTS == 0).all()


def test_where_the_whole_axis_is_recorded_there_are_no_cycles_to_complete():
    assert Cycles.found(np.ones(48, bool), 1, 3) is None
    spectra = np.random.default_rng(0).normal(size=(5, 48))
    short = ShortSpectra([1, 2, 4])
    observed = TrainingData(np.arange(5), spectra, dwell=np.array([4.0, 4, 1, 2, 1]))
    assert short.complete(observed) is spectra
    times, more = short.noise(np.array([1.0, 2.0, 4.0]), 1.0)
    np.testing.assert_array_equal(times, [4, 2, 1])  # white noise that is averaged
    np.testing.assert_array_equal(more, 0)


def test_completion_learns_by_what_later_cycles_differ():
    rng = np.random.default_rng(1)
    first = rng.normal(size=(12, POINTS))
    later = 1.3 * first + np.sin(np.arange(POINTS))  # a part for all, a part of each
    full = np.concatenate([first, later, later], axis=1)
    cycles = Cycles(POINTS, CYCLES)
    has, last = cycles.recorded(48, 1), cycles.last(48, 1)
    learned = Completion.of(np.concatenate([full, full]), has, last)
    short = np.where(has, full, np.nan)
    np.testing.assert_allclose(learned(short), full, atol=0.02)


def test_leave_one_out_errors_are_those_of_completions_without_the_spectrum():
    rng = np.random.default_rng(2)
    full = rng.normal(size=(9, 48)) + 3  # no difference between cycles but noise
    cycles = Cycles(POINTS, CYCLES)
    has, last = cycles.recorded(48, 1), cycles.last(48, 1)
    learned = Completion.of(full, has, last)
    assert not learned.errors[:, has].any()
    # Shrinkage and penalty of all but one are nearly those of all.
    for k in range(len(full)):
        others = Completion.of(np.delete(full, k, axis=0), has, last)
        error = full[k] - others(np.where(has, full, np.nan))[k]
        assert (learned.errors[k] ** 2).sum() == pytest.approx((error**2).sum(), rel=0.3)


def test_a_difference_that_may_be_chance_is_not_believed():
    rng = np.random.default_rng(3)
    full = rng.normal(size=(6, 3 * 200))
    cycles = Cycles(200, CYCLES)
    has = cycles.recorded(600, 1)
    learned = Completion.of(full, has, cycles.last(600, 1))
    assert np.abs(learned.centre[~has]).mean() < 0.1  # the mean of six has 0.4 and more


def test_fewer_than_three_full_spectra_teach_nothing_and_the_cycle_is_repeated():
    cycles = Cycles(POINTS, CYCLES)
    has = cycles.recorded(48, 1)
    learned = Completion.of(np.random.default_rng(0).normal(size=(2, 48)), has, cycles.last(48, 1))
    short = np.where(has, np.arange(48.0), np.nan)[None]
    np.testing.assert_array_equal(learned(short)[0], np.tile(np.arange(16.0), 3))


def test_what_is_never_recorded_is_not_made_up():
    full = np.random.default_rng(0).normal(size=(6, 48))
    full[:, [5, 21, 37]] = np.nan
    spectra = full.copy()
    spectra[4:, POINTS:] = np.nan
    observed = TrainingData(np.arange(6), spectra, dwell=np.array([3.0] * 4 + [1.0] * 2))
    completed = ShortSpectra([1, 2, 3]).complete(observed)
    assert (np.isnan(completed) == np.isnan(full)).all()


def test_short_spectra_are_chosen_where_cycles_tell_the_same(survey, spectra):
    explorer = explored(survey, of_cycles(spectra, 0.05), 24)
    chosen = dwells(explorer)
    assert chosen[:5] == [3.0] * 5  # by these the later cycles are known
    assert chosen[8] == chosen[16] == 3.0  # and checked now and then
    assert chosen.count(1.0) > 14


def test_full_spectra_are_chosen_where_a_visit_costs_much_more_than_a_cycle(survey, spectra):
    explorer = explored(survey, of_cycles(spectra, 1.5), 24, visit_cost=(100.0, 1e12))
    assert dwells(explorer)[8:].count(3.0) > 12


def test_what_is_predicted_is_the_full_spectrum(survey, spectra):
    """Also of the cycles that were hardly ever measured, and with a systematic first cycle."""
    truth = of_cycles(spectra)
    truth[:, :, :POINTS] += 0.7 * spectra.std()
    explorer = explored(survey, truth, 24)
    predicted = explorer.predict().spectra
    error = ((predicted - truth) ** 2)[..., POINTS:].mean()
    bias = (predicted - truth)[..., POINTS:].mean()
    assert abs(bias) < 0.1 * spectra.std()
    assert error < spectra.var()
    first = explored(survey, truth, 24, dwell=1.0)
    assert error < ((first.predict().spectra - truth) ** 2)[..., POINTS:].mean()


def test_a_short_spectrum_is_trusted_less_than_a_full_one(survey, spectra):
    explorer = explored(survey, of_cycles(spectra, 0.5), 12)
    gp = explorer._active.learner._predictor
    one, two, full = gp.noise_scale(np.array([1.0, 2.0, 3.0]))
    assert one > two > full == 1.0


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_any_order_leads_to_the_same_choice(data, survey, spectra, exactly):
    explorer = explored(survey, of_cycles(spectra, 0.2), 14)
    [expected] = explorer.propose()
    items = [*explorer.decisions[:-1], *explorer.observations]
    told = Explorer(explorer.survey, explorer.strategy, explorer.seed)
    for item in data.draw(st.permutations(items)):
        (told.record if isinstance(item, Proposal) else told.observe)(item)
    [proposal] = told.propose()
    assert exactly(proposal) == exactly(expected)
    assert proposal.dwell == expected.dwell


def test_a_run_with_full_spectra_decides_as_without_a_setting(survey, spectra, exactly):
    truth = of_cycles(spectra, 0.2)
    full = explored(survey, truth, 14, dwell="full")
    plain = Explorer(survey, strategy(dwell="full", dwell_seconds=None), seed=1)
    while plain.n_observed < 14:
        [proposal] = plain.propose()
        assert proposal.dwell is None
        plain.observe(Observation(proposal.pixel, truth[proposal.pixel]))
    assert [d.pixel for d in full.decisions] == [d.pixel for d in plain.decisions]
    np.testing.assert_array_equal(full.predict().spectra, plain.predict().spectra)
    assert set(dwells(full)) == {3.0}


def test_every_strategy_takes_a_fixed_setting(name, survey, cheap, spectra):
    chosen = cheap(name, dwell_seconds=SETTINGS, dwell=2)
    truth = of_cycles(spectra)
    explorer = Explorer(survey, chosen)
    driven.tell(explorer, truth)
    for _ in range(6):
        [proposal] = explorer.propose()
        assert proposal.dwell == 2.0
        explorer.observe(measured(proposal, truth))
    assert np.isfinite(explorer.predict().spectra[5, 5, :POINTS]).all()


def test_a_pixel_that_a_person_asked_for_is_measured_in_full(survey, spectra):
    from curiosity_bluesky.learning import SteeringRequest

    explorer = explored(survey, of_cycles(spectra), 10)
    explorer.steer(SteeringRequest(0, "add", {"row": 7, "col": 7}))
    [proposal] = explorer.propose()
    assert proposal.reason == "manual" and proposal.dwell == 3.0


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"dwell": 5}, "expected one of 1, 2, 3, 'full' or 'auto'"),
        ({"dwell": "long"}, "expected 'full' or 'auto' or a number"),
        ({"dwell_seconds": None}, "the detector has no dwell setting"),
        ({"dwell_seconds": [[2, 1], [1, 1]]}, "in the order of the settings"),
        ({"dwell_seconds": [[1, -1]]}, "the seconds of a spectrum"),
        ({"name": "random"}, "random does not choose how long"),
        ({"per_second": (1, 1)}, "weighs time already"),
        ({"visit_cost": (-1, 1)}, "0 s or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(parameters, words):
    with pytest.raises(InputError, match=words):
        strategy(**parameters)


def test_a_strategy_with_settings_is_the_same_after_json():
    chosen = strategy(visit_cost=(0.5, 3.0))
    assert Strategy.from_json(chosen.to_json()) == chosen
    assert dataclasses.replace(chosen, dwell=1) != chosen

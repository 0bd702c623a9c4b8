"""One trial: fair to all strategies, blind to what tests it, and the same every time."""

import dataclasses
import json

import numpy as np
import pytest

from curiosity_bluesky.benchmark import Trial, run_trial
from curiosity_bluesky.benchmark.trial import common_area
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Survey, withheld_pixels

ARMS = ["vatsavai2025-latent", "lcmd", "grid", "oracle"]


def trial_of(arm, truth, protocol="shared", seed=0, **given):
    return Trial(
        truth.name, arm.label, arm.strategy, protocol, seed, **{"every": 3, "widest": 5, **given}
    )


def pixels(result, reason=None):
    rows = [row for row in result["decisions"] if reason in (None, row["reason"])]
    return [(row["row"], row["col"]) for row in rows]


@pytest.fixture(scope="module")
def results(truth, arms):
    """Every arm under both protocols and two seeds: (label, protocol, seed) to the result."""
    return {
        (arm.label, protocol, seed): run_trial(truth, trial_of(arm, truth, protocol, seed))
        for arm in arms(*ARMS)
        for protocol in ("shared", "own")
        for seed in (0, 1)
    }


def test_shared_seeds_are_the_same_distinct_pixels_for_all(results):
    for seed in (0, 1):
        found = [
            pixels(r, "seed") for (_, p, s), r in results.items() if (p, s) == ("shared", seed)
        ]
        assert all(seeds == found[0] for seeds in found)
        assert len(set(found[0])) == 5
    first, second = (pixels(results["lcmd", "shared", seed], "seed") for seed in (0, 1))
    assert first != second


def test_own_seeds_are_the_strategys_own(results, truth, arms):
    for arm in arms("vatsavai2025-latent", "grid"):
        result = run_trial(truth, trial_of(arm, truth, "own"))
        mask = withheld_pixels(truth.mask.shape, 0.2) | ~common_area(truth.mask.shape, 5)
        explorer = Explorer(Survey(truth.channels, truth.x, truth.y, mask), arm.strategy)
        expected = [proposal.pixel for proposal in explorer.propose(5)]
        assert pixels(result)[:5] == expected
        assert expected != pixels(results[arm.label, "shared", 0])[:5]


def test_withheld_pixels_and_the_rim_are_never_measured(results, truth):
    withheld = withheld_pixels(truth.mask.shape, 0.2)
    assert 0.1 < withheld.mean() < 0.3
    for result in results.values():
        measured = pixels(result)
        assert len(set(measured)) == len(measured) == 12
        assert not any(withheld[pixel] for pixel in measured)
        assert all(2 <= row < 14 and 2 <= col < 12 for row, col in measured)


def test_masked_pixels_are_never_measured(truth, arms):
    masked = dataclasses.replace(truth, mask=np.arange(16)[:, None] % 2 + np.zeros((1, 14)) > 0)
    for arm in arms("grid", "lcmd"):
        assert not any(row % 2 for row, _ in pixels(run_trial(masked, trial_of(arm, masked))))


def test_all_patch_sizes_have_the_same_candidates_and_are_scored_on_the_same_pixels(truth, arms):
    free = ~withheld_pixels(truth.mask.shape, 0.2) & common_area(truth.mask.shape, 7)
    everywhere = {tuple(p) for p in np.argwhere(free).tolist()}
    for size in (1, 4, 7):
        given = {"points": len(everywhere), "patch_size": size, "refit_every": 500}
        [arm] = arms("random", **given)
        result = run_trial(truth, trial_of(arm, truth, widest=7, every=1000))
        assert set(pixels(result)) == everywhere
        assert [score["n_observed"] for score in result["scores"]] == [5, len(everywhere)]


def test_scores_come_after_the_seeds_so_often_and_at_the_end(results, truth, arms):
    for result in results.values():
        assert [score["n_observed"] for score in result["scores"]] == [5, 6, 9, 12]
    [arm] = arms("random", points=11)
    result = run_trial(truth, trial_of(arm, truth, every=4))
    assert [score["n_observed"] for score in result["scores"]] == [5, 8, 11]


def test_scores_are_the_errors_on_the_pixels_that_were_never_offered(results, truth, arms):
    arm = arms("lcmd")[0]
    result = results["lcmd", "shared", 1]
    area = common_area(truth.mask.shape, 5)
    withheld = withheld_pixels(truth.mask.shape, 0.2)
    survey = Survey(truth.channels, truth.x, truth.y, withheld | ~area)
    explorer = Explorer(survey, arm.strategy, 1)
    for number, pixel in enumerate(pixels(result)):
        explorer.observe(Observation(pixel, truth.spectra[pixel], decision_id=number))
    error = np.mean((explorer.predict().spectra - truth.spectra) ** 2, axis=2)
    spread = np.mean((truth.spectra[area] - truth.spectra[area].mean(axis=0)) ** 2)
    last = result["scores"][-1]
    assert last["test_nmse"] == pytest.approx(error[withheld & area].mean() / spread, rel=1e-6)
    hidden = area.copy()
    hidden[tuple(np.transpose(pixels(result)))] = False
    assert last["hidden_nmse"] == pytest.approx(error[hidden].mean() / spread, rel=1e-6)
    assert last["published_score"] == pytest.approx(error[area].sum(), rel=1e-6)
    assert last["worst_ten"] == pytest.approx(np.sort(error[area])[-10:].mean(), rel=1e-6)


def test_the_error_before_is_that_of_the_last_scored_prediction(truth, arms):
    arm = arms("grid")[0]
    result = run_trial(truth, trial_of(arm, truth, every=1))
    rows = result["decisions"]
    assert [row["error_before"] for row in rows[:5]] == [None] * 5
    explorer = Explorer(Survey(truth.channels, truth.x, truth.y), arm.strategy)
    for number, pixel in enumerate(pixels(result)[:9]):
        explorer.observe(Observation(pixel, truth.spectra[pixel], decision_id=number))
    pixel = pixels(result)[9]
    error = np.mean((explorer.predict().spectra[pixel] - truth.spectra[pixel]) ** 2)
    assert rows[9]["error_before"] == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("k", range(len(ARMS)))
def test_a_trial_gives_the_same_numbers_again(k, results, truth, arms):
    arm = arms(*ARMS)[k]
    again = run_trial(truth, trial_of(arm, truth, "own", 1))
    once = json.loads(json.dumps(results[arm.label, "own", 1]))
    again = json.loads(json.dumps(again))
    for result in (once, again):
        for row in result["decisions"]:
            assert row.pop("seconds") >= 0
    assert once == again


def test_a_key_stands_for_all_that_a_trial_depends_on(truth, arms):
    [arm] = arms("random")
    trial = trial_of(arm, truth)
    other = dataclasses.replace(truth, spectra=truth.spectra + 1e-9)
    keys = [
        trial.key(truth),
        trial.key(other),
        trial.key(dataclasses.replace(truth, mask=~truth.mask)),
        *(
            dataclasses.replace(trial, **change).key(truth)
            for change in (
                {"seed": 1}, {"protocol": "own"}, {"every": 4}, {"withhold": 0.3}, {"widest": 7},
                {"strategy": arm.strategy.replace(budget=13)},
                {"strategy": arm.strategy.replace(patch_size=3)},
            )
        ),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert trial_of(arm, truth).key(dataclasses.replace(truth)) == keys[0]


def test_a_batch_is_never_more_than_the_budget_leaves(truth, arms):
    [arm, *_] = arms("variance", batch=5)
    result = run_trial(truth, trial_of(arm, truth, every=1))
    assert len(result["decisions"]) == 12
    assert [score["n_observed"] for score in result["scores"]] == [5, 10, 12]


@pytest.mark.parametrize(
    ("given", "said"),
    [({"widest": 15}, "patch of 15 does not fit into the 16 x 14"), ({"withhold": 1}, "withhold")],
)
def test_a_trial_that_cannot_be_is_refused(truth, arms, given, said):
    [arm] = arms("random")
    with pytest.raises(InputError, match=said):
        run_trial(truth, trial_of(arm, truth, **given))


def test_more_shared_seeds_than_pixels_are_refused(truth, arms):
    [arm] = arms("random", points=400, n_seeds=400)
    with pytest.raises(InputError, match="400 points are asked for"):
        run_trial(truth, trial_of(arm, truth))

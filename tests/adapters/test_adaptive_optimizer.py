"""The optimiser has the shape that bluesky-adaptive wants, and is the explorer behind it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from support import few

from curiosity_bluesky.adapters.bluesky_adaptive import CuriosityOptimizer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Observation, Strategy, Survey
from sim_devices import SyntheticSample

SAMPLE = SyntheticSample((16, 14), seed=1, points=16)
SURVEY = Survey(dict(SAMPLE.images), SAMPLE.x, SAMPLE.y)
NAMES = ("stage_x", "stage_y")
SCORES = ("predicted_error", "novelty", "uncertainty", "acquisition", "exploration_weight")


def optimizer(name="curious", path=None, survey=SURVEY, seed=0, **parameters):
    strategy = Strategy.named(name, **few(name, **parameters))
    return CuriosityOptimizer(Explorer(survey, strategy, seed), NAMES, path)


def spectrum(suggestion):
    return SAMPLE.spectra["response"][suggestion["row"], suggestion["col"]]


def measured(suggestions, **more):
    return [{"_id": s["_id"], "spectrum": spectrum(s), **more} for s in suggestions]


def steps(asked, n, num_points=1):
    """Go on for some steps; return what was suggested and why, every digit of it."""
    facts = []
    for _ in range(n):
        suggestions = asked.suggest(num_points)
        for s in suggestions:
            scores = [repr(getattr(s.proposal, score)) for score in SCORES]
            expected = s.proposal.predicted_spectrum
            facts.append([dict(s), scores, None if expected is None else expected.tobytes()])
        asked.ingest(measured(suggestions))
    return facts


def test_it_has_the_shape_of_all_their_protocols():
    protocols = pytest.importorskip("bluesky_adaptive.protocols")
    for name in (
        "Optimizer",
        "SupportsStoppingCriteria",
        "Checkpointable",
        "CanRegisterSuggestions",
        "TrialFaultAware",
    ):
        assert isinstance(optimizer(), getattr(protocols, name)), name


def test_a_suggestion_is_json_with_the_pixels_position_and_the_reason():
    asked = optimizer()
    facts = steps(asked, 6)
    for suggestion, *_ in facts:
        assert json.loads(json.dumps(suggestion)) == suggestion
        pixel = suggestion["row"], suggestion["col"]
        assert (suggestion["stage_x"], suggestion["stage_y"]) == SURVEY.position(pixel)
        # Whatever is a float, their plans take for a motor.
        assert [k for k, v in suggestion.items() if isinstance(v, float)] == list(NAMES)
    assert [s["reason"] for s, *_ in facts] == ["seed"] * 4 + ["curious"] * 2
    assert [s["_id"] for s, *_ in facts] == list(range(6))


def test_it_suggests_what_the_explorer_proposes():
    explorer = Explorer(SURVEY, Strategy.named("curious", **few("curious")), 3)
    for suggestion, *_ in steps(optimizer(seed=3), 8):
        [proposal] = explorer.propose()
        assert proposal.pixel == (suggestion["row"], suggestion["col"])
        point = {"row": proposal.pixel[0], "col": proposal.pixel[1]}
        explorer.observe(
            Observation(proposal.pixel, spectrum(point), decision_id=proposal.decision_id)
        )


def test_what_was_thought_of_ahead_is_what_is_suggested():
    ahead, asked = optimizer(), optimizer()
    found = []
    for n in (1, 3, 1, 2, 4):
        ahead.think(2)
        found.append([ahead.suggest(n), asked.suggest(n)])
        for one, other in zip((ahead, asked), found[-1], strict=True):
            one.ingest(measured(other))
    # With two thought of, a third that is asked for is decided knowing no more.
    assert [dict(s) for s in found[0][0]] == [dict(s) for s in found[0][1]]
    ids = [s["_id"] for pair in found for s in pair[0]]
    assert ids == list(range(11)) and not ahead.pending()


def test_it_stops_at_the_budget_and_says_why():
    asked = optimizer(budget=5)
    assert asked.should_stop() == (False, "0 of 5 spectra measured")
    steps(asked, 5)
    assert asked.should_stop() == (True, "budget: 5 of 5 spectra measured")


def test_without_a_pixel_left_it_says_so():
    mask = np.ones(SURVEY.shape, bool)
    mask[4:6, 4:6] = False
    small = Survey(dict(SAMPLE.images), SAMPLE.x, SAMPLE.y, mask)
    asked = optimizer("random", survey=small)
    suggestions = asked.suggest(3)
    assert len(asked.suggest(3)) == 1  # all there are
    asked.ingest(measured(suggestions))
    with pytest.raises(InputError, match="no pixel is left.*of 1 suggestions the outcome"):
        asked.suggest()


# ---- what comes in


def test_the_same_outcome_counts_once():
    asked = optimizer()
    [suggestion] = asked.suggest()
    for _ in range(2):
        asked.ingest(measured([suggestion]))
    assert asked.explorer.n_observed == 1 and len(asked.explorer.observations) == 1


def test_a_useless_spectrum_is_not_learned_from_and_not_waited_for():
    asked = optimizer()
    first, second = asked.suggest(2)
    asked.ingest([{"_id": first["_id"], "spectrum": np.full(16, np.nan), "quality": 0.0}])
    asked.ingest(measured([second]))
    assert asked.explorer.n_observed == 1
    assert asked.pending() == []


def test_a_spectrum_that_nobody_suggested_counts_at_its_pixel():
    asked = optimizer()
    x, y = SURVEY.position((7, 5))
    point = {"stage_x": x + 0.004, "stage_y": y - 0.004}
    asked.ingest([{**point, "_id": "baseline", "spectrum": SAMPLE.spectra["response"][7, 5]}])
    assert [o.pixel for o in asked.explorer.observations] == [(7, 5)]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"_id": 0, "quality": 1.0}, "outcome of _id 0 has no spectrum, only _id, quality"),
        ({"_id": 9, "spectrum": np.zeros(16)}, "_id 9 was not suggested here, and its position"),
        ({"stage_x": 9.0, "stage_y": 0.1, "spectrum": np.zeros(16)}, "stage_x = 9 um is outside"),
        ({"_id": [1], "spectrum": np.zeros(16)}, r"_id \[1\] was not suggested here"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_taken_in(point, said):
    asked = optimizer()
    [suggestion] = asked.suggest()
    with pytest.raises(InputError, match=said):
        asked.ingest([*measured([suggestion]), point])
    assert asked.explorer.n_observed == 0
    asked.ingest(measured([suggestion]))
    assert asked.explorer.n_observed == 1


# ---- points of one's own, and failures


def test_points_of_ones_own_are_decisions_at_the_nearest_pixel():
    asked = optimizer()
    x, y = SURVEY.position((7, 5))
    ours = asked.register_suggestions([{"stage_x": x + 0.009, "stage_y": y - 0.009, "_id": "mine"}])
    assert [(s["row"], s["col"], s["reason"]) for s in ours] == [(7, 5, "manual")]
    assert (ours[0]["stage_x"], ours[0]["stage_y"]) == (x, y)
    [decision] = asked.explorer.decisions
    assert decision.reason == "manual" and decision.decision_id == ours[0]["_id"]
    # A suggestion that is handed back stays what it is.
    [suggestion] = asked.suggest()
    assert asked.register_suggestions([dict(suggestion)]) == [suggestion]
    assert len(asked.explorer.decisions) == 2
    # Measured, it may be asked for again.
    asked.ingest(measured(ours))
    [again] = asked.register_suggestions(ours)
    assert again["_id"] == 2 and (again["row"], again["col"]) == (7, 5)
    asked.ingest(measured([again]))
    assert asked.explorer.n_observed == 2


def test_points_outside_or_masked_are_refused_together():
    mask = np.zeros(SURVEY.shape, bool)
    mask[7, 5] = True
    asked = optimizer(survey=Survey(dict(SAMPLE.images), SAMPLE.x, SAMPLE.y, mask))
    good = dict(zip(NAMES, SURVEY.position((3, 3)), strict=True))
    masked = dict(zip(NAMES, SURVEY.position((7, 5)), strict=True))
    for bad, said in (
        ({"stage_x": -1.0, "stage_y": 0.0}, r"stage_x = -1 um is outside the survey; expected"),
        (masked, r"pixel \(7, 5\) is masked"),
        ({"stage_x": 0.0}, "expected the position .um. as stage_x and stage_y, got stage_x"),
    ):
        with pytest.raises(InputError, match=said):
            asked.register_suggestions([good, bad])
    assert asked.explorer.decisions == []


def test_failures_give_the_pixels_back_and_keep_what_was_measured():
    asked = optimizer()
    suggestions = asked.suggest(3)
    asked.ingest(measured(suggestions[:1]))
    asked.register_failures(suggestions)
    assert asked.pending() == [] and asked.explorer.n_observed == 1
    assert not asked.explorer.pending
    with pytest.raises(InputError, match="nothing was suggested here as _id 17"):
        asked.register_failures([{"_id": 17}])
    steps(asked, 4)
    assert asked.explorer.n_observed == 5


# ---- best points


def test_the_best_points_are_those_that_were_the_greatest_surprise():
    asked = optimizer()
    with pytest.raises(InputError, match="none was a surprise; ask again after the seeds"):
        asked.get_best_points()
    facts = steps(asked, 12)
    errors = {}
    for suggestion, _, expected in facts:
        if expected is not None:
            difference = np.frombuffer(expected) - spectrum(suggestion)
            errors[suggestion["_id"]] = np.mean(difference**2)
    order = sorted(errors, key=errors.__getitem__, reverse=True)
    best = asked.get_best_points(3)
    assert [number for number, *_ in best] == order[:3]
    for number, parameters, outcome in best:
        assert outcome["prediction_error"] == pytest.approx(errors[number])
        assert parameters == facts[number][0]
    assert asked.get_best_points() == best[:1]


# ---- checkpoints


@pytest.mark.quick("curious", "random")
@pytest.mark.parametrize("name", ["curious", "random", "vatsavai2025-latent"])
def test_one_that_was_restored_goes_on_bit_for_bit(name, tmp_path):
    path = tmp_path / "new" / "run.checkpoint"
    asked = optimizer(name, path)
    for n in (2, 3, 4):  # among the seeds, after them, and later
        steps(asked, n)
        asked.checkpoint()
        restored = CuriosityOptimizer.from_checkpoint(path)
        assert restored.checkpoint_path == path
        assert steps(restored, 2) == steps(asked, 2)
        assert restored.should_stop() == asked.should_stop()
    if name == "curious":
        assert restored.get_best_points(5) == asked.get_best_points(5)


def test_all_that_happened_is_in_the_checkpoint(tmp_path):
    path = tmp_path / "run.checkpoint"
    asked = optimizer(path=path)
    steps(asked, 2, num_points=3)
    x, y = SURVEY.position((7, 5))
    asked.ingest(measured(asked.register_suggestions([{"stage_x": x, "stage_y": y}])))
    failed = asked.suggest()
    asked.register_failures(failed)
    lost = asked.suggest(2)  # of which nobody will say what came of them
    asked.think(2)
    asked.checkpoint()
    restored = CuriosityOptimizer.from_checkpoint(path)
    assert restored.pending() == lost == asked.pending()
    assert [d.reason for d in restored.explorer.decisions].count("manual") == 1
    assert restored.get_best_points(3) == asked.get_best_points(3)
    handed_out = [steps(one, 2) for one in (restored, asked)]
    assert handed_out[0] == handed_out[1]
    # The error of a prediction that was pending is known afterwards as well.
    for one in (restored, asked):
        one.ingest(measured(one.pending()))
    assert restored.get_best_points(20) == asked.get_best_points(20)
    assert steps(restored, 2) == steps(asked, 2)


def test_a_checkpoint_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "run.checkpoint"
    asked = optimizer(path=path)
    steps(asked, 1)
    asked.checkpoint()
    before = path.read_bytes()
    steps(asked, 1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", killed)
        asked.checkpoint()
    assert path.read_bytes() == before
    assert CuriosityOptimizer.from_checkpoint(path).explorer.n_observed == 1
    asked.checkpoint()
    assert CuriosityOptimizer.from_checkpoint(path).explorer.n_observed == 2
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file was named to write a checkpoint to"):
        optimizer().checkpoint()
    with pytest.raises(InputError, match="no checkpoint can be read from"):
        CuriosityOptimizer.from_checkpoint(tmp_path / "none")
    other = tmp_path / "other"
    other.write_bytes(b"\x81\xa1a\x01")
    with pytest.raises(InputError, match="is no checkpoint of CuriosityOptimizer"):
        CuriosityOptimizer.from_checkpoint(other)
    with pytest.raises(InputError, match="cannot be written to"):
        optimizer(path=other / "below").checkpoint()


def test_two_different_actuators_are_needed():
    for names in ("stage_x", ("stage_x",), ("stage_x", "stage_x")):
        with pytest.raises(InputError, match="expected the names of two"):
            CuriosityOptimizer(Explorer(SURVEY, "random"), names)


@pytest.mark.slow
def test_it_needs_no_bluesky_adaptive():
    code = """
import sys
sys.modules["bluesky_adaptive"] = None  # as if it were not installed
import numpy as np
from curiosity_bluesky.adapters.bluesky_adaptive import CuriosityOptimizer, optimization_problem
from curiosity_bluesky.learning import Explorer, Strategy, Survey
survey = Survey({"a": np.random.default_rng(0).random((9, 9))})
asked = CuriosityOptimizer(Explorer(survey, Strategy.named("random", patch_size=3)))
asked.ingest([{**s, "spectrum": np.arange(4.0)} for s in asked.suggest(2)])
assert asked.explorer.n_observed == 2
try:
    optimization_problem(survey, None, None, [])
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "curiosity-bluesky[adaptive]"' in done.stdout


def test_nan_scores_are_numbers():
    assert math.isnan(optimizer("random").suggest()[0].proposal.predicted_error)

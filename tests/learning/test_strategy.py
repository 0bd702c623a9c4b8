"""Strategies: by name, checked, JSON both ways, and one's own beside ours."""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy, register, registry
from curiosity_bluesky.learning.acquisition import RandomPixel
from curiosity_bluesky.learning.records import Scores


def test_json_round_trip(name):
    fields = {field.name for field in dataclasses.fields(Strategy.named(name))}
    given = {"image_limits": (-1, 1), "start_epochs": 7, "outputs": 3, "space": "patch"}
    given = {key: value for key, value in given.items() if key in fields}
    strategy = Strategy.named(name, budget=40, **given)
    text = strategy.to_json()
    assert Strategy.from_json(text) == strategy
    assert Strategy.from_json(json.dumps(json.loads(text))).to_json() == text
    assert Strategy.named(name, **json.loads(json.dumps(strategy.parameters))) == strategy
    assert strategy.replace(budget=None) == strategy.replace(budget=12).replace(budget=None)


def test_every_strategy_has_a_name_and_defaults(name):
    strategy = Strategy.named(name)
    assert strategy.name == name
    assert set(strategy.parameters) == {f.name for f in dataclasses.fields(strategy)}


def test_the_published_defaults():
    """LEARNING.md, section 1, number by number."""
    assert Strategy.named("vatsavai2025-latent").parameters == {
        "patch_size": 9,
        "rim": "omit",
        "n_seeds": 30,
        "min_quality": 0.5,
        "budget": None,
        "batch": 1,
        "max_per_area": None,
        "per_second": None,
        "dwell": "full",
        "dwell_seconds": None,
        "visit_cost": (0.0, 1e12),
        "autoencoder_latent": 3,
        "autoencoder_epochs": 30,
        "autoencoder_seed": None,
        "seeding": "kmeans",
        "latent": 2,
        "dropout": 0.5,
        "start_epochs": 150,
        "update_epochs": 2,
        "error_start_epochs": 60,
        "error_update_epochs": 20,
        "rate": 2.0,
        "random_share": 0.1,
        "best": 10,
        "image_limits": None,
        "spectrum_limits": None,
    }


def test_random_has_the_same_predictor_as_the_published_one():
    published = Strategy.named("vatsavai2025-latent", latent=3, image_limits=(0, 1), n_seeds=7)
    twin = published.random_baseline().parameters
    for parameter in ("latent", "dropout", "start_epochs", "update_epochs", "image_limits"):
        assert twin[parameter] == published.parameters[parameter]
    assert (twin["predictor"], twin["n_seeds"]) == ("im2spec", 7)


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(InputError, match="Did you mean 'vatsavai2025-latent'") as caught:
        Strategy.named("vatsavai2025_latent")
    assert all(known in str(caught.value) for known in Strategy.names())
    with pytest.raises(InputError, match="random") as caught:
        Strategy.named("zzzz")
    assert "Did you mean" not in str(caught.value)


def test_an_unknown_parameter_is_answered_with_those_there_are(name):
    for attempt in (Strategy.named(name).replace, lambda **k: Strategy.named(name, **k)):
        with pytest.raises(InputError, match="no parameter 'patchsize'.*patch_size"):
            attempt(patchsize=3)


@pytest.mark.parametrize("value", ["5", True, 2.5, None, [5], float("inf"), float("nan"), 5j])
def test_whole_numbers_are_whole_numbers(name, value):
    with pytest.raises(InputError, match="patch_size is .*; expected a whole number"):
        Strategy.named(name, patch_size=value)


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ("patch_size", 0, "expected 1 or more"),
        ("n_seeds", -2, "expected 1 or more"),
        ("budget", 0, "expected 1 or more"),
        ("budget", "all", "a whole number or nothing"),
        ("dropout", "0.5", "expected a number"),
        ("dropout", False, "expected a number"),
        ("dropout", 1.0, "expected 0 to less than 1"),
        ("dropout", -0.1, "expected 0 to less than 1"),
        ("latent", 0, "expected 1 or more"),
        ("start_epochs", -3, "expected 1 or more"),
        ("image_limits", 5, "2 numbers or nothing"),
        ("image_limits", (0, 1, 2), "2 numbers or nothing"),
        ("image_limits", ("a", "b"), "2 numbers or nothing"),
        ("image_limits", (1, -1), "the smaller one first"),
        ("spectrum_limits", (1, 1), "the smaller one first"),
        ("spectrum_limits", (0, float("inf")), "finite"),
        ("seeding", "grid", "'kmeans' or 'random'"),
        ("best", 0, "expected 1 or more"),
        ("random_share", 1.5, "expected 0 to 1"),
        ("rate", -1, "expected 0 or more"),
        ("autoencoder_latent", 0, "expected 1 or more"),
    ],
)
def test_values_that_cannot_be_used_are_refused(parameter, value, said):
    with pytest.raises(InputError, match=f"vatsavai2025-latent.*|points.*{said}") as caught:
        Strategy.named("vatsavai2025-latent", **{parameter: value})
    assert said in str(caught.value)


def test_numbers_of_other_kinds_that_lose_nothing_are_taken(name):
    strategy = Strategy.named(name, patch_size=np.int64(5), n_seeds=4.0)
    assert strategy == Strategy.named(name, patch_size=5, n_seeds=4)
    assert json.loads(strategy.to_json())["parameters"]["patch_size"] == 5


def test_a_pair_is_a_pair_whatever_holds_it():
    assert Strategy.named("random", image_limits=[-1, 1]) == Strategy.named(
        "random", image_limits=(-1.0, 1.0)
    )


def test_every_twin_chooses_at_random_and_keeps_the_rest(name):
    strategy = Strategy.named(name, patch_size=5, n_seeds=4, budget=9)
    twin = strategy.random_baseline()
    if name == "theory":  # random pixels come without one
        assert twin is None
        return
    assert twin is not None
    assert twin.name == "random" or twin.parameters["random"] is True
    assert (twin.patch_size, twin.n_seeds, twin.budget) == (5, 4, 9)
    assert twin.random_baseline() == twin
    if "start_epochs" in strategy.parameters and name.startswith("vatsavai2025"):
        assert twin.parameters["predictor"] == "im2spec"
    if strategy.parameters.get("outputs"):
        assert twin.parameters["predictor"] == "gp"


class FromTheTop:
    """A learner that knows nothing and goes row by row: the least that an explorer needs."""

    model_version = 0

    def __init__(self, allowed):
        self._allowed = allowed

    def seeds(self, n):
        return np.flatnonzero(self._allowed)[:n]

    def score(self, observed):
        return Scores(acquisition=-np.arange(len(self._allowed), dtype=float))

    def choose(self, scores, available, n, rng):
        if scores is None:
            return RandomPixel()(np.zeros(len(available)), available, n, rng)
        best = np.flatnonzero(available)[:n]
        return [(int(index), "curious") for index in best]

    def predict(self, observed, indices=None):
        n = len(self._allowed) if indices is None else len(indices)
        return np.tile(np.nanmean(observed.spectra, axis=0), (n, 1))

    def take_trainings(self):
        return []


def test_a_strategy_of_ones_own_runs_in_an_explorer(monkeypatch, survey, drive, spectra):
    monkeypatch.setattr(registry, "_REGISTERED", {})  # one that the other tests do not see

    @register
    @dataclass(frozen=True, kw_only=True)
    class Mine(Strategy):
        name: ClassVar[str] = "mine"
        patch_size: int = 3
        n_seeds: int = 2
        slope: float = 1.0

        def build(self, patches, budget, seed, on_epoch):
            return FromTheTop(patches.allowed)

    strategy = Strategy.named("mine", budget=7, slope=2)
    assert Strategy.from_json(strategy.to_json()) == strategy
    assert "mine" in Strategy.names()
    explorer = drive(Explorer(survey, strategy))
    assert [d.pixel for d in explorer.decisions] == [(0, col) for col in range(7)]
    assert [d.reason for d in explorer.decisions] == ["seed"] * 2 + ["curious"] * 5
    expected = spectra[0, :7].mean(axis=0)
    assert np.allclose(explorer.predict().spectra[6, 6], expected)


def test_a_strategy_without_a_build_method_says_so(survey):
    @dataclass(frozen=True, kw_only=True)
    class Empty(Strategy):
        name: ClassVar[str] = "empty"

    with pytest.raises(TypeError, match="Empty has no build method"):
        Explorer(survey, Empty())

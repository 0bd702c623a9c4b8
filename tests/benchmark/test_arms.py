"""The arms: how strategies are written down, grouped, named and given a twin."""

import pytest

from curiosity_bluesky.benchmark import arms_from
from curiosity_bluesky.benchmark.arms import parse, settings, split
from curiosity_bluesky.cli._benchmark import run_benchmark
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy


def labels(*texts, **given):
    return [arm.label for arm in arms_from(texts, points=60, **given)]


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("grid", "grid", {}),
        (" farthest[space=patch] ", "farthest", {"space": "patch"}),
        ("a[b=1,c=0.5,d=true,e=null]", "a", {"b": 1, "c": 0.5, "d": True, "e": None}),
        ("a[limits=[-1, 1],n=3]", "a", {"limits": [-1, 1], "n": 3}),
        ("film.npy[image=25,spectra=49:]", "film.npy", {"image": 25, "spectra": "49:"}),
    ],
)
def test_a_name_and_its_parameters_are_read(text, name, parameters):
    assert parse(text) == (name, parameters)


@pytest.mark.parametrize("text", ["", "grid[", "grid]", "[a=1]", "grid[a=1]b", "two words"])
def test_what_has_another_form_is_refused(text):
    with pytest.raises(InputError, match="cannot be read; expected NAME"):
        parse(text)


@pytest.mark.parametrize("text", ["grid[5]", "grid[=5]"])
def test_a_parameter_without_a_name_or_value_is_refused(text):
    with pytest.raises(InputError, match="is not NAME=VALUE"):
        parse(text)


def test_a_value_is_json_or_else_a_word():
    assert settings(["a=1", "b=x", 'c="1"', "d=a=b", "e=[1,2]"]) == {
        "a": 1, "b": "x", "c": "1", "d": "a=b", "e": [1, 2],
    }  # fmt: skip


def test_commas_inside_of_brackets_do_not_separate():
    assert split("a,b[c=1,d=[2,3]], e ,") == ["a", "b[c=1,d=[2,3]]", "e"]


def test_a_group_stands_for_its_strategies():
    assert labels("baselines")[:8] == [
        "random", "grid", "sobol", "farthest", "farthest[space=patch]", "lcmd", "variance", "dkl",
    ]  # fmt: skip
    assert labels("oracles")[:2] == ["oracle", "oracle[smoothing=0]"]
    assert labels("published")[:4] == [
        f"vatsavai2025-{name}" for name in ("latent", "mcd", "spec2im", "ensemble")
    ]


def test_a_label_says_what_is_not_default_and_not_what_all_have():
    common = {"refit_every": 7}
    assert labels("lcmd[outputs=3]", "lcmd", patch_size=5, common=common)[:2] == [
        "lcmd[outputs=3]", "lcmd",
    ]  # fmt: skip
    assert labels("vatsavai2025-ensemble[beta=0]")[0] == "vatsavai2025-ensemble[beta=0]"


def test_a_label_can_be_typed_again():
    for label in labels("published", "baselines", "oracles", "vatsavai2025-ensemble[beta=0.25]"):
        assert labels(label)[0] == label


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("vatsavai2025-latent", "random[predictor=im2spec]"),
        ("vatsavai2025-mcd", "random[predictor=im2spec]"),
        ("vatsavai2025-ensemble", "vatsavai2025-ensemble[random=true]"),
        ("lcmd", "random"),
        ("dkl", "random"),
        ("grid[predictor=im2spec]", "random[predictor=im2spec]"),
        ("random", "random"),
    ],
)
def test_every_strategy_brings_its_twin_once(text, twin):
    arms = {arm.label: arm for arm in arms_from([text, text], points=60)}
    assert arms[text].twin == twin and set(arms) == {text, twin}
    ours, theirs = arms[text].strategy, arms[twin].strategy
    for common in ("patch_size", "n_seeds", "budget"):
        assert getattr(ours, common) == getattr(theirs, common)


def test_all_arms_have_the_points_the_seeds_and_the_patch_of_the_benchmark():
    for arm in arms_from(["published", "baselines"], points=44, n_seeds=11, patch_size=7):
        strategy = arm.strategy
        assert (strategy.budget, strategy.n_seeds, strategy.patch_size) == (44, 11, 7)


def test_with_own_patches_each_strategy_keeps_its_own_and_none_is_lost():
    arms = arms_from(
        ["random", "random[patch_size=3]", "vatsavai2025-ensemble"], points=44, patch_size=None
    )
    sizes = {arm.label: arm.strategy.patch_size for arm in arms}
    assert sizes["random"] == 9 and sizes["vatsavai2025-ensemble"] == 16
    assert sizes["random[patch_size=3]"] == 3


def test_a_common_parameter_goes_to_all_that_have_it():
    arms = arms_from(["lcmd", "vatsavai2025-latent"], points=40, common={"outputs": 4})
    found = {arm.label: arm.strategy.parameters.get("outputs") for arm in arms}
    assert found["lcmd"] == 4 and found["random"] == 4
    assert found["vatsavai2025-latent"] is None


def test_baselines_are_what_anybody_could_do_without_curiosity():
    arms = arms_from(["published", "baselines", "oracles"], points=40)
    assert {arm.label for arm in arms if not arm.is_baseline} == {
        *labels("published")[:4], "vatsavai2025-ensemble[random=true]", *labels("oracles")[:2],
    }  # fmt: skip


def test_a_strategy_itself_is_an_arm_too():
    [arm, twin] = arms_from([Strategy.named("variance", outputs=3)], points=40)
    assert arm.label == "variance[outputs=3]" and arm.strategy.budget == 40
    assert twin.label == "random[outputs=3]" == arm.twin


@pytest.mark.parametrize(
    ("texts", "given", "said"),
    [
        (["gird"], {}, "Did you mean 'grid'"),
        (["grid[space=patch]"], {}, "no parameter 'space'"),
        (["grid[outputs=0]"], {}, "expected 1 or more"),
        (["grid"], {"common": {"passes": 3}}, "no strategy has a parameter passes"),
        (["grid"], {"patch_size": 0}, "patch_size is 0"),
        (["grid"], {"n_seeds": 0}, "n_seeds is 0"),
    ],
)
def test_what_cannot_be_is_refused(texts, given, said):
    with pytest.raises(InputError, match=said):
        arms_from(texts, points=40, **given)


def test_no_points_are_refused():
    with pytest.raises(InputError, match="number of points is 0"):
        arms_from(["grid"], points=0)


def test_a_strategy_is_refused_before_a_sample_is_opened(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("curiosity_bluesky.cli._benchmark.open_sample", opened.append)
    with pytest.raises(InputError, match="Did you mean 'grid'"):
        run_benchmark(
            samples="film", strategies="gird", points=40, seeds=1, protocols="shared",
            n_seeds=None, patch_size="9", every=5, withhold=0.2, common=(), out=tmp_path,
            workers=None, scheduler=None, report_only=False, command="",
        )  # fmt: skip
    assert not opened

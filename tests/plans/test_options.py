"""Options of the plan: what is taken, what is refused and how, and the schema."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy, Survey
from curiosity_bluesky.plans import DriftCorrection, RunOptions, SafetyLimits
from curiosity_bluesky.plans.options import (
    PlanParameters,
    expected_of,
    fields,
    groups,
    plan_schema,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (RunOptions, {"retries": -1}, "retries is -1; expected a whole number, 0 or more"),
        (RunOptions, {"retries": True}, "retries is True; expected a whole number"),
        (RunOptions, {"retries": 2.5}, "retries is 2.5; expected a whole number"),
        (RunOptions, {"timeout": math.nan}, "timeout is nan; expected seconds, 0.001 or more"),
        (RunOptions, {"timeout": "9"}, "timeout is '9'; expected seconds"),
        (RunOptions, {"withhold": 1}, "a share, 0 or more and less than 1"),
        (RunOptions, {"mask": [[1], [1, 2]]}, r"mask is [[1], [1, 2]]; expected (rows, cols)"),
        (RunOptions, {"per_second": 1}, "per_second is 1; expected True or False"),
        (RunOptions, {"parameters": 3}, "parameters is 3; expected values by name"),
        (RunOptions, {"retry_wai": 1}, "options has no field 'retry_wai'"),
        (RunOptions, {"retry_wai": 1}, "Did you mean 'retry_wait'?"),
        (RunOptions, {"max_bias": 1}, "options has no field 'max_bias'; give safety={'max_bias'"),
        (RunOptions, {"n_seeds": 4}, "in options={'parameters': {'n_seeds': ...}}."),
        (RunOptions, {"start_epochs": 4}, "in options={'parameters': {'start_epochs': ...}}."),
        (RunOptions, {"n_seds": 4}, "{'n_seds': ...}}. Did you mean 'n_seeds'?"),
        (RunOptions, {"seed": 4}, "options has no field 'seed'; it is one of the plan: give seed="),
        (SafetyLimits, {"patch_size": 4}, "in options={'parameters': {'patch_size': ...}}."),
        (RunOptions, {"retries": -1, "timeout": 0}, "; timeout is 0; expected"),
        (RunOptions, [1], "options is [1]; expected RunOptions, or a dict of its fields"),
        (RunOptions, {1: 2}, "options is {1: 2}; expected RunOptions"),
        (RunOptions, SafetyLimits(), "expected RunOptions"),
        (SafetyLimits, {"max_bias": -1}, "max_bias is -1; expected volts, 0 or more"),
        (SafetyLimits, {"max_per_area": [0, 1]}, "max_per_area is [0, 1]; expected [n, radius]"),
        (DriftCorrection, {"resurvey_minutes": -1}, "expected minutes, 0 or more"),
        (PlanParameters, {"num_points": 0}, "num_points is 0; expected a whole number, 1 or more"),
        (PlanParameters, {"time_budget": 0.0}, "time_budget is 0.0; expected seconds, more than 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(model: Any, given: Any, said: str):
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        model.of(given)
    assert "\n" not in str(refused.value)


def test_numbers_of_numpy_and_of_json_are_taken_as_plain_ones():
    options = RunOptions.of(
        {"retries": np.int64(2), "timeout": np.float32(2), "lookahead": 1.0, "per_second": np.True_}
    )
    assert (options.retries, options.timeout, options.lookahead) == (2, 2.0, 1)
    assert [type(value) for value in (options.retries, options.timeout)] == [int, float]
    assert options.per_second is True
    assert SafetyLimits.of({"max_per_area": [1, 0.5]}).max_per_area == (1, 0.5)
    masked = RunOptions.of({"mask": np.eye(3)}).masked
    assert masked is not None and np.array_equal(masked, np.eye(3, dtype=bool))
    json.dumps(options.model_dump())


def test_a_model_is_frozen_and_changed_by_a_copy():
    options = RunOptions(retries=2)
    with pytest.raises(ValueError, match="frozen"):
        options.retries = 3
    assert options.replace(timeout=5).model_fields_set == {"retries", "timeout"}


@pytest.mark.parametrize("model", groups(), ids=lambda model: model.group)
def test_each_field_has_a_line_of_help_and_says_what_it_expects(model):
    for name, field in fields(model).items():
        assert field.description and "\n" not in field.description, name
        assert expected_of(model, name), name
    assert json.loads(json.dumps(model().model_dump())) == model().model_dump()


def test_the_documentation_has_each_field():
    text = (ROOT / "docs" / "options.md").read_text()
    for model in groups():
        for name, field in fields(model).items():
            line = f"| {expected_of(model, name)} | {field.description} |"
            assert re.search(rf"\| `{name}` \| .* {re.escape(line)}", text), name


def test_the_plan_takes_a_dict_or_a_model_and_says_which_group_is_wrong():
    with pytest.raises(InputError, match="safety has no field 'retries'; give options="):
        next(curiosity_plan([], None, None, None, safety={"retries": 1}))  # pyright: ignore
    with pytest.raises(InputError, match="detectors are"):
        next(curiosity_plan([], None, None, None, options=RunOptions()))  # pyright: ignore


def test_the_schema_has_all_groups_and_the_strategies():
    schema = plan_schema(["curious", "random"])
    assert schema["properties"]["strategy"]["anyOf"][0]["enum"] == ["curious", "random"]
    assert {model.__name__ for model in groups()} == set(schema["$defs"])
    assert schema["$defs"]["RunOptions"]["properties"]["timeout"]["unit"] == "seconds"
    assert "steering" not in schema["$defs"]["RunOptions"]["properties"]
    assert schema["additionalProperties"] is False


def test_the_models_need_neither_torch_nor_bluesky():
    code = (
        "import sys; import curiosity_bluesky.plans.options;"
        "print([m for m in ('torch', 'bluesky', 'tiled', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "parameters", "mask", "said"),
    [
        ("curious", {"patch_size": 20}, False, "patch_size is 20 but the survey has 16 x 14"),
        ("curious", {"budget": 240, "patch_size": 5}, False, "240 points are asked for, but only"),
        ("random", {}, True, "the mask leaves no pixel"),
        ("random", {"per_second": [1, 1]}, False, "per_second is given, but random"),
        ("oracle", {}, False, "true spectra"),
    ],
)
def test_a_strategy_says_of_a_survey_what_cannot_be(name, parameters, mask, said):
    survey = Survey({"height": np.zeros((16, 14))}, mask=np.full((16, 14), mask))
    with pytest.raises(InputError, match=said):
        Strategy.named(name, **parameters).validate(survey)

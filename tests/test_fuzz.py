"""Command lines and plans that nobody should write; by the hundred: fuzz.py."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from fuzz import Counts, fuzz_lines
from fuzz_plans import fuzz_plans, run_plan

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.validation import number, whole_number


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    level = logging.root.manager.disable
    yield
    logging.disable(level)


def test_a_plan_is_refused_in_words_before_anything_moves_or_runs_to_its_end():
    counts = Counts()
    fuzz_plans(15, 3, counts)
    assert counts.good, counts
    assert counts.plans == 15 and counts.worked and counts.refused


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"time_budget": float("nan")}, "time_budget is nan; expected seconds, more than 0"),
        ({"time_budget": np.float64("inf")}, "time_budget is inf"),
        ({"timeout": float("inf")}, "timeout is inf; expected seconds, 0.001 or more and at most"),
        ({"retries": True}, "retries is True; expected a whole number"),
        ({"retries": 1.5}, "retries is 1.5; expected a whole number, 0 or more"),
        ({"retries": 10**30}, "expected a whole number, 0 or more"),
        ({"lookahead": False}, "lookahead is False"),
        ({"seed": "0"}, "seed is '0'"),
        ({"resurvey_minutes": 2 + 3j}, "resurvey_minutes is (2+3j)"),
        ({"x": 3}, "x is 3; expected a device that can be set"),
        ({"detectors": []}, "detectors are []"),
        ({"mask": [[1], [1, 2]]}, "mask is [[1], [1, 2]]; expected (rows, cols)"),
        ({"md": {"sample": 3}}, "md['sample'] cannot be in a start document (3 is not"),
        ({"md": {"hints": []}}, "md['hints'] cannot be in a start document"),
        ({"md": {"uid": "x"}}, "md has 'uid'"),
        ({"md": {"n": 2**70}}, "md['n'] is 1180591620717411303424"),
        ({"md": {"n": {1, 2}}}, "md['n'] is {1, 2} (set), which documents cannot hold"),
        ({"seed": 2**53}, "seed is 9007199254740992; expected a whole number"),
        ({"agent": "x", "dry_run": True}, "'x' is no address of an agent"),
        ({"agent": "tcp://a:1", "agent_lost": "x", "dry_run": True}, "no strategy named 'x'"),
        ({"parameters": {"n_seeds": 10**30}}, "n_seeds is 1000000000000000000000000000000"),
        ({"steering": np.float64(1)}, "steering is 1.0"),
    ],
)
def test_a_wrong_argument_is_named_before_any_device_is_asked(changed, said, monkeypatch):
    asked = []
    monkeypatch.setattr("fuzz_plans.Device.describe", lambda self: asked.append(self))
    monkeypatch.setattr("fuzz_plans.Device.read", lambda self: asked.append(self))
    refused, wrong, error = run_plan("plan", changed)
    assert refused and not wrong and not asked
    assert said in error


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3), np.uint8(3)])
def test_numbers_of_python_and_numpy_are_numbers_and_become_plain(value):
    assert type(whole_number("n", value)) is int and whole_number("n", value) == 3
    assert type(number("n", value)) is float


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), "3", None, [3], 3j, float("nan"), np.float64("inf"), -1, 10**400],
)
def test_what_is_no_number_is_none(value):
    for check in (number, whole_number):
        with pytest.raises(InputError, match="^n is "):
            check("n", value)


def test_the_largest_whole_number_is_itself():
    assert whole_number("n", 2**63 - 1, most=2**63 - 1) == 2**63 - 1
    with pytest.raises(InputError):
        whole_number("n", 2**63, most=2**63 - 1)


def test_command_lines_that_nobody_should_write_are_refused_in_words():
    counts = Counts()
    fuzz_lines(16, 5, counts, print, outside=False)
    assert counts.good, counts
    assert counts.lines == 16 and counts.worked and counts.refused


@pytest.mark.slow
def test_command_lines_by_the_hundred():
    counts = Counts()
    fuzz_lines(250, 1, counts, print)
    assert counts.good, counts


@pytest.mark.slow
def test_plans_by_the_hundred():
    counts = Counts()
    fuzz_plans(250, 1, counts)
    assert counts.good, counts

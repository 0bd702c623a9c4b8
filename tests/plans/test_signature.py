"""What other programs read of `curiosity_plan`: its signature."""

from __future__ import annotations

import inspect

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.plans import __all__ as offered


def test_annotations_are_types_as_a_queue_server_needs_them():
    parameters = inspect.signature(curiosity_plan).parameters.values()
    assert [p.name for p in parameters if isinstance(p.annotation, str)] == []
    assert [p.name for p in parameters if p.annotation is inspect.Parameter.empty] == []
    # Defaults are JSON: a client shows them, and may send them back.
    scalars = (bool, int, float, str, type(None))
    given = [p for p in parameters if p.default is not inspect.Parameter.empty]
    assert [p.name for p in given if not isinstance(p.default, scalars)] == []


def test_each_parameter_is_documented():
    documented = inspect.getdoc(curiosity_plan) or ""
    for name in inspect.signature(curiosity_plan).parameters:
        assert f"\n{name} : " in documented, name


def test_a_profile_that_takes_all_takes_the_plan():
    assert offered == ["curiosity_plan"]

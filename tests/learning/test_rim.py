"""The rim of the survey: predicted nearly as well as what lies inside, on record, rebuilt."""

import json
from typing import get_args

import numpy as np
import pytest
import rim as rings

from curiosity_bluesky.agent.remote.protocol import plain_strategy, strategy_of
from curiosity_bluesky.documents import strategy_from
from curiosity_bluesky.documents.writing import start_keys
from curiosity_bluesky.learning import Explorer, SteeringRequest, Strategy
from curiosity_bluesky.learning.patches import Rim


@pytest.mark.slow
def test_the_rim_is_predicted_nearly_as_well_as_the_ring_inside():
    strategy = Strategy.named("curious", budget=45, n_seeds=20)
    found = [
        rings.errors(images, spectra, strategy, seed)
        for seed, (_, images, spectra) in enumerate(rings.films(20, 6))
    ]
    rim, inside = np.sum(found, axis=0)
    assert rim < 1.3 * inside


@pytest.mark.parametrize("rim", get_args(Rim))
def test_the_rim_is_on_record_and_without_it_a_record_means_omit(name, rim):
    strategy = Strategy.named(name, rim=rim)
    start = start_keys(strategy, 3, 0.0, 0, "1")
    session, text = plain_strategy(strategy), json.loads(strategy.to_json())
    assert strategy_from(start) == (strategy, 3)
    assert strategy_of(session) == Strategy.from_json(json.dumps(text)) == strategy
    for recorded in (start["curiosity_parameters"], session["parameters"], text["parameters"]):
        assert recorded.pop("rim") == rim
    before = strategy.replace(rim="omit")
    assert strategy_from(start) == (before, 3)
    assert strategy_of(session) == Strategy.from_json(json.dumps(text)) == before


def test_the_published_strategies_leave_it_out_and_all_others_do_not(name):
    expected = "omit" if name.startswith("vatsavai2025") else "reflect"
    assert Strategy.named(name).rim == expected
    twin = Strategy.named(name).random_baseline()
    assert twin is None or twin.rim == expected


def test_a_request_of_a_record_without_it_means_omit(survey, cheap):
    explorer = Explorer(survey, cheap("random"))
    arguments = {"strategy": "grid", "parameters": dict(cheap("grid").parameters)}
    del arguments["parameters"]["rim"]
    explorer.steer(SteeringRequest(0, "set", arguments))
    assert explorer.strategy == cheap("grid", rim="omit")

"""The agent here, the instrument behind a Queue Server."""

from __future__ import annotations

import pytest
from facility_rig import eventually, whole
from support import QUICK

from curiosity_bluesky import read
from curiosity_bluesky.adapters.bluesky_adaptive import (
    CuriosityOptimizer,
    FromTiled,
    survey_of,
)
from curiosity_bluesky.adapters.queueserver import drive as driving
from curiosity_bluesky.adapters.queueserver.drive import drive
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy

POINTS = 5
FEW = {**QUICK, "n_seeds": 3}
SMALL = {"num_points": POINTS, "parameters": FEW}


@pytest.mark.slow
def test_an_experiment_is_driven_point_by_point_and_is_in_the_catalogue(
    facility, queue, curiosity, catalog
):
    settings = [word for k, v in FEW.items() for word in ("--set", f"{k}={v}")]
    driven = curiosity(
        *("queue", "drive", "--points", str(POINTS), "--seed", "4", "--documents"),
        *(facility.documents, *settings, "--md", "operator=anna", "--json"),
    )
    assert len(driven["runs"]) == POINTS and "budget" in driven["reason"]

    def plans():
        items = [item for item in queue.listing()["history"] if item["result"]["run_uids"]]
        return [item["name"] for item in items[-POINTS - 1 :]]

    # The manager learns a moment after the documents that the last plan is over.
    eventually(lambda: plans() == ["survey", *["measure_suggestions"] * POINTS])
    assert not queue.status()["queue_autostart_enabled"]
    whole(catalog, driven["survey"])
    survey = survey_of(catalog.documents(driven["survey"]))
    assert survey.shape == (16, 14)
    # The same optimiser, fed from the catalogue: it would have decided just so.
    strategy = Strategy.named("curious", budget=POINTS, **FEW)
    again = CuriosityOptimizer(Explorer(survey, strategy, 4), ("stage_x", "stage_y"))
    for uid in driven["runs"]:
        run = whole(catalog, uid)
        [suggestion] = again.suggest()
        assert [dict(suggestion)] == run.start["blop_suggestions"]
        keys = ("survey", "curiosity_strategy", "curiosity_seed", "operator", "sample")
        assert [run.start[key] for key in keys] == [driven["survey"], "curious", 4, "anna", "film"]
        again.ingest(FromTiled(catalog)(uid, [suggestion]))
        assert abs(read(run)["stage_x"].item() - suggestion["stage_x"]) < 1e-6
    assert again.should_stop()[0]


def test_a_queue_that_is_not_free_is_left_alone(facility, queue):
    queue.ask("item_add", queue.item("load_sample", sample="synthetic"))
    with pytest.raises(InputError, match="1 item waits"):
        drive(queue, facility.documents, token=facility.token, **SMALL)
    assert len(queue.listing()["queue"]) == 1


@pytest.mark.parametrize("wrong", ["address", "token"])
def test_documents_that_do_not_arrive_are_missed(facility, queue, monkeypatch, wrong):
    monkeypatch.setattr(driving, "_ARRIVE", 1.0)
    where = "tcp://127.0.0.1:9" if wrong == "address" else facility.documents
    token = "somebody else's token" if wrong == "token" else facility.token
    with pytest.raises(InputError, match="documents do not arrive"):
        drive(queue, where, token=token, **SMALL)
    assert queue.status()["manager_state"] == "idle"


def test_a_point_that_fails_before_there_is_a_run_ends_it_and_says_why(facility, queue):
    devices = {**queue.devices(), "x": "tip"}  # which has no such name as the suggestions have
    with pytest.raises(InputError, match="could not be measured .failed: .*stage_tip"):
        drive(queue, facility.documents, token=facility.token, devices=devices, **SMALL)
    assert not queue.status()["queue_autostart_enabled"]


def test_a_detector_without_a_spectrum_is_an_error_here(facility, queue):
    devices = {**queue.devices(), "detectors": ["stage"]}
    with pytest.raises(InputError, match="1-D array"):
        drive(queue, facility.documents, token=facility.token, devices=devices, **SMALL)

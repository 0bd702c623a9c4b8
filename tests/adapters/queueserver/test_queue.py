"""`curiosity_plan` on a Queue Server: queued by name, steered, stopped, killed, gone on with."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np
import psutil
import pytest
from facility_rig import eventually, whole
from support import QUICK, events

from curiosity_bluesky import CuriosityAgent, read
from curiosity_bluesky.adapters.queueserver.manager import QueueClient
from curiosity_bluesky.agent.remote.zeromq import document_listener
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.plans.options import fields, groups

SLOW = {"strategy": "random", "num_points": 90, "options": {"parameters": QUICK}}
"""A run that is not over before something can be done to it: 90 of 168 pixels."""
PLAN = "curiosity_plan"


def started(queue: QueueClient, points: int = 3, **kwargs: Any) -> str:
    """Queue a run, start it, and return its uid once it has some points."""
    queue.add(PLAN, **{**SLOW, **kwargs})
    before = len(queue.listing()["history"])
    queue.ask("queue_start")

    def uids() -> list[str]:
        assert len(queue.listing()["history"]) == before, queue.listing()["history"][-1]
        return [run["uid"] for run in queue.ask("re_runs", reload=True)["run_list"]]

    eventually(uids)
    [uid] = uids()
    return uid


def has_points(catalog: Catalog, uid: str, n: int) -> None:
    """Wait until so many spectra are in the catalogue or its journal."""

    def points() -> int:
        try:
            return len(events(catalog.documents(uid), "primary"))
        except InputError:
            return 0

    eventually(lambda: points() >= n)


def finished(queue: QueueClient) -> dict[str, Any]:
    """Wait until the queue is idle; return what the last item came to."""
    queue.wait("idle", timeout=120.0)
    return queue.listing()["history"][-1]["result"]


def test_the_plan_is_listed_with_all_parameters_documented_and_typed(queue, curiosity):
    parameters = {p["name"]: p for p in queue.plan(PLAN)["parameters"]}
    assert all(about.get("description") for about in parameters.values())
    annotations = {name: about["annotation"] for name, about in parameters.items()}
    assert annotations["detectors"]["devices"]["Detector"] == ["imager", "spectrometer", "stage"]
    for name in ("x", "y", "tip"):
        assert annotations[name]["devices"]["Motor"] == ["stage.x", "stage.y", "tip"]
    assert annotations["num_points"]["type"] == "int | None"
    assert annotations["md"]["type"] == "dict | None"
    for model in groups():
        assert annotations[model.group]["type"] == "typing.Optional[dict]"
        # Who queues a plan by hand reads there what the dict may hold.
        assert all(name in parameters[model.group]["description"] for name in fields(model))
    strategies = annotations["strategy"]["enums"]["Strategy"]
    assert {"curious", "random"} < set(strategies) and "oracle" not in strategies
    assert "curiosity_plan" in curiosity("queue", "plans")
    assert "um" in curiosity("queue", "plans", PLAN)


def test_a_run_queued_by_name_is_measured_headless_and_found_in_the_shared_catalogue(
    facility, queue, curiosity, catalog, film_path
):
    agent, heard, over = CuriosityAgent(), [], threading.Event()

    def hear(name: str, doc: Any) -> None:
        agent(name, doc)
        heard.append((name, doc))
        if name == "stop":
            over.set()

    with document_listener(facility.documents, facility.token, hear):
        # This process hears, another one queues, the worker measures.
        words = f"--strategy curious --points 9 --seed 2 --sample {film_path}".split()
        # Without --set, which would be checked here: that takes torch, and seconds.
        quick = ["--arg", f"options={json.dumps({'parameters': QUICK})}", "--md", "operator=anna"]
        items = curiosity("queue", "add", *words, *quick, "--start", "--json")
        assert [item["name"] for item in items] == ["load_sample", PLAN]
        [uid] = finished(queue)["run_uids"]
        eventually(over.is_set)

    run = whole(catalog, uid)
    found = curiosity("runs", "--sample", "film", "--strategy", "curious", "--json")
    assert (found[-1]["uid"], found[-1]["status"], found[-1]["points"]) == (uid, "success", 9)
    assert {(one["sample"], one["strategy"]) for one in found} == {("film", "curious")}
    assert run.start["operator"] == "anna" and run.start["curiosity_seed"] == 2
    measured = read(run)
    assert measured.sizes["point"] == 9
    # What came over the network is what is in the catalogue: number for number, and to an agent.
    points = events(heard, "primary")
    for key in [key for key, value in points[0].items() if np.ndim(value)]:
        assert np.array_equal([point[key] for point in points], measured[key].values, True)
    [live] = agent.suggest()
    [stored] = CuriosityAgent.from_documents(catalog.documents(uid)).suggest()
    assert live.pixel == stored.pixel and live.predicted_error == stored.predicted_error


@pytest.mark.slow
def test_another_sample_is_put_under_the_simulated_tip(queue, catalog, film_path):
    queue.add(
        PLAN,
        queue.item("load_sample", sample="synthetic"),
        strategy="random",
        num_points=7,
        options={"parameters": QUICK},
        md={"sample_holder": 3},
    )
    queue.ask("item_add", queue.item("load_sample", sample=str(film_path)))
    queue.ask("queue_start")
    assert finished(queue)["exit_status"] == "completed"
    [uid] = [item["result"]["run_uids"] for item in queue.listing()["history"]][-2]
    run = whole(catalog, uid)
    assert (run.start["sample"], run.start["sample_holder"]) == ("synthetic", 3)
    assert run["survey"]["imager_amplitude"].shape == (1, 64, 64)
    assert read(run).sizes["point"] == 7


@pytest.mark.quick("words0-*", "words6-*")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--strategy", "curous"], ["strategy", "'curious'"]),
        (["--arg", "x=stage.z"], ["x is 'stage.z'", "'stage.x'"]),
        (["--arg", 'detectors=["camera"]'], ["camera", "'spectrometer'"]),
        (["--arg", "tip=pen"], ["tip", "'pen'"]),
        (["--arg", "num_points=many"], ["num_points", "integer"]),
        (["--arg", "options=many"], ["options", "dict"]),
        (["--arg", "colour=red"], ["no parameter colour", "num_points"]),
        (["--sample", "butter"], ["sample", "'butter'", "'synthetic'"]),
        (["--strategy", "random", "--set", "nonsense=1"], ["'nonsense'"]),
        (["--points", "0"], ["--points is 0", "1 or more"]),
        (["--time-budget", "-3"], ["--time-budget is -3"]),
        (["--agent", "http://foo:1"], ["'http://foo:1'", "tcp://HOST:PORT"]),
        (["make_coffee"], ["no plan 'make_coffee'", PLAN]),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_queued(queue, curiosity, words, says):
    line = curiosity("queue", "add", *words, fails=2)
    assert [word for word in says if word not in line] == []
    assert queue.listing()["queue"] == []


@pytest.mark.slow
def test_a_run_is_paused_steered_and_resumed_through_the_queue(queue, catalog, curiosity):
    uid = started(queue, tip="tip")
    has_points(catalog, uid, 2)
    assert queue.pause(now=True)["manager_state"] == "paused"
    assert "paused" in curiosity("queue", "list")
    before = len(events(catalog.documents(uid), "primary"))
    time.sleep(0.5)
    assert len(events(catalog.documents(uid), "primary")) == before
    been = [(d["row"], d["col"]) for d in events(catalog.documents(uid), "decisions")]
    pixel = next((4, col) for col in range(4, 10) if (4, col) not in been)
    curiosity("queue", "steer", "add", *map(str, pixel))
    line = curiosity("queue", "steer", "add", "400", "3", fails=2)
    assert "outside the survey of 16 x 14 pixels" in line
    queue.resume()
    queue.steer("budget", before + 6)  # while it runs
    result = finished(queue)
    assert (result["exit_status"], result["run_uids"]) == ("completed", [uid])
    documents = catalog.documents(uid)
    assert [event["kind"] for event in events(documents, "steering")] == ["add", "set"]
    last = max(k for k, (_, doc) in enumerate(documents) if "kind" in doc.get("data", {}))
    # A slow machine may have measured more than that when it is heard.
    heard_at = len(events(documents[:last], "primary"))
    assert len(events(documents, "primary")) == max(before + 6, heard_at)
    manual = [d for d in events(documents, "decisions") if d["reason"] == "manual"]
    assert [(d["row"], d["col"]) for d in manual] == [pixel]
    # The deferred pause comes after an event, and stop keeps all that there is.
    uid = started(queue)
    has_points(catalog, uid, 2)
    assert queue.pause()["manager_state"] == "paused"
    assert queue.end("stop")["result"]["exit_status"] == "stopped"
    run = whole(catalog, uid)
    assert run.stop["exit_status"] == "success"
    kept = read(run)
    assert kept.sizes["point"] == len(events(catalog.documents(uid), "primary")) >= 2
    assert queue.listing()["queue"] == []


@pytest.mark.slow
def test_abort_keeps_what_was_measured_and_puts_the_plan_back(queue, catalog):
    uid = started(queue)
    has_points(catalog, uid, 1)
    assert queue.end("abort")["result"]["exit_status"] == "aborted"
    run = whole(catalog, uid)
    assert run.stop["exit_status"] == "abort"
    assert read(run).sizes["point"] >= 1
    assert [item["name"] for item in queue.listing()["queue"]] == [PLAN]


@pytest.mark.slow
def test_one_item_is_taken_out_of_the_queue(queue, curiosity):
    for seed in (1, 2, 3):
        queue.add(PLAN, **SLOW, seed=seed)
    first, second, third = queue.listing()["queue"]
    listed = curiosity("queue", "list", "--history", "0")
    assert all(item["item_uid"][:8] in listed for item in (first, second, third))
    assert "seed=2" in listed and "spectrometer" not in listed  # which is always meant
    assert "seed=2" in curiosity("queue", "remove", second["item_uid"][:8])
    assert queue.listing()["queue"] == [first, third]
    line = curiosity("queue", "remove", "nosuch", fails=2)
    assert "'nosuch'" in line and first["item_uid"][:8] in line
    with pytest.raises(InputError, match="item '' is none of those that wait; expected"):
        queue.remove("")
    assert queue.listing()["queue"] == [first, third]


def test_nothing_is_steered_or_called_that_may_not_be(queue):
    for wish in ("stop", "budget"):
        with pytest.raises(InputError, match="nothing runs that could be steered"):
            queue.steer(wish)
    with pytest.raises(InputError, match="not allowed"):
        queue.call("open_sample", "synthetic")
    for act in (queue.pause, queue.resume, lambda: queue.end("stop")):
        with pytest.raises(InputError, match="no plan"):
            act()


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_is_gone_on_with_from_the_queue(
    facility, queue, catalog, curiosity
):
    # A survey and some points; then the process is gone at once.
    uid = started(queue, num_points=30)
    has_points(catalog, uid, 3)
    [manager] = [child for child in facility.children if child.name == "manager"]
    children = psutil.Process(manager.pid).children()
    worker = max(children, key=lambda process: process.create_time())
    worker.kill()
    eventually(lambda: worker.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(Unreachable, match="queue close --force"):
        queue.pause(now=True)
    curiosity("queue", "close", "--force")
    [item] = queue.listing()["queue"]  # the manager would begin anew
    assert item["result"]["exit_status"] == "failed"
    measured = len(events(catalog.documents(uid), "primary"))
    assert measured >= 3
    [run] = [run for run in catalog.runs() if run.uid == uid]
    assert (run.status, run.points) == ("interrupted", measured)
    curiosity("queue", "clear")
    curiosity("queue", "open")
    curiosity("queue", "add", "--resume", uid[:8])
    [done] = curiosity("queue", "start", "--wait", "--json")
    [new] = done["result"]["run_uids"]
    assert whole(catalog, new).start["curiosity_resumes"] == uid
    pieces = catalog.lineage(new)
    numbers = [e["decision_id"] for piece in pieces for e in events(piece, "primary")]
    assert sorted(numbers) == list(range(30))
    eventually(
        lambda: uid in list(catalog)
    )  # taken in from the journal by the worker that came after
    assert read(catalog[new]).sizes["point"] == 30


def test_who_is_not_there_is_said_in_one_line():
    with QueueClient("tcp://127.0.0.1:9", timeout=0.5) as nobody:
        for ask in (nobody.status, nobody.listing, lambda: nobody.add(PLAN)):
            with pytest.raises(Unreachable, match="no Queue Server answers at tcp://127.0.0.1:9"):
                ask()
    with pytest.raises(InputError, match="tcp://"):
        QueueClient("localhost")


def test_without_the_extra_it_says_which_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "bluesky_queueserver_api.zmq", None)
    with pytest.raises(InputError, match=r"curiosity-bluesky\[queueserver\]"):
        QueueClient()


@pytest.mark.slow
def test_an_agent_beside_the_worker_decides_for_a_queued_run(facility, queue, curiosity, catalog):
    words = ["--strategy", "curious", "--points", "9", "--seed", "2", "--agent", facility.agent]
    quick = ["--arg", f"options={json.dumps({'parameters': QUICK})}"]
    curiosity("queue", "add", *words, *quick, "--start", "--json")
    [uid] = finished(queue)["run_uids"]
    run = whole(catalog, uid)
    assert run.start["curiosity_agent"] == facility.agent
    # What was decided there is what this process decides of the same documents.
    decided = events(catalog.documents(uid), "decisions")
    assert [data["decided_by"] for data in decided] == ["curious"] * 9
    assert {data["reason"] for data in decided} == {"seed", "curious"}
    known = curiosity("agent", "status", facility.agent, "--json")
    assert known["runs"][uid]["documents"] > 9 and known["refused"] == 0

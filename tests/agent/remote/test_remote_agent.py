"""A plan whose agent is another process is the plan that it would be."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from agents import GATED, POINTS, Plan, check_same, same_maps, trainings
from bluesky.utils import RunEngineInterrupted
from support import WAIT, each, events, facts, grouped, measurable, until

from curiosity_bluesky import CuriosityAgent, connect, read
from curiosity_bluesky.agent.remote.client import ask_agent
from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent
from curiosity_bluesky.cli import main
from curiosity_bluesky.documents import AGENT, prior_run_from
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore
from curiosity_bluesky.plans.resume import InterruptedRun


@pytest.mark.quick("curious-1-1", "curious-3-0", "random*")
@pytest.mark.parametrize(
    ("name", "batch", "lookahead"),
    [
        *(("curious", batch, lookahead) for batch in (1, 3) for lookahead in (0, 1)),
        ("random", 3, 1),
        *(pytest.param("random", *how, marks=pytest.mark.slow) for how in ((1, 0), (1, 1), (3, 0))),
    ],
)
def test_every_digit_is_that_of_a_local_agent(agent, name, batch, lookahead):
    how = {"batch": batch, "lookahead": lookahead}
    local, remote = Plan(name, **how)(), Plan(name, agent.address, **how)()
    check_same(remote, local)
    assert trainings(remote) == trainings(local)
    assert same_maps(remote, local)
    assert remote.deciders() == local.deciders() == [name] * POINTS


@pytest.mark.slow
@pytest.mark.parametrize("name", each(measurable()))
def test_every_strategy_decides_elsewhere_as_here(agent, name):
    local, remote = Plan(name)(), Plan(name, agent.address)()
    # First who decided: a stand-in, while the agent says nothing, chooses otherwise.
    assert remote.deciders() == local.deciders() == [name] * POINTS
    check_same(remote, local)
    assert trainings(remote) == trainings(local)
    assert same_maps(remote, local)


def test_the_start_document_says_which_agent_and_not_its_token(agent):
    plan = Plan("random", agent.address)()
    assert plan.documents[0][1][AGENT] == agent.address
    token = next(Path(agent.home).rglob("*.token")).read_text()
    assert len(token) == 32 and token not in repr(plan.documents)
    assert AGENT not in Plan("random")().documents[0][1]


def steered(plan, name, doc):
    if name == "event" and len(plan.events("primary")) == 5 and not plan.events("steering"):
        if plan.steering._waiting:
            return
        plan.steering.add(7, 8)
        plan.steering.mask(x=(0.0, 0.08))
        plan.steering.set(refit_every=2)
        plan.steering.budget(12)


def test_steering_reaches_it(agent):
    local, remote = Plan("curious")(steered), Plan("curious", agent.address)(steered)
    assert len(remote.events("steering")) == 4
    decisions = remote.events("decisions")
    assert [(d["row"], d["col"]) for d in decisions if d["reason"] == "manual"] == [(7, 8)]
    assert len(decisions) == 12
    for stream in ("decisions", "primary"):
        assert facts([remote.documents], stream) == facts([local.documents], stream)


@pytest.mark.quick("1")
@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_that_was_broken_off_goes_on_with_it(agent, batch):
    whole = Plan("curious", batch=batch)()
    spectra = [k for k, (_, doc) in enumerate(whole.documents) if "stage_x" in doc.get("data", ())]
    for cut in spectra[1::3]:
        first = whole.documents[: cut + 1]
        second = Plan("curious")
        asked = RemoteAgent(agent.address, InterruptedRun.of([first]).strategy, 3)
        ins = second.ins
        devices = [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager
        course = grouped(maps_every=4, withhold=0.1)
        second.RE(
            explore(
                asked, *devices, past=InterruptedRun.of([first]), **course, steering=second.steering
            ),
            second._told,
        )
        for stream in ("decisions", "primary"):
            found = facts([first, second.documents], stream)
            assert found == facts([whole.documents], stream)


@pytest.mark.slow
def test_a_run_of_the_catalogue_is_resumed_with_it_and_read_as_one(agent, tmp_path, capsys):
    where = str(tmp_path / "runs")
    with connect(where) as catalog:
        first = Plan("curious", points=6)
        first.RE.subscribe(catalog.writer())
        first()
    second = Plan("curious", agent.address, resume=first.uid, catalog=where)
    with connect(where) as catalog:
        second.RE.subscribe(catalog.writer())
        second()
        whole = Plan("curious")()
        # The budget, which is said to both, is all that differs.
        found = facts([first.documents, second.documents], "primary")
        assert found[:4] == facts([whole.documents], "primary")[:4] and len(found) == POINTS
        points = read(catalog[second.uid])
        assert list(points["decided_by"].values) == ["curious"] * POINTS
    sys.argv = ["curiosity", "show", second.uid, "--catalog", where, "--json"]
    with suppress(SystemExit):
        main()
    shown = json.loads(capsys.readouterr().out)
    assert shown["start"][AGENT] == agent.address
    assert {point["decided_by"] for point in shown["points"]} == {"curious"}


def test_what_a_run_starts_from_goes_along(agent):
    earlier = prior_run_from(Plan("random", points=14)().documents)
    strategy = Strategy.named("curious", patch_size=5, n_seeds=4, budget=8, refit_every=3)
    run = Plan("curious")().documents
    fifth = [k for k, (_, doc) in enumerate(run) if "stage_x" in doc.get("data", ())][4]
    warm = {"uid": "warm", "curiosity_warm_start": earlier.uid, "curiosity_warm_spectra": 14}
    agents = [CuriosityAgent(strategy, 1, earlier=earlier)]
    agents.append(RemoteAgent(agent.address, strategy, 1, earlier=earlier))
    for one in agents:
        for name, doc in run[: fifth + 1]:
            one(name, doc | warm if name == "start" else doc | {"run_start": "warm"})
    [[here], [elsewhere]] = [one.suggest() for one in agents]
    assert (here.pixel, here.acquisition) == (elsewhere.pixel, elsewhere.acquisition)
    assert np.array_equal(here.predicted_spectrum, elsewhere.predicted_spectrum)
    cold = CuriosityAgent.from_documents(run[: fifth + 1], strategy=strategy, seed=1)
    assert cold.suggest()[0].acquisition != here.acquisition


def test_images_in_files_are_read_where_they_are(agent, tmp_path):
    async_support = pytest.importorskip("async_support")
    (tmp_path / "images").mkdir()
    local = Plan("curious")()
    remote = Plan("curious", agent.address)
    async_support.with_async(remote.RE, remote.ins, "imager", files=tmp_path / "images")

    def gone(plan, name, doc):  # as on another machine, where they never were
        if plan.events("decisions"):
            for file in (tmp_path / "images").iterdir():
                file.unlink()

    remote(gone)
    assert "stream_resource" in [name for name, _ in remote.documents]
    check_same(remote, local)


@pytest.mark.slow
def test_two_plans_ask_it_at_once_and_neither_notices(agent):
    names = ("curious", "vatsavai2025-latent")
    local = {name: Plan(name)() for name in names}
    remote = {name: Plan(name, agent.address) for name in names}
    threads = [threading.Thread(target=plan) for plan in remote.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for name in names:
        check_same(remote[name], local[name])


@pytest.fixture
def gate(tmp_path, gated_here):
    path = tmp_path / "gate"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def held(agent, gate, act):
    """A run whose agent is in the middle of a training when something is done to it."""
    plan = Plan("gated", agent.address, parameters={"gate": str(gate)}, signals=True)
    failed = []

    def wait():
        try:
            until(lambda: doing(agent, plan).startswith("training the gated"))
            act(plan)
        except BaseException as error:
            failed.append(error)
            gate.unlink(missing_ok=True)

    thread = threading.Thread(target=wait)
    thread.start()
    plan()
    thread.join()
    assert not failed, failed
    return plan


def doing(agent, plan):
    found = ask_agent(agent.address)["agents"] if plan.documents else []
    return next((one["doing"] for one in found if one["run"] == plan.uid), "")


def test_a_pause_comes_at_once_while_it_trains(agent, gate):
    plan = held(agent, gate, lambda plan: plan.RE.request_pause())
    assert plan.RE.state == "paused" and gate.exists()
    assert len(plan.events("primary")) == 4
    gate.unlink()
    plan.resume()
    local = Plan("gated", parameters={"gate": str(gate)})()
    check_same(plan, local)


@pytest.mark.parametrize("told", ["stop", "abort", "halt"])
def test_a_run_ends_at_once_while_it_trains_and_so_does_the_training(agent, gate, told):
    plan = held(agent, gate, lambda plan: getattr(plan.RE, told)())
    assert plan.RE.state == "idle" and gate.exists()
    if told != "halt":
        assert plan.documents[-1][0] == "stop"
    until(lambda: not doing(agent, plan))  # nobody waits for it: it trains no more


def test_ctrl_c_twice_pauses_while_it_trains(agent, gate):
    def press(plan):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    plan = held(agent, gate, press)
    assert plan.RE.state == "paused"
    with suppress(RunEngineInterrupted):
        plan.RE.stop()
    assert plan.documents[-1][0] == "stop"
    until(lambda: not doing(agent, plan))


@pytest.mark.slow
def test_a_process_that_is_started_by_hand_says_how_to_ask_it_and_ends_on_ctrl_c(home):
    command = [sys.executable, "-m", "curiosity_bluesky.cli", "agent", "--load", str(GATED)]
    process = subprocess.Popen(
        [*command, "--bind", "tcp://127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.match(r"agent at (tcp://127\.0\.0\.1:\d+) ", process.stdout.readline())
        assert found is not None
        assert f'agent="{found[1]}"' in process.stdout.readline()
        note = Path(process.stdout.readline().split()[4].rstrip(","))
        assert note.stat().st_mode & 0o777 == 0o600
        plan = Plan("random", found[1])()
        check_same(plan, Plan("random")())
        said = subprocess.run(
            [*command[:4], "status", found[1], "--json"], capture_output=True, text=True
        )
        status = json.loads(said.stdout)
        assert status["pid"] == process.pid
        assert status["runs"][plan.uid]["from"] == {
            "request": status["runs"][plan.uid]["documents"]
        }
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 0
        assert not note.exists()
    finally:
        process.kill()
        process.wait()


def test_flags_and_the_end_are_its_to_say(agent):
    local = Plan("random")()
    mine = RemoteAgent(agent.address, "random", 0)
    for name, doc in local.documents:
        mine(name, doc)
    assert mine.should_stop() == mine._local.should_stop()
    assert mine.flags() == mine._local.flags() == []
    assert mine.pending() == [] and mine.resumable
    assert len(events(local.documents, "primary")) == mine.explorer.n_observed

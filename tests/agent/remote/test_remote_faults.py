"""Whatever becomes of the agent, the run goes on, and says who decided."""

import os
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from agents import (
    GATED,
    POINTS,
    AgentProcess,
    Plan,
    ProxyProcess,
    at_spectrum,
    check_same,
    check_whole,
    trainings,
)
from support import grouped, slowly, until

from curiosity_bluesky import CuriosityAgent, connect
from curiosity_bluesky.agent.remote.client import ask_agent
from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent
from curiosity_bluesky.agent.remote.sources import CatalogFollower
from curiosity_bluesky.agent.remote.store import DocumentStore
from curiosity_bluesky.agent.remote.zeromq import SealedPublisher
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import explore

IN_PLACE = "farthest, in place of curious at {}"


def restarted(agent):
    def act():
        agent.kill()
        agent.start()

    return act


@pytest.mark.quick("4-1")
@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("n", [4, *slowly(1, 7)])
def test_killed_and_restarted_it_decides_as_if_nothing_had_been(home, n, lookahead):
    local = Plan("curious", lookahead=lookahead)()
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, lookahead=lookahead)
        plan(at_spectrum(n, restarted(agent)))
        status = ask_agent(agent.address)["runs"][plan.uid]
    check_same(plan, local)
    # Once, though some were trained twice. An agent that rebuilds itself leaps to where all is
    # learned anew, and cannot say how well it would have predicted the spectrum there.
    but = "seconds", "held_out_error"
    assert trainings(plan, but) == trainings(local, but)
    said, known = ([e["held_out_error"] for e in p.events("learning")] for p in (plan, local))
    assert sum(np.isnan(a) and not np.isnan(b) for a, b in zip(said, known, strict=True)) <= 1
    assert all(np.isnan(a) or a == b for a, b in zip(said, known, strict=True))
    assert plan.deciders() == ["curious"] * POINTS
    assert status["from"] == {"request": status["documents"]}


@pytest.mark.slow
def test_killed_in_the_middle_of_a_training_and_restarted_later(home, tmp_path, gated_here):
    gate = tmp_path / "gate"
    gate.touch()
    with AgentProcess(home, "--load", str(GATED)) as agent:
        plan = Plan("gated", agent.address, parameters={"gate": str(gate)})

        def meanwhile():
            until(lambda: training(agent, plan))
            agent.kill()
            time.sleep(1.0)  # nobody is there
            gate.unlink()
            agent.start()

        thread = threading.Thread(target=meanwhile)
        thread.start()
        plan()
        thread.join()
    check_same(plan, Plan("gated", parameters={"gate": str(gate)})())
    assert plan.deciders() == ["gated"] * POINTS


def training(agent, plan):
    if not plan.documents:
        return False
    agents = ask_agent(agent.address)["agents"]
    return any(one["run"] == plan.uid and "training" in one["doing"] for one in agents)


def test_killed_and_not_restarted_another_strategy_goes_on_and_is_named(home, caplog):
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, agent_patience=1.0)
        plan(at_spectrum(6, agent.kill))
    check_whole(plan)
    assert plan.deciders() == ["curious"] * 6 + [IN_PLACE.format(agent.address)] * 3
    assert "has not said a word for 1 s; until it answers, farthest decides" in caplog.text
    assert plan.events("primary")[-1]["spectrometer_response_predicted"].shape == (16,)
    local = Plan("curious")()
    assert len(plan.events("maps")) == len(local.events("maps")) - 2  # nobody could draw them


@pytest.mark.slow
def test_what_was_decided_in_its_place_is_what_that_strategy_decides(home):
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, agent_patience=1.0)
        plan(at_spectrum(6, agent.kill))
    cut = [k for k, (_, doc) in enumerate(plan.documents) if "stage_x" in doc.get("data", ())][5]
    parameters = plan.documents[0][1]["curiosity_parameters"]
    common = {key: parameters[key] for key in ("patch_size", "n_seeds", "budget")}
    alone = CuriosityAgent.from_documents(
        plan.documents[: cut + 1], strategy=Strategy.named("farthest", **common), seed=3
    )
    pixels = [proposal.pixel for proposal in alone.suggest(3)]
    assert [(d["row"], d["col"]) for d in plan.events("decisions")[6:]] == pixels


def test_when_it_is_back_it_decides_again_and_knows_what_was_done_meanwhile(home):
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, points=12, agent_patience=1.0)
        plan(at_spectrum(5, agent.kill), at_spectrum(8, agent.start))
        deciders = plan.deciders()
    check_whole(plan, 12)
    assert deciders == ["curious"] * 5 + [IN_PLACE.format(agent.address)] * 3 + ["curious"] * 4
    # The ninth decision is what curious says of these eight spectra, whoever chose them.
    cut = [k for k, (_, doc) in enumerate(plan.documents) if "stage_x" in doc.get("data", ())][7]
    alone = CuriosityAgent.from_documents(plan.documents[: cut + 1])
    [proposal] = alone.suggest()
    ninth = plan.events("decisions")[8]
    assert proposal.pixel == (ninth["row"], ninth["col"])
    assert proposal.acquisition == ninth["acquisition"]


@pytest.mark.quick("1")
@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_run_that_pauses_for_it_goes_on_when_it_is_back(home, lookahead, caplog):
    how = {"lookahead": lookahead}
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, agent_lost="pause", agent_patience=0.7, **how)
        plan(at_spectrum(6, agent.kill))
        assert plan.RE.state == "paused"
        assert "RE.resume() asks it again" in caplog.text
        plan.resume()  # it is still away
        assert plan.RE.state == "paused"
        agent.start()
        plan.resume()
    local = Plan("curious", **how)()
    check_same(plan, local)
    assert plan.deciders() == ["curious"] * POINTS
    assert len(plan.events("maps")) == len(local.events("maps"))


def test_a_run_that_paused_for_it_can_be_ended(home):
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, agent_lost="pause", agent_patience=0.5)
        plan(at_spectrum(6, agent.kill))
        assert plan.RE.state == "paused"
        with suppress(Exception):
            plan.RE.stop()
    assert plan.documents[-1][0] == "stop" and len(plan.events("primary")) == 6


def test_what_is_asked_for_while_it_is_away_does_not_wait_for_it(home):
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, agent_lost="pause", agent_patience=0.5)
        plan(at_spectrum(6, agent.kill))
        assert plan.RE.state == "paused"
        plan.steering.budget(8)
        plan.resume()
        assert plan.RE.state == "paused" and len(plan.events("steering")) == 1
        plan.steering.stop("enough")
        plan.resume()
        assert plan.RE.state == "idle"
    stop = plan.documents[-1][1]
    assert stop["exit_status"] == "success" and stop["reason"] == "manual: enough"
    assert len(plan.events("primary")) == len(plan.events("decisions")) == 6


@pytest.mark.slow
def test_away_from_the_beginning_the_seeds_are_decided_here_too(home):
    nobody = "tcp://127.0.0.1:9"
    plan = Plan("curious", nobody, agent_patience=0.5)()
    check_whole(plan)
    assert plan.deciders() == [IN_PLACE.format(nobody)] * POINTS
    moved = []
    plan = Plan("curious", nobody, agent_patience=0.5, agent_lost="pause")
    plan.RE.msg_hook = lambda msg: moved.append(msg.command)
    with pytest.raises(Unreachable, match=r"curiosity agent --bind tcp://127.0.0.1:9.*agent_lost"):
        plan()
    assert not {"open_run", "set", "trigger"} & set(moved)


def test_frozen_it_is_away_and_thawed_it_is_back(home):
    with AgentProcess(home) as agent:
        plan = Plan("curious", agent.address, points=12, agent_patience=1.0)
        plan(
            at_spectrum(5, lambda: os.kill(agent.pid, signal.SIGSTOP)),
            at_spectrum(7, lambda: os.kill(agent.pid, signal.SIGCONT)),
        )
        deciders = plan.deciders()
    check_whole(plan, 12)
    away = IN_PLACE.format(agent.address)
    assert deciders[:7] == ["curious"] * 5 + [away] * 2
    assert deciders[-1] == "curious" and set(deciders) == {"curious", away}


def test_a_restarted_agent_that_has_forgotten_the_token_is_away(home, tmp_path, caplog):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    with AgentProcess(home, "--token-file", str(token)) as agent:
        asked = RemoteAgent(
            agent.address, Strategy.named("random", patch_size=3, n_seeds=4, budget=POINTS), 3,
            token="0123456789abcdef", patience=10,
        )  # fmt: skip

        def changed():
            agent.kill()
            token.write_text("another-token-of-the-agent")
            agent.start()

        plan = Plan("random")
        ins = plan.ins
        devices = [ins.spectrometer], ins.stage.x, ins.stage.y, ins.imager
        plan.callbacks = [at_spectrum(6, changed)]
        course = grouped(maps_every=0)
        plan.RE(explore(asked, *devices, **course, steering=plan.steering), plan._told)
    check_whole(plan)
    assert [by.startswith("farthest") for by in plan.deciders()] == [False] * 6 + [True] * 3
    assert "does not know this token" in caplog.text


def test_a_strategy_that_it_cannot_follow_in_the_middle_of_a_run_does_not_end_it(
    home, caplog, gated_here
):
    def ask(plan, name, doc):
        told = plan.steering._waiting or plan.events("steering")
        if len(plan.events("primary")) == 5 and not told:
            plan.steering.strategy("gated")  # this process knows it

    with AgentProcess(home) as agent:
        plan = Plan("random", agent.address)(ask)
    check_whole(plan)
    assert plan.deciders()[:5] == ["random"] * 5
    away = f"farthest, in place of gated at {agent.address}"
    assert plan.deciders()[-2:] == [away] * 2
    assert "cannot follow: " in caplog.text


@pytest.mark.slow
def test_the_one_that_is_forgotten_is_rebuilt(home):
    with AgentProcess(home, "--keep", "1") as agent:
        others = []

        def another():
            others.append(Plan("random", agent.address)())

        # Its own documents may be forgotten as well: five runs are more than four.
        plan = Plan("curious", agent.address)
        plan(*(at_spectrum(n, another) for n in (3, 4, 5, 6, 8)))
    check_same(plan, Plan("curious")())
    assert len(others) == 5


# ---- documents that come by other ways


@pytest.fixture
def proxy(tmp_path):
    """A 0MQ proxy on loopback, in a process of its own: where documents go in and come out."""
    with ProxyProcess(tmp_path / "proxy") as process:
        yield process.addresses


class Losing:
    """A publisher that loses every so many documents, and says everything else twice."""

    def __init__(self, publish, every):
        self.publish, self.every, self.n, self.lost = publish, every, 0, 0

    def __call__(self, name, doc):
        self.n += 1
        if self.n % self.every == 0 and name == "event":
            self.lost += 1
            return
        self.publish(name, doc)
        self.publish(name, doc)


def test_what_is_published_need_not_be_sent_and_what_is_lost_on_the_way_is(home, proxy):
    with AgentProcess(home, "--documents", proxy[1]) as agent:
        publish = SealedPublisher(proxy[0], agent=agent.address)
        losing = Losing(publish, 5)
        first = Plan("random")
        first.RE.subscribe(publish)
        first()  # who subscribes late misses the first documents: so one run for nothing
        until(lambda: ask_agent(agent.address)["runs"] or (not first.RE.subscribe and first()))
        plan = Plan("curious", agent.address)
        plan.RE.subscribe(losing)
        plan()
        until(lambda: ask_agent(agent.address)["runs"][plan.uid]["repeated"] > 10)
        status = ask_agent(agent.address)["runs"][plan.uid]
        publish.close()
    check_same(plan, Plan("curious")())
    assert losing.lost > 2
    assert set(status["from"]) == {"request", "0MQ"}
    assert status["from"]["request"] >= 1


def test_it_learns_from_what_is_published_alone(home, proxy):
    with AgentProcess(home, "--documents", proxy[1]) as agent:
        publish = SealedPublisher(proxy[0], agent=agent.address)
        plan = Plan("curious", points=7)()
        last = [k for k, (n, _) in enumerate(plan.documents) if n == "event"][-1]

        def heard():
            for name, doc in plan.documents[: last + 1]:
                publish(name, doc)
            return ask_agent(agent.address)["runs"].get(plan.uid, {}).get("documents", 0) >= 19

        until(heard)
        [proposal] = ask_agent(agent.address, "suggest", plan.uid, n=1)["proposals"]
        again = ask_agent(agent.address, "suggest", n=1)["proposals"]
        maps = ask_agent(agent.address, "maps")["maps"]
        with pytest.raises(InputError, match="has not heard of a run nobody"):
            ask_agent(agent.address, "maps", "nobody")
        publish.close()
    alone = CuriosityAgent.from_documents(plan.documents)
    [own] = alone.suggest()
    assert tuple(proposal["pixel"]) == own.pixel == tuple(again[0]["pixel"])
    assert proposal["acquisition"] == own.acquisition
    assert maps["error"].shape == (16, 14)


def test_images_in_files_are_sent_where_it_has_heard_of_them_already(home, tmp_path, proxy):
    async_support = pytest.importorskip("async_support")
    (tmp_path / "images").mkdir()
    with AgentProcess(home, "--documents", proxy[1]) as agent:
        publish = SealedPublisher(proxy[0], agent=agent.address)

        def connected():
            publish("start", {"uid": "before", "time": 1.0})
            return "before" in ask_agent(agent.address)["runs"]

        until(connected)
        plan = Plan("random", agent.address)
        async_support.with_async(plan.RE, plan.ins, "imager", files=tmp_path / "images")
        plan.RE.subscribe(publish)

        def heard(plan, name, doc):
            if name == "event" and not plan.events("decisions"):
                ways = ask_agent(agent.address)["runs"].get
                until(lambda: ways(plan.uid, {}).get("from", {}).get("0MQ", 0) >= 3)

        plan(heard)
        publish.close()
    check_same(plan, Plan("random")())
    assert plan.deciders() == ["random"] * POINTS


@pytest.mark.slow
def test_killed_and_restarted_with_a_catalogue_it_rebuilds_itself_from_there(home, tmp_path):
    where = str(tmp_path / "runs")
    with connect(where) as catalog, AgentProcess(home, "--catalog", where) as agent:
        plan = Plan("curious", agent.address)
        plan.RE.subscribe(catalog.writer())

        def act():
            catalog.flush()
            agent.kill()
            agent.start()

        plan(at_spectrum(6, act))
        status = ask_agent(agent.address)["runs"][plan.uid]
    check_same(plan, Plan("curious")())
    assert plan.deciders() == ["curious"] * POINTS
    assert status["from"]["catalogue"] >= 15  # up to the sixth spectrum
    assert status["from"]["request"] >= 3  # what came after


@pytest.mark.slow
def test_it_follows_a_catalogue_and_hears_the_same_by_all_ways(home, tmp_path, proxy):
    where = str(tmp_path / "runs")
    ways = ["--catalog", where, "--follow", "--documents", proxy[1]]
    with connect(where) as catalog, AgentProcess(home, *ways) as agent:
        publish = SealedPublisher(proxy[0], agent=agent.address)
        first = Plan("random")
        first.RE.subscribe(catalog.writer())
        first()
        catalog.flush()
        until(lambda: first.uid in ask_agent(agent.address)["runs"])
        assert set(ask_agent(agent.address)["runs"][first.uid]["from"]) == {"Tiled"}
        plan = Plan("curious", agent.address)
        plan.RE.subscribe(catalog.writer())
        plan.RE.subscribe(publish)
        plan(at_spectrum(5, catalog.flush), at_spectrum(8, lambda: time.sleep(2.0)))
        catalog.flush()
        until(lambda: ask_agent(agent.address)["runs"][plan.uid]["repeated"] > 10)
        # Whoever has only the catalogue to tell it learns as much.
        other = ask_agent(agent.address, "predict", first.uid)["prediction"]["spectra"]
        publish.close()
    check_same(plan, Plan("curious")())
    mine = CuriosityAgent.from_documents(first.documents).explorer.predict().spectra
    assert other.shape == mine.shape


@pytest.mark.slow
def test_the_server_of_a_directory_streams(tmp_path):
    where = str(tmp_path / "runs")
    with connect(where) as catalog:
        store = DocumentStore(4)
        follower = CatalogFollower(where, store)
        assert follower.ready.wait(60)  # and not only looks at it from time to time
        plan = Plan("random", points=5)
        plan.RE.subscribe(catalog.writer())
        plan()
        catalog.flush()
        until(lambda: store.counts().get(plan.uid, {}).get("documents") == 17)

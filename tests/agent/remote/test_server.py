"""An agent answers whoever knows its token, and nothing that comes over the network harms it."""

import contextlib
import os
import pickle
import re
import socket
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zmq
from agents import AgentProcess, Plan, ProxyProcess
from support import until

from curiosity_bluesky.agent import AgentUnreachable
from curiosity_bluesky.agent.remote import client, tokens
from curiosity_bluesky.agent.remote.client import AgentClient, ask_agent
from curiosity_bluesky.agent.remote.codec import decode, encode, sign, verify
from curiosity_bluesky.agent.remote.curve import PART, Monitor, authenticate
from curiosity_bluesky.agent.remote.protocol import PROTOCOL, REFUSED, AgentRefused, key_of
from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent
from curiosity_bluesky.agent.remote.server import AgentServer
from curiosity_bluesky.agent.remote.store import DocumentStore
from curiosity_bluesky.agent.remote.zeromq import SealedPublisher
from curiosity_bluesky.cli import main
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Strategy

OTHER = "another-token-altogether"


def said_to(agent, *frames):
    """What an agent says to a message of who knows its token, None if it says nothing."""
    with closing(zmq.Context.instance().socket(zmq.DEALER)) as line:
        line.setsockopt(zmq.LINGER, 0)
        authenticate(line, token_of(agent))
        line.connect(agent.address)
        line.send_multipart(frames)
        return line.recv() if line.poll(5000) else None


def token_of(agent):
    return tokens.token_for(agent.address)


# ---- who may ask


def test_a_wrong_token_is_said_at_once(agent):
    with pytest.raises(AgentRefused, match=r"does not know this token.*CURIOSITY_AGENT_TOKEN"):
        AgentClient(agent.address, OTHER).ask({"what": "status"}, 60.0)


def test_a_plan_with_a_wrong_token_moves_nothing(agent, monkeypatch):
    monkeypatch.setenv("CURIOSITY_AGENT_TOKEN", OTHER)
    plan, commands = Plan("random", agent.address), []
    plan.RE.msg_hook = lambda msg: commands.append(msg.command)
    with pytest.raises(InputError, match="does not know this token"):
        plan()
    assert not {"open_run", "set", "trigger", "stage"} & set(commands)


def test_another_protocol_is_said_with_both_numbers(agent, monkeypatch):
    monkeypatch.setattr(client, "PROTOCOL", PROTOCOL + 1)
    with pytest.raises(
        AgentRefused, match=rf"protocol {PROTOCOL} .*protocol {PROTOCOL + 1}.*install"
    ):
        ask_agent(agent.address)


def test_a_strategy_that_it_does_not_know_is_said_before_anything_moves(home, gated_here):

    with AgentProcess(home) as agent:
        plan = Plan("gated", agent.address)
        with pytest.raises(InputError, match=r"cannot follow.*'gated'.*--load FILE.py"):
            plan()
    assert not plan.documents


def test_a_token_is_left_for_its_owner_alone_and_taken_away(home):
    with AgentProcess(home) as agent:
        [note] = home.rglob("*.token")
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        assert stat.S_IMODE(note.parent.stat().st_mode) == 0o700
        assert note.stem == agent.address.rpartition(":")[2]
        assert note.read_text() not in agent.said
        assert ask_agent(agent.address)["pid"] == agent.pid
        assert agent.end() == 0
        assert not note.exists()
        with pytest.raises(AgentUnreachable, match="not said a word for 0.3 s"):
            ask_agent(agent.address, patience=0.3)


def test_what_a_killed_agent_left_misleads_nobody(home):
    with AgentProcess(home) as agent:
        agent.kill()
        assert list(home.rglob("*.token"))
        with pytest.raises(AgentUnreachable, match="not said a word for 0.3 s"):
            ask_agent(agent.address, patience=0.3)
        agent.start()
        assert ask_agent(agent.address)["pid"] == agent.pid


def test_a_token_of_ones_own(home, monkeypatch):
    own = home / "own"
    own.write_text("my-own-token-of-the-lab\n")
    with AgentProcess(home, "--token-file", str(own)) as agent:
        assert not list(home.rglob("*.token"))
        with pytest.raises(AgentUnreachable):
            ask_agent(agent.address, patience=0.3)  # nobody told the token
        monkeypatch.setenv("CURIOSITY_AGENT_TOKEN", "my-own-token-of-the-lab")
        assert ask_agent(agent.address)["pid"] == agent.pid


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--bind", "tcp://0.0.0.0:0"], "other machines.*--public.*token"),
        (["--bind", "tcp://0.0.0.0:0", "--public"], "other machines.*--public.*token"),
        (["--bind", "tcp://*:0"], "other machines"),
        (["--bind", "127.0.0.1"], "expected tcp://HOST:PORT"),
        (["--bind", "tcp://127.0.0.1:99999"], "expected tcp://HOST:PORT"),
        (["--bind", "tcp://127.0.0.1:0", "--keep", "0"], "expected 1 agent or more"),
        (["--bind", "tcp://127.0.0.1:0", "--follow"], "--follow needs the catalogue"),
        (["--bind", "tcp://127.0.0.1:0", "--token-file", "nowhere"], "cannot be read"),
        (["--load", "nowhere.py"], "no such Python file"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(home, monkeypatch, capsys, args, why):
    monkeypatch.setattr(sys, "argv", ["curiosity", "agent", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(why, said)


def test_an_address_that_is_taken_keeps_the_token_of_who_has_it(home):
    with AgentProcess(home) as agent:
        before = token_of(agent)
        with pytest.raises(InputError, match="is there an agent already"):
            AgentServer(agent.address)
        assert token_of(agent) == before and ask_agent(agent.address)["pid"] == agent.pid


def test_a_short_token_is_none():
    with pytest.raises(InputError, match="has 5 characters; expected 16 or more"):
        tokens.token_for("tcp://127.0.0.1:5577", "short")


@pytest.mark.parametrize("patience", [0, -1, float("nan"), float("inf")])
def test_patience_is_a_time(patience):
    with pytest.raises(InputError, match="agent_patience"):
        RemoteAgent("tcp://127.0.0.1:5577", "random", 0, patience=patience)


def test_who_takes_its_place_is_a_strategy():
    with pytest.raises(InputError, match="nobody"):
        RemoteAgent("tcp://127.0.0.1:5577", "random", 0, fallback="nobody")


# ---- what else may come


class Trap:
    """A pickle that makes a directory where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_executes_nothing(agent, tmp_path):
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(trap)))
    trap.rmdir()  # it would
    assert said_to(agent, pickle.dumps(Trap(trap))) == REFUSED
    # Neither does one that bears the right seal.
    assert said_to(agent, sign(pickle.dumps(Trap(trap)), token_of(agent))) == REFUSED
    inside = sign(encode({"protocol": PROTOCOL, "what": "documents", "run": "", "client": "",
                            "documents": [["start", pickle.dumps(Trap(trap))]]}),
                    token_of(agent))  # fmt: skip
    assert b"cannot be read" in (said_to(agent, inside) or b"")
    assert not trap.exists()
    assert ask_agent(agent.address)["pid"] == agent.pid


@pytest.mark.parametrize(
    "frames", [(b"",), (b"x",), (b"", b""), (b"a", b"b", b"c"), (bytes(32),), (os.urandom(5000),)]
)
def test_what_bears_no_seal_is_turned_away(agent, frames):
    assert said_to(agent, *frames) == REFUSED


def test_a_message_of_many_parts_is_one(agent):
    message = {"what": "status", "more": os.urandom(3 * PART + 5)}
    assert AgentClient(agent.address).ask(message, 60.0)["pid"] == agent.pid


def peak(agent):
    """Return the most memory that an agent has had, MB."""
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01"
READY = b"\x05READY" + b"\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
STRANGERS = {
    # ZMTP by hand: the greeting, then what is said before anybody is known.
    "no handshake, a message of many parts": (b"NULL", b"\x04" + bytes([len(READY)]) + READY, 1),
    "a handshake of one enormous command": (b"CURVE", b"\x06" + (2**28).to_bytes(8, "big"), 0),
    "a password": (b"PLAIN", b"\x06" + (2**28).to_bytes(8, "big"), 0),
    "a message in place of a handshake": (b"CURVE", b"", 1),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("stranger", STRANGERS)
def test_nothing_is_held_of_a_stranger(agent, stranger):
    mechanism, first, has_parts = STRANGERS[stranger]
    part = (b"\x03" + (2**16).to_bytes(8, "big") + bytes(2**16)) if has_parts else bytes(2**16)
    ask_agent(agent.address)
    before, sent = peak(agent), 0
    with tcp(agent) as line:
        line.sendall(GREETING + mechanism.ljust(20, b"\0") + bytes(32) + first)
        with contextlib.suppress(ConnectionError):
            while sent < 128 * 2**20:
                line.sendall(part)
                sent += len(part)
        # What a system holds for a connection is not the agent's.
        assert sent < 64 * 2**20, "all of it was taken"
    assert ask_agent(agent.address)["pid"] == agent.pid
    assert peak(agent) < before + 16


def test_who_has_another_token_is_refused_before_the_first_message(agent):
    before = ask_agent(agent.address)["refused"]
    with closing(zmq.Context.instance().socket(zmq.DEALER)) as line:
        line.setsockopt(zmq.LINGER, 0)
        authenticate(line, OTHER)
        with closing(Monitor(line)) as monitor:
            line.connect(agent.address)
            line.send(sign(encode({"protocol": PROTOCOL, "what": "status"}), token_of(agent)))
            assert monitor.socket.poll(20_000) and monitor.said() == "token"
            assert not line.poll(0)
    assert ask_agent(agent.address)["refused"] > before


def test_what_is_no_agent_of_this_version_is_said():
    with closing(zmq.Context.instance().socket(zmq.ROUTER)) as older:
        port = older.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(AgentRefused, match="the same version"):
            ask_agent(f"tcp://127.0.0.1:{port}", token=OTHER)


def test_without_curve_nothing_is_served(monkeypatch):
    monkeypatch.setattr(zmq, "has", lambda what: what != "curve")
    with pytest.raises(InputError, match="without CURVE.*install pyzmq"):
        AgentServer("tcp://127.0.0.1:0")


@pytest.mark.parametrize(
    "message",
    [
        None, 5, "what", [], [1, [2]], {}, {"protocol": "1"}, {"protocol": PROTOCOL},
        {"protocol": PROTOCOL, "what": None}, {"protocol": PROTOCOL, "what": "decide"},
        {"protocol": PROTOCOL, "what": "decide", "run": 1, "client": [], "n": "many", "id": 0},
        {"protocol": PROTOCOL, "what": "documents", "run": "", "client": "", "documents": 3},
        {"protocol": PROTOCOL, "what": "hello", "strategy": {"name": 5, "parameters": 7}},
        {"protocol": PROTOCOL, "what": np.zeros((3, 0))},
    ],
)  # fmt: skip
def test_a_message_that_makes_no_sense_is_answered_with_an_error(agent, message):
    data = said_to(agent, sign(encode(message), token_of(agent)))
    assert "error" in decode(verify(data, token_of(agent)))


@pytest.mark.parametrize(
    "given",
    [
        {"what": "tea"},
        {"what": "open", "keys": 5},
        {"what": "open", "keys": ["start x"], "strategy": None, "seed": "x", "earlier": {}},
        {"what": "decide", "first": 7, "keys": [], "documents": []},
        {"what": "decide", "client": "", "runs": []},
        {"what": "predict", "client": "", "runs": ["nobody"]},
    ],
)
def test_a_request_that_makes_no_sense_is_answered_too(home, given):
    with AgentProcess(home) as agent:
        message = {"run": "r", "runs": ["r"], "client": "c", "n": 1, "given": [], "args": {}}
        try:
            reply = AgentClient(agent.address).ask(message | given, 20.0)
        except (InputError, AgentUnreachable) as error:
            assert "word" not in str(error)
        else:
            assert reply == {"behind": True}
        assert ask_agent(agent.address)["pid"] == agent.pid


def tcp(agent):
    host, port = tokens.endpoint(agent.address)
    return socket.create_connection((host, port), timeout=10)


def test_half_messages_and_those_who_say_nothing_keep_nobody_waiting(agent):
    opened = [tcp(agent) for _ in range(50)]
    try:
        for k, line in enumerate(opened):
            line.sendall([b"", b"\xff", b"GET / HTTP/1.1\r\n\r\n", os.urandom(200)][k % 4])
        assert ask_agent(agent.address)["pid"] == agent.pid
    finally:
        for line in opened:
            line.close()
    assert ask_agent(agent.address)["pid"] == agent.pid


def test_a_part_that_is_too_large_is_not_taken_from_who_is_known_either(agent):
    with closing(zmq.Context.instance().socket(zmq.DEALER)) as line:
        line.setsockopt(zmq.LINGER, 0)
        authenticate(line, token_of(agent))
        ended = line.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        line.connect(agent.address)
        line.send(bytes(2 * PART))
        assert ended.poll(20_000) and not line.poll(0)
        line.disable_monitor()
    assert ask_agent(agent.address)["pid"] == agent.pid


def test_a_document_that_is_too_large_is_said_where_it_is_made(monkeypatch):
    from curiosity_bluesky.agent.remote import run_log

    monkeypatch.setattr(run_log, "LARGEST", 2000)
    explorer = RemoteAgent("tcp://127.0.0.1:5577", "random", 0)
    with pytest.raises(InputError, match="more than an agent elsewhere takes"):
        explorer("start", {"uid": "a", "time": 0.0, "note": "x" * 2000})


def test_what_cannot_be_sent_of_an_event_is_left_out():
    plan = Plan("random", points=5)()
    mine = RemoteAgent("tcp://127.0.0.1:5577", "random", 0)
    for name, doc in plan.documents:
        if name == "event":
            doc = {**doc, "data": {**doc["data"], "odd": np.array([object()], dtype=object)}}
        mine(name, doc)
    assert mine.explorer.n_observed == 5
    names = [name for name, _ in mine._run.log]
    assert names.count("event") == 1 + 5 + 5
    assert all("odd" not in decode(data).get("data", {}) for _, data in mine._run.log)


def test_documents_of_strangers_are_dropped_and_nonsense_breaks_nothing(home, tmp_path):
    with (
        ProxyProcess(tmp_path / "proxy") as proxy,
        AgentProcess(home, "--documents", proxy.addresses[1]) as agent,
    ):
        into = proxy.addresses[0]
        mine, strange = SealedPublisher(into, agent=agent.address), SealedPublisher(into, OTHER)
        start = {"uid": "mine", "time": 1.0}

        def heard(uid):
            mine("start", {"uid": uid, "time": 1.0})
            strange("start", {"uid": "strange", "time": 1.0})
            return uid in ask_agent(agent.address)["runs"]

        until(lambda: heard("mine"))
        mine("nonsense", start)  # bluesky's dispatcher knows no such document, and ends
        mine("event", {"descriptor": [], "seq_num": {}, "data": 7})
        mine("descriptor", start)
        until(lambda: heard("later"))
        assert "strange" not in ask_agent(agent.address)["runs"]
        for one in (mine, strange):
            one.close()


# ---- what it remembers


def test_a_store_has_each_document_once_and_forgets_the_oldest_run():
    store = DocumentStore(keep=2)
    plans = [Plan("random", points=5)() for _ in range(3)]
    for plan in plans:
        for _ in range(3):
            for name, doc in plan.documents:
                store("a way", name, doc)
    counts = store.counts()
    assert list(counts) == [plan.uid for plan in plans[1:]]
    # start, four descriptors, survey, five decisions and spectra, stop; no predictions
    assert counts[plans[1].uid]["documents"] == 1 + 4 + 1 + 5 + 5 + 1
    assert counts[plans[1].uid]["repeated"] == 2 * 17
    assert store.keys(plans[0].uid) == [] and store.start(plans[0].uid) is None
    assert not set(store._run_of.values()) - set(counts)


def test_a_document_under_another_name_is_none():
    plan = Plan("random", points=5)()
    for name, doc in plan.documents:
        assert key_of(name, doc) is not None
    with pytest.raises(InputError, match="descriptor document without run_start, data_keys"):
        key_of("descriptor", plan.documents[0][1])


def test_many_ask_at_once(agent):
    failed = []

    def ask(seed):
        try:
            explorer = RemoteAgent(agent.address, Strategy.named("random", patch_size=3), seed)
            for name, doc in documents:
                explorer(name, doc)
            assert len(explorer.suggest(3)) == 3
        except BaseException as error:
            failed.append(error)

    documents = Plan("random", points=5)().documents
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Eight agents at most at once: who comes ninth is decided for here, and nobody fails.
    assert not failed
    assert len(ask_agent(agent.address)["agents"]) <= 8

"""All processes of a facility: started with one command, ended with Ctrl-C, nothing left."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import zmq
from facility_rig import FREE, alive, eventually, everybody, family

from curiosity_bluesky.adapters.queueserver.facility import Facility, FacilityPaths
from curiosity_bluesky.adapters.queueserver.manager import QueueClient
from curiosity_bluesky.adapters.queueserver.processes import ManagedProcess, free_port, is_listening
from curiosity_bluesky.agent.remote import tokens
from curiosity_bluesky.agent.remote.client import ask_agent
from curiosity_bluesky.errors import InputError, Unreachable

CURIOSITY = [sys.executable, "-m", "curiosity_bluesky.cli"]
GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\nprint('deaf', flush=True)\\ntime.sleep(600)"])
time.sleep(600)
"""


def silent(text: str) -> None:
    pass


def site(tmp_path: Path, **kwargs) -> FacilityPaths:
    return FacilityPaths(tmp_path / "site", str(tmp_path / "runs"), **{**FREE, **kwargs})


def test_a_child_ends_with_all_that_it_has_started(tmp_path):
    child = ManagedProcess("family", [sys.executable, "-c", GRANDCHILD], tmp_path / "log")
    eventually(lambda: "deaf" in (tmp_path / "log").read_text())
    processes = family(child.pid)
    assert len(processes) == 2
    child.end(timeout=0.5)  # it obeys, its child does not
    assert not child.alive
    eventually(lambda: alive(processes) == [])
    child.end()


@pytest.mark.slow
def test_whoever_presses_ctrl_c_twice_leaves_nobody_behind(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); "
    command = [sys.executable, "-u", "-c", deaf + "time.sleep(600)"]
    running = Facility(site(tmp_path), silent)
    running.children = [ManagedProcess(f"{n}", command, tmp_path / f"log{n}") for n in range(2)]
    for child in running.children:
        eventually(lambda log=child.log: "deaf" in log.read_text())
    processes = everybody(running)
    again = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    again.start()
    running.close()  # waits 15 s for those who do not listen, unless it is told again
    again.join()
    assert alive(processes) == []


def test_a_child_that_does_not_start_says_why(tmp_path):
    code = "print('a first line'); raise SystemExit('no such lens')"
    child = ManagedProcess("lens", [sys.executable, "-c", code], tmp_path / "log")
    with pytest.raises(InputError, match="lens ended at once .no such lens."):
        child.wait_until(lambda: False)
    child.end()
    child = ManagedProcess("mute", ["sleep", "600"], tmp_path / "log2")
    port = free_port()
    with pytest.raises(InputError, match="mute does not answer .it said nothing."):
        child.wait_until(lambda: is_listening(port), timeout=0.3)
    child.end()
    with pytest.raises(InputError, match="cannot be started"):
        ManagedProcess("none", ["/no/such/program"], tmp_path / "log3")


def test_what_keeps_it_from_starting_is_said_beforehand(tmp_path, facility, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be had for control"):
            Facility(site(tmp_path, control=port))
    with pytest.raises(InputError, match="no profile at"):
        Facility(site(tmp_path, profile=tmp_path))
    same = FacilityPaths(facility.site.directory, str(tmp_path / "runs"), **FREE)
    with pytest.raises(InputError, match="runs in .* already"), Facility(same, silent):
        pass
    assert len(alive(everybody(facility))) >= 6
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get install redis-server"):
        Facility(site(tmp_path))


def test_who_has_no_key_asks_the_queue_server_nothing(facility, monkeypatch):
    assert stat.S_IMODE(facility.key_file.stat().st_mode) == 0o600
    with QueueClient(facility.address) as queue:  # finds the key
        assert queue.status()["manager_state"] == "idle"
    public, _ = zmq.curve_keypair()
    monkeypatch.setattr(tokens, "queue_key_of", lambda port: facility.key_file.with_name("none"))
    for key in (None, public.decode()):
        with (
            QueueClient(facility.address, timeout=0.5, public_key=key) as queue,
            pytest.raises(Unreachable, match="with a key answers who has it alone"),
        ):
            queue.ask("script_upload", "print('as you')")
    with pytest.raises(InputError, match="has 3 characters; expected 40"):
        QueueClient(facility.address, public_key="key")


def test_who_has_no_password_asks_redis_nothing(facility):
    conf = (facility.site.directory / "redis" / "redis.conf").read_text()
    settings = dict(line.split(" ", 1) for line in conf.splitlines())
    port, password = settings["port"], settings["requirepass"]
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as connection:
        connection.sendall(b"KEYS *\r\n")
        assert connection.recv(64).startswith(b"-NOAUTH")
    for file in ("redis/redis.conf", "manager.yml", "manager.log", "redis.log"):
        assert stat.S_IMODE((facility.site.directory / file).stat().st_mode) == 0o600
    # The words of a command can be read by everybody on the machine.
    words = " ".join(word for process in everybody(facility) for word in process.cmdline())
    assert "redis-server" in words
    for secret in (password, facility.token, facility.key_file.read_text()):
        assert secret not in words


def test_the_key_goes_with_the_queue_server_and_no_other_with_it(tmp_path):
    made = Facility(site(tmp_path), silent)
    for key, left in ((made._public_key, False), ("of another one", True)):
        tokens.write_secret(made.key_file, key)
        made.close()
        assert made.key_file.exists() == left
    made.key_file.unlink()


def test_a_key_of_ones_own_is_used_or_said_to_be_none(tmp_path, monkeypatch):
    public, private = zmq.curve_keypair()
    monkeypatch.setenv("QSERVER_ZMQ_PRIVATE_KEY_FOR_SERVER", private.decode())
    assert Facility(site(tmp_path), silent)._public_key == public.decode()
    monkeypatch.setenv("QSERVER_ZMQ_PRIVATE_KEY_FOR_SERVER", "secret")
    with pytest.raises(InputError, match="is no key; expected 40 characters"):
        Facility(site(tmp_path), silent)


@pytest.mark.slow
def test_an_agent_that_is_killed_is_started_again_where_it_was(facility):
    [agent] = [child for child in facility.children if child.name == "agent"]
    eventually(lambda: agent.age > 3.0)
    psutil.Process(agent.pid).kill()
    eventually(lambda: not agent.alive)
    facility.look()
    [another] = [child for child in facility.children if child.name == "agent"]
    assert another.alive and another.pid != agent.pid
    assert ask_agent(facility.agent, token=facility.token)["pid"] == another.pid


@pytest.mark.slow
def test_startup_files_that_fail_end_it_with_nothing_left(tmp_path):
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "00-broken.py").write_text("raise RuntimeError('no microscope')\n")
    (tmp_path / "config.yml").write_text("network: {redis_name_prefix: broken}\n")
    started = Facility(site(tmp_path, profile=tmp_path), silent)
    with pytest.raises(InputError, match="startup files of the profile failed"), started:
        pass
    assert started.children == []
    assert "no microscope" in (tmp_path / "site" / "manager.log").read_text()
    with pytest.raises(OSError):
        is_listening(int(started.address.rpartition(":")[2]))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "redis"])
def test_one_command_starts_the_lot_and_its_end_is_the_end_of_all(tmp_path, film_path, how):
    ports = [f"--{name.replace('_', '-')}=0" for name in FREE]
    log = tmp_path / "serve.log"
    with open(log, "w") as output:
        command = subprocess.Popen(
            [*CURIOSITY, "queue", "serve", *ports, "--sample", str(film_path), "--catalog", "runs"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    eventually(lambda: "Ctrl-C ends all" in log.read_text() or command.poll() is not None)
    said = log.read_text()
    processes = family(command.pid)
    assert len(processes) >= 7, said
    exports = dict(re.findall(r"export (\w+)=(\S+)", said))
    environment = {**os.environ, **exports, "CURIOSITY_CATALOG": str(tmp_path / "runs")}
    words = re.search(r"curiosity (queue add .*)", said)
    assert words is not None
    quick = [*words[1].split()[:2], "--strategy", "random", "--points", "7", "--start"]
    subprocess.run([*CURIOSITY, *quick], check=True, env=environment, cwd=tmp_path)
    if how == "redis":
        [redis] = [process for process in processes if process.name() == "redis-server"]
        redis.kill()
    else:
        command.send_signal(signal.Signals[how])
    assert command.wait(120) == (2 if how == "redis" else 0)
    said = log.read_text()
    assert ("redis has ended" if how == "redis" else "all of it has ended") in said
    assert alive(processes) == []
    for port in map(int, re.findall(r"127\.0\.0\.1:(\d+)", said)):
        with pytest.raises(OSError):
            is_listening(port)

"""A process that is told to end while it measures: SIGTERM, SIGHUP, a closed terminal."""

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import bluesky.plan_stubs as bps
import pytest
from bluesky import RunEngine
from bluesky.plans import count
from bluesky.utils import RequestAbort, RunEngineInterrupted
from ophyd import Signal
from ophyd.status import Status
from support import QUICK, WAIT, events, grouped

from curiosity_bluesky import connect, curiosity_plan, end_in_order
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans import posix_signals
from curiosity_bluesky.plans.posix_signals import (
    ClosedStreamGuard,
    SignalHandler,
    TerminatedBySignal,
)
from curiosity_bluesky.utils.run_end import EndKind, RunEnd
from sim_devices import SyntheticSample

pexpect = pytest.importorskip("pexpect", reason="the terminal is driven with pexpect")

BIN = Path(sys.executable).parent
LONG = 120.0
SIGNALS = {"SIGTERM": 143, "SIGHUP": 129}

SCRIPT = """
import sys
from bluesky import RunEngine
from curiosity_bluesky import connect, curiosity_plan, end_in_order
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample
from ophyd import Signal

class Tip(Signal):
    def set(self, value):
        print("tip", value, flush=True)
        return super().set(value)

film = simulated_instrument(SyntheticSample((16, 14), seed=1, points=16), speed=4)
stopped = film.stage.x.stop
film.stage.x.stop = lambda *, success=False: (print("stopped x", flush=True), stopped())
RE = RunEngine({})
end_in_order(RE)
with connect(sys.argv[1]) as catalog:
    RE.subscribe(catalog.writer())
    spectra = []
    def say(name, doc):
        if "decision_id" in doc.get("data", {}) and "doses" in doc["data"]:
            print("spectrum", doc["data"]["decision_id"], flush=True)
        if name == "stop":
            print("stop document:", doc["exit_status"], doc["reason"], flush=True)
    RE.subscribe(say)
    plan = curiosity_plan(
        [film.spectrometer], film.stage.x, film.stage.y, film.imager, num_points=100,
        strategy="random", options={"parameters": {"patch_size": 3, "n_seeds": 6}},
        tip=Tip(name="tip"),
    )
    try:
        RE(plan)
    finally:
        print("RE", RE.state, flush=True)
print("nobody comes here", flush=True)
"""

PAUSED = SCRIPT.replace(
    "    try:\n",
    """
    import threading
    from bluesky.utils import RequestAbort, RunEngineInterrupted
    def pause(name, doc):
        if "doses" in doc.get("data", {}):
            RE.unsubscribe(token)
            threading.Thread(target=RE.request_pause).start()
    token = RE.subscribe(pause)
    try:
        RE(plan)
    except RunEngineInterrupted:
        print("paused", flush=True)
    plan = ()
    import signal
    signal.pause()
    try:
""",
)


# ---- in this process


@pytest.fixture
def instrument():
    return simulated_instrument(SyntheticSample((16, 14), seed=1, points=16), speed=math.inf)


def test_a_signal_that_another_thread_receives_ends_a_run_too(instrument):
    """The kernel gives a signal of the process to any thread; here to that of the plan."""
    RE, noticed = RunEngine({}), []

    def plan():
        yield from bps.open_run()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        try:
            yield from bps.sleep(WAIT)
        except RequestAbort:
            noticed.append(True)
            raise
        yield from bps.close_run()

    with SignalHandler(RE), pytest.raises(TerminatedBySignal):
        RE(plan())
    assert noticed and RE.state == "idle"
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL and signal.set_wakeup_fd(-1) == -1


class Tip(Signal):
    """A tip that remembers where it was, and that hangs once it is told to."""

    def __init__(self):
        super().__init__(name="tip")
        self.been, self.meanwhile = [], None

    def set(self, value, **kwargs):
        self.been.append(value)
        if self.meanwhile is not None:
            threading.Thread(target=self.meanwhile).start()
            self.meanwhile = None
            return Status()  # it never gets there
        return super().set(value, **kwargs)


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_a_run_in_order(instrument, name, paused, caplog):
    RE, found, tip = RunEngine({}), [], Tip()
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    stdout, stop = sys.stdout, []
    x = instrument.stage.x
    x.stop = lambda *, success=False, once_more=x.stop: (stop.append("x"), once_more())

    def tell():
        os.kill(os.getpid(), getattr(signal, name))

    def at_spectrum(name, doc):
        if doc.get("data", {}).get("decision_id") == 3 and "doses" in doc["data"]:
            tip.meanwhile = RE.request_pause if paused else tell

    RE.subscribe(at_spectrum)
    plan = curiosity_plan(
        *([instrument.spectrometer], x, instrument.stage.y, instrument.imager),
        **grouped(**{"num_points": 100, "strategy": "random", "parameters": QUICK, "tip": tip}),
    )
    with SignalHandler(RE), pytest.raises(TerminatedBySignal) as told:
        try:
            RE(plan, lambda *document: found.append(document))
        except RunEngineInterrupted:
            assert paused and found[-1][0] != "stop"
            tell()
    assert [record.exc_info for record in caplog.records if record.name == "bluesky"] == []
    assert told.value.code == SIGNALS[name] and RE.state == "idle"
    assert found[-1][0] == "stop" and found[-1][1]["exit_status"] == "abort"
    assert RunEnd.of(found[-1][1]).kind is EndKind[name]
    assert tip.been[-1] == "up" and stop
    assert {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS} == before
    assert sys.stdout is stdout
    # The next run is like any other.
    RE(count([instrument.spectrometer]), lambda *document: found.append(document))
    assert found[-1][1]["exit_status"] == "success"


def run_of(instrument, tip=None):
    return curiosity_plan(
        *([instrument.spectrometer], instrument.stage.x, instrument.stage.y, instrument.imager),
        **grouped(**{"num_points": 100, "strategy": "random", "parameters": QUICK, "tip": tip}),
    )


def told_while_it_measures(RE, instrument):
    """Run the plan and have this process told to end; the tip hangs, so that the run does not."""
    tip, found = Tip(), []

    def at_spectrum(name, doc):
        found.append((name, doc))
        if doc.get("data", {}).get("decision_id") == 3 and "doses" in doc["data"]:
            tip.meanwhile = lambda: os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TerminatedBySignal):
        RE(run_of(instrument, tip), at_spectrum)
    assert RunEnd.of(found[-1][1]).kind is EndKind.SIGTERM


def test_a_caller_that_catches_everything_begins_no_other_run(instrument):
    RE, found = RunEngine({}), []
    with SignalHandler(RE):
        told_while_it_measures(RE, instrument)
        for _ in range(2):
            with pytest.raises(
                TerminatedBySignal
            ):  # at once, and not when it has measured for hours
                RE(run_of(instrument), lambda *document: found.append(document))
        assert found == [] and RE.state == "idle"
    RE(count([instrument.spectrometer]), lambda *document: found.append(document))
    assert found[-1][1]["exit_status"] == "success"


def test_a_process_that_lives_on_is_ended_by_the_next_signal(instrument, monkeypatch):
    monkeypatch.setattr(posix_signals, "AT_ONCE", 0.0)
    RE, heard = RunEngine({}), []
    before = signal.signal(signal.SIGTERM, lambda *args: heard.append(args))
    try:
        with SignalHandler(RE):
            told_while_it_measures(RE, instrument)
            assert not heard
            signal.raise_signal(signal.SIGTERM)  # the RunEngine is idle
            assert len(heard) == 1
            monkeypatch.setattr(posix_signals, "AT_ONCE", math.inf)  # as one that says so twice
            signal.raise_signal(signal.SIGTERM)
            assert len(heard) == 1
    finally:
        signal.signal(signal.SIGTERM, before)


class Stuck(Tip):
    """A tip that is told to go up and never gets there."""

    def __init__(self, then):
        super().__init__()
        self.then, self.stuck = then, False

    def set(self, value, **kwargs):
        if not self.stuck or value != "up":
            return super().set(value, **kwargs)
        self.been.append(value)
        self.then()
        return Status()


def test_a_second_signal_breaks_off_what_the_end_waits_for(instrument, monkeypatch):
    """The tip does not answer: the plan would wait for its timeout of ten minutes."""
    monkeypatch.setattr(posix_signals, "AT_ONCE", 0.0)
    RE, found = RunEngine({}), []

    def tell():
        os.kill(os.getpid(), signal.SIGTERM)

    def at_spectrum(name, doc):
        found.append((name, doc))
        if doc.get("data", {}).get("decision_id") == 3 and "doses" in doc["data"]:
            tip.stuck = True

    tip = Stuck(tell)  # each lift that is begun is answered with one more signal
    with SignalHandler(RE), pytest.raises(TerminatedBySignal):
        RE(run_of(instrument, tip), at_spectrum)
    assert tip.been[-2:] == ["up", "up"]  # between two points, and at the end
    assert (
        RunEnd.of(found[-1][1]).kind is EndKind.SIGTERM and found[-1][1]["exit_status"] == "abort"
    )


# ---- in processes of their own


def ran(code, tmp_path, when, signum):
    """Run a script, send it a signal when it says something; return status and what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "runs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if line.startswith(when):
                process.send_signal(signum)
                when = "\0"
        return process.wait(LONG), said


def check_ended(directory, name):
    """Check that the one run there has its stop document, and lies where runs lie."""
    with connect(directory, create=False) as catalog:
        [run] = catalog.runs()
        assert run.status == "abort" and 2 <= run.points < 100
        documents = catalog.documents(run.uid)
        assert documents[-1][0] == "stop"
        end = RunEnd.of(documents[-1][1])
        assert end.kind is EndKind[name]
        assert len(events(documents, "primary")) == run.points
        assert not list(catalog.journal.glob("*.jsonl"))  # nothing waits any more


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_a_script_ends_its_run_in_order(tmp_path, name):
    status, said = ran(SCRIPT, tmp_path, "spectrum 3", getattr(signal, name))
    assert status == SIGNALS[name]
    assert f"stop document: abort {name}: " in "\n".join(said) and "stopped x" in said
    assert [line for line in said if line.startswith("tip")][-1] == "tip up"
    assert "RE idle" in said and "nobody comes here" not in said
    check_ended(tmp_path / "runs", name)


def test_what_was_measured_when_the_signal_came_is_in_the_catalogue(instrument, tmp_path):
    """As of a script, but in this process."""
    RE = RunEngine({})
    with connect(tmp_path / "runs") as catalog, SignalHandler(RE):
        RE.subscribe(catalog.writer(batch_size=1000))
        told_while_it_measures(RE, instrument)
    check_ended(tmp_path / "runs", "SIGTERM")


# What calls the RunEngine as the worker of a Queue Server does: whatever a plan raises is caught.
WORKER = """
import signal
def swallowing(RE):
    def call(*args):
        try:
            RE(*args)
        except BaseException as error:
            print("swallowed", repr(error), flush=True)
            signal.pause()
    return call
"""


@pytest.mark.slow
def test_a_worker_that_survives_every_exception_is_ended_too(tmp_path):
    code = WORKER + SCRIPT.replace("end_in_order(RE)", "").replace("RE(plan)", "call(plan)")
    begin = "    RE.subscribe(catalog.writer())\n"
    assert begin in code
    code = code.replace(
        begin,
        begin + "    end_in_order(RE, last=catalog.close)\n    call = swallowing(RE)\n",
    )
    status, said = ran(code, tmp_path, "spectrum 3", signal.SIGTERM)
    assert status == 143 and "swallowed" not in "\n".join(said)
    assert "stop document: abort SIGTERM: the process was told to end" in said
    check_ended(tmp_path / "runs", "SIGTERM")


def test_a_third_signal_ends_the_process_at_once(tmp_path):
    """A plan that nothing breaks off: each signal is answered with the next step."""
    code = """
import signal, threading
from bluesky import RunEngine, plan_stubs as bps
from curiosity_bluesky import end_in_order
from curiosity_bluesky.plans import posix_signals
posix_signals.AT_ONCE = 0.0
RE = RunEngine({})
end_in_order(RE)
def stubborn():
    while True:
        try:
            print("step", flush=True)
            yield from bps.sleep(1000)
        except Exception:
            pass
RE(stubborn())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        steps = 0
        for line in process.stdout:
            if line == "step\n":
                steps += 1
                process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM and steps == 3


@pytest.mark.slow
def test_a_paused_run_is_ended_too(tmp_path):
    status, said = ran(PAUSED, tmp_path, "paused", signal.SIGTERM)
    assert status == 143
    assert "stop document: abort SIGTERM: the process was told to end" in said
    assert [line for line in said if line.startswith("tip")][-1] == "tip up"


def demo(tmp_path, *more):
    return [
        *(str(BIN / "curiosity"), "demo", "--sample", "synthetic", "--strategy", "random"),
        *("--set", "patch_size=3", "--set", "n_seeds=6", "--speed", "5", "--points", "200"),
        *("--no-plot", "--catalog", str(tmp_path / "runs"), *more),
    ]


@pytest.mark.slow
def test_the_demo_says_how_to_go_on(tmp_path):
    command, *arguments = demo(tmp_path)
    child = pexpect.spawn(command, arguments, timeout=LONG, dimensions=(40, 200))
    child.expect_exact("measuring (random)")
    child.kill(signal.SIGTERM)
    said = child.read().decode()
    child.close()
    assert child.exitstatus == 143, said
    assert "SIGTERM" in said and "curiosity resume" in said
    check_ended(tmp_path / "runs", "SIGTERM")


@pytest.mark.slow
def test_a_closed_terminal_ends_the_demo_in_order(tmp_path):
    command, *arguments = demo(tmp_path)
    child = pexpect.spawn(command, arguments, timeout=LONG)
    child.expect_exact("measuring (random)")
    os.close(child.child_fd)  # as when the window is closed
    _, status = os.waitpid(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    check_ended(tmp_path / "runs", "SIGHUP")


@pytest.mark.slow
def test_a_closed_terminal_that_is_ignored_disturbs_nothing(tmp_path):
    """As with `nohup`: SIGHUP is ignored, and what goes to the terminal fails."""
    command = demo(tmp_path, "--points", "12")
    code = "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    code += f"os.execv({command[0]!r}, {command!r})"
    child = pexpect.spawn(sys.executable, ["-c", code], timeout=LONG)
    child.expect_exact("measuring (random)")
    os.close(child.child_fd)
    os.waitpid(child.pid, 0)
    with connect(tmp_path / "runs", create=False) as catalog:
        [run] = catalog.runs()
        assert run.status == "success" and run.points == 12


def test_an_idle_process_is_ended_as_before(tmp_path):
    code = "import signal; from bluesky import RunEngine\n"
    code += "from curiosity_bluesky import end_in_order; end_in_order(RunEngine({}))\n"
    code += "print('ready', flush=True); signal.pause()"
    assert ran(code, tmp_path, "ready", signal.SIGTERM)[0] == -signal.SIGTERM


def test_another_thread_is_told_where_to_call_it():
    said = []

    def call():
        with pytest.raises(InputError, match="main thread") as error:
            end_in_order(RunEngine({}))
        said.append(str(error.value))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(WAIT)
    assert said


def test_what_cannot_be_written_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "w") as pipe:
        tolerant = ClosedStreamGuard(pipe)
        assert tolerant.write("word") == 4
        tolerant.flush()
        assert tolerant.fileno() == writer
        pipe.flush()


@pytest.mark.slow
def test_ipython_ends_too_though_a_cell_takes_system_exit_for_a_slip(tmp_path):
    shell = pexpect.spawn(
        str(BIN / "ipython"),
        ["--colors=NoColor", "--simple-prompt", "--no-banner"],
        timeout=LONG,
        encoding="utf8",
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )
    shell.expect(r"In \[1\]")
    shell.sendline(
        "from bluesky import RunEngine; import bluesky.plan_stubs as bps; "
        "from curiosity_bluesky import end_in_order; RE = RunEngine({}); end_in_order(RE)"
    )
    shell.expect(r"In \[2\]")
    shell.sendline(
        "RE([*bps.open_run(), *bps.checkpoint(), *bps.sleep(1000)], "
        "lambda name, doc: print('told', name, doc.get('reason')))"
    )
    shell.expect("told start")
    shell.kill(signal.SIGTERM)
    shell.expect("told stop SIGTERM: the process was told to end")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 143

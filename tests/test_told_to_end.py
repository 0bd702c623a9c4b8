"""A process that is told to end while it measures: SIGTERM, SIGHUP, a closed terminal."""

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bluesky import RunEngine
from bluesky.plans import count
from bluesky.utils import RunEngineInterrupted
from ophyd import Signal
from ophyd.status import Status
from support import QUICK, WAIT, events, slowly

from curiosity_bluesky import connect, curiosity_plan, end_in_order
from curiosity_bluesky.ends import End, Kind
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.session import simulated_instrument
from curiosity_bluesky.told_to_end import OrderlyEnd, ToldToEnd, Tolerant
from sim_devices import SyntheticSample

pexpect = pytest.importorskip("pexpect", reason="the terminal is driven with pexpect")

BIN = Path(sys.executable).parent
LONG = 120.0
SIGNALS = {"SIGTERM": 143, "SIGHUP": 129}

SCRIPT = """
import sys
from bluesky import RunEngine
from curiosity_bluesky import connect, curiosity_plan, end_in_order
from curiosity_bluesky.session import simulated_instrument
from sim_devices import SyntheticSample
from ophyd import Signal

class Tip(Signal):
    def set(self, value):
        print("tip", value, flush=True)
        return super().set(value)

film = simulated_instrument(SyntheticSample((16, 14), seed=1, points=16), speed=20)
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
        strategy="random", parameters={"patch_size": 3, "n_seeds": 6}, tip=Tip(name="tip"),
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
    from bluesky.utils import RunEngineInterrupted
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
def test_a_signal_ends_a_run_in_order(instrument, name, paused):
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
        **{"num_points": 100, "strategy": "random", "parameters": QUICK, "tip": tip},
    )
    with OrderlyEnd(RE), pytest.raises(ToldToEnd) as told:
        try:
            RE(plan, lambda *document: found.append(document))
        except RunEngineInterrupted:
            assert paused and found[-1][0] != "stop"
            tell()
    assert told.value.code == SIGNALS[name] and RE.state == "idle"
    assert found[-1][0] == "stop" and found[-1][1]["exit_status"] == "abort"
    assert End.of(found[-1][1]).kind is Kind[name]
    assert tip.been[-1] == "up" and stop
    assert {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS} == before
    assert sys.stdout is stdout
    # The next run is like any other.
    RE(count([instrument.spectrometer]), lambda *document: found.append(document))
    assert found[-1][1]["exit_status"] == "success"


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
        end = End.of(documents[-1][1])
        assert end.kind is Kind[name]
        assert len(events(documents, "primary")) == run.points
        assert not list(catalog.journal.glob("*.jsonl"))  # nothing waits any more


@pytest.mark.parametrize("name", ["SIGTERM", *slowly("SIGHUP")])
def test_a_script_ends_its_run_in_order(tmp_path, name):
    status, said = ran(SCRIPT, tmp_path, "spectrum 3", getattr(signal, name))
    assert status == SIGNALS[name]
    assert f"stop document: abort {name}: " in "\n".join(said) and "stopped x" in said
    assert [line for line in said if line.startswith("tip")][-1] == "tip up"
    assert "RE idle" in said and "nobody comes here" not in said
    check_ended(tmp_path / "runs", name)


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
    child.expect("measuring: random")
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
    child.expect("measuring: random")
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
    child.expect("measuring: random")
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
        tolerant = Tolerant(pipe)
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

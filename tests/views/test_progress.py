"""Progress of a run, as one line of a terminal and as lines of a log."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.callbacks.best_effort import BestEffortCallback
from stored import STORED, documents_in
from support import QUICK, collected_run, paused_run

from curiosity_bluesky import curiosity_plan
from curiosity_bluesky.demo import SimulatedInstrument
from curiosity_bluesky.views import ProgressLine, show_progress


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_has_a_line_for_every_tenth_of_a_run() -> None:
    file = io.StringIO()
    line = ProgressLine(file)
    for name, doc in documents_in(STORED / "curious.jsonl.gz"):
        line(name, doc)
    first, *between, last = file.getvalue().splitlines()
    assert re.fullmatch(r"run [0-9a-f]{8}: 0 of 9 spectra with curious", first)
    assert re.fullmatch(r"run [0-9a-f]{8}: 9 of 9 spectra", last)
    counts = [int(said.split()[0]) for said in between]
    assert counts == sorted(set(counts)) and counts[-1] == 8
    assert "error" in between[-1] and "left" in between[-1]


def test_a_resumed_run_counts_on() -> None:
    file = io.StringIO()
    line = ProgressLine(file)
    documents = documents_in(STORED / "lcmd-interrupted.jsonl.gz")
    line.recall(documents)
    assert not file.getvalue()  # it may still be refused
    uid = documents[0][1]["uid"]
    measured = line._count.n
    line("start", {**documents[0][1], "uid": "next", "curiosity_resumes": uid})
    assert measured and f"run next: {measured} of" in file.getvalue()


def test_a_terminal_has_one_line_that_says_what_is_done(
    RE: RunEngine, instrument: SimulatedInstrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    line = ProgressLine(file)
    shown: list[str] = []

    def look(name: str, doc: dict[str, Any]) -> None:
        line(name, doc)
        if line._bar is not None:
            [task] = line._bar.tasks
            shown.append(f"{task.completed}/{task.total} {task.description}")

    RE.subscribe(look)
    collected_run(RE, instrument)
    assert line._bar is None  # the line is gone, and one stays
    assert "8 of 8 spectra" in file.getvalue().splitlines()[-1]
    words = " ".join(shown)
    assert "taking the survey" in words and "deciding" in words
    assert re.search(r"2/8 measuring \(seed\) at [\d.e-]+, [\d.e-]+ um", words)


def test_the_line_is_gone_while_the_engine_is_paused(
    RE: RunEngine, instrument: SimulatedInstrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    states: list[str] = []
    RE.state_hook = lambda new, old: states.append(new)
    line = show_progress(RE)
    line._console.file = Terminal()

    stage = instrument.stage
    plan = curiosity_plan(
        [instrument.spectrometer], stage.x, stage.y, instrument.imager, 6,
        options={"parameters": QUICK},
    )  # fmt: skip
    seen: list[bool] = []

    def meanwhile() -> None:
        seen.append(line._bar is None)

    pauses = paused_run(RE, plan, lambda n, msg: n == 150, meanwhile=meanwhile)
    assert pauses == 1 and seen == [True]
    assert line._bar is None and "6 of 6" in line._console.file.getvalue()
    assert "paused" in states  # the hook that was there is called, too


def test_the_table_of_bluesky_stands_beside_it(
    RE: RunEngine, instrument: SimulatedInstrument, capsys: pytest.CaptureFixture[str]
) -> None:
    RE.subscribe(BestEffortCallback())
    file = io.StringIO()
    RE.subscribe(ProgressLine(file))
    collected_run(RE, instrument)
    out = capsys.readouterr().out
    assert "spectrometer_quality" in out or "seq_num" in out
    assert "predicted_error" not in out and "first_row" not in out
    assert "8 of 8" in file.getvalue() and "8 of 8" not in out


def test_other_plans_are_counted_too() -> None:
    file = io.StringIO()
    line = ProgressLine(file)
    line("start", {"uid": "12345678-9", "plan_name": "count", "time": 0.0})
    line("descriptor", {"uid": "d", "name": "primary", "data_keys": {}, "run_start": "1"})
    for k in range(3):
        line("event", {"descriptor": "d", "data": {"det": math.pi}, "seq_num": k + 1})
    line("stop", {"uid": "s", "exit_status": "success", "run_start": "12345678-9"})
    assert "run 12345678: 3 spectra" in file.getvalue()


def test_an_error_is_said_once_and_stops_no_run(
    RE: RunEngine, instrument: SimulatedInstrument, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("the terminal is gone")

    RE.subscribe(ProgressLine(Gone()))
    _, documents = collected_run(RE, instrument)
    assert documents[-1][1]["exit_status"] == "success"
    assert len([r for r in caplog.records if "cannot be shown" in r.message]) == 1


def test_another_plan_is_not_said_to_take_a_survey_or_to_be_ended_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    line = ProgressLine(file)
    line("start", {"uid": "12345678-9", "plan_name": "count", "time": 0.0})
    line("stop", {"uid": "s", "exit_status": "success", "run_start": "12345678-9"})
    assert "survey" not in file.getvalue() and "by hand" not in file.getvalue()


def test_a_terminal_that_is_closed_leaves_the_engine_idle(
    RE: RunEngine, instrument: SimulatedInstrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    line = ProgressLine(file)

    def closed(name: str, doc: dict[str, Any]) -> None:
        line(name, doc)
        if name == "event" and not file.closed:
            file.close()

    RE.state_hook = lambda new, old: line.hide() if new == "idle" else None  # pyright: ignore[reportAttributeAccessIssue]
    RE.subscribe(closed)
    _, documents = collected_run(RE, instrument)
    assert documents[-1][1]["exit_status"] == "success"
    assert RE.state == "idle"


def test_what_goes_to_a_file_does_not_go_to_the_terminal_of_the_line(
    RE: RunEngine,
    instrument: SimulatedInstrument,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    RE.subscribe(ProgressLine(file))
    RE.subscribe(lambda name, doc: print(f"heard {name}"))
    collected_run(RE, instrument)
    assert "heard event" in capsys.readouterr().out
    assert "heard" not in file.getvalue()

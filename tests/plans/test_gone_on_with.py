"""A run that another run went on with is not gone on with a second time."""

import json
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from plain import Bench
from support import grouped

from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.catalog.successors import in_list, successor_of
from curiosity_bluesky.cli import main
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.plans.resume import InterruptedRun
from curiosity_bluesky.plans.steering import Steering
from curiosity_bluesky.plans.warm_start import fetch_interrupted
from curiosity_bluesky.views.report import show_run


def run(runs, n, stop=None, **given):
    """Measure up to `n` spectra, stopped after `stop`; return the uid."""
    bench, steering = Bench(), Steering()
    bench.RE.subscribe(runs.writer())

    def hear(name, doc):
        if "attempt" in doc.get("data", {}) and bench.detector.measured == stop:
            steering.stop("enough for today")

    bench.RE.subscribe(hear)
    if "resume" not in given:
        [uid] = bench.run(n, steering=steering)
        return uid
    devices: Any = bench.detectors, bench.x, bench.y, bench.camera
    more = {"catalog": runs.where, "steering": steering, "retries": 0, "num_points": n}
    [uid] = bench.RE(curiosity_plan(*devices, **grouped(**more, **given)))
    return uid


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Runs of 3, 2 and 1 spectra of 6, each of which goes on with the one before."""
    with connect(tmp_path_factory.mktemp("gone-on") / "runs") as runs:
        first = run(runs, 6, 3)
        second = run(runs, None, 2, resume=first)
        third = run(runs, None, resume=second[:8])
        yield runs, [first, second, third]


def test_a_run_is_gone_on_with_once(three):
    runs, (first, second, third) = three
    for uid, dry_run in ((first, False), (second, True)):
        newest = successor_of(runs, uid)
        assert newest is not None and newest.uid == third
        with pytest.raises(
            InputError, match=f"{uid} was gone on with already, by run {third} .success, 1 more"
        ) as error:
            run(runs, 8, resume=uid, dry_run=dry_run)
        assert str(error.value).endswith(f"resume that one: {third[:8]}")
    assert successor_of(runs, third) is None


HOLDING = """
import sys
from pathlib import Path
from types import SimpleNamespace
from curiosity_bluesky.catalog.successors import lock_to_resume

where, uid = sys.argv[1:]
lock = lock_to_resume(SimpleNamespace(journal=Path(where)), uid)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_run_that_another_process_resumes_is_not_resumed_until_that_has_ended(tmp_path):
    with connect(tmp_path / "runs") as runs:
        first = run(runs, 6, 3)
        command = [sys.executable, "-c", HOLDING, str(runs.journal), first]
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
            try:
                assert other.stdout is not None and other.stdout.readline() == "held\n"
                for dry_run in (False, True):
                    with pytest.raises(InputError, match=f"being resumed .*process {other.pid}"):
                        run(runs, None, 5, resume=first[:8], dry_run=dry_run)
            finally:
                other.kill()  # what was killed holds nothing
        second = run(runs, None, 5, resume=first[:8])
        assert runs[second].start["curiosity_resumes"] == first
        assert not [*(tmp_path / "runs" / "journal-resuming").iterdir()]


def test_a_plan_that_ends_while_a_run_is_fetched_keeps_no_lock(tmp_path, monkeypatch):
    began, go_on, fetched = threading.Event(), threading.Event(), threading.Event()
    release = InterruptedRun.release

    def held(runs, uid):
        past = fetch_interrupted(runs, uid)
        began.set()
        assert go_on.wait(60)
        return past

    def noted(past):
        release(past)
        fetched.set()

    monkeypatch.setattr("curiosity_bluesky.plans.warm_start.fetch_interrupted", held)
    monkeypatch.setattr(InterruptedRun, "release", noted)
    with connect(tmp_path / "runs") as runs:
        uid, bench = run(runs, 5, stop=2), Bench()
        devices: Any = bench.detectors, bench.x, bench.y, bench.camera
        plan = curiosity_plan(*devices, **grouped(resume=uid, catalog=runs.where))
        assert next(plan).command == "RE_class"
        assert plan.send(RunEngine).command == "wait_for"
        assert began.wait(60)
        plan.close()  # as an abort does
        locks = tmp_path / "runs" / "journal-resuming"
        assert [*locks.iterdir()]
        go_on.set()
        assert fetched.wait(60)
        assert not [*locks.iterdir()]


def test_a_run_that_is_still_measured_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr("curiosity_bluesky.plans.warm_start.UPLOAD_SECONDS", 0.0)
    refused = []
    with connect(tmp_path / "runs") as runs:
        bench = Bench()
        bench.RE.subscribe(runs.writer())

        def resume(name, doc):
            if "attempt" in doc.get("data", {}) and not refused:
                [journal] = runs.journal.glob("*.jsonl")
                with pytest.raises(InputError, match="still being measured") as error:
                    fetch_interrupted(runs, journal.stem)
                refused.append(error.value)

        bench.RE.subscribe(resume)
        bench.run(3)
    assert refused


@pytest.mark.slow
def test_of_two_commands_that_resume_a_run_at_once_one_measures(tmp_path):
    curiosity = str(Path(sys.executable).with_name("curiosity"))
    where = ("--catalog", str(tmp_path / "runs"))
    quick = ("--set", "patch_size=3", "--set", "n_seeds=4", "--no-plot", "--strategy", "random")
    demo = [curiosity, "demo", "--sample", "synthetic", "--points", "40", "--speed", "5", *quick]
    child = subprocess.Popen([*demo, *where], stdout=-3, stderr=-3)
    journal = tmp_path / "runs" / "journal"
    while not any('"attempt"' in path.read_text() for path in journal.glob("*.jsonl")):
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    [uid] = [path.stem for path in journal.glob("*.jsonl")]
    resume = [curiosity, "resume", uid, "--no-plot", *where]
    both = [subprocess.Popen(resume, stdout=-3, stderr=-1, text=True) for _ in range(2)]
    said = {each.communicate()[1]: each.returncode for each in both}
    assert sorted(said.values()) == [0, 2], said
    [refused] = [text for text, code in said.items() if code == 2]
    assert "being resumed by another plan" in refused or "was gone on with already" in refused
    with connect(tmp_path / "runs") as runs:
        assert [run.resumes for run in runs.runs()] == [None, uid]


def test_lists_and_reports_say_so(three, capsys):
    runs, (first, second, third) = three
    said = in_list(runs.runs())
    assert said[first] == ("3 of 6", f"success, gone on with by {second[:8]}")
    assert said[second][0] == "3 + 2 of 6" and said[third] == ("3 + 2 + 1 of 6", "success")
    assert in_list(runs.runs(last=1))[third][0] == "1 of 6"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [dict(show_run(runs, uid).rows()) for uid in (first, third)]
    assert rows[0]["gone on with by"] == f"{third} (success)" and "went on with" not in rows[0]
    assert rows[1]["went on with"] == second and "gone on with by" not in rows[1]
    with pytest.raises(SystemExit) as end:
        main(["runs", "--catalog", str(runs.where), "--json"])
    assert not end.value.code
    assert [r["resumes"] for r in json.loads(capsys.readouterr().out)] == [None, first, second]

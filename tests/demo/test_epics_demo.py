"""The main job over Channel Access with one command, and the profile for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curiosity_bluesky.cli import main
from sim_devices.ioc import IOCProcess, client_environment

pytest.importorskip("epics", reason="Channel Access comes with the extra 'epics'")
pytest.importorskip("caproto", reason="the IOC comes with the extra 'epics'")

ROOT = Path(__file__).parents[2]
CURIOSITY = [sys.executable, "-m", "curiosity_bluesky.cli"]
QUICK = ["--sample", "synthetic", "--set", "patch_size=3", "--set", "n_seeds=6", "--json"]
QUICK += ["--strategy", "random", "--no-plot"]


def environment():
    known = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_")}
    return {**known, "PYTHONPATH": str(ROOT)}


def curiosity(*words, cwd, **how):
    return subprocess.Popen(
        [*CURIOSITY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
        env=environment(), **how,
    )  # fmt: skip


def answer(process):
    out, err = process.communicate(timeout=200)
    assert out, err
    return json.loads(out)


def iocs_of(pid):
    """Processes that serve an IOC for a demo."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if "--until-eof" in words and int(parent) == pid:
            found.append(int(entry.name))
    return found


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_demo_over_epics_is_the_demo(tmp_path):
    words = ["demo", *QUICK, "--points", "12", "--speed", "1000"]
    over = answer(curiosity(*words, "--devices", "epics", "--catalog", "over", cwd=tmp_path))
    here = answer(curiosity(*words, "--catalog", "here", cwd=tmp_path))
    for key in ("points", "reason", "test_nmse", "hidden_nmse", "published_score"):
        assert over[key] == here[key]
    assert over["points"] == 12


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_however_a_demo_ends_its_ioc_ends_and_the_run_goes_on(tmp_path, how):
    words = ["demo", *QUICK, "--points", "40", "--speed", "1", "--devices", "epics"]
    demo = curiosity(*words, "--catalog", "runs", cwd=tmp_path)
    journal = tmp_path / "runs" / "journal"
    deadline = time.monotonic() + 100
    while not any('"decision_id": 3' in file.read_text() for file in journal.glob("*.jsonl")):
        assert time.monotonic() < deadline and demo.poll() is None
        time.sleep(0.1)
    [ioc] = iocs_of(demo.pid)
    [file] = journal.glob("*.jsonl")
    demo.send_signal(how)
    if how == signal.SIGINT:  # a second one, since the first asks for a pause at a checkpoint
        time.sleep(0.5)
        if demo.poll() is None:
            demo.send_signal(how)
    demo.communicate(timeout=100)
    deadline = time.monotonic() + 20
    while alive(ioc):
        assert time.monotonic() < deadline, "the IOC goes on"
        time.sleep(0.1)
    words = ["resume", file.stem, "--points", "8", "--no-plot", "--json", "--catalog", "runs"]
    resumed = answer(curiosity(*words, cwd=tmp_path))
    assert resumed["points"] >= 8


def test_an_ioc_says_how_to_reach_it_and_ends_when_told(tmp_path):
    for how in (signal.SIGTERM, signal.SIGINT):
        ioc = curiosity("ioc", "--sample", "synthetic", "--port", "0", cwd=tmp_path)
        said = []
        for line in ioc.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        text = "".join(said)
        assert "SPM:x, SPM:y" in text and "export EPICS_CA_ADDR_LIST=127.0.0.1:" in text
        ioc.send_signal(how)
        _, err = ioc.communicate(timeout=20)
        assert ioc.returncode == 0 and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fault", "boring=0.1"], "there is no fault 'boring'"),
        (["--fault", "nan=2"], "the probability of nan is 2"),
        (["--set", "colour=1"], "there is no setting 'colour'"),
        (["--set", "spectrum_s=long"], "spectrum_s is 'long'; expected a number"),
        (["--port", "99999"], "--port is 99999"),
    ],
)
def test_an_ioc_that_cannot_be_is_refused_in_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(["ioc", "--sample", "synthetic", *words])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("curiosity: ") and err.count("\n") == 1 and said in err


def test_an_ioc_that_cannot_listen_says_so_in_one_line(tmp_path):
    """In a process of its own: it has begun to repeat for Channel Access by then."""
    words = ["--host", "192.0.2.1", "--port", "5999"]
    ioc = curiosity("ioc", "--sample", "synthetic", *words, cwd=tmp_path)
    _, err = ioc.communicate(timeout=60)
    assert ioc.returncode == 2
    assert "cannot listen on 192.0.2.1" in err and "Traceback" not in err


@pytest.mark.slow
def test_the_profile_for_epics_runs_the_plan(tmp_path):
    profile = tmp_path / "profile_curiosity_epics"
    profile.mkdir()
    startup = ROOT / "profiles" / "profile_curiosity_epics" / "startup"
    (profile / "startup").symlink_to(startup)
    code = (
        "RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points=8,"
        " strategy='random', options={'parameters': {'patch_size': 3, 'n_seeds': 6}}));"
        "print('points', read(catalog[-1]).sizes['point'], catalog[-1].start['sample'])"
    )
    with IOCProcess("--sample", "synthetic", "--speed", "inf", prefix="LAB:") as ioc:
        more = {
            "CURIOSITY_PREFIX": "LAB:",
            "CURIOSITY_CATALOG": str(tmp_path / "runs"),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "MPLBACKEND": "agg",
        }
        done = subprocess.run(
            [sys.executable, "-m", "IPython", f"--profile-dir={profile}", "-c", code],
            capture_output=True, text=True, timeout=200, cwd=tmp_path,
            env=environment() | client_environment(ioc.port) | more,
        )  # fmt: skip
    assert "points 8 synthetic" in done.stdout, done.stdout + done.stderr


def test_the_profiles_differ_in_their_devices_only():
    for name in ("00-base.py", "90-plans.py"):
        one, other = (
            (ROOT / "profiles" / profile / "startup" / name).read_text()
            for profile in ("profile_curiosity", "profile_curiosity_epics")
        )
        assert one == other

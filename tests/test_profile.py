"""A real IPython with the shipped profile, and the Tiled profile over a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from bluesky import RunEngine
from support import collected_run

from curiosity_bluesky import connect, read

pexpect = pytest.importorskip("pexpect", reason="the terminal is driven with pexpect")

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PLAN = "RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points={}))"


def ipython(tmp_path: Path, sample: str) -> pexpect.spawn:
    environment = {
        **os.environ,
        "CURIOSITY_CATALOG": str(tmp_path / "runs"),
        "CURIOSITY_SAMPLE": sample,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TERM": "dumb",
    }
    # What IPython writes into its profile must not land in the project.
    profile = tmp_path / "profile_curiosity"
    profile.mkdir()
    (profile / "startup").symlink_to(ROOT / "profiles" / "profile_curiosity" / "startup")
    return pexpect.spawn(
        str(BIN / "ipython"),
        [f"--profile-dir={profile}", "--simple-prompt", "--colors=NoColor"],
        cwd=str(tmp_path),
        env=environment,
        encoding="utf8",
        timeout=280,
    )


def drive(shell: pexpect.spawn, num_points: int) -> None:
    """Type the two lines of the README and check what comes back."""
    shell.expect_exact("In [1]:")
    shell.sendline(PLAN.format(num_points))
    shell.expect_exact("In [2]:")
    assert "Traceback" not in shell.before
    [uid] = re.findall(r"\('([0-9a-f-]{36})',\)", shell.before)
    shell.sendline("catalog[-1]")
    shell.expect_exact("In [3]:")
    assert uid[:8] in shell.before and "decisions" in shell.before
    shell.sendline("read(catalog[-1]).sizes['point']")
    shell.expect_exact("In [4]:")
    assert f"Out[3]: {num_points}" in shell.before
    shell.sendline("exit")
    shell.expect(pexpect.EOF)


@pytest.mark.slow
def test_the_two_lines_of_the_readme_work_at_the_first_prompt(film_file, tmp_path):
    shell = ipython(tmp_path, str(film_file))
    drive(shell, 36)
    with connect(tmp_path / "runs", create=False) as catalog:
        [run] = catalog.runs(sample="film", strategy="curious")
        assert run.points == 36
        [picture] = catalog.pictures.glob("*.png")
        assert picture.stem == run.uid[:8]


@pytest.mark.slow
def test_bad_input_is_one_line_in_ipython(tmp_path):
    code = """
import math
from bluesky import RunEngine
from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import SyntheticSample

i = simulated_instrument(SyntheticSample((16, 14), points=16), speed=math.inf)
RunEngine({})(
    curiosity_plan([i.spectrometer], i.stage.x, i.stage.y, i.imager, 3, seed=-1)
)
"""
    done = subprocess.run(
        [str(BIN / "ipython"), "--colors=NoColor", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "dumb"},
        timeout=120,
    )
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    assert line.startswith("InputError: ") and "seed" in line
    assert "Traceback" not in done.stderr and "Run aborted" not in done.stderr


@pytest.mark.slow
def test_the_two_lines_work_on_the_default_recording(tmp_path):
    pytest.importorskip("mexpsimu", reason="the recordings come with the extra 'recordings'")
    drive(ipython(tmp_path, "PTO_BEPS_1d3um"), 60)


@pytest.fixture
def served(instrument, tmp_path):
    """Serve a catalogue of one run as `curiosity serve` does; return its uri, key and uid."""
    directory = tmp_path / "runs"
    with connect(directory) as catalog:
        first = RunEngine({})
        first.subscribe(catalog.writer())
        uid, _ = collected_run(first, instrument, num_points=7)
    with open(tmp_path / "serve.log", "w") as log:
        server = subprocess.Popen(
            [str(BIN / "curiosity"), "serve", "--catalog", str(directory), "--port", "0"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TILED_API_KEY": "secret"},
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://\S+", (tmp_path / "serve.log").read_text())):
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.1)
        yield found.group(), uid
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_tiled_and_databroker_open_the_same_runs_by_the_profile(served, tmp_path):
    uri, uid = served
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    shipped = (ROOT / "profiles" / "tiled" / "curiosity.yml").read_text()
    # The shipped profile but for the port, which another server on this machine may have.
    (profiles / "curiosity.yml").write_text(shipped.replace("http://127.0.0.1:8000/api/v1", uri))
    assert uri in (profiles / "curiosity.yml").read_text()
    code = """
import databroker, tiled.client
print(tiled.client.from_profile("curiosity")[-1].start["uid"])
run = databroker.catalog["curiosity"][-1]
print(run.start["uid"], len(run["primary"]["time"]))
"""
    environment = {**os.environ, "TILED_PROFILES": str(profiles)}
    environment.pop("TILED_API_KEY", None)
    # In a process of its own: databroker changes how the whole process reads runs.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout.split() == [uid, uid, "7"], done.stderr


@pytest.mark.slow
def test_a_served_catalogue_is_read_by_anybody_here_and_written_with_the_key(
    served, RE, instrument, monkeypatch, tmp_path
):
    uri, uid = served
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert httpx.get(f"{uri}/metadata/").status_code == 200
    monkeypatch.setenv("TILED_API_KEY", "secret")
    with connect(uri) as catalog:
        assert read(catalog[uid]).sizes["point"] == 7
        RE.subscribe(catalog.writer())
        new, _ = collected_run(RE, instrument, num_points=8)
        assert read(catalog[-1]).sizes["point"] == 8
        assert catalog[-1].start["uid"] == new


def test_the_installed_environment_has_the_profile():
    assert (Path(sys.prefix) / "etc" / "tiled" / "profiles" / "curiosity.yml").exists()

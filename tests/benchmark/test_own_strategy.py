"""The strategy that the documentation shows, as a reader would try it."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import collected_run, events

from curiosity_bluesky.learning import registry
from sim_devices import SyntheticSample

GUIDE = Path(__file__).parents[2] / "docs" / "your-own-strategy.md"
CURIOSITY = [sys.executable, "-c", "from curiosity_bluesky.cli import main; main()"]


def ran(command, folder, **environment):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=200,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the code of the guide as edges.py, and a film."""
    folder = tmp_path_factory.mktemp("own")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    [code] = [block for block in blocks if "@register" in block]
    (folder / "edges.py").write_text(code)
    film = SyntheticSample((13, 12), seed=1, points=8)
    [image] = film.images.values()
    np.savez(folder / "film.npz", image=image, spectra=film.target(), axis=film.axis)
    return folder


def test_it_runs_in_the_plan_once_imported(folder, RE, instrument, monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "edges", raising=False)
    importlib.import_module("edges")
    monkeypatch.delitem(sys.modules, "edges")
    parameters = {"patch_size": 3, "n_seeds": 4, "power": 0.5}
    _, documents = collected_run(RE, instrument, strategy="edges", parameters=parameters)
    reasons = [data["reason"] for data in events(documents, "decisions")]
    assert reasons == ["seed"] * 4 + ["curious"] * 4
    start = documents[0][1]
    assert start["curiosity_strategy"] == "edges" and start["curiosity_parameters"]["power"] == 0.5
    assert documents[-1][1]["exit_status"] == "success"


@pytest.mark.slow
def test_it_runs_in_the_demo(folder):
    command = "demo --load edges.py --strategy edges --set power=0.5 --sample film.npz --points 8"
    quick = "--set patch_size=3 --set n_seeds=4 --no-plot --json --speed 10000 --catalog runs"
    result = json.loads(ran([*CURIOSITY, *shlex.split(f"{command} {quick}")], folder))
    assert result["strategy"] == "edges" and result["points"] == 8 and result["test_nmse"] > 0


@pytest.mark.slow
def test_it_runs_in_the_benchmark_and_edited_it_runs_anew(folder):
    command = "benchmark --load edges.py --strategies edges --samples film.npz --out out --points 8"
    quick = "--n-seeds 4 --patch-size 3 --seeds 2 --workers 1 --set 'power=0.5' --json"
    words = [*CURIOSITY, *shlex.split(f"{command} {quick}")]
    result = json.loads(ran(words, folder))
    table = pd.read_parquet(folder / "out" / "trials.parquet")
    assert set(table["arm"]) == {"edges", "random"}  # random pixels with the same predictor
    assert any("`edges`" in sentence for sentence in result["sentences"])
    report = (folder / "out" / "report.md").read_text()
    [again] = [line for line in report.splitlines() if line.startswith("    curiosity benchmark")]
    assert shlex.split(again)[1:] == words[3:]
    before = {file.name for file in (folder / "out" / "trials").iterdir()}
    assert len(before) == 4
    code = (folder / "edges.py").read_text()
    (folder / "edges.py").write_text(code.replace("self.slopes *", "-self.slopes *"))
    ran(words, folder)
    after = {file.name for file in (folder / "out" / "trials").iterdir()}
    assert before < after and len(after) == 6  # those of the twin are as they were
    edited = pd.read_parquet(folder / "out" / "decisions.parquet")
    assert len(edited) == 4 * 8

"""What the demo says of the saving is what the benchmark measured."""

import json

import measured
import numpy as np
import pandas as pd
import pytest
from speed import large_survey

from curiosity_bluesky.demo import run
from curiosity_bluesky.learning import Strategy


def trials(directory, sample="film", seeds=8):
    """Curves where random pixels need 1.5 times the spectra (test), twice (hidden)."""
    rows = []
    for seed in range(seeds):
        for arm in ("curious", "random"):
            for n in range(30, 221, 10):
                test, hidden = (n, n) if arm == "random" else (1.5 * n, 2 * n)
                rows.append(
                    {"sample": sample, "arm": arm, "protocol": "shared", "seed": seed,
                     "n_observed": n, "test_nmse": 30 / test, "hidden_nmse": 30 / hidden}
                )  # fmt: skip
    pd.DataFrame(rows).to_parquet(directory / "trials.parquet")


def test_the_savings_of_a_campaign_are_written_and_said(tmp_path, monkeypatch, capsys):
    trials(tmp_path)
    file = tmp_path / "package" / "benchmark" / measured.OUT.name
    file.parent.mkdir(parents=True)
    measured.main([str(tmp_path), "--command", "curiosity benchmark ...", "--out", str(file)])
    assert json.loads(capsys.readouterr().out)["film"]["seeds"] == 8
    found = json.loads(file.read_text())
    assert found["samples"]["film"]["saving"].startswith("1.50")
    assert found["samples"]["film"]["hidden"].startswith("2.00")
    monkeypatch.setattr(run.resources, "files", lambda package: tmp_path / "package")
    curious = Strategy.named("curious", budget=60)
    said = run._saving(curious, "film")
    assert said is not None and said.startswith("1.50 (1.50 to 1.50) times as many random pixels")
    assert "at 100 spectra (8 seeds" in said and "curiosity benchmark ..." in said
    assert run._saving(curious, "another") is None
    assert run._saving(curious.replace(outputs=3), "film") is None  # measured as it is by default


def test_nothing_is_said_where_nothing_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(run.resources, "files", lambda package: tmp_path)
    assert run._saving(Strategy.named("curious"), "film") is None


@pytest.mark.slow
def test_a_large_survey_is_timed_and_weighed():
    found = large_survey(40, 60, decisions=3)
    assert found["candidates"] == 1600 and found["observed"] == 60
    assert 0 < found["seconds"] <= found["slowest"] and found["memory_MiB"] > 50
    assert np.isfinite(found["seeding_seconds"])

"""What lies under the microscope where nobody says it."""

import json

import pytest

from curiosity_bluesky.cli import main
from curiosity_bluesky.demo import samples


def test_without_recordings_the_demo_takes_the_synthetic_film_and_says_so(
    monkeypatch, tmp_path, capsys, caplog
):
    monkeypatch.setattr(samples, "mexpsimu_recordings", lambda: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["demo", "--dry-run", "--points", "20", "--strategy", "random", "--json"])
    outline = json.loads(capsys.readouterr().out)
    assert not end.value.code and outline["num_points"] == 20 and outline["n_seeds"] == 6
    [said] = [text for text in caplog.messages if "synthetic" in text]
    assert "PTO_BEPS_1d3um is not installed" in said and "[recordings]" in said


def test_with_recordings_it_takes_one_and_says_nothing(monkeypatch, caplog):
    monkeypatch.setattr(samples, "mexpsimu_recordings", lambda: {samples.RECORDED: "somewhere"})
    assert samples.default_sample() == samples.RECORDED and not caplog.messages

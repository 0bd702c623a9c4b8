"""The report says what the numbers say, also where that is not in our favour."""

import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest

from curiosity_bluesky.benchmark import (
    Campaign,
    Truth,
    figures,
    published,
    run_campaign,
    run_trial,
    write_report,
)
from curiosity_bluesky.benchmark.campaign import write_tables
from curiosity_bluesky.benchmark.trial import common_area
from curiosity_bluesky.errors import InputError

SEEDS = 8
STEPS = (5, 10, 20)


def made_up(campaign, last, noise=0.01):
    """Trials of which the test nMSE after 20 spectra is what `last` says for the arm."""
    results = []
    for truth, trial in campaign.trials():
        wobble = np.random.default_rng([trial.seed, *trial.arm.encode()]).normal() * noise
        end = last[trial.arm] + wobble
        curve = np.interp(STEPS, (5, 20), (1.0, end))
        scores = [
            {
                "n_observed": n,
                "test_nmse": value,
                "hidden_nmse": value + 0.1,
                "published_score": 10 + value,
                "worst_ten": value / 10,
            }
            for n, value in zip(STEPS, curve.tolist(), strict=True)
        ]
        decisions = [
            {
                "decision_id": k,
                "row": 3 + k // 6,
                "col": 3 + k % 6,
                "reason": "seed" if k < 5 else "curious",
                "error_before": None if k < 5 else 0.5,
                "seconds": 0.25,
            }
            for k in range(20)
        ]
        results.append(
            {
                "sample": truth.name, "arm": trial.arm, "strategy": trial.strategy.name,
                "parameters": trial.strategy.parameters, "protocol": trial.protocol,
                "seed": trial.seed, "scores": scores, "decisions": decisions,
            }
        )  # fmt: skip
    return results


@pytest.fixture
def reported(truth, arms, tmp_path, monkeypatch):
    """Makes a report of made-up trials; returns verdicts and text.

    Its pictures are drawn, and only where they are `saved` made files of, which takes long.
    """

    def report(
        texts, last, name="film", protocols=("shared",), command="curiosity benchmark", noise=0.01,
        saved=False,
    ):  # fmt: skip
        if not saved:
            monkeypatch.setattr(figures, "_save", lambda figure, file: None)
        sample = Truth(name, truth.channels, truth.x, truth.y, truth.spectra, truth.mask)
        campaign = Campaign(
            [sample], arms(*texts, points=20), seeds=SEEDS, protocols=protocols, every=5
        )
        table = write_tables(made_up(campaign, last, noise), tmp_path)
        verdicts = write_report(table, campaign, tmp_path, command)
        return verdicts, (tmp_path / "report.md").read_text()

    return report


def rows_of(text):
    """First table of a report: label to cells."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    head, body = lines[0], lines[2:]
    return {cells[0].strip("`"): dict(zip(head, cells, strict=False)) for cells in body}


CURIOUS, TWIN = "vatsavai2025-latent", "random[predictor=im2spec]"


@pytest.mark.parametrize(
    ("ours", "said", "against_the_best"),
    [(0.30, "pays", "better than"), (0.8, "does harm", "worse than")],
)
def test_it_says_whether_curiosity_pays(reported, ours, said, against_the_best):
    last = {CURIOUS: ours, TWIN: 0.6, "lcmd": 0.4, "random": 0.5}
    [lead, *sentences], text = reported([CURIOUS, "lcmd"], last)
    assert lead.startswith("**film** (shared, 20 spectra): Curiosity ")
    assert f": Curiosity {said} with `{CURIOUS}`. Of the baselines, choosing" in lead
    assert "choosing pays with `lcmd`." in lead
    winner = min(last, key=last.__getitem__)
    assert f"The smallest test nMSE has `{winner}`: " in lead
    words = re.compile(
        r"- `(.+)` has test nMSE ([\d.]+), random pixels with the same predictor ([\d.]+) "
        r"\(p = ([\d.]+), 8 seeds\): it ([a-z ]+)(; (\w+ \w+) the best baseline, `lcmd`, ([\d.]+))?"
    )
    found = {match[1]: match for match in map(words.match, sentences)}
    assert set(found) == {CURIOUS, "lcmd"}
    numbers = [float(found[CURIOUS][k]) for k in (2, 3, 8)]
    assert numbers == pytest.approx([ours, 0.6, 0.4], abs=0.02)
    assert found[CURIOUS][5] == said and found[CURIOUS][7] == against_the_best
    assert float(found[CURIOUS][4]) < 0.05
    assert found["lcmd"][5] == "pays" and found["lcmd"][6] is None  # it is the best baseline
    assert all(sentence in text for sentence in (lead, *sentences))


@pytest.mark.parametrize("noise", [0, 0.1])
def test_no_difference_is_not_sold_as_one(reported, noise):
    # Equal to the last digit, or a little better on average and far from certain.
    ours = 0.6 - 0.5 * noise
    [lead, sentence], _ = reported([CURIOUS], {CURIOUS: ours, TWIN: 0.6}, noise=noise)
    p = float(re.search(r"p = ([\d.]+), 8 seeds", sentence)[1])
    assert p >= 0.05 and (noise or p == 1)
    assert "no difference shown; no different from the best baseline" in sentence
    assert f"Curiosity does not pay with `{CURIOUS}`." in lead


def test_oracles_and_random_pixels_are_not_judged(reported):
    texts = ["lcmd", "oracle", "vatsavai2025-ensemble[beta=0]"]
    last = dict.fromkeys([*texts, "random", "vatsavai2025-ensemble[random=true]"], 0.5) | {
        "oracle": 0.1
    }
    [lead, *sentences], text = reported(texts, last)
    judged = [re.match(r"- `(.+?)` has", sentence)[1] for sentence in sentences]
    assert judged == ["lcmd", "vatsavai2025-ensemble[beta=0]"]
    assert "oracle" not in lead and "`oracle`" in text


def test_each_protocol_has_its_own_part(reported):
    last = {"lcmd": 0.4, "random": 0.6}
    verdicts, text = reported(["lcmd"], last, protocols=("shared", "own"))
    leads = [verdict for verdict in verdicts if verdict.startswith("**film**")]
    assert [re.search(r"\((\w+),", lead)[1] for lead in leads] == ["shared", "own"]
    assert "## film, shared seeds" in text and "## film, own seeding" in text


def test_the_table_has_the_numbers_of_the_trials(reported):
    _, text = reported(["lcmd"], {"lcmd": 0.4, "random": 0.6})
    rows = rows_of(text)
    for label, expected in (("lcmd", 0.4), ("random", 0.6)):
        mean, low, high = map(float, re.findall(r"[\d.]+", rows[label]["test nMSE at 20"]))
        assert low <= mean <= high and mean == pytest.approx(expected, abs=0.02)
        assert rows[label]["s a decision"] == "0.25"
    # After 10, lcmd is where random is after 5 + 5 * 0.6 / 0.4 = 12.5.
    assert rows["lcmd"]["saving(10) against its twin"].startswith("1.2")
    assert rows["random"]["saving(10) against its twin"] == ""
    assert float(rows["lcmd"]["p against its twin at 20"]) < 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("like_the_paper")
def test_all_pictures_of_the_report_are_there(reported, tmp_path):
    texts = ["vatsavai2025-latent", "vatsavai2025-mcd", "vatsavai2025-ensemble",
             "vatsavai2025-ensemble[beta=0]", "grid"]  # fmt: skip
    labels = [*texts, "random", "random[predictor=im2spec]",
              "vatsavai2025-ensemble[random=true]",
              "vatsavai2025-ensemble[random=true]"]  # fmt: skip
    _, text = reported(texts, dict.fromkeys(labels, 0.5), name="norm_polarization", saved=True)
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    stem = "norm_polarization-shared"
    assert shown == [f"{stem}{which}.png" for which in ("", "-fig2", "-fig6", "-fig7")]
    for name in shown:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in tmp_path.glob("*.png")} == set(shown)


@pytest.fixture
def like_the_paper(truth, arms, monkeypatch):
    """Lets the paper have measured as many pixels and points as the film has."""
    area = common_area(truth.mask.shape, arms("random")[0].strategy.patch_size)
    monkeypatch.setattr(published, "CANDIDATES", int(area.sum()))
    monkeypatch.setattr(published, "POINTS", STEPS[-1])


def test_another_number_of_points_or_pixels_does_not_stand_beside_the_paper(reported):
    last = {"vatsavai2025-latent": 0.5, "random[predictor=im2spec]": 0.6}
    _, text = reported(["vatsavai2025-latent"], last, name="norm_polarization")
    assert "they do not stand beside ours" in text and "### Beside" not in text


@pytest.mark.usefixtures("like_the_paper")
def test_on_the_authors_sample_their_numbers_stand_beside_ours(reported):
    last = {"vatsavai2025-latent": 0.5, "random[predictor=im2spec]": 0.6}
    _, text = reported(["vatsavai2025-latent"], last, name="norm_polarization")
    beside = text[text.index("### Beside the paper") :]
    for printed in ("13.47 ± 0.294", "14.456 ± 0.754", "14.49", "0.08077 ± 0.00297"):
        assert printed in beside
    ours = re.search(r"`vatsavai2025-latent` \| ([\d.]+) ± [\d.]+ \(8 trials\)", beside)
    assert float(ours[1]) == pytest.approx(10.5, abs=0.02)  # the smallest along each run
    _, other = reported(["vatsavai2025-latent"], last, name="film")
    assert "Beside the paper" not in other


def test_the_command_can_be_typed_again(reported):
    words = ["curiosity", "benchmark", "--set", "image_limits=[-1, 1]", "--samples", "it's.npz"]
    command = shlex.join(words)
    _, text = reported(["lcmd"], {"lcmd": 0.4, "random": 0.6}, command=command)
    [typed] = [line for line in text.splitlines() if line.startswith("    curiosity")]
    assert shlex.split(typed) == words


def test_the_parameters_of_every_arm_are_written_down(reported):
    _, text = reported(["lcmd[outputs=3]"], {"lcmd[outputs=3]": 0.4, "random[outputs=3]": 0.6})
    for label in ("lcmd", "random"):
        [line] = [x for x in text.splitlines() if x.startswith(f"- `{label}[outputs=3]`:")]
        assert "outputs=3" in line and "patch_size=5" in line and "budget=20" in line


def test_a_report_of_real_trials_is_written_too(truth, arms, tmp_path):
    campaign = Campaign([truth], arms("oracle", "grid"), seeds=2, every=4)
    results = [run_trial(*trial) for trial in campaign.trials()]
    table = write_tables(json.loads(json.dumps(results)), tmp_path)
    [lead, sentence] = write_report(table, campaign, tmp_path, "curiosity benchmark")
    assert "p = " in sentence and "no difference shown" in sentence  # two seeds prove nothing
    assert lead.startswith(
        "**film** (shared, 12 spectra): Of the baselines, choosing cannot be judged"
    )
    found = rows_of((tmp_path / "report.md").read_text())
    for arm in ("oracle", "grid", "random"):
        values = table[(table["arm"] == arm) & (table["n_observed"] == 12)]["test_nmse"]
        assert found[arm]["test nMSE at 12"].startswith(f"{values.mean():.3f}")
    assert isinstance(table, pd.DataFrame)


def test_what_is_there_of_an_unfinished_campaign_is_reported_and_nothing_computed(
    truth, arms, tmp_path
):
    campaign = Campaign([truth], arms("lcmd", "grid"), seeds=3)
    with pytest.raises(InputError, match="no trial of this campaign yet"):
        run_campaign(campaign, tmp_path / "none", compute=False)
    there = {"random": (0, 1), "lcmd": (1,), "grid": (2,)}  # grid and random share no seed
    (tmp_path / "trials").mkdir()
    for sample, trial in campaign.trials():
        if trial.seed in there[trial.arm]:
            file = tmp_path / "trials" / f"{trial.key(sample)}.json"
            file.write_text(json.dumps(run_trial(sample, trial)))
    table = run_campaign(campaign, tmp_path, compute=False)
    assert len(list((tmp_path / "trials").iterdir())) == 4
    [lead, sentence] = write_report(table, campaign, tmp_path, "curiosity benchmark")
    assert "1 seeds" in sentence and sentence.startswith("- `lcmd`")
    assert "`grid`" not in sentence
    assert "cannot be judged yet (fewer than 6 seeds) with `lcmd`." in lead
    rows = rows_of((tmp_path / "report.md").read_text())
    assert {label: int(cells["seeds"]) for label, cells in rows.items()} == {
        label: len(seeds) for label, seeds in there.items()
    }
    assert rows["grid"]["saving(5) against its twin"] == ""

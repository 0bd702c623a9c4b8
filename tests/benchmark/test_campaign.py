"""Campaigns on a real Dask cluster: none computed twice, the same anywhere, failures named."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from dask.base import get_scheduler

from curiosity_bluesky.benchmark import Campaign, Truth, run_campaign, run_trial
from curiosity_bluesky.benchmark.campaign import write_tables
from curiosity_bluesky.errors import InputError

COMMAND = [sys.executable, "-c", "from curiosity_bluesky.cli import main; main()", "benchmark"]
OPTIONS = [
    *("--strategies", "lcmd", "--points", "14", "--n-seeds", "6", "--patch-size", "3"),
    *("--set", "refit_every=1", "--seeds", "7", "--every", "4"),
]
TRIALS = 2 * 7  # with the twin


def wait_for(happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def film(tmp_path_factory, truth):
    path = tmp_path_factory.mktemp("film") / "film.npz"
    [image] = truth.channels.values()
    np.savez(path, image=image, spectra=truth.spectra, axis=np.arange(8))
    return path


@pytest.fixture(scope="module")
def resumed(film, tmp_path_factory):
    """A campaign that was killed part-way and run again: directory, and what was there before."""
    out = tmp_path_factory.mktemp("resumed")
    command = [*COMMAND, "--samples", str(film), "--out", str(out), *OPTIONS, "--workers", "1"]

    def done():
        return list((out / "trials").glob("*.json"))

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: len(done()) >= 3 or first.poll() is not None)
        first.send_signal(signal.SIGKILL)
    time.sleep(0.2)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in done()}
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    return out, before


@pytest.mark.slow
def test_killed_and_run_again_nothing_is_computed_twice(resumed):
    out, before = resumed
    assert 3 <= len(before) < TRIALS, "it has to be killed part-way"
    after = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in (out / "trials").glob("*.json")}
    assert len(after) == TRIALS
    assert {file: after[file] for file in before} == before
    table = pd.read_parquet(out / "trials.parquet")
    assert len(table.groupby(["sample", "protocol", "arm", "seed"])) == TRIALS
    assert (out / "report.md").exists() and not list((out / "trials").glob("*.part"))


@contextmanager
def workers_elsewhere(folder, n=2):
    """A scheduler and workers, each a process of its own: its address, and the workers."""
    address, processes = folder / "scheduler.json", []
    common = ["--scheduler-file", str(address), "--no-dashboard"]
    # A folder of their own: what they know of strategies and samples has to travel.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0"]]
    worker = ["worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    commands += [worker] * n
    try:
        for command in commands:
            command = [sys.executable, "-m", "dask", *command, *common]
            processes.append(subprocess.Popen(command, **quiet))
            wait_for(lambda: address.exists() and address.read_text().endswith("}"))
        yield json.loads(address.read_text())["address"], processes[1:]
    finally:
        for process in reversed(processes):  # a worker may take its time to say good-bye
            process.kill()
        for process in processes:
            process.wait(30)


def assert_same_tables(one, two, rows):
    for name in ("trials", "decisions"):
        here, there = (pd.read_parquet(d / f"{name}.parquet") for d in (one, two))
        pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert len(here) == rows


@pytest.mark.slow
def test_workers_elsewhere_give_the_same_table_number_for_number(resumed, film, tmp_path):
    out = tmp_path / "out"
    command = [*COMMAND, "--samples", str(film), "--out", str(out), *OPTIONS]
    with workers_elsewhere(tmp_path) as (uri, _):
        subprocess.run([*command, "--scheduler", uri], check=True, capture_output=True, timeout=200)
    assert_same_tables(resumed[0], out, TRIALS * 14)


@pytest.mark.slow
def test_a_worker_elsewhere_gives_the_numbers_of_this_process(truth, arms, tmp_path):
    campaign = Campaign([truth], arms("grid"), seeds=1)
    with workers_elsewhere(tmp_path, n=1) as (uri, _):
        run_campaign(campaign, tmp_path / "there", scheduler=uri)
    (tmp_path / "here").mkdir()
    results = [run_trial(*trial) for trial in campaign.trials()]
    write_tables(json.loads(json.dumps(results)), tmp_path / "here")
    assert_same_tables(tmp_path / "here", tmp_path / "there", 2 * 12)


OWN = """
import time
from dataclasses import dataclass
from typing import ClassVar
from curiosity_bluesky.learning.strategies.lcmd import LCMD
from curiosity_bluesky.learning import register


@register
@dataclass(frozen=True, kw_only=True)
class Slowly(LCMD):
    name: ClassVar[str] = "slowly"

    def build(self, patches, budget, seed, on_epoch):
        time.sleep(0.3)  # so that there is a middle to be killed in
        return super().build(patches, budget, seed, on_epoch)
"""


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_nothing(film, tmp_path):
    """With a strategy out of a file of one's own, which no worker has."""
    own = tmp_path / "own.py"
    own.write_text(OWN)
    options = [*OPTIONS[2:], "--strategies", "slowly", "--load", str(own)]
    command = [*COMMAND, "--samples", str(film), *options]
    here, there = tmp_path / "here", tmp_path / "there"
    local = [*command, "--out", str(here), "--workers", "1"]
    subprocess.run(local, check=True, capture_output=True, timeout=200)
    (tmp_path / "cluster").mkdir()
    with workers_elsewhere(tmp_path / "cluster") as (uri, workers):
        elsewhere = [*command, "--out", str(there), "--scheduler", uri]
        with subprocess.Popen(elsewhere, stdout=subprocess.DEVNULL) as campaign:
            wait_for(lambda: len(list((there / "trials").glob("*.json"))) >= 3)
            workers[0].send_signal(signal.SIGKILL)
            done = {f: f.stat().st_mtime_ns for f in (there / "trials").glob("*.json")}
            assert len(done) < TRIALS - 2, "it has to be killed in the middle"
            assert campaign.wait(200) == 0
        assert workers[0].wait(10) == -signal.SIGKILL and workers[1].poll() is None
    assert all(file.stat().st_mtime_ns == time for file, time in done.items())  # done once
    assert len(list((there / "trials").glob("*"))) == TRIALS
    assert_same_tables(here, there, TRIALS * 14)
    assert set(pd.read_parquet(there / "trials.parquet")["arm"]) == {"slowly", "random"}


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_said_plainly(truth, arms, tmp_path):
    campaign = Campaign([truth], arms("random"), seeds=1)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*start"):
        run_campaign(campaign, out, scheduler="tcp://127.0.0.1:9")
    assert not out.exists()


def holed(truth, arms):
    """The film with one pixel that gives no number, where seed 0 goes and seed 1 does not."""
    trials = Campaign([truth], arms, seeds=2).trials()
    went = [
        {(row["row"], row["col"]) for row in run_trial(truth, trial)["decisions"]}
        for truth, trial in trials
    ]
    pixel = min(went[0] - went[1])
    spectra = truth.spectra.copy()
    spectra[pixel] = np.nan
    return Truth("holed", truth.channels, truth.x, truth.y, spectra, truth.mask)


@pytest.mark.slow
def test_a_trial_that_fails_is_named_and_the_others_are_kept(truth, arms, tmp_path):
    one = arms("random")
    sample = holed(truth, one)
    told = []
    with pytest.raises(
        RuntimeError, match=r"1 of 2 trials failed \(random on holed, shared, seed 0: .*no"
    ):
        run_campaign(
            Campaign([sample], one, seeds=2), tmp_path, workers=1,
            progress=lambda *what: told.append(what),
        )  # fmt: skip
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert set(table["seed"]) == {1} and told == [(1, 2, "random")]
    [file] = (tmp_path / "trials").glob("*.json")
    kept = json.loads(file.read_text())
    expected = run_trial(*Campaign([sample], one, seeds=2).trials()[1])
    assert kept["scores"] == expected["scores"]  # a worker computes what this process does


@pytest.mark.slow
def test_where_all_trials_fail_it_says_so_too(truth, arms, tmp_path):
    one = arms("random")
    campaign = Campaign([holed(truth, one)], one, seeds=1)
    with pytest.raises(
        RuntimeError, match=r"1 of 1 trials failed \(random on holed, shared, seed 0"
    ):
        run_campaign(campaign, tmp_path, workers=1)


def test_a_campaign_that_is_done_needs_no_cluster(truth, arms, tmp_path):
    campaign = Campaign([truth], arms("grid"), seeds=2)
    (tmp_path / "trials").mkdir()
    for sample, trial in campaign.trials():
        result = run_trial(sample, trial)
        file = tmp_path / "trials" / f"{trial.key(sample)}.json"
        file.write_text(json.dumps(result))
    table = run_campaign(campaign, tmp_path, scheduler="tcp://127.0.0.1:9")
    assert len(table) == 4 * len(set(table["n_observed"]))
    assert set(table["arm"]) == {"grid", "random"}


def test_tables_are_tidy_sorted_and_keep_the_seconds_apart(truth, arms, tmp_path):
    trials = Campaign([truth], arms("grid"), seeds=2, every=4).trials()
    results = [run_trial(*trial) for trial in trials]
    write_tables(json.loads(json.dumps(results[::-1])), tmp_path)
    keys = ["sample", "protocol", "arm", "seed"]
    tables = {
        name: pd.read_parquet(tmp_path / f"{name}.parquet")
        for name in ("trials", "decisions", "timings")
    }
    for name, column in (("trials", "n_observed"), ("decisions", "decision_id")):
        rows = tables[name][[*keys, column]]
        assert not rows.duplicated().any()
        pd.testing.assert_frame_equal(rows, rows.sort_values([*keys, column]))
    assert {"test_nmse", "hidden_nmse", "worst_ten", "published_score"} <= set(tables["trials"])
    assert {"row", "col", "reason", "error_before"} <= set(tables["decisions"])
    assert "seconds" not in tables["decisions"] and (tables["timings"]["seconds"] >= 0).all()
    assert len(tables["timings"]) == len(tables["decisions"]) == 4 * 12


def test_trials_of_one_seed_are_neighbours_so_that_a_part_is_a_result(truth, arms):
    campaign = Campaign([truth], arms("grid", "lcmd"), seeds=3, protocols=("shared", "own"))
    seeds = [trial.seed for _, trial in campaign.trials()]
    assert seeds == sorted(seeds) and len(seeds) == 3 * 3 * 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seeds": 0}, "0 seeds"),
        ({"every": 0}, "scored every 0 points"),
        ({"withhold": 1.0}, "withhold is 1.0"),
        ({"withhold": 0.0}, "no pixel is left to test"),
        ({"samples": []}, "nothing to compare"),
        ({"arms": []}, "nothing to compare"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused(truth, arms, given, said):
    with pytest.raises(InputError, match=said):
        Campaign(**{"samples": [truth], "arms": arms("random"), **given}).trials()


def test_two_samples_of_one_name_are_refused_before_they_are_mixed_up(truth, arms):
    other = Truth(truth.name, truth.channels, truth.x, truth.y, truth.spectra + 1, truth.mask)
    with pytest.raises(InputError, match="two samples are called 'film'"):
        Campaign([truth, other], arms("random"))


@pytest.mark.parametrize(
    ("given", "said"),
    [({"points": 500}, "500 points are asked for"), ({"patch_size": 15}, "patch of 15")],
)
def test_what_does_not_fit_is_said_before_anything_is_computed_or_written(
    truth, arms, given, said, tmp_path
):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=said):
        run_campaign(Campaign([truth], arms("random", **given)), out, workers=1)
    assert not out.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions of folders are POSIX's")
@pytest.mark.slow
def test_the_names_of_trials_are_the_same_in_another_process(truth, arms, tmp_path):
    """What makes a restart find what it did: no key depends on the process's hash seed."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from conftest import recording; from curiosity_bluesky.benchmark import *;"
        "t = recording(); a = arms_from(['lcmd'], points=12, n_seeds=5, patch_size=5);"
        "print(*sorted(trial.key(t) for t, trial in Campaign([t], a, seeds=2).trials()))"
    )
    from curiosity_bluesky.benchmark import arms_from

    same = arms_from(["lcmd"], points=12, n_seeds=5, patch_size=5)
    here = sorted(trial.key(truth) for _, trial in Campaign([truth], same, seeds=2).trials())
    there = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],
        capture_output=True, text=True, check=True, timeout=100,
        env={**os.environ, "PYTHONHASHSEED": "5"},
    )  # fmt: skip
    assert there.stdout.split() == here


@pytest.mark.slow
def test_a_campaign_does_not_make_its_cluster_everybodys(truth, arms, tmp_path):
    # Tiled reads tables with Dask: through a default client it would wait for this cluster.
    defaults = []

    def asked(done, of, arm):
        defaults.append(get_scheduler())

    run_campaign(Campaign([truth], arms("grid"), seeds=1), tmp_path, workers=1, progress=asked)
    assert defaults and not any(defaults)

"""Many trials on Dask: in parallel, each written when it is done, none computed twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from curiosity_bluesky.benchmark.arms import Arm
from curiosity_bluesky.benchmark.statistics import Frame
from curiosity_bluesky.benchmark.trial import Protocol, Trial, Truth, common_area, run_trial
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Survey, withheld_pixels

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, of, arm)`` when a trial is done."""

KEYS = ["sample", "protocol", "arm", "seed"]


@dataclass(frozen=True)
class Campaign:
    """Samples x strategies x protocols x seeds.

    Parameters
    ----------
    samples
        The samples.
    arms
        The strategies.
    seeds
        How many: 0, 1, ...
    protocols
        ``shared``, ``own`` or both.
    every
        Score after so many spectra.
    withhold
        Share of the pixels that test what was learned.
    """

    samples: Sequence[Truth]
    arms: Sequence[Arm]
    seeds: int = 20
    protocols: Sequence[Protocol] = ("shared",)
    every: int = 5
    withhold: float = 0.2

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.every < 1:
            raise InputError(
                f"{self.seeds} seeds, scored every {self.every} points; expected 1 or more of both"
            )
        if not self.samples or not self.arms:
            raise InputError("there is nothing to compare; give samples and strategies")
        names = [truth.name for truth in self.samples]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"two samples are called {twice!r}; give each a name of its own")
        withheld_pixels((1, 1), self.withhold)

    def trials(self) -> list[tuple[Truth, Trial]]:
        """Return all trials; those of one seed are neighbours, so that a part is a result.

        Raises
        ------
        InputError
            If a sample and a strategy do not fit together.
        """
        widest = max(arm.strategy.patch_size for arm in self.arms)
        for truth in self.samples:
            shape = truth.mask.shape
            withheld, area = withheld_pixels(shape, self.withhold), common_area(shape, widest)
            if not (withheld & area).any():
                raise InputError(
                    f"with --withhold {self.withhold:g} no pixel is left to test what was learned"
                )
            survey = Survey(truth.channels, truth.x, truth.y, truth.mask | withheld | ~area)
            for arm in self.arms:  # complains here, not in a worker hours later
                Explorer(survey, arm.strategy, 0, truth=truth.spectra)
        return [
            (
                truth,
                Trial(
                    sample=truth.name,
                    arm=arm.label,
                    strategy=arm.strategy,
                    protocol=protocol,
                    seed=seed,
                    every=self.every,
                    withhold=self.withhold,
                    widest=widest,
                ),
            )
            for seed in range(self.seeds)
            for truth in self.samples
            for protocol in self.protocols
            for arm in self.arms
        ]


def run_campaign(
    campaign: Campaign,
    out: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    compute: bool = True,
    progress: Progress = lambda done, of, arm: None,
) -> Frame:
    """Run the trials that are not done yet and write the tables.

    Every trial is written to ``out/trials`` when it is done; run again, only the others are
    computed. ``out/trials.parquet`` has one row for each score, ``out/decisions.parquet`` one
    for each decision, ``out/timings.parquet`` the seconds of the decisions (apart, because
    they are never twice the same).

    Parameters
    ----------
    campaign
        What to compare.
    out
        Directory for everything.
    scheduler
        Address of a Dask scheduler; default a cluster of processes on this machine.
    workers
        Processes on this machine; default one for each core.
    compute
        False: nothing is computed, the tables are made of the trials that are there.
    progress
        Told about every trial that is done.

    Returns
    -------
    DataFrame
        The content of ``trials.parquet``.

    Raises
    ------
    InputError
        If samples and strategies do not fit, or the scheduler cannot be reached.
    RuntimeError
        If trials failed; all others are done and written.
    """
    trials = campaign.trials()
    folder = out / "trials"
    files = [folder / f"{trial.key(truth)}.json" for truth, trial in trials]
    missing = [k for k, file in enumerate(files) if not file.exists()]
    failed: dict[str, str] = {}
    if len(missing) == len(files) and not compute:
        raise InputError(f"{folder} has no trial of this campaign yet; run it first")
    if missing and compute:
        with _cluster(scheduler, workers) as client:
            folder.mkdir(parents=True, exist_ok=True)
            for k, result in _results(client, trials, missing, failed):
                _write(files[k], result)
                progress(sum(file.exists() for file in files), len(files), trials[k][1].arm)
    done = [
        # A trial done before may have had another label.
        {**json.loads(file.read_text()), "arm": trial.arm, "sample": trial.sample}
        for file, (_, trial) in zip(files, trials, strict=True)
        if file.exists()
    ]
    table = write_tables(done, out) if done else None
    if failed:
        listed = "; ".join(f"{what}: {why}" for what, why in list(failed.items())[:3])
        raise RuntimeError(f"{len(failed)} of {len(trials)} trials failed ({listed})")
    return table


def _results(
    client: Any,
    trials: Sequence[tuple[Truth, Trial]],
    missing: Sequence[int],
    failed: dict[str, str],
) -> Iterator[tuple[int, dict[str, Any]]]:
    from distributed import as_completed

    # By identity: the arrays travel once to each worker, not with every trial.
    names = {id(truth): truth for truth, _ in trials}
    sent = {key: client.scatter(truth, broadcast=True) for key, truth in names.items()}
    futures = {
        client.submit(run_trial, sent[id(truth)], trial, key=f"trial-{k}", pure=False): k
        for k in missing
        for truth, trial in [trials[k]]
    }
    for future in as_completed(futures):
        k = futures[future]
        if future.status == "finished":
            yield k, future.result()
        else:
            trial = trials[k][1]
            what = f"{trial.arm} on {trial.sample}, seed {trial.seed}"
            failed[what] = str(future.exception())
        future.release()


@contextmanager
def _cluster(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise InputError(
            'a benchmark needs Dask: pip install "curiosity-bluesky[benchmark]"'
        ) from None
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {scheduler} ({error}); start one with "
                "`dask scheduler` and workers with `dask worker ADDRESS`"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=30)
            except TimeoutError as error:
                raise InputError(
                    f"the Dask scheduler at {scheduler} has no worker; start some with "
                    f"`dask worker {scheduler}`"
                ) from error
            yield client
        return
    with (
        distributed.LocalCluster(
            n_workers=workers or os.cpu_count(),
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def _write(file: Path, result: dict[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.replace(file)  # whole or not at all


def write_tables(results: Sequence[dict[str, Any]], out: Path) -> Frame:
    """Write all trials as tidy tables; return that of the scores."""
    tables: dict[str, list[dict[str, Any]]] = {"trials": [], "decisions": [], "timings": []}
    for result in results:
        keys = {name: result[name] for name in KEYS}
        about = {
            "strategy": result["strategy"],
            "parameters": json.dumps(result["parameters"], sort_keys=True),
        }
        tables["trials"] += [{**keys, **about, **score} for score in result["scores"]]
        for decision in result["decisions"]:
            seconds = decision.pop("seconds")
            which = {**keys, "decision_id": decision["decision_id"]}
            tables["decisions"].append({**keys, **decision})
            tables["timings"].append({**which, "reason": decision["reason"], "seconds": seconds})
    order = {"trials": [*KEYS, "n_observed"]}
    for name, rows in tables.items():
        frame = pd.DataFrame(rows).sort_values(order.get(name, [*KEYS, "decision_id"]))
        frame.to_parquet(out / f"{name}.parquet", index=False)
    return pd.read_parquet(out / "trials.parquet")

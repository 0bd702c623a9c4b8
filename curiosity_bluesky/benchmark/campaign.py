"""Many trials on Dask: in parallel, each written when it is done, none computed twice."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curiosity_bluesky.benchmark.arms import Arm
from curiosity_bluesky.benchmark.statistics import Frame
from curiosity_bluesky.benchmark.trial import Protocol, Trial, Truth, common_area, run_trial
from curiosity_bluesky.errors import CuriosityError, InputError
from curiosity_bluesky.learning import Explorer, Survey, withheld_pixels
from curiosity_bluesky.learning.scoring import mean_deviation

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
        Numbers of spectra after which to score.
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
        if twice := next((p for p in self.protocols if self.protocols.count(p) > 1), None):
            raise InputError(f"the protocol {twice!r} is asked for twice")
        withheld_pixels((1, 1), self.withhold)

    @property
    def widest(self) -> int:
        """The largest patch of the arms that need whole ones; 1 where every pixel counts."""
        strategies = [arm.strategy for arm in self.arms]
        return max((s.patch_size for s in strategies if s.rim == "omit"), default=1)

    def area(self, truth: Truth) -> NDArray[np.bool_]:
        """Mark the pixels that count: not masked, with a whole patch for all, ``(rows, cols)``."""
        return common_area(truth.mask.shape, self.widest) & ~truth.mask

    def trials(self) -> list[tuple[Truth, Trial]]:
        """Return all trials; those of one seed are neighbours, so that a part is a result.

        Raises
        ------
        InputError
            If a sample and a strategy do not fit together.
        """
        for truth in self.samples:
            withheld, area = withheld_pixels(truth.mask.shape, self.withhold), self.area(truth)
            if not (withheld & area).any():
                raise InputError(
                    f"with --withhold {self.withhold:g} no pixel is left to test what was learned"
                )
            spread = mean_deviation(truth.spectra[area])
            if not spread > 0:
                raise InputError(
                    f"the spectra of {truth.name} do not differ, so there is nothing to learn"
                )
            survey = Survey(truth.channels, truth.x, truth.y, withheld | ~area)
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
                    widest=self.widest,
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
    TrialsFailed
        If trials failed; all others are done and written.
    """
    trials = campaign.trials()
    folder = out / "trials"
    files = [folder / f"{trial.key(truth)}.json" for truth, trial in trials]
    done = {k: result for k, file in enumerate(files) if (result := _read(file, trials[k][1]))}
    failed: dict[str, str] = {}
    if not done and not compute:
        raise InputError(f"{folder} has no trial of this campaign yet; run it first")
    missing = [k for k in range(len(files)) if k not in done]
    if missing and compute:
        with _cluster(scheduler, workers) as client:
            folder.mkdir(parents=True, exist_ok=True)
            for k, result in _results(client, trials, missing, failed):
                _write(files[k], result)
                done[k] = result
                progress(len(done), len(files), trials[k][1].arm)
    # A trial done before may have had another label.
    rows = [{**done[k], "arm": trials[k][1].arm} for k in sorted(done)]
    table = write_tables(rows, out) if rows else None
    if failed:
        raise TrialsFailed(failed, len(trials), table)
    return table


class TrialsFailed(CuriosityError, RuntimeError):
    """Some trials raised; all others are done and written.

    Parameters
    ----------
    failed
        What was tried to what went wrong.
    trials
        How many there are in all.
    table
        The scores of those that went well, None if none did.
    """

    def __init__(self, failed: Mapping[str, str], trials: int, table: Frame | None) -> None:
        listed = "; ".join(f"{what}: {why}" for what, why in list(failed.items())[:3])
        super().__init__(f"{len(failed)} of {trials} trials failed ({listed})")
        self.failed = failed
        self.table = table


def _results(
    client: Any,
    trials: Sequence[tuple[Truth, Trial]],
    missing: Sequence[int],
    failed: dict[str, str],
) -> Iterator[tuple[int, dict[str, Any]]]:
    from dask import config
    from distributed import as_completed

    # Arrays travel once to each worker, as a task of their own that is done again should the
    # worker that had them be lost.
    # A recording is large for a task, and goes only once.
    with config.set({"distributed.admin.large-graph-warning-threshold": "1 GB"}):
        sent = {
            truth.digest: client.submit(_keep, truth, key=f"curiosity-{truth.digest}")
            for truth in {id(truth): truth for truth, _ in trials}.values()
        }
    # To all of them at once, or the scheduler keeps the trials where the arrays are.
    client.replicate(list(sent.values()))
    futures = {}
    for k in missing:
        truth, trial = trials[k]
        # By value: a strategy from a user's own file is not on the workers.
        packed = cloudpickle.dumps(trial)
        key = f"curiosity-{trial.key(truth)}"
        futures[client.submit(_run, sent[truth.digest], packed, key=key)] = k
    for future in as_completed(futures, loop=client.loop):
        k = futures[future]
        if future.status == "finished":
            yield k, future.result()
        else:
            trial = trials[k][1]
            what = f"{trial.arm} on {trial.sample}, {trial.protocol}, seed {trial.seed}"
            failed[what] = str(future.exception())
        future.release()


_ONE_AT_A_TIME = threading.Lock()


def _run(truth: Truth, packed: bytes) -> dict[str, Any]:
    # The learning sets the thread counts of the whole process, so a worker with several
    # threads takes its trials one after another.
    with _ONE_AT_A_TIME:
        return run_trial(truth, cloudpickle.loads(packed))


def _keep(truth: Truth) -> Truth:
    return truth


def _read(file: Path, trial: Trial) -> dict[str, Any] | None:
    """Return what is in a trial's file, None if it is not there or not of this trial."""
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    expected = (trial.strategy.name, trial.protocol, trial.seed)
    return result if (result["strategy"], result["protocol"], result["seed"]) == expected else None


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
            client = distributed.Client(scheduler, timeout=10, set_as_default=False)
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
            _check_versions(client, scheduler)
            yield client
        return
    with (
        distributed.LocalCluster(
            n_workers=workers or os.cpu_count(),
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port
        ) as cluster,
        # Not for everybody: Tiled's reading would go through it, and through what is left of it.
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _check_versions(client: Any, scheduler: str) -> None:
    here = version("curiosity-bluesky")
    there = set(client.run(version, "curiosity-bluesky").values())
    if there != {here}:
        raise InputError(
            f"the workers of {scheduler} have curiosity-bluesky {', '.join(sorted(there))}, but "
            f"here it is {here}; install the same"
        )


def _write(file: Path, result: dict[str, Any]) -> None:
    part = file.with_suffix(f".{uuid.uuid4().hex}.part")  # another process may write here too
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

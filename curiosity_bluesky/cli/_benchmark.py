"""Implementation of ``curiosity benchmark``.

Campaign and report take long to import: after the strategies are named, and the samples open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from curiosity_bluesky.benchmark.arms import arms_from, parse, settings, split
from curiosity_bluesky.benchmark.trial import Protocol, Truth
from curiosity_bluesky.demo.samples import open_sample
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.validation import PROCESSES, whole_number

if TYPE_CHECKING:
    from curiosity_bluesky.benchmark import campaign as campaigns


def truth_of(text: str) -> Truth:
    """Open a sample by its name or file; slices of a cube in brackets.

    Raises
    ------
    InputError
        If there is no such sample, or it cannot be read so.
    """
    name, parameters = parse(text)
    unknown = set(parameters) - {"image", "spectra"}
    if unknown:
        raise InputError(f"{text!r}: a sample has image and spectra, not {', '.join(unknown)}")
    sample = open_sample(
        name,
        image=parameters.get("image"),
        spectra=None if "spectra" not in parameters else str(parameters["spectra"]),
    )
    mask = np.zeros(sample.shape, bool) if sample.mask is None else np.asarray(sample.mask)
    target = sample.target()
    axis = sample.axis if target.shape[2] == len(sample.axis) else None  # several channels
    return Truth(sample.name, dict(sample.images), sample.x, sample.y, target, mask, axis)


def run_benchmark(
    *,
    samples: str,
    strategies: str,
    points: int,
    seeds: int,
    protocols: str,
    n_seeds: int | None,
    patch_size: str,
    every: int,
    withhold: float,
    common: Sequence[str],
    out: Path,
    workers: int | None,
    scheduler: str | None,
    report_only: bool,
    command: str,
) -> dict[str, Any]:
    """Run what is missing of a campaign and write its report; the parameters are the command's.

    Returns
    -------
    dict
        ``report``: its file; ``sentences``: the verdicts; ``tables``: their files.

    Raises
    ------
    InputError
        If something cannot be used; nothing is computed then.
    typer.Exit
        If some trials failed; the report is about the others.
    """
    if patch_size != "own" and not patch_size.isdecimal():
        raise InputError(f"--patch-size is {patch_size!r}; expected a number of pixels or own")
    chosen: list[Protocol] = []
    for protocol in split(protocols):
        if protocol not in get_args(Protocol):
            raise InputError(
                f"there is no protocol {protocol!r}; expected shared, own or shared,own"
            )
        chosen.append(protocol)  # pyright: ignore[reportArgumentType]
    if workers is not None:
        whole_number("--workers", workers, 1, PROCESSES)
    _check_directory(out)
    arms = arms_from(
        split(strategies),
        points=points,
        n_seeds=n_seeds,
        patch_size=None if patch_size == "own" else int(patch_size),
        common=settings(common),
    )
    truths = [truth_of(text) for text in split(samples)]
    from curiosity_bluesky.benchmark.campaign import Campaign, TrialsFailed, run_campaign
    from curiosity_bluesky.benchmark.report import write_report

    campaign = Campaign(
        samples=truths,
        arms=arms,
        seeds=seeds,
        protocols=chosen or ["shared"],
        every=every,
        withhold=withhold,
    )
    failure: TrialsFailed | None = None
    with _bar() as progress:
        try:
            table = run_campaign(
                campaign,
                out,
                scheduler=scheduler,
                workers=workers,
                compute=not report_only,
                progress=progress,
            )
        except TrialsFailed as error:
            failure, table = error, error.table
    sentences = [] if table is None else write_report(table, campaign, out, command)
    if failure is not None:
        # The others are written and reported; the same command does the missing ones.
        print(f"curiosity: {failure}; run it again for these alone", file=sys.stderr)
        raise typer.Exit(1) from failure
    names = ("trials", "decisions", "timings")
    return {
        "report": str(out / "report.md"),
        "sentences": sentences,
        "tables": [str(out / f"{name}.parquet") for name in names],
    }


def run_patch_sizes(
    sample: str,
    sizes: str,
    out: Path,
    points: int,
    seeds: int,
    withhold: float,
    given: Sequence[str],
) -> dict[str, Any]:
    """Run ``curiosity patch-sizes``; see `patch_size_study`."""
    texts = split(sizes)
    if not texts or not all(text.isdecimal() for text in texts):
        raise InputError(f"--sizes is {sizes!r}; expected numbers of pixels such as 3,5,9")
    _check_directory(out)
    truth = truth_of(sample)
    from curiosity_bluesky.benchmark.patch_sizes import patch_size_study

    numbers = [int(text) for text in texts]
    with _bar() as progress:
        done = iter(range(1, len(numbers) * seeds + 1))
        return patch_size_study(
            truth,
            numbers,
            out,
            points=points,
            seeds=seeds,
            withhold=withhold,
            parameters=settings(given),
            progress=lambda: progress(next(done), len(numbers) * seeds, "patch sizes"),
        )


def _check_directory(out: Path) -> None:
    """Refuse what cannot be written to, before hours of computing."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"--out {out}: {there.name} is a file; expected a directory")
    if not os.access(there, os.W_OK):
        raise InputError(f"--out {out} cannot be written; choose another directory")


@contextmanager
def _bar() -> Iterator[campaigns.Progress]:
    columns = (
        TextColumn("{task.description:<32}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("trials", total=None)

        def progress(done: int, of: int, arm: str) -> None:
            bar.update(task, completed=done, total=of, description=arm[:32])

        yield progress

"""``curiosity strategies``, ``benchmark`` and ``patch-sizes``: strategies, and how they compare."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from curiosity_bluesky.cli.options import JsonOption, LoadOption, load_strategies
from curiosity_bluesky.cli.output import console
from curiosity_bluesky.utils.display import Table

app = typer.Typer()


@app.command()
def strategies(load: LoadOption = None, as_json: JsonOption = False) -> None:
    """List the strategies with their parameters."""
    from curiosity_bluesky.learning import Strategy

    load_strategies(load)
    known = {name: Strategy.named(name) for name in Strategy.names()}
    about = {name: _first_line(strategy) for name, strategy in known.items()}
    if as_json:
        rows = [
            {"name": name, "about": about[name], "parameters": strategy.parameters}
            for name, strategy in known.items()
        ]
        print(json.dumps(rows))
        return
    table = Table()
    for column in ("name", "chooses", "parameters"):
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for name, strategy in known.items():
        given = (f"{k}={'' if v is None else v}" for k, v in strategy.parameters.items())
        table.add_row(name, about[name], ", ".join(given))
    console.print(table)


def _first_line(thing: object) -> str:
    return (type(thing).__doc__ or "").strip().split("\n")[0]


@app.command()
def benchmark(
    samples: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Samples or files; a cube's slices in brackets: FILE.npy\\[image=25,spectra=49:].",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where trials and report go.")],
    strategies: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="NAME or NAME[PARAMETER=VALUE,...]; published, baselines and oracles are several.",
        ),
    ] = "curious,baselines,oracles",
    points: Annotated[int, typer.Option(help="Spectra in a run, seeds included.")] = 200,
    seeds: Annotated[int, typer.Option(help="Runs of each strategy on each sample.")] = 20,
    protocols: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="shared (the same seed pixels for all), own (each its own), or shared,own.",
        ),
    ] = "shared",
    n_seeds: Annotated[
        int | None,
        typer.Option(
            help="Spectra before anything is learned. [default: 30, at most a third of --points]"
        ),
    ] = None,
    patch_size: Annotated[
        str, typer.Option(metavar="N|own", help="Patch for all strategies, or each its own.")
    ] = "9",
    every: Annotated[int, typer.Option(help="Spectra between two scores.")] = 5,
    withhold: Annotated[float, typer.Option(help="Share of pixels that test.")] = 0.2,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of all strategies that have it."
        ),
    ] = None,
    load: LoadOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes here. [default: one for each core]")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler elsewhere.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Compute nothing: report what is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare strategies on recorded samples; an interrupted comparison goes on."""
    from curiosity_bluesky.cli._benchmark import run_benchmark

    load_strategies(load)
    summary = run_benchmark(
        samples=samples,
        strategies=strategies,
        points=points,
        seeds=seeds,
        protocols=protocols,
        n_seeds=n_seeds,
        patch_size=patch_size,
        every=every,
        withhold=withhold,
        common=settings or [],
        out=out,
        workers=workers,
        scheduler=scheduler,
        report_only=report_only,
        command=shlex.join(["curiosity", *sys.argv[1:]]),
    )
    if as_json:
        print(json.dumps(summary))
        return
    for sentence in summary["sentences"]:
        console.print(sentence, highlight=False, markup=False)
    console.print(f"report: {summary['report']}", highlight=False, markup=False)


@app.command()
def patch_sizes(
    sample: Annotated[str, typer.Option(metavar="NAME|FILE", help="As for benchmark.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where numbers and picture go.")],
    sizes: Annotated[str, typer.Option(metavar="A,B", help="Sides of the patches.")] = (
        "3,5,7,9,11,13,16"
    ),
    points: Annotated[int, typer.Option(help="Random pixels to learn from.")] = 100,
    seeds: Annotated[int, typer.Option(help="How often.")] = 3,
    withhold: Annotated[float, typer.Option(help="Share of pixels that validate.")] = 0.2,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter, such as predictor=gp."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Training and validation loss against patch size (the paper's Fig. S1)."""
    from curiosity_bluesky.cli._benchmark import run_patch_sizes

    result = run_patch_sizes(sample, sizes, out, points, seeds, withhold, settings or [])
    if as_json:
        print(json.dumps(result))
        return
    table = Table(title=f"{result['sample']}: loss (nMSE)", title_justify="left")
    for column in ("patch", "training", "validation"):
        table.add_column(column, justify="right")
    rows = zip(result["sizes"], result["training"], result["validation"], strict=True)
    for size, training, validation in rows:
        table.add_row(str(size), f"{training:.3f}", f"{validation:.3f}")
    console.print(table)
    console.print(f"picture: {result['picture']}", highlight=False, markup=False)

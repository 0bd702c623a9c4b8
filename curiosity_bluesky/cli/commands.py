"""The ``curiosity`` command.

What a command needs is imported when it runs: ``curiosity runs`` does not wait for torch.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from curiosity_bluesky.cli.agent import LoadOption, load_strategies
from curiosity_bluesky.cli.agent import app as about_agents
from curiosity_bluesky.cli.errors import explain_error
from curiosity_bluesky.cli.explore import app as about_maps
from curiosity_bluesky.cli.facility import app as about_queues
from curiosity_bluesky.cli.similar import (
    CatalogOption,
    HostNameOption,
    JsonOption,
    parameters,
)
from curiosity_bluesky.cli.similar import app as about_images
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import WHOLE, Console, Table, plain

app = typer.Typer(
    help="Measure where it teaches most: curiosity-driven spectroscopy on Bluesky.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
DEFAULT_SAMPLE = "PTO_BEPS_1d3um"
LISTED = 50
"""Runs that are listed unless more are asked for: a catalogue may hold thousands."""


@app.command()
def demo(
    sample: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="See `curiosity samples`, or .npz, .npy, .h5, ..."),
    ] = DEFAULT_SAMPLE,
    strategy: Annotated[str, typer.Option(help="How to choose.")] = "curious",
    points: Annotated[
        int | None,
        typer.Option(help="Spectra to measure, seeds included. [default: 60, or as time allows]"),
    ] = None,
    time_budget: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds that the run may take.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    catalog: CatalogOption = None,
    plot: Annotated[bool, typer.Option(help="Draw the live view and the summary.")] = True,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the summary picture goes.")
    ] = None,
    image_slice: Annotated[
        str | None,
        typer.Option(
            "--image-slice",
            "--image",
            metavar="N|NAME",
            help="For .npy the slice that is the image; for files of others its channels.",
        ),
    ] = None,
    spectra_slice: Annotated[
        str | None,
        typer.Option(
            "--spectra-slice",
            "--spectra",
            metavar="A:B|NAME",
            help="For .npy the slices that are the spectrum; for files of others its channels.",
        ),
    ] = None,
    withhold: Annotated[
        float, typer.Option(help="Share of pixels kept back to test what was learned.")
    ] = 0.2,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the strategy."),
    ] = None,
    load: LoadOption = None,
    speed: Annotated[
        float, typer.Option(help="Simulated seconds per second of the microscope.")
    ] = 20.0,
    lookahead: Annotated[
        int, typer.Option(help="Decide so many points ahead, while the spectrum is taken.")
    ] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="KIND=SHARE", help="Let the microscope fail: nan=0.1."),
    ] = None,
    drift: Annotated[
        float, typer.Option(metavar="NM/MIN", help="Let the sample drift, nm a simulated minute.")
    ] = 0.0,
    resurvey_every: Annotated[
        int, typer.Option(metavar="N", help="Correct drift: a new survey every N points.")
    ] = 0,
    devices: Annotated[
        str, typer.Option(metavar="simulated|epics", help="epics: over Channel Access.")
    ] = "simulated",
    index: Annotated[
        bool, typer.Option("--index", help="Index the run for `similar` when it is over.")
    ] = False,
    warm_start: Annotated[
        str | None,
        typer.Option(metavar="similar|UID", help="Start from an earlier run of the catalogue."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure nothing: show limits, seeds, time.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let the explorer measure a recorded sample on the simulated microscope."""
    from curiosity_bluesky.demo.run import outline_demo, run_demo
    from curiosity_bluesky.demo.settings import DemoOptions, DemoSample
    from curiosity_bluesky.plans.dry_run import format_report

    load_strategies(load)
    setting = DemoSample(
        sample=sample,
        image_slice=image_slice,
        spectra_slice=spectra_slice,
        speed=speed,
        faults=parameters(fault or [], "--fault", "nan=0.1"),
        drift=drift,
        devices=devices,
    )
    choice = DemoOptions(
        strategy=strategy,
        points=60 if points is None and time_budget is None else points,
        time_budget=time_budget,
        resurvey_every=resurvey_every,
        lookahead=lookahead,
        seed=seed,
        withhold=withhold,
        parameters=parameters(settings or []),
        catalog=catalog,
        picture=picture,
        warm_start=warm_start,
    )
    if dry_run:
        outline = outline_demo(setting, choice)
        print(json.dumps(outline.to_dict()) if as_json else format_report(outline))
        return
    with _json_alone(as_json):
        result = run_demo(setting, choice, plot=plot, index=index)
    _show_result(result, as_json)


@app.command()
def resume(
    uid: Annotated[str, typer.Argument(help="uid of a run, or its first characters (5 or more).")],
    points: Annotated[
        int | None, typer.Option(help="Spectra in the whole run. [default: as it was]")
    ] = None,
    catalog: CatalogOption = None,
    plot: Annotated[bool, typer.Option(help="Draw the live view and the summary.")] = True,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the summary picture goes.")
    ] = None,
    load: LoadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a demo that was interrupted: what it had decided comes first."""
    from curiosity_bluesky.demo.run import resume_demo

    load_strategies(load)
    with _json_alone(as_json):
        result = resume_demo(uid, points=points, catalog=catalog, plot=plot, picture=picture)
    _show_result(result, as_json)


def _json_alone(as_json: bool) -> contextlib.AbstractContextManager[Any]:
    # The RunEngine has a few words for whoever presses Ctrl-C; JSON stays alone on stdout.
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def _show_result(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _print_table(result.rows())
    if result.by_hand:
        raise typer.Exit(130)  # ended early by Ctrl-C; what was measured is kept
    if result.trouble:
        raise typer.Exit(1)


@app.command()
def runs(
    sample: Annotated[str | None, typer.Option(help="Only runs on this sample.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Only runs with this strategy.")] = None,
    plan: Annotated[str | None, typer.Option(help="Only runs of this plan.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs since, such as 2026-11-21.")
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only the newest N. [default: 50, with --json all]"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs in a catalogue, the newest last."""
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.catalog.successors import in_list

    if every and last is not None:
        raise InputError(f"--all and --last {last} are given; give one of them")
    most = None if every or (as_json and last is None) else LISTED if last is None else last
    wanted: dict[str, Any] = {
        "sample": sample, "strategy": strategy, "plan_name": plan, "since": since,
    }  # fmt: skip
    with connect(catalog, create=False) as opened:
        found = opened.runs(**wanted, last=most)
        total = opened.count(**wanted) if len(found) == most else len(found)
        where = opened.where
    if as_json:
        print(json.dumps([run.to_dict() for run in found]))
        return
    plural = "" if total == 1 else "s"
    of = f"the newest {len(found)} of " if total > len(found) else ""
    more = "; --all lists all" if of else ""
    table = Table(title=f"{of}{total} run{plural} in {where}{more}", title_justify="left")
    for column in ("uid", "started", "sample", "strategy", "points", "status"):
        # Folded, not cut: the words are what one has to type to search.
        table.add_column(column, overflow="fold", no_wrap=column == "uid")
    said = in_list(found)
    for run in found:
        about = plain(run.sample), plain(run.strategy), *map(plain, said[run.uid])
        table.add_row(run.uid[:8], run.time[:16].replace("T", " "), *about)
    console.print(table)


@app.command()
def show(
    uid: Annotated[str, typer.Argument(help="uid of a run, or its first characters (5 or more).")],
    catalog: CatalogOption = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the run's picture there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: what was decided where, and why."""
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.views.report import show_run

    with connect(catalog, create=False) as opened:
        shown = show_run(opened, uid, picture)
    if as_json:
        print(json.dumps(shown.to_dict()))
        return
    _print_table(shown.rows())
    console.print(shown.decisions_table())


@app.command()
def recover(catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """Take in what is still in the journal: of processes that died, of a server that was away."""
    from curiosity_bluesky.catalog import connect

    with connect(catalog, create=False) as opened:
        found = opened.recover()
        where, journal = opened.where, opened.journal
    if as_json:
        print(json.dumps([run.to_dict() for run in found]))
    elif not found:
        console.print(f"nothing to recover for {where}", highlight=False)
    else:
        table = Table(title=f"from {journal} into {where}", title_justify="left")
        for column in ("uid", "documents", "now", "remark"):
            table.add_column(column, overflow="fold", no_wrap=column == "uid")
        words = {
            "written": "written",
            "present": "was there already",
            "kept": "still in the journal",
        }
        for run in found:
            remark = run.detail or ("interrupted" if run.interrupted else "")
            table.add_row(run.uid[:8], str(run.documents), words[run.status], remark)
        console.print(table)
    if any(run.status == "kept" for run in found):
        raise typer.Exit(1)


@app.command()
def export(
    uid: Annotated[str, typer.Argument(help="uid of a run, or its first characters (5 or more).")],
    file: Annotated[Path, typer.Argument(metavar="FILE.hf5", help="The NSID file to write.")],
    grid: Annotated[
        bool, typer.Option("--grid", help="Cubes (x, y, bias) too, NaN where not measured.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run as an NSID file, for pycroscopy."""
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.cli.export import check_export, run_export

    check_export(file, force)  # before a catalogue is opened
    with connect(catalog, create=False) as opened:
        exported = run_export(opened[uid], file, grid=grid, force=force)
    if as_json:
        print(json.dumps(exported))
        return
    table = Table(title=f"{exported['file']}, {exported['bytes']} bytes", title_justify="left")
    for column in ("dataset", "shape", "type"):
        table.add_column(column, overflow="fold")
    for row in exported["datasets"]:
        table.add_row(row["name"], " x ".join(map(str, row["shape"])), row["data_type"])
    console.print(table)


@app.command()
def samples(as_json: JsonOption = False) -> None:
    """List the samples that can be measured."""
    from sim_devices import list_samples

    known = list_samples()
    if as_json:
        fields = ("name", "shape", "points", "extent_um", "source")
        print(json.dumps([{field: getattr(info, field) for field in fields} for info in known]))
        return
    table = Table()
    for column in ("name", "pixels", "points", "size (um)", "source"):
        table.add_column(column, no_wrap=column == "name")
    for info in known:
        size = " x ".join(f"{length:g}" for length in info.extent_um)
        pixels = " x ".join(map(str, info.shape))
        table.add_row(info.name, pixels, str(info.points), size, info.source)
    console.print(table)
    console.print(
        "Your own: --sample FILE.npz (image, spectra, axis), FILE.npy with slices, or a file of "
        "pycroscopy or a vendor (docs/pycroscopy.md)."
    )


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
    n_seeds: Annotated[int, typer.Option(help="Spectra before anything is learned.")] = 30,
    patch_size: Annotated[
        str, typer.Option(metavar="N|own", help="Patch for all strategies, or each its own.")
    ] = "9",
    every: Annotated[int, typer.Option(help="Score after so many spectra.")] = 5,
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
    """Compare strategies on recorded samples; interrupted and run again, it goes on."""
    from curiosity_bluesky.benchmark.campaign import TrialsFailed
    from curiosity_bluesky.cli.benchmark import run_benchmark

    load_strategies(load)
    try:
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
    except TrialsFailed as failure:
        # The others are written and reported; the same command does the missing ones.
        print(f"curiosity: {failure}; run it again for these alone", file=sys.stderr)
        raise typer.Exit(1) from failure
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
    from curiosity_bluesky.cli.benchmark import run_patch_sizes

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


@app.command()
def serve(
    catalog: CatalogOption = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8000,
    private: Annotated[
        bool,
        typer.Option("--private", help="Require the key for reading; only you can read the files."),
    ] = False,
    host_name: HostNameOption = None,
) -> None:
    """Serve a catalogue directory to this machine, for Tiled and databroker clients."""
    import os

    from curiosity_bluesky.catalog import DEFAULT
    from curiosity_bluesky.catalog.embedded_server import EmbeddedServer

    where = catalog or os.environ.get("CURIOSITY_CATALOG") or DEFAULT
    if "://" in where:
        raise InputError(f"{where} is served already; give a directory with --catalog")
    console.print(f"starting a Tiled server for {where} ...", highlight=False)
    # Asked to end by whoever started it, it closes as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, _end)
    if private:
        os.umask(0o077)  # what is written from now on, too
    server = EmbeddedServer(
        Path(where),
        port,
        os.environ.get("TILED_API_KEY"),
        anonymous_read=not private,
        private=private,
        host_names=host_name or (),
    )
    console.print(f"serving at {server.uri}  (Ctrl-C ends it)", highlight=False)
    if port == 8000 and not private:
        console.print("read it with tiled.client.from_profile('curiosity')", highlight=False)
    console.print(f"the key for writing is in {server.directory / 'server.json'}", highlight=False)
    try:
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


@app.command()
def ioc(
    sample: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="See `curiosity samples`, or .npz, .npy.")
    ] = DEFAULT_SAMPLE,
    prefix: Annotated[str, typer.Option(help="What all names begin with.")] = "SPM:",
    port: Annotated[int, typer.Option(help="UDP port; 0 takes one that is free.")] = 5064,
    host: Annotated[
        str, typer.Option(help="Address of the interface; 127.0.0.1: this machine only.")
    ] = "127.0.0.1",
    image_slice: Annotated[str | None, typer.Option(metavar="N", help="As for demo.")] = None,
    spectra_slice: Annotated[str | None, typer.Option(metavar="A:B", help="As for demo.")] = None,
    speed: Annotated[
        float, typer.Option(help="Simulated seconds per second; inf: nothing takes time.")
    ] = 1.0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Of the microscope: spectrum_s=0.1."),
    ] = None,
    noise: Annotated[float, typer.Option(help="Relative to each channel's spread.")] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="KIND=SHARE", help="Let the microscope fail: nan=0.1."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of noise and faults.")] = 0,
    drift: Annotated[
        float, typer.Option(metavar="NM/MIN", help="Let the sample drift, nm a simulated minute.")
    ] = 0.0,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="End when standard input is closed.")
    ] = False,
) -> None:
    """Serve the simulated microscope as an EPICS IOC."""
    from sim_devices.ioc.command import run_ioc

    run_ioc(
        sample,
        image_slice=image_slice,
        spectra_slice=spectra_slice,
        prefix=prefix,
        host=host,
        port=port,
        speed=speed,
        settings=parameters(settings or [], "--set", "spectrum_s=0.1"),
        noise=noise,
        faults=parameters(fault or [], "--fault", "nan=0.1"),
        seed=seed,
        drift=drift,
        until_eof=until_eof,
    )


app.add_typer(about_images)
app.add_typer(about_maps)
app.add_typer(about_agents)
app.add_typer(about_queues)


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _print_table(rows: list[tuple[str, str]]) -> None:
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; what cannot be ends with one line, and exit code 2.

    Parameters
    ----------
    arguments
        Words of the command line; default: those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if any("\0" in word for word in given):
            raise InputError("an argument holds a NUL character; leave it out")
        code = app(given, prog_name="curiosity", standalone_mode=False)
    except Exception as error:
        # typer has a box of five lines for it, and a screen for a wrong value.
        code, said = explain_error(error)
        if said:
            print(f"curiosity: {plain(' '.join(said.split()), WHOLE)}", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)

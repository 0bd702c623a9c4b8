"""``curiosity demo``, ``resume``, ``samples`` and ``ioc``: the simulated microscope."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from curiosity_bluesky.cli.options import (
    PLOT,
    SEED,
    STRATEGY,
    CatalogOption,
    DriftOption,
    FaultOption,
    JsonOption,
    LoadOption,
    PictureOption,
    SampleOption,
    SettingsOption,
    TimeBudgetOption,
    UidArgument,
    check_run,
    load_strategies,
    parameters,
)
from curiosity_bluesky.cli.output import console, json_alone, print_table
from curiosity_bluesky.utils.display import Table

app = typer.Typer()

LAYER = "OPHYD_CONTROL_LAYER"
"""Environment variable of ophyd: what it does Channel Access with."""


def _number_or_text(given: str | None) -> float | str | None:
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


@app.command()
def demo(
    sample: SampleOption = None,
    strategy: Annotated[str, STRATEGY] = "curious",
    points: Annotated[
        int | None,
        typer.Option(help="Spectra to measure, seeds included. [default: 60, or as time allows]"),
    ] = None,
    time_budget: TimeBudgetOption = None,
    seed: Annotated[int, SEED] = 0,
    catalog: CatalogOption = None,
    plot: Annotated[bool, PLOT] = True,
    picture: PictureOption = None,
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
    settings: SettingsOption = None,
    load: LoadOption = None,
    speed: Annotated[
        float, typer.Option(help="Simulated seconds per second of the microscope.")
    ] = 20.0,
    lookahead: Annotated[
        int, typer.Option(help="Points to decide ahead, while the spectrum is taken.")
    ] = 0,
    dwell: Annotated[
        str | None,
        typer.Option(
            metavar="auto|full|N",
            help="How long each spectrum is measured: N cycles of the loop, where it has several.",
        ),
    ] = None,
    fault: FaultOption = None,
    drift: DriftOption = 0.0,
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
    """Measure a recorded sample on the simulated microscope."""
    from curiosity_bluesky.demo.samples import default_sample
    from curiosity_bluesky.demo.settings import DemoOptions, DemoSample

    load_strategies(load)
    setting = DemoSample(
        sample=default_sample() if sample is None else sample,
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
        dwell=_number_or_text(dwell),
    )
    chosen = choice.check(setting)  # what follows takes seconds to import
    _import_ophyd()
    from curiosity_bluesky.demo.run import outline_demo, run_demo

    if dry_run:
        from curiosity_bluesky.plans.dry_run import format_report

        outline = outline_demo(setting, choice, chosen)
        print(json.dumps(outline.to_dict()) if as_json else format_report(outline))
        return
    with json_alone(as_json):
        result = run_demo(setting, choice, chosen, plot=plot, index=index)
    _show_result(result, as_json)


@app.command()
def resume(
    uid: UidArgument,
    points: Annotated[
        int | None, typer.Option(help="Spectra in the whole run. [default: as it was]")
    ] = None,
    catalog: CatalogOption = None,
    plot: Annotated[bool | None, PLOT] = None,
    picture: PictureOption = None,
    load: LoadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Resume an interrupted demo, with the points that it had decided first."""
    from curiosity_bluesky.views.report import check_picture

    if picture is not None:
        check_picture(picture)
    check_run(uid, catalog)
    _import_ophyd()
    from curiosity_bluesky.demo.run import resume_demo

    load_strategies(load)
    with json_alone(as_json):
        result = resume_demo(uid, points=points, catalog=catalog, plot=plot, picture=picture)
    _show_result(result, as_json)


def _import_ophyd() -> None:
    """Import ophyd without Channel Access, which the simulated microscope does not need.

    One of the threads of ophyd's Channel Access sleeps a second, and is waited for at the end of
    the process. `served_instrument` takes Channel Access all the same.
    """
    if "ophyd" in sys.modules or LAYER in os.environ:
        return
    os.environ[LAYER] = "dummy"
    try:
        import ophyd  # noqa: F401
    finally:
        del os.environ[LAYER]


def _show_result(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        print_table(result.rows())
    if result.by_hand:
        raise typer.Exit(130)  # ended early by Ctrl-C; what was measured is kept
    if result.trouble:
        raise typer.Exit(1)


@app.command()
def samples(as_json: JsonOption = False) -> None:
    """List the samples that can be measured."""
    from curiosity_bluesky.demo.samples import list_samples

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
def ioc(
    sample: SampleOption = None,
    prefix: Annotated[str, typer.Option(help="Prefix of all names.")] = "SPM:",
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
    fault: FaultOption = None,
    seed: Annotated[int, typer.Option(help="Seed of noise and faults.")] = 0,
    drift: DriftOption = 0.0,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="End when standard input is closed.")
    ] = False,
) -> None:
    """Serve the simulated microscope as an EPICS IOC."""
    from curiosity_bluesky.demo.ioc import run_ioc
    from curiosity_bluesky.demo.samples import default_sample

    run_ioc(
        default_sample() if sample is None else sample,
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

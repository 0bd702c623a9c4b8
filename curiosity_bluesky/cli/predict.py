"""``curiosity predict``: the predicted spectra of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curiosity_bluesky.cli.options import CatalogOption, JsonOption, UidArgument, check_run
from curiosity_bluesky.cli.output import check_new_file, console, print_table

app = typer.Typer()

SUFFIXES = (".nc", ".nc4", ".h5", ".hdf5")
"""Suffixes of NetCDF files."""


@app.command()
def predict(
    uid: UidArgument,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.nc", help="NetCDF file to write."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the spectrum at every pixel from the documents of a run."""
    if file is not None:
        check_new_file(file, SUFFIXES, force)
    check_run(uid, catalog)
    from curiosity_bluesky.analysis import predict, summarize
    from curiosity_bluesky.catalog import connect

    with connect(catalog, create=False) as opened:
        predicted = opened.read(uid, predict)
    summary = summarize(predicted)
    if file is not None:
        predicted.to_netcdf(file, engine="h5netcdf")
        summary["file"] = str(file)
    if as_json:
        print(json.dumps(summary))
        return
    print_table([(key.replace("_", " "), str(value)) for key, value in summary.items()])
    if file is None:
        console.print("-o FILE.nc writes it, for xarray.open_dataset", highlight=False)

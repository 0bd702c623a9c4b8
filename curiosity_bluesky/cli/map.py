"""``curiosity map``: what is read off the spectra of a run, at every pixel."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curiosity_bluesky.cli.options import CatalogOption, JsonOption, UidArgument, check_run
from curiosity_bluesky.cli.output import check_new_file, console, print_line
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import Table, plain
from curiosity_bluesky.utils.validation import whole_number

if TYPE_CHECKING:
    import xarray as xr

    from curiosity_bluesky.analysis.properties import Readable

app = typer.Typer()
SUFFIXES = (".png", ".nc")


@app.command("map")
def map_(
    uid: UidArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="PROPERTY", help="Such as coercive_bias; see --list.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A picture, .png, or the numbers, NetCDF, .nc."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    channel: Annotated[
        str | None, typer.Option(help="Data key of the spectra. [default: the first that fits]")
    ] = None,
    draws: Annotated[int, typer.Option(help="Spectra drawn at each pixel.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    show: Annotated[bool, typer.Option(help="Open a window too, where there is a display.")] = True,
    listed: Annotated[
        bool, typer.Option("--list", help="List what can be read off the spectra of the run.")
    ] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a property of the spectra at every pixel: predicted, measured, and its deviation."""
    if (name is None) != listed:
        raise InputError(
            "give a property, such as `curiosity map UID coercive_bias`, or --list for those that "
            "there are"
        )
    whole_number("--draws", draws, 2)  # what follows takes seconds to import
    whole_number("--seed", seed)
    if output is not None:
        check_new_file(output, SUFFIXES, force)
    check_run(uid, catalog)
    if name is None:
        _list(uid, catalog, as_json)
        return
    from curiosity_bluesky.analysis import property_map
    from curiosity_bluesky.catalog import connect

    with connect(catalog, create=False) as opened:
        maps = opened.read(
            uid, lambda run: property_map(run, name, channel, draws=draws, seed=seed)
        )
    file = output or Path(f"{maps.attrs['uid'][:8]}-{plain(name).replace(os.sep, '-')}.png")
    _save(maps, file)
    if as_json:
        about = {key: maps.attrs[key] for key in ("uid", "channel", "deviation")}
        units = {str(one): maps[one].attrs.get("units", "") for one in maps}
        print(json.dumps({"file": str(file), "property": name, **about, "units": units}))
        return
    print_line(f"{name} of {maps.attrs['channel']}: {file}")
    if maps.attrs["deviation"] == "none":
        print_line("its deviation is not known: the strategy has no model of it, and no residuals")
    if show:
        _show(maps)


def _list(uid: str, catalog: str | None, as_json: bool) -> None:
    from curiosity_bluesky.analysis import properties_in
    from curiosity_bluesky.catalog import connect

    with connect(catalog, create=False, serve=False) as opened:
        found = opened.read(uid, properties_in)
    if as_json:
        print(json.dumps([asdict(one) for one in found]))
        return
    for key in dict.fromkeys(one.channel for one in found):
        console.print(_table(key, [one for one in found if one.channel == key]))


def _table(channel: str, found: list[Readable]) -> Table:
    table = Table(title=f"what can be read off {channel}", title_justify="left")
    for column in ("property", "units", "spectra that have it", "by the function"):
        table.add_column(column, overflow="fold", no_wrap=column == "property")
    for one in found:
        has = one.remark or f"{100 * one.share:.0f} %"
        table.add_row(one.name, one.units, has, one.function)
    return table


def _save(maps: xr.Dataset, file: Path) -> None:
    try:
        if file.suffix.lower() == ".nc":
            maps.to_netcdf(file, engine="h5netcdf")
            return
        from matplotlib.figure import Figure

        from curiosity_bluesky.views import draw_property_maps

        figure = Figure(layout="constrained")
        draw_property_maps(maps, figure)
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error}); choose another with -o") from None


def _show(maps: xr.Dataset) -> None:
    """Open a window with the maps and wait until it is closed, where matplotlib can have one."""
    import matplotlib.pyplot as plt

    from curiosity_bluesky.views import draw_property_maps

    if plt.get_backend().lower() == "agg":  # what matplotlib takes without a display
        return
    draw_property_maps(maps, plt.figure("curiosity", layout="constrained"))
    plt.show()

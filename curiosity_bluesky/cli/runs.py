"""``curiosity runs``, ``show``, ``recover``, ``export`` and ``serve``: what a catalogue holds."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curiosity_bluesky.cli.options import CatalogOption, HostNameOption, JsonOption, UidArgument
from curiosity_bluesky.cli.output import console, interrupt_on, print_table
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import Table, plain
from curiosity_bluesky.utils.validation import whole_number
from curiosity_bluesky.utils.wording import did_you_mean, plural

if TYPE_CHECKING:
    from curiosity_bluesky.catalog import Catalog

app = typer.Typer()
LISTED = 50
"""Runs that are listed unless more are asked for: a catalogue may hold thousands."""


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

    if every and last is not None:
        raise InputError(f"--all and --last {last} are given; give one of them")
    most = None if every or (as_json and last is None) else LISTED if last is None else last
    wanted: dict[str, Any] = {
        "sample": sample, "strategy": strategy, "plan_name": plan, "since": since,
    }  # fmt: skip
    from curiosity_bluesky.catalog.successors import in_list

    with connect(catalog, create=False, serve=False) as opened:
        found = opened.runs(**wanted, last=most)
        total = opened.count(**wanted) if len(found) == most else len(found)
        where = opened.where
        if strategy is not None and not found:
            _check_strategy(opened, strategy)
    if as_json:
        print(json.dumps([run.to_dict() for run in found]))
        return
    of = f"the newest {len(found)} of " if total > len(found) else ""
    more = "; --all lists all" if of else ""
    table = Table(
        title=f"{of}{total} {plural(total, 'run')} in {where}{more}", title_justify="left"
    )
    for column in ("uid", "started", "sample", "strategy", "points", "status"):
        # Folded, not cut: the words are what one has to type to search.
        table.add_column(column, overflow="fold", no_wrap=column == "uid")
    said = in_list(found)
    for run in found:
        about = plain(run.sample), plain(run.strategy), *map(plain, said[run.uid])
        table.add_row(run.uid[:8], run.time[:16].replace("T", " "), *about)
    console.print(table)


def _check_strategy(opened: Catalog, name: str) -> None:
    """Refuse a strategy that no run has, and that there is not here either."""
    from curiosity_bluesky.learning import Strategy

    if name not in Strategy.names() and not opened.count(strategy=name):
        raise InputError(
            f"no run in {opened.where} has the strategy {name!r}, and there is none of this name; "
            f"there are {', '.join(Strategy.names())}.{did_you_mean(name, Strategy.names())}"
        )


@app.command()
def show(
    uid: UidArgument,
    other: Annotated[
        str | None, typer.Argument(metavar="[UID]", help="Another run, to compare both.")
    ] = None,
    property_: Annotated[
        str | None,
        typer.Option("--property", metavar="NAME", help="What is compared, as in `map`."),
    ] = None,
    catalog: CatalogOption = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: what was decided where, and why; or compare two."""
    if other is not None:
        from curiosity_bluesky.cli._compare import compare_runs

        compare_runs(uid, other, property_, catalog, picture, as_json)
        return
    if property_ is not None:
        raise InputError(
            f"--property {property_} is given with one run; give another one to compare them, or "
            f"take `curiosity map {uid} {property_}`"
        )
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.views.report import show_run

    with connect(catalog, create=False, serve=picture is not None) as opened:
        shown = show_run(opened, uid, picture)
    if as_json:
        print(json.dumps(shown.to_dict()))
        return
    print_table(shown.rows())
    console.print(shown.decisions_table())


@app.command()
def recover(catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """Upload what is still in the journal, after a crash or an outage of the server."""
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
    uid: UidArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.hf5", help="The NSID file to write.")],
    grid: Annotated[
        bool, typer.Option("--grid", help="Cubes (x, y, bias) too, NaN where not measured.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run as an NSID file, for pycroscopy."""
    from curiosity_bluesky.cli._export import check_export, run_export

    check_export(file, force)  # what follows takes seconds to import
    from curiosity_bluesky.catalog import connect

    with connect(catalog, create=False) as opened:
        exported = opened.read(uid, lambda run: run_export(run, file, grid=grid, force=force))
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

    whole_number("--port", port, 0, 65535)  # what follows takes seconds to import
    from curiosity_bluesky.catalog.locations import place_of

    where, elsewhere = place_of(catalog)
    if elsewhere:
        raise InputError(f"{where} is served already; give a directory with --catalog")
    from curiosity_bluesky.catalog.embedded_server import EmbeddedServer

    console.print(f"starting a Tiled server for {where} ...", highlight=False)
    interrupt_on(signal.SIGTERM)
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

"""``python -m curiosity_bluesky.catalog.shared``: a shared catalogue to try, and keys for any."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from curiosity_bluesky.catalog.shared.server import (
    SharedCatalogue,
    make_key,
    prepare,
    serve_configuration,
)
from curiosity_bluesky.errors import InputError

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)

HostNameOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Another name of it, such as behind a reverse proxy."),
]
_UNITS = {"h": 3600, "d": 86400, "y": 365 * 86400}


@app.command()
def serve(
    directory: Annotated[Path, typer.Argument(help="Where all of it is; made if need be.")],
    port: Annotated[int, typer.Option(help="Of Tiled, on 127.0.0.1; 0: a free one.")] = 8000,
    host_name: HostNameOption = None,
) -> None:
    """Serve a catalogue from PostgreSQL and Tiled in one directory until Ctrl-C."""
    signal.signal(signal.SIGTERM, _end)
    typer.echo("starting PostgreSQL and Tiled ...")
    with SharedCatalogue(directory, port, host_name or ()) as shared:
        typer.echo(f"serving at {shared.uri}  (Ctrl-C ends it)")
        typer.echo("where runs are written:")
        typer.echo(f"  export CURIOSITY_CATALOG={shared.uri}")
        typer.echo(f"  export TILED_API_KEY=$(cat {shared.directory}/secrets/write-key)")
        typer.echo("where they are only read:")
        typer.echo(f"  export TILED_API_KEY=$(cat {shared.directory}/secrets/read-key)")
        try:
            shared.server.wait()
        except KeyboardInterrupt:
            return
    raise InputError(f"the Tiled server has ended; {shared.directory / 'tiled.log'} says why")


@app.command()
def tiled(
    config: Annotated[Path, typer.Argument(help="Such as profiles/tiled-server/config.yml.")],
    port: Annotated[int | None, typer.Option(help="[default: the configuration's]")] = None,
    host_name: HostNameOption = None,
) -> None:
    """Serve a configuration as `tiled serve config` does, with a check of the host name."""
    serve_configuration(config, port, host_name or ())


@app.command(name="prepare")
def prepare_databases() -> None:
    """Make what Tiled needs in the databases of PGHOST, PGPORT, PGUSER, PGPASSWORD."""
    lacking = [n for n in ("PGHOST", "PGPORT", "PGUSER") if not os.environ.get(n)]
    if lacking:
        raise InputError(f"{', '.join(lacking)} must be set; docs/shared-catalogue.md says to what")
    prepare(os.environ)
    typer.echo("tiled_catalog and tiled_authn are ready")


@app.command()
def key(
    uri: Annotated[str, typer.Argument(help="Of the server, such as http://host:8000/api/v1.")],
    note: Annotated[str, typer.Option(help="What it is for, such as 'AFM 3'.")],
    write: Annotated[bool, typer.Option("--write", help="It may write and delete runs.")] = False,
    expires: Annotated[str | None, typer.Option(help="Such as 12h, 90d, 1y.")] = None,
) -> None:
    """Print a new key. CURIOSITY_ADMIN_PASSWORD is that of the server."""
    seconds = None
    if expires is not None:
        found = re.fullmatch(r"(\d+)([hdy])", expires)
        if found is None:
            raise InputError(f"--expires is {expires!r}; expected such as 12h, 90d or 1y")
        seconds = int(found[1]) * _UNITS[found[2]]
    password = os.environ.get("CURIOSITY_ADMIN_PASSWORD")
    if not password:
        raise InputError("CURIOSITY_ADMIN_PASSWORD is not set; it is the one the server has")
    typer.echo(make_key(uri, password, write=write, note=note, expires_in=seconds))


def _end(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)

"""``curiosity queue serve``, ``proxy`` and ``drive``: the processes round a Queue Server."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated

import typer

from curiosity_bluesky.cli.options import (
    POINTS,
    SEED,
    STRATEGY,
    AddressOption,
    CatalogOption,
    JsonOption,
    MetadataOption,
    SettingsOption,
    parameters,
)
from curiosity_bluesky.cli.output import interrupt_on, print_line
from curiosity_bluesky.utils.wording import plural

app = typer.Typer()


@app.command()
def drive(
    strategy: Annotated[str, STRATEGY] = "curious",
    points: Annotated[int, POINTS] = 60,
    seed: Annotated[int, SEED] = 0,
    settings: SettingsOption = None,
    md: MetadataOption = None,
    documents: Annotated[
        str, typer.Option(metavar="TCP", help="Address of the proxy for subscribers.")
    ] = "tcp://127.0.0.1:5568",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide here and queue each measurement as a plan: a survey, then point by point."""
    from curiosity_bluesky.adapters.queueserver.drive import drive as run_driver
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        driven = run_driver(
            opened,
            documents,
            strategy,
            points,
            seed,
            parameters(settings or []),
            md=parameters(md or [], "--md", "operator=anna"),
            say=(lambda text: None) if as_json else print_line,
        )
    if as_json:
        found = {"survey": driven.survey, "runs": driven.runs, "reason": driven.reason}
        print(json.dumps(found))
    else:
        print_line(f"{len(driven.runs)} {plural(len(driven.runs), 'point')}; {driven.reason}")


@app.command()
def proxy(
    incoming: Annotated[str, typer.Argument(help="Address for publishers.")] = (
        "tcp://127.0.0.1:5567"
    ),
    outgoing: Annotated[str, typer.Argument(help="Address for subscribers.")] = (
        "tcp://127.0.0.1:5568"
    ),
) -> None:
    """Forward documents over 0MQ to all subscribers."""
    from curiosity_bluesky.agent.remote.zeromq import run_proxy

    run_proxy(incoming, outgoing)


@app.command()
def serve(
    directory: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the logs and the queue.")
    ] = Path("facility"),
    catalog: CatalogOption = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With startup/ and config.yml.")
    ] = None,
    sample: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Under the simulated microscope.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A Redis that runs already.")
    ] = None,
    control: Annotated[int, typer.Option(help="Port of the Queue Server.")] = 60615,
    info: Annotated[int, typer.Option(help="Port of its console.")] = 60625,
    documents_in: Annotated[int, typer.Option(help="Port of the proxy for publishers.")] = 5567,
    documents_out: Annotated[int, typer.Option(help="Port of the proxy for subscribers.")] = 5568,
    agent: Annotated[int, typer.Option(help="Port of the agent.")] = 5577,
    tiled: Annotated[int, typer.Option(help="Port of Tiled.")] = 8000,
) -> None:
    """Start Redis, Tiled, a 0MQ proxy, an agent and a Queue Server; Ctrl-C ends them all."""
    import os

    from curiosity_bluesky.adapters.queueserver.facility import PROFILE, Facility, FacilityPaths
    from curiosity_bluesky.agent.remote import tokens
    from curiosity_bluesky.catalog import DEFAULT

    site = FacilityPaths(
        directory=directory,
        catalog=catalog or os.environ.get("CURIOSITY_CATALOG") or DEFAULT,
        profile=profile or PROFILE,
        sample=sample,
        token=tokens.given_token(),
        redis=redis,
        control=control,
        info=info,
        documents_in=documents_in,
        documents_out=documents_out,
        agent=agent,
        tiled=tiled,
    )
    interrupt_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        with Facility(site, print_line) as facility:
            print_line(facility.greeting())
            facility.wait()
    except KeyboardInterrupt:
        print_line("all of it has ended")

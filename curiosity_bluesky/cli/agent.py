"""``curiosity agent``: the process that learns from documents and proposes."""

from __future__ import annotations

import json
import signal
import time
from typing import Annotated, Any

import typer

from curiosity_bluesky.cli.options import JsonOption, LoadOption, TokenOption, load_strategies
from curiosity_bluesky.cli.output import console
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import Table

app = typer.Typer()
agent = typer.Typer(invoke_without_command=True)
app.add_typer(
    agent, name="agent", help="Serve an agent that learns and proposes, for other processes."
)


@agent.callback()
def serve(
    context: typer.Context,
    bind: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Port 0 takes one that is free.")
    ] = "tcp://127.0.0.1:5577",
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URI", help="Where runs are, to read there what a plan need not send."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow the newest runs of the catalogue.")
    ] = False,
    documents: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A 0MQ proxy that gives documents out."),
    ] = None,
    token_file: TokenOption = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let --bind be open to other machines.")
    ] = False,
    keep: Annotated[int, typer.Option(help="Plans to remember; the least recent goes.")] = 8,
    load: LoadOption = None,
) -> None:
    """Serve an agent that learns from documents and proposes where to measure next."""
    if context.invoked_subcommand is not None:
        return
    if follow and catalog is None:
        raise InputError("--follow needs the catalogue that is to be followed: --catalog DIR|URI")
    load_strategies(load)
    _installed()
    from curiosity_bluesky.agent.remote import tokens
    from curiosity_bluesky.agent.remote.server import AgentServer
    from curiosity_bluesky.agent.remote.sources import CatalogFollower, CatalogReader, Subscriber

    server = AgentServer(bind, tokens.given_token(token_file), keep=keep, public=public)

    def end(number: int, _: object) -> None:
        # No exception: it would be lost in a destructor or a callback. The next signal is one.
        signal.signal(number, before[signal.Signals(number)])
        server.end()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if catalog is not None:
            server.fetch = (CatalogFollower if follow else CatalogReader)(catalog, server.store)
        if documents is not None:
            Subscriber(documents, server.token, server.store)
        _say(f"agent at {server.address}  (Ctrl-C ends it)")
        _say(f'ask it from a plan: curiosity_plan(..., agent="{server.address}")')
        if server.note is not None:
            _say(f"its token is in {server.note}, where plans of this user find it")
        server.serve()
    finally:
        server.close()
        for number, handler in before.items():
            signal.signal(number, handler)


@agent.command()
def status(
    address: Annotated[str, typer.Argument(metavar="ADDRESS")] = "tcp://127.0.0.1:5577",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an agent knows and does."""
    _installed()
    from curiosity_bluesky.agent import AgentUnreachable
    from curiosity_bluesky.agent.remote import tokens
    from curiosity_bluesky.agent.remote.client import ask_agent

    try:
        found = ask_agent(address, token=tokens.given_token(token_file), patience=3.0)
    except AgentUnreachable as error:
        raise InputError(f"{error}; start one with `curiosity agent --bind {address}`") from None
    if as_json:
        print(json.dumps(found))
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["since"]))
    console.print(
        f"agent at {found['address']}, version {found['version']}, since {since}", highlight=False
    )
    table = Table()
    for column in ("run", "documents", "from", "learned from", "doing"):
        table.add_column(column, overflow="fold")
    agents = {one["run"]: one for one in found["agents"]}
    for uid, run in found["runs"].items():
        one: dict[str, Any] = agents.get(uid, {})
        ways = ", ".join(f"{way} {n}" for way, n in sorted(run["from"].items()))
        doing = one.get("doing") or ("" if not one else f"idle for {one['idle_s']:.0f} s")
        table.add_row(uid[:8], str(run["documents"]), ways, str(one.get("learned_from", "")), doing)
    console.print(table)


def _installed() -> None:
    try:
        import msgpack  # noqa: F401
        import zmq  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"an agent elsewhere needs {error.name}: pip install curiosity-bluesky[remote]"
        ) from None


def _say(text: str) -> None:
    print(text, flush=True)  # a parent process may be waiting to read this

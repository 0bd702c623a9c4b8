"""The ``curiosity`` command: its groups of commands, and how it ends.

What a command needs is imported when it runs: ``curiosity runs`` does not wait for torch.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

import typer

from curiosity_bluesky.cli import (
    agent,
    benchmark,
    clusters,
    demo,
    explore,
    facility,
    images,
    map,
    predict,
    queue,
    runs,
    schema,
    why,
)
from curiosity_bluesky.cli.errors import explain_error
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import WHOLE, plain

app = typer.Typer(
    help="Measure where it teaches most: curiosity-driven spectroscopy on Bluesky.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (demo, runs, predict, why, map, clusters, benchmark, images, explore, agent, schema):
    app.add_typer(group.app)
queue.app.add_typer(facility.app)
app.add_typer(queue.app, name="queue")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an InputError ends it with one line and exit code 2.

    Parameters
    ----------
    arguments
        Words of the command line; default: those of the process.
    """
    # Registered first, so called last: the end of the interpreter looks for garbage, again and
    # again, among all that was imported, and takes two seconds for it.
    atexit.register(gc.freeze)
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

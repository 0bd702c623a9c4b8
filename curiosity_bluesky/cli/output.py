"""Output of commands: lines, tables, JSON, and signals."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import Console, Table

console = Console()


def print_line(text: str) -> None:
    """Print a line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_table(rows: list[tuple[str, str]]) -> None:
    """Print pairs of a name and a value as a table.

    Parameters
    ----------
    rows
        Name and value of each row.
    """
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def check_new_file(file: Path, suffixes: Sequence[str], force: bool) -> None:
    """Make sure that a file may be written, before anything else is done.

    Parameters
    ----------
    file
        The file.
    suffixes
        Endings that it may have.
    force
        Whether a file that is there may be replaced.

    Raises
    ------
    InputError
        If it has another ending, is there already, or lies in no directory.
    """
    if file.suffix.lower() not in suffixes:
        raise InputError(f"{file} is asked for; expected a file ending in {', '.join(suffixes)}")
    if file.exists() and not force:
        raise InputError(
            f"{file} is there already; expected a new file: choose another name, or replace it "
            "with --force"
        )
    if not file.parent.is_dir() or file.is_dir():
        raise InputError(f"{file} cannot be written; expected a file in a directory that exists")


def json_alone(as_json: bool) -> contextlib.AbstractContextManager[Any]:
    """Keep standard output free of anything but JSON, if JSON is asked for.

    Parameters
    ----------
    as_json
        Whether the command prints JSON.
    """
    # The RunEngine prints a few words on Ctrl-C.
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def interrupt_on(*signals: signal.Signals) -> None:
    """Let signals end a command as Ctrl-C does, so that it closes what it has opened.

    Parameters
    ----------
    signals
        The signals.
    """
    for one in signals:
        signal.signal(one, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt

"""One line for each error, from any library."""

from __future__ import annotations

import sys
from typing import Any

import typer

from curiosity_bluesky.errors import InputError


def explain_error(error: Exception) -> tuple[int, str]:
    """Return the exit code for an error, and the message.

    Libraries that are not imported cannot have raised it: none is imported for this.

    Parameters
    ----------
    error
        What came out of a command.

    Raises
    ------
    Exception
        The error itself where it means a defect of ours, which keeps its traceback.
    """
    if isinstance(error, InputError):
        return 2, str(error)
    if hasattr(error, "format_message"):  # of typer, or of click below an older typer
        return _misused(error)
    if isinstance(error, BrokenPipeError):
        return 1, ""
    if isinstance(error, typer.Abort):
        return 130, ""
    if _is(error, "httpx", "TransportError", "HTTPStatusError"):
        refused = _is(error, "httpx", "HTTPStatusError")
        return 1, (
            f"the Tiled server {'failed' if refused else 'went away'} ({_named(error)}); what "
            "was measured is in the catalogue or in its journal, try again"
        )
    if _is(error, "sqlalchemy.exc", "SQLAlchemyError") or _is(error, "sqlite3", "Error"):
        return 2, f"a database of the catalogue cannot be used ({_named(error)})"
    if isinstance(error, OSError | UnicodeError):
        return 2, f"{_named(error)}; choose another file or place, or see to this one"
    raise error


def _misused(error: Any) -> tuple[int, str]:
    """Return the message for a command line that cannot be parsed."""
    context = getattr(error, "ctx", None)
    command = "curiosity" if context is None else context.command_path
    said = error.format_message()  # nothing where the help was printed
    return getattr(error, "exit_code", 2), f"{said} (see `{command} --help`)" if said else ""


def _is(error: Exception, module: str, *names: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, tuple(getattr(loaded, n) for n in names))


def _named(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())

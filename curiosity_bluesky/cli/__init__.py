"""The ``curiosity`` command. Importing this imports none of what the commands need."""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an InputError ends it with one line and exit code 2.

    Parameters
    ----------
    arguments
        Words of the command line; default: those of the process.
    """
    from curiosity_bluesky.cli.app import main as run

    run(arguments)

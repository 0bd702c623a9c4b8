"""Exceptions of the package: one base class, and the two that every room may raise."""

from __future__ import annotations


class CuriosityError(Exception):
    """Base class of all exceptions of this package.

    Those that stand for a standard one derive from that too: an `InputError` is a `ValueError`.
    """


class InputError(CuriosityError, ValueError):
    """Something the user gave cannot be used.

    The message is one line that says what was given, what was expected and what to do
    next. The ``curiosity`` command prints it and exits with code 2, IPython shows it
    alone (``%debug`` still goes to where it was raised); any other exception is a defect
    of ours and keeps its traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the message, without the way through our code."""
        return [f"InputError: {' '.join(str(self).split())}"]


class Unreachable(InputError):
    """No server answers at present."""

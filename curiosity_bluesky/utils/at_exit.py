"""Calls at the end of the interpreter, while its thread pools still work."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Any


def call_at_exit(function: Callable[[], Any]) -> None:
    """Call a function when the interpreter ends, before the thread pools are shut down.

    `atexit` comes too late for what needs them. The hook that comes before has no public name
    (CPython uses it for just this); where it is gone, `atexit` has to do. What was given last is
    called first.

    Parameters
    ----------
    function
        Without arguments.
    """
    getattr(threading, "_register_atexit", atexit.register)(function)

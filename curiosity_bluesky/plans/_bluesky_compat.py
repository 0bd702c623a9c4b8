"""Private parts of the RunEngine: all of them here.

tests/test_upstream_names.py fails with the name of one that moves; docs/upstream.md says what each
is needed for.
"""

from __future__ import annotations

from typing import Any


def cancel_task(RE: Any) -> None:
    """Cancel what the RunEngine does, even while it aborts, when `RE.halt` is refused."""
    task = RE._task
    if task is not None:
        RE.loop.call_soon_threadsafe(task.cancel)


def metadata_per_call(RE: Any) -> dict[str, Any]:
    """Return the metadata given to this call alone, ``RE(plan, key=value)``."""
    return dict(getattr(RE, "_metadata_per_call", {}))

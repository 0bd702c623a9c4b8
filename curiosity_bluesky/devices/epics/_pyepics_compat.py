"""Private parts of ophyd's EPICS signals and of pyepics: all of them here.

tests/test_upstream_names.py fails with the name of one that moves; docs/upstream.md says what each
is needed for.
"""

from __future__ import annotations

from typing import Any


def pv_of(signal: Any) -> Any:
    """Return the PV of pyepics that an `EpicsSignal` reads."""
    return signal._read_pv


def has_value(pv: Any) -> bool:
    """Say whether a PV has had its first update."""
    return pv._args["value"] is not None

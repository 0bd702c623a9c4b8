"""Private parts of ophyd's EPICS signals and of pyepics: all of them here.

tests/test_upstream_names.py fails with the name of one that moves; docs/upstream.md says what each
is needed for.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def pv_of(signal: Any) -> Any:
    """Return the PV of pyepics that an `EpicsSignal` reads."""
    return signal._read_pv


def has_value(pv: Any) -> bool:
    """Say whether a PV has had its first update; it is connected.

    After the connection ophyd asks for one value with its time, and pyepics keeps the answer: one
    number of an array is no update.
    """
    value = pv._args["value"]
    return value is not None and (isinstance(value, str) or np.size(value) > 1 or pv.nelm == 1)

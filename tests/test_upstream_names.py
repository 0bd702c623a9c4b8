"""Private names of bluesky, ophyd, pyepics, sidpy and Python that are used here: one test for each.

Those of Tiled: tests/catalog/test_tiled_compat.py. What each is for: docs/upstream.md.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

ATTRIBUTES = (
    "ophyd.status:StatusBase._handle_failure",
    "ophyd.positioner:PositionerBase._reset_sub",
    "ophyd.positioner:PositionerBase._SUB_REQ_DONE",
    "ophyd.positioner:PositionerBase._run_subs",
    "ophyd.positioner:PositionerBase._set_position",
    "ophyd.positioner:SoftPositioner._setup_move",
    "ophyd.epics_motor:EpicsMotor._move_changed",
    "threading:_register_atexit",
    "sidpy:Dataset.h5_dataset",
    "uvicorn:Server.capture_signals",
    "caproto.asyncio.server:Context.tcp_handler",
)
"""``module:class.attribute`` of what has a definition."""

ASSIGNED = (
    ("bluesky.run_engine:RunEngine", "self._task = "),
    ("bluesky.run_engine:RunEngine", "self._metadata_per_call"),
    ("bluesky.callbacks.zmq:Publisher", "self._socket = "),
    ("ophyd.positioner:PositionerBase", "self._moving = "),
    ("ophyd.positioner:SoftPositioner", "self._limits = "),
    ("ophyd.positioner:PositionerBase", "self._position = "),
    ("ophyd.signal:EpicsSignalBase", "self._read_pv = "),
    ("epics.pv:PV", "self._args = "),
    ("sidpy:Dataset", "_h5_dataset"),
    ("sidpy:Dataset", "_axes"),
)
"""Classes, and how they set an attribute of their instances."""


def found(name):
    module, _, path = name.partition(":")
    thing = pytest.importorskip(module) if module in ("sidpy", "epics.pv") else None
    thing = thing or importlib.import_module(module)
    for part in path.split("."):
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_upstream_has_the_attribute(name):
    try:
        assert found(name) is not None
    except AttributeError as error:
        pytest.fail(f"{name} has moved ({error}); docs/upstream.md says what it is needed for")


@pytest.mark.parametrize(("name", "text"), ASSIGNED, ids=lambda value: value)
def test_upstream_sets_the_attribute(name, text):
    assert text in inspect.getsource(found(name)), (
        f"{name} has no {text!r} any more; docs/upstream.md says what it is needed for"
    )

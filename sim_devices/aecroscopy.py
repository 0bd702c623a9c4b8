"""AEcroscopy without an instrument: BEPyAE and Igor where `AEBE` looks for them.

`com_server` takes the place of pywin32. Above it everything is real: AEcroscopy's own code talks to
a simulated panel, `SimBEPyAE`, and a simulated microscope behind it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sim_devices.bepyae import ComError, SimBEPyAE

__all__ = ["ComError", "SimBEPyAE", "com_server"]


class _Apartment:
    """COM's rule: an object is of use only in the thread that made it, and that has said so."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def initialise(self) -> None:
        self._threads.add(threading.get_ident())

    def uninitialise(self) -> None:
        self._threads.discard(threading.get_ident())

    def check(self, maker: int | None = None) -> int:
        here = threading.get_ident()
        if here not in self._threads:
            raise ComError(-2147221008, "CoInitialize has not been called.")
        if maker is not None and maker != here:
            raise ComError(
                -2147417842,
                "The application called an interface that was marshalled for a different thread.",
            )
        return here


class _Object:
    """A COM object: its methods are those of `target`, in the thread that made it only."""

    def __init__(self, apartment: _Apartment, **methods: Callable[..., Any]) -> None:
        self._apartment, self._maker, self._methods = apartment, apartment.check(), methods

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._apartment.check(self._maker)
            return self._methods[name](*args)

        if name not in self._methods:
            raise AttributeError(name)
        return call


@contextlib.contextmanager
def com_server(panel: SimBEPyAE, folder: str | Path = ".") -> Iterator[Callable[[], Any]]:
    """Put BEPyAE and Igor where pywin32 would be, and give what makes the real AEBE on them.

    Parameters
    ----------
    panel
        What the AEBE talks to.
    folder
        Where AEcroscopy writes its log.

    Yields
    ------
    connect
        To be given to ``curiosity_bluesky.devices.aecroscopy.aecroscopy_instrument``.

    Raises
    ------
    ImportError
        If aecroscopy is not installed.
    """
    apartment = _Apartment()
    variables = {
        "ScanSize": max(panel.microscope.sample.extent_um) * 1e-6,
        "FastRatio": max(panel.microscope.sample.extent_um) / panel.microscope.sample.extent_um[0],
        "SlowRatio": max(panel.microscope.sample.extent_um) / panel.microscope.sample.extent_um[1],
        "ScanAngle": 0.0,
    }

    def wave(name: str) -> _Object:
        return _Object(
            apartment,
            GetDimensions=lambda: (1, len(variables), 0, 0, 0),
            DimensionLabel=lambda dimension, index, _: list(variables)[index],
            GetNumericWavePointValue=lambda index: list(variables.values())[index],
        )

    def vi(path: str) -> _Object:
        return _Object(
            apartment,
            getcontrolvalue=lambda name: panel.get(name),
            setcontrolvalue=lambda name, value: panel.set(name, value),
        )

    def dispatch(client: str) -> _Object:
        if client == "BEPyAE.Application":
            return _Object(apartment, getvireference=vi)
        if client == "IgorPro.Application":
            return _Object(apartment, DataFolder=lambda path: _Object(apartment, Wave=wave))
        raise ComError(-2147221005, f"Invalid class string: {client}")

    client = _module("win32com.client", Dispatch=dispatch)
    injected = {
        "win32com": _module("win32com", client=client),
        "win32com.client": client,
        "pythoncom": _module(
            "pythoncom",
            CoInitialize=apartment.initialise,
            CoUninitialize=apartment.uninitialise,
            PumpWaitingMessages=lambda: 0,
        ),
    }
    with _in_place(sys.modules, injected), _attribute(os, "startfile", lambda path: None):
        with _importable("progressbar", "nanosurf"):
            module = importlib.import_module("aecroscopy.acquisition.AEBE")
            cypher = importlib.import_module("aecroscopy.acquisition.AECypher")
        with (
            _attribute(module, "win32com", injected["win32com"]),
            _attribute(cypher, "win32com", injected["win32com"]),
        ):
            yield lambda: module.AEBE(exe_path="BEPyAE.exe", log_file=str(Path(folder) / "aebe"))


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    return module


@contextlib.contextmanager
def _importable(*names: str) -> Iterator[None]:
    """Let aecroscopy import what it does not need here and does not declare either."""
    missing = [
        name for name in names if name not in sys.modules and importlib.util.find_spec(name) is None
    ]
    with _in_place(sys.modules, {name: _module(name) for name in missing}):
        yield


@contextlib.contextmanager
def _in_place(where: dict[str, Any], parts: dict[str, Any]) -> Iterator[None]:
    before = {name: where.get(name) for name in parts}
    where.update(parts)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                where.pop(name, None)
            else:
                where[name] = value


@contextlib.contextmanager
def _attribute(target: Any, name: str, value: Any) -> Iterator[None]:
    with _in_place(vars(target), {name: value}):
        yield

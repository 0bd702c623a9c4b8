"""What the EPICS devices share: reading, putting, and knowing when nobody answers."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import ophyd
from ophyd import Device, EpicsSignal

from curiosity_bluesky.errors import InputError

CONNECT_SECONDS = 10.0
"""How long an IOC may take to be found."""

POLL = 0.1
"""How often a wait for an instrument looks whether the connection is still there, s."""

READ_SECONDS = 5.0
MICROMETRES = ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre")
KINDS = {kind.__name__: kind for kind in (RuntimeError, ConnectionError, TimeoutError, OSError)}


def check_pyepics() -> None:
    """Make sure that ophyd speaks Channel Access through pyepics.

    Raises
    ------
    InputError
        If pyepics is not installed, or ophyd was told to use something else.
    """
    if importlib.util.find_spec("epics") is None:
        raise InputError(
            'EPICS devices need pyepics; it comes with the extra: pip install "curiosity-bluesky'
            '[epics]"'
        )
    if ophyd.get_cl().name != "pyepics":
        raise InputError(
            f"ophyd's control layer is {ophyd.get_cl().name}; expected pyepics: call "
            'ophyd.set_cl("pyepics"), or leave OPHYD_CONTROL_LAYER unset'
        )


def connection_lost(pv: str) -> ConnectionError:
    """Return what is raised when nobody answers any more."""
    return ConnectionError(f"the Channel Access connection to {pv} is lost; is its IOC running?")


def wait_until_connected(device: Device, timeout: float) -> None:
    """Wait until a device is connected; say what is missing if it is not."""
    try:
        device.wait_for_connection(timeout=timeout)
    except TimeoutError:
        signals = [s.item for s in device.walk_signals(include_lazy=False)]
        missing = [s.pvname for s in signals if not s.connected]
        raise InputError(
            f"no IOC answers for {', '.join(missing[:3]) or device.prefix} within {timeout:g} s; "
            "is it running (`curiosity ioc`), is the prefix right, and does EPICS_CA_ADDR_LIST "
            "say where it is?"
        ) from None


def put(signal: EpicsSignal, value: float) -> None:
    """Put, and wait until the IOC says that what this began has ended.

    Raises
    ------
    ConnectionError
        If the connection is lost before.
    """
    if not signal.connected:
        raise connection_lost(signal.pvname)
    ended = threading.Event()
    signal.put(value, force=True, use_complete=True, callback=lambda **_: ended.set())
    while not ended.wait(POLL):
        if not signal.connected:
            raise connection_lost(signal.pvname)


@contextlib.contextmanager
def _connected(pv: Any) -> Iterator[None]:
    """Say that the connection is lost where it ends in the middle of a request."""
    from epics.ca import CASeverityException, ChannelAccessException  # an extra

    try:
        yield
    except (CASeverityException, ChannelAccessException) as error:
        if pv.connected and "disconnect" not in str(error).lower():
            raise
        raise connection_lost(pv.pvname) from error


def read_now(signal: Any, count: int | None = None) -> Mapping[str, Any]:
    """Ask the IOC for value, alarm and time of a signal, whatever was told before.

    Of an array, say how many values: pyepics would ask for as many as there were the last time.
    """
    pv = signal._read_pv
    info = None
    if signal.connected:
        with _connected(pv):
            info = pv.get_with_metadata(
                count=count, form="time", timeout=READ_SECONDS, use_monitor=False
            )
    if info is None:
        raise connection_lost(pv.pvname)
    return info


def read_number(signal: Any) -> float:
    """Return a number as Channel Access has told it last."""
    return float(signal.get())


def last_value(signal: Any) -> Any:
    """Return the value that Channel Access has told last, an array in its full length.

    Before the first update of an array pyepics takes its length for 1, and would read and keep
    one value.
    """
    pv = signal._read_pv
    with _connected(pv):
        count = pv.nelm if signal.connected and pv._args["value"] is None else None
        return signal.get(count=count, as_string=False)


def read_text(signal: Any, fresh: bool = False) -> str:
    """Return a text, which may be a string or a waveform of characters."""
    value = read_now(signal, count=signal._read_pv.nelm)["value"] if fresh else last_value(signal)
    if isinstance(value, str):
        return value
    return bytes(np.atleast_1d(value).astype(np.uint8)).split(b"\0")[0].decode(errors="replace")


def read_texts(signal: Any) -> list[str]:
    """Return an array of strings, of which pyepics makes a string if there is only one."""
    return [str(text) for text in np.atleast_1d(last_value(signal))]


def as_error(message: str) -> Exception:
    """Return what the IOC says went wrong as an exception of the kind that it names."""
    kind, _, said = message.partition(": ")
    return KINDS[kind](said) if said and kind in KINDS else RuntimeError(message)


# --- stage ---------------------------------------------------------------------------------

"""Access to process variables: reading, putting, and lost connections."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ophyd
from ophyd import Device, EpicsSignal

from curiosity_bluesky.devices.epics._pyepics_compat import has_value, pv_of
from curiosity_bluesky.errors import InputError

CONNECT_SECONDS = 10.0
"""Maximum seconds to find an IOC."""

POLL = 0.1
"""Seconds between two checks of the connection while an instrument is waited for."""

READ_SECONDS = 5.0
DISCONNECTED = 192
"""ECA_DISCONN: status of libca for a request that lost its connection."""

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
    """Return the error for a lost connection."""
    return ConnectionError(f"the Channel Access connection to {pv} is lost; is its IOC running?")


def wait_until_connected(
    device: Device, timeout: float, lacking: Callable[[], Sequence[Any]] = lambda: ()
) -> None:
    """Wait until a device is connected and no other signal is lacking; say what is missing."""
    deadline = time.monotonic() + timeout
    try:
        device.wait_for_connection(timeout=timeout)
        while lacking():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(POLL)
    except TimeoutError:
        signals = [s.item for s in device.walk_signals(include_lazy=False)]
        missing = [s.pvname for s in (*signals, *lacking()) if not s.connected]
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
    from epics.ca import (  # an extra
        CASeverityException,
        ChannelAccessException,
        ChannelAccessGetFailure,
    )

    try:
        yield
    except (CASeverityException, ChannelAccessException, ChannelAccessGetFailure) as error:
        # pyepics tells by status or by words, often before it says that the PV is disconnected.
        away = getattr(error, "status", None) == DISCONNECTED or "disconnect" in str(error).lower()
        if pv.connected and not away:
            raise
        raise connection_lost(pv.pvname) from error


def read_now(signal: Any) -> Mapping[str, Any]:
    """Read value, alarm and time of a number from the IOC, past the cache."""
    return _asked(signal, "time")


def read_array(signal: Any, count: int | None = None) -> Any:
    """Ask the IOC for the value of an array, in its full length or the first values.

    It is asked for without alarm and time. pyepics lets requests of one type for one PV share an
    answer, whatever length each asked for; ophyd asks for one value with alarm and time, in a
    thread of its own, after the first connection: an array asked for in the same way at that
    time is one value long.
    """
    pv = pv_of(signal)
    with _connected(pv):
        length = pv.nelm if count is None else count
    return _asked(signal, "native", length)["value"]


def _asked(signal: Any, form: str, count: int | None = None) -> Mapping[str, Any]:
    pv = pv_of(signal)
    info = None
    if signal.connected:
        with _connected(pv):
            info = pv.get_with_metadata(
                count=count, form=form, timeout=READ_SECONDS, use_monitor=False
            )
    if info is None:
        raise connection_lost(pv.pvname)
    return info


def read_number(signal: Any) -> float:
    """Return a number as Channel Access has told it last."""
    return float(signal.get())


def last_value(signal: Any) -> Any:
    """Return the value that Channel Access has told last, an array in its full length.

    Before the first update of an array pyepics would ask for it; see `read_array`.
    """
    pv = pv_of(signal)
    with _connected(pv):
        if signal.connected and not has_value(pv):
            return read_array(signal)
        return signal.get(as_string=False)


def read_text(signal: Any, fresh: bool = False) -> str:
    """Return a text, which may be a string or a waveform of characters."""
    value = read_array(signal) if fresh else last_value(signal)
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

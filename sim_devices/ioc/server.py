"""All process variables of a microscope, and the server that answers for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from caproto import CaprotoError
from caproto.asyncio.server import Context
from caproto.sync import repeater

from curiosity_bluesky.errors import InputError
from sim_devices.ioc.faulty import fault_pvs
from sim_devices.ioc.measuring import image, spectrum
from sim_devices.ioc.motor import Motor
from sim_devices.ioc.settings import LOOPBACK, server_environment
from sim_devices.microscope import SimMicroscope


class _IOCContext(Context):
    """caproto's server, without its pause of 40 ms for each answer to a put.

    Its sockets leave Nagle's algorithm on (asyncio switches it off only for sockets that name
    their protocol), so that an answer that follows a monitor waits for the client's delayed
    acknowledgement.
    """

    async def tcp_handler(self, client: Any, addr: Any) -> None:
        connection = client.writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().tcp_handler(client, addr)


def process_variables(microscope: SimMicroscope, prefix: str) -> dict[str, Any]:
    """Return all process variables of a microscope by name, as caproto serves them.

    Parameters
    ----------
    microscope
        What is served.
    prefix
        What all names begin with.

    Raises
    ------
    InputError
        If a name in the sample is too long for Channel Access.
    """
    motors = [
        Motor(prefix=f"{prefix}{axis}", microscope=microscope, axis=axis) for axis in ("x", "y")
    ]

    async def times_changed() -> None:
        for motor in motors:
            await motor.tell_times()

    groups = [
        *motors,
        image(microscope, prefix),
        spectrum(microscope, prefix, times_changed),
        fault_pvs(microscope, prefix),
    ]
    return {name: pv for group in groups for name, pv in group.pvdb.items()}


def serve(
    microscope: SimMicroscope,
    prefix: str,
    *,
    port: int,
    host: str = LOOPBACK,
    until_eof: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve a microscope until SIGINT or SIGTERM.

    Parameters
    ----------
    microscope, prefix
        As for `process_variables`.
    port
        UDP port on which searches are answered.
    host
        Address of the interface; 127.0.0.1 is reached from this machine only.
    until_eof
        End also when standard input is closed: so whoever started this process takes it along,
        however that one ends.
    ready
        Called when clients can connect.

    Raises
    ------
    InputError
        If the port or the interface cannot be used.
    """
    os.environ.update(server_environment(port, host))
    threading.Thread(target=_repeat, args=(host,), daemon=True).start()
    pvdb = process_variables(microscope, prefix)
    try:
        asyncio.run(_served(pvdb, host, until_eof, ready))
    except (OSError, CaprotoError) as error:
        raise InputError(
            f"the IOC cannot listen on {host}, port {port} ({error.__cause__ or error}); "
            "choose another with --port or --host"
        ) from error


def _repeat(host: str) -> None:
    """Be the CA repeater of this machine, if there is none.

    libca starts one, but the one that belongs to it is not among what pip installs; without
    any, each client complains, and learns later that an IOC is back.
    """
    with contextlib.suppress(OSError):
        repeater.run(host)


async def _served(
    pvdb: dict[str, Any], host: str, until_eof: bool, ready: Callable[[], None]
) -> None:
    async def started(async_lib: Any) -> None:
        ready()

    loop = asyncio.get_running_loop()
    context = _IOCContext(pvdb, [host])  # pyright: ignore[reportArgumentType] (it wants a list)
    server = asyncio.ensure_future(context.run(startup_hook=started))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.cancel)
    if until_eof:

        def more() -> None:
            if not os.read(sys.stdin.fileno(), 4096):
                loop.remove_reader(sys.stdin.fileno())
                server.cancel()

        loop.add_reader(sys.stdin.fileno(), more)
    try:
        await server
    except asyncio.CancelledError:
        return

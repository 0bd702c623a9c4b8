"""What ``curiosity ioc`` does, without the command line."""

from __future__ import annotations

import importlib.util
import logging
import socket
from collections.abc import Mapping
from typing import Any

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.wording import did_you_mean
from sim_devices.clock import Clock
from sim_devices.drift import askew
from sim_devices.faults import KINDS, Faults
from sim_devices.ioc.settings import LOOPBACK, client_environment, free_port
from sim_devices.microscope import SimMicroscope
from sim_devices.samples import open_sample

SETTINGS = ("speed_um_per_s", "settle_s", "line_s", "spectrum_s")
"""What of the microscope can be set, see `SimMicroscope`."""


def run_ioc(
    sample: str,
    *,
    image_slice: int | str | None,
    spectra_slice: str | None,
    prefix: str,
    host: str,
    port: int,
    speed: float,
    settings: Mapping[str, Any],
    noise: float,
    faults: Mapping[str, Any],
    seed: int,
    drift: float,
    until_eof: bool,
) -> None:
    """Serve a sample under the simulated microscope; the parameters are the command's.

    Raises
    ------
    InputError
        If something cannot be used; nothing is served then.
    """
    if importlib.util.find_spec("caproto") is None:
        raise InputError(
            'the IOC needs caproto; it comes with the extra: pip install "curiosity-bluesky[epics]"'
        )
    if not 0 <= port < 65536:
        raise InputError(f"--port is {port}; expected a port, or 0 for one that is free")
    for name in faults:
        if name not in KINDS:
            near = did_you_mean(name, KINDS)
            raise InputError(f"there is no fault {name!r}; there are {', '.join(KINDS)}.{near}")
    if port and _answers(host, port):
        raise InputError(
            f"port {port} of {host} is taken, by another IOC perhaps; end that one, or give "
            "another --port (0 takes one that is free)"
        )
    opened = open_sample(sample, image=image_slice, spectra=spectra_slice)
    known = Faults(**faults, seed=seed)
    for name, value in settings.items():
        if name not in SETTINGS:
            near = did_you_mean(name, SETTINGS)
            raise InputError(
                f"there is no setting {name!r}; there are {', '.join(SETTINGS)}.{near}"
            )
        if not isinstance(value, (int, float)):
            raise InputError(f"{name} is {value!r}; expected a number, Infinity included")
    clock = Clock(speed)
    microscope = SimMicroscope(
        opened, clock, noise=noise, seed=seed, faults=known, drift_um_per_min=askew(drift),
        **settings,
    )  # fmt: skip
    from sim_devices.ioc.server import serve  # with caproto, which is slow to import

    logging.getLogger("caproto").setLevel(logging.ERROR)
    port = port or free_port(host)
    rows, columns = opened.shape
    print(f"serving {opened.name} ({rows} x {columns} pixels) as {prefix}*  (Ctrl-C ends it)")
    print(f"  stage     {prefix}x, {prefix}y (motor records, um)")
    print(f"  image     {prefix}Image:Acquire, {', '.join(microscope.image_channels)}")
    print(f"  spectrum  {prefix}Spectrum:Acquire, {', '.join(microscope.spectrum_channels)}")
    print(f"  faults    {prefix}Fault:<kind>, <kind> one of {', '.join(KINDS)}")
    where = "this machine only" if host == LOOPBACK else f"every machine that reaches {host}"
    print(f"reach it ({where}) with")
    for name, value in client_environment(port, host).items():
        print(f"  export {name}={value}")
    serve(
        microscope, prefix, port=port, host=host, until_eof=until_eof,
        ready=lambda: print("ready", flush=True),
    )  # fmt: skip


def _answers(host: str, port: int) -> bool:
    """Whether another process listens there already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        return caller.connect_ex((host, port)) == 0

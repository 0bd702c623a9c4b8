"""Real servers for the tests of the Queue Server: Redis, Tiled, a 0MQ proxy, an RE Manager."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facility_rig import FREE, alive, everybody

from curiosity_bluesky import connect
from curiosity_bluesky.adapters.queueserver.facility import Facility, FacilityPaths
from curiosity_bluesky.adapters.queueserver.manager import QueueClient
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.errors import InputError
from sim_devices import SyntheticSample

pytest.importorskip("bluesky_queueserver", reason="the extra 'queueserver' is not installed")
if shutil.which("redis-server") is None:
    pytest.skip("there is no redis-server on this machine", allow_module_level=True)


@pytest.fixture(scope="session")
def film_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a film of 16 x 14 pixels as a file: of more a test would take longer."""
    film = SyntheticSample((16, 14), seed=1, points=16)
    path = tmp_path_factory.mktemp("sample") / "film.npz"
    np.savez(
        path,
        image=film.images["amplitude"],
        spectra=film.spectra["response"],
        axis=film.axis,
        extent_um=np.array([0.7, 0.8]),
    )
    return path


@pytest.fixture(scope="package")  # it takes time while it waits, too
def facility(tmp_path_factory: pytest.TempPathFactory, film_path: Path) -> Iterator[Facility]:
    """Start all of it, once for the tests of this folder; nothing may be left of it afterwards."""
    directory = tmp_path_factory.mktemp("facility")
    site = FacilityPaths(directory / "site", str(directory / "runs"), sample=str(film_path), **FREE)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.delenv("DISPLAY", raising=False)  # headless
        environment.chdir(directory)
        with Facility(site, say=lambda text: None) as running:
            processes = everybody(running)
            yield running
            processes += everybody(running)
    assert alive(processes) == []


@pytest.fixture
def queue(facility: Facility) -> Iterator[QueueClient]:
    """Return the queue, empty, with its environment open and the film under the tip."""
    with QueueClient(facility.address) as opened:
        if opened.status()["manager_state"] != "idle":  # what the test before has left
            with contextlib.suppress(InputError):  # it may end by itself at this moment
                opened.end("stop")
            opened.wait("idle", timeout=60.0)
        opened.ask("queue_clear")
        opened.open()
        yield opened


@pytest.fixture
def catalog(facility: Facility) -> Iterator[Catalog]:
    """Open the catalogue in this process, which has measured nothing."""
    with connect(facility.catalog, create=False) as opened:
        yield opened


@pytest.fixture
def curiosity(facility: Facility) -> Callable[..., Any]:
    """Return what runs the command in a process of its own and returns its JSON, or its words."""

    def run(*words: str, fails: int = 0) -> Any:
        environment = {
            **os.environ,
            "QSERVER_ZMQ_CONTROL_ADDRESS": facility.address,
            "CURIOSITY_CATALOG": facility.catalog,
            "CURIOSITY_AGENT_TOKEN": facility.token,
        }
        done = subprocess.run(
            [sys.executable, "-m", "curiosity_bluesky.cli", *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=200,
        )
        assert done.returncode == fails, done.stdout + done.stderr
        if fails == 2:
            [line] = done.stderr.splitlines()
            assert line.startswith("curiosity: ")
            return line
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return run

"""What several rooms' tests need."""

from __future__ import annotations

import fnmatch
import gc
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bluesky.utils
import numpy as np
import pytest
import torch
from bluesky import RunEngine

from curiosity_bluesky.catalog.shared.cluster import programs
from curiosity_bluesky.catalog.shared.server import SharedCatalogue
from curiosity_bluesky.demo import SimulatedInstrument, simulated_instrument
from sim_devices import SyntheticSample

torch.set_num_threads(1)  # networks as small as those in the tests are quickest so

# No test asks a server elsewhere, and each client of HTTP would read a file of all the
# certificates that there are, here and in the processes that tests start.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)


# Bluesky notes the stack on which each plan is made, for the warning that one was never iterated.
# With the stack of pytest below it that is a third of the time that a run takes; warned is anyway.
bluesky.utils.traceback = SimpleNamespace(format_stack=list)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "quick(*ids): of the parameters of a test these alone are not slow (as in fnmatch)",
    )


@pytest.hookimpl(tryfirst=True)  # before the slow ones are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make the parameters of a test slow that its mark ``quick`` does not name."""
    marked: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("quick"):
            marked.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, tests in marked.items():
        [mark] = tests[0].iter_markers("quick")
        ids = {test: test.callspec.id for test in tests}
        for test, one in ids.items():
            if not any(fnmatch.fnmatchcase(one, pattern) for pattern in mark.args):
                test.add_marker(pytest.mark.slow)
        missed = [p for p in mark.args if not fnmatch.filter(ids.values(), p)]
        if missed and not any("::" in given for given in config.args):
            raise pytest.UsageError(f"{name} has no parameters {missed}; it has {[*ids.values()]}")


def pytest_collection_finish() -> None:
    """Leave what was imported out of every collection of garbage: it is a gigabyte and stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


AUTHORS_FILE = Path(__file__).parents[2] / "shared" / "data" / "norm_polarization.npy"


@pytest.fixture
def film() -> SyntheticSample:
    """Return a small film of known truth."""
    return SyntheticSample((16, 14), seed=1, points=16)


@pytest.fixture
def instrument(film: SyntheticSample) -> SimulatedInstrument:
    """Return devices on the film that take no time."""
    return simulated_instrument(film, speed=math.inf)


@pytest.fixture
def RE() -> RunEngine:
    return RunEngine({})


@pytest.fixture(autouse=True)
def _loops_that_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the loop of each RunEngine that a test makes.

    A RunEngine has none of its own accord: its thread and three open files stay until the process
    ends, and after some hundred of them ``select`` takes no file any more.
    """
    made: list[RunEngine] = []
    begin = RunEngine.__init__

    def noted(self: RunEngine, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(RunEngine, "__init__", noted)
    yield
    for engine in made:
        engine.loop.call_soon_threadsafe(engine.loop.stop)
        engine._th.join(10)  # one that still waits for a device goes on
        if not engine._th.is_alive():
            engine.loop.close()


@pytest.fixture
def film_file(film: SyntheticSample, tmp_path: Path) -> Path:
    """Return the film as a user's own .npz file."""
    path = tmp_path / "film.npz"
    np.savez(
        path,
        image=film.images["amplitude"],
        spectra=film.spectra["response"],
        axis=film.axis,
        extent_um=np.array([0.7, 0.8]),
    )
    return path


@pytest.fixture
def authors_file() -> Path:
    """Return the authors' recording, which has no licence and is not shipped."""
    if not AUTHORS_FILE.exists():
        pytest.skip(f"the authors' recording is not at {AUTHORS_FILE}; it may not be shipped")
    return AUTHORS_FILE


@pytest.fixture(scope="session")
def shared_once() -> Iterator[SharedCatalogue]:
    """Yield Tiled on a PostgreSQL of its own, once for all tests of a process."""
    from sharing import open_directory

    if programs() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with open_directory() as directory, SharedCatalogue(directory) as catalogue:
        yield catalogue


@pytest.fixture
def shared(
    shared_once: SharedCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SharedCatalogue:
    """Return it, to whoever has no key yet, and a place of his own for journals."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    return shared_once

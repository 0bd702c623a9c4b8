"""``curiosity explore``, as typed."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from bluesky import RunEngine
from support import collected_run

from curiosity_bluesky import connect
from curiosity_bluesky.cli.explore import descriptors_offered, run_links
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.archive import import_files
from curiosity_bluesky.similarity.index import Index
from sim_devices import SyntheticSample

pytest.importorskip("bokeh", reason='needs "curiosity-bluesky[explore]"')
COMMAND = [sys.executable, "-m", "curiosity_bluesky.cli", "explore", "--no-browser", "--catalog"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "300"}


def refused(catalog: Path, environment: dict[str, str], *options: str) -> str:
    done = subprocess.run(
        [*COMMAND, str(catalog), *options], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


@pytest.mark.slow  # four processes, each with a server of its own
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_catalogue_is_explored_once_it_is_indexed(
    RE: RunEngine, tmp_path: Path, environment: dict[str, str]
) -> None:
    sample = SyntheticSample((24, 20), seed=1, points=16)
    instrument = simulated_instrument(sample, speed=math.inf)
    catalog = tmp_path / "runs"
    with connect(catalog) as opened:
        writer = opened.writer()
        token = RE.subscribe(writer)
        uids = [collected_run(RE, instrument, num_points=7)[0] for _ in range(2)]
        RE.unsubscribe(token)
        opened.flush()
    assert "`curiosity index`" in refused(catalog, environment)

    with connect(catalog) as opened:
        index = Index(opened)
        index.update()
        assert {entry.uid for entry in index.collection().entries} == set(uids)
    command = [*COMMAND, str(catalog), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"exploring (\d+) images at (http://127\.0\.0\.1:\d+/explore)", line)
        assert found and int(found[1]) >= 2, line
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[2]) as answer:
            assert b"Explorer" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.slow
def test_an_archive_that_lacks_a_new_descriptor_is_shown_by_what_it_has(tmp_path: Path) -> None:
    files = [tmp_path / "old.npy", tmp_path / "new.npy"]
    for seed, file in enumerate(files):
        np.save(file, np.random.default_rng(seed).normal(size=(32, 32)))
    with connect(tmp_path / "runs") as opened:
        uids = [str(one.uid) for one in import_files(opened, files, {})]
        Index(opened, ["texture"]).update(uids[:1])
        Index(opened, ["texture", "symmetry"]).update(uids[1:])

        index, first, remark = descriptors_offered(opened)
        images = index.collection()
        assert first == "texture" and {entry.uid for entry in images.entries} == set(uids)
        assert list(images.vectors) == ["texture"]
        assert "1 lack symmetry, which is not offered" in remark
        assert "left out" not in remark

        index, first, remark = descriptors_offered(opened, "symmetry")
        assert {entry.uid for entry in index.collection().entries} == {uids[1]}
        assert first == "symmetry" and set(index.descriptors) == {"texture", "symmetry"}
        assert "1 of 2 images are left out: they lack symmetry" in remark
        with pytest.raises(InputError, match="learned"):
            descriptors_offered(opened, "learned")


def test_the_links_into_tiled_follow_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get(url: str, timeout: float) -> Any:
        asked.append(url)
        return SimpleNamespace(status_code=401 if ":3/" in url else 200)

    monkeypatch.setattr(httpx, "get", get)
    catalog: Any = SimpleNamespace()

    def serve(port: int) -> None:
        uri = f"http://127.0.0.1:{port}/api/v1/"
        context = SimpleNamespace(api_uri=uri)
        catalog.client = SimpleNamespace(context=context, uri=f"{uri}metadata/runs")

    link = run_links(catalog)
    found = []
    for port in (1, 1, 2, 3):
        serve(port)
        found.append(link("uid"))
    first, second = (f"http://127.0.0.1:{port}/ui/browse/runs/uid" for port in (1, 2))
    assert found == [first, first, second, None]  # the last one asks for a key
    assert sum(":1/" in url for url in asked) == 2


def test_where_no_catalogue_is_nothing_is_made(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "no catalogue" in refused(tmp_path / "none", environment)
    assert not (tmp_path / "none").exists()

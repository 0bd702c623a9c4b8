"""The process that serves a directory ends: readers and writers of others go on with the next."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sharing import made_run, put, spectrum
from support import slowly, until
from uploads import same

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog import journal_status
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.catalog.journal import journals
from curiosity_bluesky.catalog.writer import JournaledWriter
from curiosity_bluesky.errors import Unreachable
from curiosity_bluesky.similarity.index import Index

FIRST = """
import sys
from curiosity_bluesky import connect
with connect(sys.argv[1]):
    print("serves", flush=True)
    sys.stdin.read()
"""

SECOND = """
import sys
from sharing import made_run
from curiosity_bluesky import connect
writer = connect(sys.argv[1]).writer()
for document in made_run(0, 0, 2):
    writer(*document)
writer.flush()
print("joined", flush=True)
sys.stdin.readline()
for document in made_run(0, 1, 3):
    writer(*document)
print(document[1]["run_start"], flush=True)
"""


class Session:
    """A Python session in a process of its own."""

    def __init__(self, code: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "it did not start"

    def ended(self) -> str:
        """Let it end; return what it printed last."""
        return self.process.communicate("\n")[0].strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def first(tmp_path) -> Iterator[Session]:
    session = Session(FIRST, tmp_path / "runs")
    yield session
    session.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["writer ended", *slowly("reader ended", "run kill", "writer kill")]
)
def test_whoever_notices_first_all_go_on(first, tmp_path, case):
    who, how = case.split()
    with connect(tmp_path / "runs") as catalog:
        writer = catalog.writer()
        before = list(made_run(0, 0, 2))
        for document in before:
            writer(*document)
        until(lambda: not journals(catalog.journal))
        old = catalog[-1]
        getattr(first, how)()
        if who == "reader":
            assert len(catalog) == 1
        elif who == "run":
            assert read(old).sizes["point"] == 2
        after = list(made_run(0, 1, 3))
        for document in after:
            writer(*document)
        # No outage, no retry: what was measured is there as soon as somebody asks.
        assert catalog[-1].start["uid"] == after[0][1]["uid"]
        assert not writer.failed and not writer.offline and not writer.backlog
        assert read(catalog[-1]).sizes["point"] == 3
        np.testing.assert_array_equal(old["primary"]["spm_response"].read()[1], spectrum(0, 0, 1))
        for emitted in (before, after):
            same(emitted, catalog.documents(emitted[0][1]["uid"]))
    assert not journals(tmp_path / "runs" / "journal")
    with pytest.raises(Unreachable, match="is closed; connect to it again"):
        read(old)


@pytest.mark.slow
def test_a_session_that_ends_after_the_first_one_leaves_nothing_in_the_journal(first, tmp_path):
    second = Session(SECOND, tmp_path / "runs")
    first.ended()
    uid = second.ended().splitlines()[-1]
    assert second.process.returncode == 0
    assert not journals(tmp_path / "runs" / "journal")
    with connect(tmp_path / "runs", create=False, serve=False) as catalog:
        assert catalog[-1].start["uid"] == uid
        assert [(run.points, run.status) for run in catalog.runs()] == [
            (2, "success"),
            (3, "success"),
        ]


@pytest.mark.parametrize(
    ("connecting", "said"),
    [(True, "a Tiled server is looked for or started"), (False, "Tiled has not answered for")],
)
def test_a_writer_that_waits_says_so(tmp_path, monkeypatch, connecting, said):
    monkeypatch.setattr(journal_status, "SILENT", 0.0)
    answer = threading.Event()

    def connected():
        answer.wait()
        raise Unreachable("no server")

    writer = JournaledWriter(
        connected, tmp_path, where=str(tmp_path), connecting=lambda: connecting
    )
    documents = list(made_run(0, 0, 1))
    for document in documents:
        writer(*document)
    until(lambda: writer.status.startswith(said))
    assert f": {len(documents)} documents wait in {tmp_path}" in writer.status
    answer.set()
    until(lambda: writer.offline)
    assert writer.status.startswith("Tiled does not answer since ")
    writer.close(0.1)


@pytest.mark.slow
def test_an_index_and_its_selections_go_on_too(tmp_path):
    first = EmbeddedServer(tmp_path / "runs")
    with connect(tmp_path / "runs") as catalog:
        uids = [put(catalog, made_run(80, number, 1))[0] for number in range(2)]
        index = Index(catalog, ["texture"])
        index.update(uids[:1])
        node = catalog.client
        first.close()
        # In the middle of what a command does, with what it looked up before.
        assert node[uids[0]]["survey"]["image_height"].read().shape[0] == 1
        index.update(uids)
        key = index.save_selection({"name": "both"})
        assert index.selection(key) == {"name": "both"}
        assert {entry.uid for entry in index.collection().entries} == set(uids)

"""Whatever becomes of the server, the run goes on, and Tiled gets all of it in the end."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from bluesky import RunEngine
from proxy import Proxy
from support import QUICK, collected_run
from uploads import QUICK_RETRY, documents_of, same, until

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog.connection import alive
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.journal_status import OpenRun
from curiosity_bluesky.catalog.live_upload import LARGE_EVENT
from curiosity_bluesky.catalog.writer import JournaledWriter
from curiosity_bluesky.cli import app, main
from curiosity_bluesky.errors import InputError

KEY = "secret"


class Server:
    """``curiosity serve`` in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        code = "from curiosity_bluesky.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "--private"]
        command += ["--catalog", str(self.directory), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, env={**os.environ, "TILED_API_KEY": KEY}, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    served = Server(tmp_path_factory.mktemp("served"))
    yield served
    served.kill()


@pytest.fixture
def proxy(server):
    between = Proxy(server.port)
    yield between
    between.close()


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", KEY)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    # Tiled's client tries each request for half a minute by itself.
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)


def run_of(RE: RunEngine, instrument: Any, n: int = 6):
    return collected_run(RE, instrument, num_points=n, strategy="random", parameters=QUICK)


def in_tiled(uri: str, uid: str, emitted) -> None:
    """Check that Tiled, asked by somebody new, has the run as it was emitted."""
    with connect(uri, create=False) as catalog:
        assert not list(catalog.journal.glob("*.jsonl"))
        same(emitted, catalog.documents(uid))
        spectra = [d["data"] for n, d in emitted if n == "event" and "stage_x" in d["data"]]
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            ds = read(catalog[uid])
        emitted_spectra = [np.asarray(data["spectrometer_response"]) for data in spectra]
        np.testing.assert_array_equal(ds["spectrometer_response"], emitted_spectra)
        assert ds["spectrometer_response"].dtype == emitted_spectra[0].dtype


@pytest.mark.slow
def test_down_at_the_start_it_goes_in_when_the_server_is_there(RE, instrument, proxy):
    proxy.cut()
    with pytest.warns(UserWarning, match="no Tiled server answers"):
        catalog = connect(proxy.uri)
    writer = catalog.writer(4, retry=QUICK_RETRY)
    RE.subscribe(writer)
    uid, emitted = run_of(RE, instrument)
    until(lambda: writer.offline)
    assert f"{len(emitted)} documents wait in" in writer.status
    assert writer.status.startswith("Tiled does not answer since ")
    same(emitted, catalog.documents(uid))  # from the journal
    with pytest.raises(ValueError, match="no Tiled server answers"):
        catalog[uid]
    proxy.mend()
    until(lambda: writer.backlog == 0 and not writer.status)
    catalog.close()
    in_tiled(proxy.uri, uid, emitted)


def test_cut_in_the_middle_of_a_run_the_backlog_goes_in_and_the_rest_follows(
    RE, instrument, proxy, caplog
):
    catalog = connect(proxy.uri)
    writer = catalog.writer(4, retry=QUICK_RETRY)
    events = []

    def at_event(name, doc):
        events.append(name)
        if events.count("event") == 4:
            catalog.flush()
            proxy.cut()
        if events.count("event") == 9:
            proxy.mend()

    RE.subscribe(writer)
    RE.subscribe(at_event, "event")
    uid, emitted = run_of(RE, instrument)
    until(lambda: writer.backlog == 0)
    catalog.close()
    in_tiled(proxy.uri, uid, emitted)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"PATCH /api/v1/table", marks=pytest.mark.slow),
        pytest.param(b"PATCH /api/v1/array", marks=pytest.mark.slow),
        pytest.param(b"POST", marks=pytest.mark.slow),
    ],
)
def test_an_answer_that_is_lost_puts_nothing_there_twice(RE, instrument, proxy, request_):
    catalog = connect(proxy.uri)
    writer = catalog.writer(4, retry=QUICK_RETRY)
    RE.subscribe(writer)

    def at_the_first_full_batch(name, doc):
        # A writer that lags behind would write each array once, whole, and append nothing.
        if "spectrometer_response" in doc["data"] and doc["seq_num"] == 4:
            catalog.flush()

    RE.subscribe(at_the_first_full_batch, "event")
    proxy.swallow = request_
    uid, emitted = run_of(RE, instrument)
    until(lambda: writer.backlog == 0)
    assert proxy.swallowed == 1
    catalog.close()
    in_tiled(proxy.uri, uid, emitted)


@pytest.mark.slow
def test_a_slow_server_costs_the_run_nothing_and_gets_all(RE, instrument, proxy):
    catalog = connect(proxy.uri)
    writer = catalog.writer(batch_size=1000)
    RE.subscribe(writer)
    proxy.delay = 0.2
    uid, emitted = run_of(RE, instrument)
    assert writer.backlog > 0  # the run is over, and Tiled has it not yet
    catalog.close()  # waits, since the server answers
    assert not list(catalog.journal.glob("*.jsonl"))
    proxy.delay = 0.0
    in_tiled(proxy.uri, uid, emitted)


@pytest.mark.slow
def test_a_close_does_not_wait_for_a_server_that_is_gone(RE, instrument, proxy, caplog):
    catalog = connect(proxy.uri)
    writer = catalog.writer()
    RE.subscribe(writer)
    proxy.cut()
    uid, emitted = run_of(RE, instrument)
    catalog.close()
    assert not writer._thread.is_alive()
    [said] = [r.getMessage() for r in caplog.records if "curiosity recover" in r.getMessage()]
    assert f"{len(emitted)} documents of 1 run are not in Tiled" in said and proxy.uri in said
    proxy.mend()
    with connect(proxy.uri) as catalog:
        [recovered] = catalog.recover()
        assert (recovered.uid, recovered.documents) == (uid, len(emitted))
        assert catalog.recover() == []
    in_tiled(proxy.uri, uid, emitted)


def test_a_server_whose_disk_is_full_gets_it_when_there_is_room(RE, instrument, server, proxy):
    catalog = connect(proxy.uri)
    writer = catalog.writer(4, retry=QUICK_RETRY)
    RE.subscribe(writer)
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (100, limits[1]))
    uid, emitted = run_of(RE, instrument)
    until(lambda: writer.offline)
    assert writer.status.startswith("Tiled does not take everything since ")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    until(lambda: writer.backlog == 0)
    catalog.close()
    in_tiled(proxy.uri, uid, emitted)


@pytest.mark.slow
def test_what_tiled_lost_by_itself_is_noticed_and_written_again(RE, instrument, proxy):
    catalog = connect(proxy.uri)
    writer = catalog.writer(4, retry=QUICK_RETRY)
    uid, emitted = run_of(RE, instrument)
    for name, doc in emitted[:-1]:
        writer(name, doc)
    catalog.flush()
    catalog[uid]["decisions"].delete(recursive=True, external_only=False)
    writer(*emitted[-1])
    until(lambda: writer.backlog == 0)
    catalog.close()
    in_tiled(proxy.uri, uid, emitted)


def test_a_large_event_goes_in_at_once_with_those_before_it(tmp_path):
    """Else as many as a batch has would wait in memory, each some megabytes of numbers."""
    documents = documents_of("large")
    documents[3][1]["uid"] = "x" * 2 * LARGE_EVENT  # its second event
    with connect(tmp_path / "runs") as catalog:
        writer = catalog.writer(batch_size=1000, retry=QUICK_RETRY)
        for name, doc in documents[:5]:
            writer(name, doc)
        catalog.flush()
        assert len(catalog.client["large"]["primary"].read()["time"]) == 2
        for name, doc in documents[5:]:
            writer(name, doc)
        catalog.flush()
        assert len(catalog.client["large"]["primary"].read()["time"]) == 4


@pytest.mark.slow
def test_a_second_writer_of_the_same_run_is_a_no_op_that_says_why(tmp_path, caplog):
    with connect(tmp_path / "runs") as catalog, connect(tmp_path / "runs") as other:
        writers = [catalog.writer(retry=QUICK_RETRY), other.writer(retry=QUICK_RETRY)]
        begun = time.monotonic()
        for uid in ("run-one", "run-two"):
            for name, doc in documents_of(uid):
                for writer in writers:
                    writer(name, doc)
        assert time.monotonic() - begun < 1
        until(lambda: writers[0].backlog == 0)
        assert not writers[1].backlog and not writers[1].status and not writers[1].failed
        catalog.flush()
        for uid in ("run-one", "run-two"):
            assert len(catalog.client[uid]["primary"].read()["time"]) == 4
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "another writer in this process" in text]) == 1
    assert not [text for text in said if "make room" in text or "could not be" in text]


def test_nothing_is_deleted_in_tiled_without_the_lock_of_the_journal(tmp_path, monkeypatch):
    def no_server():
        raise InputError("there is none")

    writer = JournaledWriter(no_server, tmp_path)
    journal = RunJournal(tmp_path, "run-one")
    monkeypatch.setattr(RunJournal, "is_locked", False)
    client = {"run-one": "of another writer"}
    with pytest.raises(Exception, match="could not be locked"):
        writer._upload._rewrite(client, OpenRun(journal, journal.begins))
    assert client == {"run-one": "of another writer"}
    writer.close()


class BadGateway(BaseHTTPRequestHandler):
    """A reverse proxy whose server is down."""

    def do_GET(self) -> None:
        self.send_error(502)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def bad_gateway():
    served = ThreadingHTTPServer(("127.0.0.1", 0), BadGateway)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/api/v1"
    served.shutdown()
    served.server_close()


def test_a_proxy_whose_server_is_down_counts_as_down(bad_gateway):
    begun = time.monotonic()
    with pytest.raises(ValueError, match="no Tiled server answers .*502"):
        connect(bad_gateway, create=False)
    with pytest.warns(UserWarning, match="no Tiled server answers"):
        catalog = connect(bad_gateway)
    writer = catalog.writer(retry=QUICK_RETRY)
    emitted = documents_of("run-one")
    for document in emitted:
        writer(*document)
    until(lambda: writer.offline)
    assert writer.status.startswith("Tiled does not answer since ") and not writer.failed
    with pytest.raises(ValueError, match="no Tiled server answers"):
        catalog["some run"]
    catalog.close()
    assert (catalog.journal / "run-one.jsonl").exists()
    assert time.monotonic() - begun < 15


def test_a_server_behind_a_proxy_that_goes_away_is_not_alive(bad_gateway, tmp_path):
    with connect(tmp_path / "runs") as catalog:
        client = catalog.client
        assert alive(client)
        client.context.api_uri = httpx.URL(bad_gateway)
        assert not alive(client)


def test_a_command_says_in_one_line_what_the_server_answered(monkeypatch, capsys):
    def refused(*args, **kwargs):
        request = httpx.Request("GET", "http://here/api/v1")
        answer = httpx.Response(500, request=request)
        raise httpx.HTTPStatusError("500 on the way", request=request, response=answer)

    monkeypatch.setattr(app, "app", refused)
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the Tiled server failed" in said and "500" in said


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again(RE, instrument, tmp_path):
    served = Server(tmp_path / "served")
    uri = f"http://127.0.0.1:{served.port}/api/v1"
    catalog = connect(uri)
    writer = catalog.writer(4, retry=QUICK_RETRY)
    RE.subscribe(writer)
    seen = []

    def at_event(name, doc):
        seen.append(name)
        if len(seen) == 5:
            catalog.flush()
            served.kill()

    RE.subscribe(at_event, "event")
    uid, emitted = run_of(RE, instrument)
    until(lambda: writer.offline)
    served.start()
    until(lambda: writer.backlog == 0)
    catalog.close()
    in_tiled(uri, uid, emitted)
    served.kill()


def test_no_neighbour_rolls_back_what_one_has_appended(tmp_path):
    # Tiled's own pool hands one connection (of DuckDB) to all threads: this is what it lost.
    from tiled.storage import get_storage
    from tiled.utils import ensure_uri

    server = EmbeddedServer(tmp_path)
    storage: Any = get_storage(ensure_uri(f"sqlite:///{tmp_path / 'tables.db'}"))

    def do(connection, statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    first = storage.connect()
    do(first, "CREATE TABLE t (x INTEGER)")
    first.commit()
    do(first, "INSERT INTO t VALUES (1)")
    neighbour = threading.Thread(target=lambda: storage.connect().close())
    neighbour.start()
    neighbour.join(1)
    first.commit()
    first.close()
    neighbour.join()
    last = storage.connect()
    assert do(last, "SELECT COUNT(*) FROM t") == (1,)
    last.close()
    server.close()


@pytest.mark.slow
def test_two_processes_in_one_directory_lose_nothing(instrument, RE, film_file, tmp_path):
    code = """
import sys, json
from bluesky import RunEngine
from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import open_sample
film = simulated_instrument(open_sample(sys.argv[1]), speed=float("inf"))
few = {"patch_size": 3, "n_seeds": 30}
devices = [film.spectrometer], film.stage.x, film.stage.y, film.imager
with connect(sys.argv[2]) as catalog:
    RE = RunEngine({})
    RE.subscribe(catalog.writer(batch_size=3))
    for _ in range(2):
        options = {"parameters": few}
        print(*RE(curiosity_plan(*devices, 30, strategy="random", options=options)))
"""
    command = [sys.executable, "-c", code, str(film_file), str(tmp_path / "runs")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    uids = [
        line.split()[-1]
        for process in both
        for line in process.communicate(timeout=250)[0].split("\n")
        if line
    ]
    assert [process.returncode for process in both] == [0, 0]
    with connect(tmp_path / "runs", create=False) as catalog:
        catalog.recover()  # the one that served may have ended before the other had all in
        assert {run.uid: (run.points, run.status) for run in catalog.runs()} == {
            uid: (30, "success") for uid in uids
        }
        for uid in uids:
            assert read(catalog[uid]).sizes["point"] == 30
    assert not list((tmp_path / "runs" / "journal").glob("*.jsonl"))


@pytest.mark.slow
def test_whoever_joined_takes_over_when_the_owner_ends(RE, instrument, tmp_path):
    owner = EmbeddedServer(tmp_path / "runs")
    catalog = connect(tmp_path / "runs")
    writer = catalog.writer(4, retry=QUICK_RETRY)
    RE.subscribe(writer)
    seen = []

    def at_event(name, doc):
        seen.append(name)
        if len(seen) == 5:
            catalog.flush()
            owner.close()

    RE.subscribe(at_event, "event")
    uid, emitted = run_of(RE, instrument)
    until(lambda: writer.backlog == 0)
    same(emitted, catalog.documents(uid))
    assert [run.status for run in catalog.runs()] == ["success"]
    catalog.close()
    assert not list((tmp_path / "runs" / "journal").glob("*.jsonl"))
    with connect(tmp_path / "runs") as catalog:
        assert read(catalog[uid]).sizes["point"] == 6


@pytest.mark.slow
def test_a_failed_request_is_said_by_our_writer_alone(caplog):
    """Tiled's own writer warns of each request; another TiledWriter of the process still does."""
    from bluesky_tiled_plugins import TiledWriter

    from curiosity_bluesky.catalog.run_uploader import RunUploader

    library = logging.getLogger(TiledWriter.__module__)
    feed = RunUploader(SimpleNamespace(include_data_sources=lambda: None), 1)
    feed._writer = lambda name, doc: library.warning("Appending 1 rows failed")
    feed("start", {"uid": "run-1", "time": 1.0})
    assert caplog.messages == []
    library.warning("of another writer")
    assert caplog.messages == ["of another writer"]

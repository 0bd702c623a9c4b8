"""The server of a directory ends, or is slow, while somebody reads."""

import json
import threading

import httpx
import pytest
from plain import Bench

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog import connection
from curiosity_bluesky.catalog.directory import lock_of_directory
from curiosity_bluesky.cli import main
from curiosity_bluesky.errors import InputError, Unreachable
from curiosity_bluesky.views.report import show_run


@pytest.mark.slow
def test_a_run_is_read_on_where_the_server_ends_meanwhile(tmp_path):
    first = connect(tmp_path / "runs")
    bench = Bench()
    bench.RE.subscribe(first.writer())
    [uid] = bench.run(3)
    first.flush()
    asked = []

    def ask(run):
        asked.append(run)
        if len(asked) == 1:
            first.close()
            raise httpx.ConnectError("refused", request=httpx.Request("GET", "http://x"))
        return read(run)

    with connect(tmp_path / "runs") as second:
        assert second.read(uid, ask).sizes["point"] == 3
        assert len(asked) == 2 and show_run(second, uid).status == "success"
        with pytest.raises(InputError, match="no spectrum"):
            second.read(uid, refuse)


def test_a_run_is_exported_where_the_server_ends_meanwhile(tmp_path, monkeypatch, capsys):
    with connect(tmp_path / "runs") as catalog:
        bench = Bench()
        bench.RE.subscribe(catalog.writer())
        [uid] = bench.run(3)
    asked = []

    def export(run, file, **_):
        asked.append(run)
        if len(asked) == 1:
            raise httpx.ConnectError("refused", request=httpx.Request("GET", "http://x"))
        return {"file": str(file), "uid": run.start["uid"], "bytes": 0, "datasets": []}

    monkeypatch.setattr("curiosity_bluesky.cli._export.run_export", export)
    where = ["--catalog", str(tmp_path / "runs"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["export", uid[:8], str(tmp_path / "run.h5"), *where])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["uid"] == uid and len(asked) == 2


def test_a_server_that_another_thread_started_ends_with_the_catalogue(tmp_path):
    with connect(tmp_path / "runs"):
        pass
    catalog = connect(tmp_path / "runs", serve=False)
    thread = threading.Thread(target=lambda: catalog.client)
    thread.start()
    thread.join()
    assert (tmp_path / "runs" / "server.json").exists()
    catalog.close()
    assert not (tmp_path / "runs" / "server.json").exists()
    with lock_of_directory(tmp_path / "runs"):
        pass


def refuse(run):
    raise InputError("no spectrum")


@pytest.mark.parametrize("own", [True, False])
def test_a_server_of_this_process_that_is_slow_is_not_said_to_be_away(own, monkeypatch):
    patience = []

    def get(uri, timeout):
        patience.append(timeout)
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr(httpx, "get", get)
    said = "this process is slow" if own else "no Tiled server answers at http://x"
    with pytest.raises(Unreachable, match=said):
        connection._answers("http://x", own=own)
    assert patience == [connection.SLOW if own else connection.PROBE]


def test_a_directory_is_asked_as_its_own_where_it_is_served_here(tmp_path, monkeypatch):
    asked = []
    answers = connection._answers
    monkeypatch.setattr(
        connection, "_answers", lambda uri, own=False: asked.append(own) or answers(uri, own)
    )
    with connect(tmp_path / "runs"), connect(tmp_path / "runs"):
        assert asked == [True, False]

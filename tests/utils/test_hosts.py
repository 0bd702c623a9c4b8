"""Host check: what a server that we start answers to, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hosts import Hosts

OWN = ("127.0.0.1", "127.0.0.1:{port}", "localhost", "LOCALHOST:{port}", "[::1]", "[::1]:{port}",
       "localhost.", "127.0.0.1:1", "maps.example.org", "Maps.Example.Org:443")  # fmt: skip
FOREIGN = ("evil.example", "evil.example:{port}", "127.0.0.1.evil.example",
           "localhost.evil.example", "evil.example@127.0.0.1", "127.0.0.1:{port}@evil.example",
           "", "[evil]", "127.0.0.1:", "10.0.0.1", "localhost:x",
           "127.0.0.1 evil.example")  # fmt: skip


def asked(port: int, path: str, *hosts: str, **headers: str) -> tuple[int, Any]:
    """Return status and headers of an answer to a request with these ``Host`` headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for host in hosts:
            connection.putheader("Host", host.format(port=port))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value.format(port=port))
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers
    finally:
        connection.close()


def handshake(
    port: int, path: str, host: str, origin: str | None = None, protocol: str = ""
) -> int:
    """Return the status of the answer to who wants a WebSocket: 101, or why not."""
    lines = [
        f"GET {path} HTTP/1.1", f"Host: {host.format(port=port)}", "Upgrade: websocket",
        "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    lines += [f"Origin: {origin.format(port=port)}"] if origin is not None else []
    lines += [f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("extra", [(), ("maps.example.org",)])
def test_a_name_is_known_with_and_without_its_port(extra: tuple[str, ...]) -> None:
    hosts = Hosts.of("127.0.0.1", extra)
    for name in OWN:
        own = "example" not in name.lower() or bool(extra)
        assert hosts.allow(name.format(port=5010)) == own, name
    for name in FOREIGN:
        assert not hosts.allow(name.format(port=5010)), name
    assert not hosts.allow(None)


def test_on_all_interfaces_every_address_and_the_own_name_will_do() -> None:
    hosts = Hosts.of("0.0.0.0")
    assert hosts.allow("10.0.0.1:80") and hosts.allow("[fd00::1]")
    assert hosts.allow(socket.gethostname()) and not hosts.allow("evil.example")


def test_a_websocket_is_opened_from_pages_of_the_server() -> None:
    hosts = Hosts.of("127.0.0.1", ["maps.example.org"])
    for origin, host in [
        (None, "127.0.0.1:5010"), ("http://127.0.0.1:5010", "127.0.0.1:5010"),
        ("https://maps.example.org", "127.0.0.1:5010"),
    ]:  # fmt: skip
        assert hosts.allow_origin(origin, host)
    for origin in ("http://evil.example", "http://localhost:3000", "null", "", "http://[::1]:5010"):
        assert not hosts.allow_origin(origin, "127.0.0.1:5010")


@pytest.mark.parametrize("name", ["https://a.b", "a.b:80", "*", "*.a.b", "", "a b", "a/b"])
def test_what_is_no_host_name_is_said(name: str) -> None:
    with pytest.raises(InputError, match="expected a host name"):
        Hosts.of("127.0.0.1", [name])


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a Tiled server of ours that anybody may read."""
    directory = tmp_path_factory.mktemp("served") / "runs"
    server = EmbeddedServer(directory, anonymous_read=True, host_names=["maps.example.org"])
    yield int(server.uri.split(":")[2].split("/")[0])
    server.close()


def test_tiled_answers_to_its_own_names_alone(tiled: int) -> None:
    for path in ("/api/v1/", "/api/v1/metadata/", "/healthz", "/ui/", "/nothing"):
        assert {asked(tiled, path, host)[0] for host in FOREIGN} == {403}
        assert asked(tiled, path)[0] in (400, 403)
        assert asked(tiled, path, "localhost", "evil.example")[0] in (400, 403)
    for name in OWN:
        code, headers = asked(tiled, "/api/v1/metadata/", name)
        assert code == 200 and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"]


def test_what_is_written_is_told_to_no_page_elsewhere(tiled: int) -> None:
    path = "/api/v1/stream/single/nothing"
    assert handshake(tiled, path, "evil.example:{port}", "http://evil.example:{port}") == 403
    assert handshake(tiled, path, "127.0.0.1:{port}", "http://evil.example") == 403
    own = handshake(tiled, path, "127.0.0.1:{port}", "http://127.0.0.1:{port}")
    assert own == handshake(tiled, path, "127.0.0.1:{port}") != 403


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of an explorer page."""
    pytest.importorskip("bokeh", reason='needs "curiosity-bluesky[explore]"')
    from explored import room_of

    from curiosity_bluesky.views.explore.server import PageServer

    started, made = threading.Event(), []

    def serve() -> None:
        cache = tmp_path_factory.mktemp("maps")
        room = room_of(12)
        made.append(PageServer(room, port=0, cache=cache, host_names=["maps.example.org"]))
        made[0].run(started.set, signals=False)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(60)
    yield int(made[0].address.rpartition(":")[2])
    made[0].stop()
    thread.join(20)


def paths(page: int) -> list[str]:
    """Paths of the page: its own, Bokeh's, and none."""
    return ["/", "/explore", "/explore/ws", "/static/js/bokeh.min.js", "/favicon.ico", "/nothing"]


def test_the_page_answers_to_its_own_names_alone(page: int) -> None:
    for path in paths(page):
        assert {asked(page, path, host)[0] for host in FOREIGN[:4]} == {403}, path
        assert {asked(page, path, host)[0] for host in FOREIGN} <= {400, 403}, path
        assert asked(page, path)[0] in (400, 403)
        assert asked(page, path, "localhost", "evil.example")[0] in (400, 403)
    for name in OWN:
        assert asked(page, "/explore", name)[0] == 200


def test_the_page_opens_no_websocket_for_others(page: int) -> None:
    path = "/explore/ws"
    for host, origin in [
        ("evil.example:{port}", "http://evil.example:{port}"),
        ("evil.example:{port}", None),
        ("127.0.0.1:{port}", "http://evil.example:{port}"),
        ("127.0.0.1:{port}", "http://localhost:1"),
    ]:
        assert handshake(page, path, host, origin, "bokeh, token") == 403, (host, origin)
    for host, origin in [
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}"), ("localhost:9", "http://localhost:9"),
        ("127.0.0.1:{port}", "https://maps.example.org"),
    ]:  # fmt: skip
        assert handshake(page, path, host, origin, "bokeh, token") != 403, (host, origin)


def test_the_page_takes_no_large_body(page: int) -> None:
    """What it would hold until the last byte has come, whoever sends it."""
    with socket.create_connection(("127.0.0.1", page), timeout=30) as connection:
        connection.sendall(b"POST /explore HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Content-Length: 60000000\r\n\r\n")
        assert int(connection.makefile("rb").readline().split()[1]) in (400, 413)


def test_every_answer_of_the_page_forbids_what_it_does_not_need(page: int) -> None:
    for path in paths(page):
        _, headers = asked(page, path, "127.0.0.1:{port}")
        rules = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert "unsafe-inline" not in rules["script-src"] and "*" not in json.dumps(rules)
        assert (
            headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        )
        assert headers["Referrer-Policy"] == "no-referrer"
    assert "'sha256-" in asked(page, "/explore", "localhost")[1]["Content-Security-Policy"]
    for path in ("/explore/autoload.js?bokeh-autoload-element=1", "/explore/metadata"):
        assert asked(page, path, "localhost")[0] == 404

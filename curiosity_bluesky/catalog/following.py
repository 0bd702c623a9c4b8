"""Requests of Tiled's clients, sent to the server that has a directory at that moment."""

from __future__ import annotations

from collections.abc import Callable

import httpx


class FollowingTransport(httpx.BaseTransport):
    """Transport that follows a directory from one server to the next.

    Whoever meets a server that has ended finds the next one, for all clients of the connection:
    readers, writers, and runs that were looked up before. A request is sent a second time only if
    no connection was made, so nothing is written twice.

    Parameters
    ----------
    inner
        Sends requests.
    server
        Returns URI and key of the directory's server, and is given the URI of one that has ended;
        see `DirectoryConnection.server`.
    """

    def __init__(
        self, inner: httpx.BaseTransport, server: Callable[[str], tuple[str, str]]
    ) -> None:
        self._inner = inner
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the server that has the directory now."""
        uri, key = self._server("")
        while True:
            _readdress(request, httpx.URL(uri), key)
            try:
                return self._inner.handle_request(request)
            except httpx.ConnectError:
                ended = uri
                uri, key = self._server(ended)
                if uri == ended:
                    raise

    def close(self) -> None:
        """Close its connections."""
        self._inner.close()


def _readdress(request: httpx.Request, uri: httpx.URL, key: str) -> None:
    """Address a request to a server; paths are the same at each."""
    request.url = request.url.copy_with(host=uri.host, port=uri.port)
    request.headers["Host"] = uri.netloc.decode()
    # A client that was made for an earlier server has its key.
    request.headers["Authorization"] = f"Apikey {key}"

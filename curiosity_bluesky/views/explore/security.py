"""Bokeh's web application with a host check and headers that forbid what the page does not need."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from bokeh.server.tornado import BokehTornado
from bokeh.server.views.ws import WSHandler
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform, RequestHandler

from curiosity_bluesky.utils.hosts import HEADERS, REFUSED, Hosts

_SCRIPT = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
_UNUSED = ("/explore/autoload.js", "/explore/metadata")
"""What Bokeh offers to other sites that show an application of ours in a page of theirs."""

_POLICY = {
    "default-src": "'none'",
    # Bokeh makes functions of the code of its CustomJS; other code of a string is not run.
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


class CheckedTornado(BokehTornado):
    """Bokeh's application for one server; it answers to the server's own names alone.

    Tornado takes a WebSocket for one of its own if its origin is the host that was asked for,
    under any host name: so the host of every request is checked first.

    Parameters
    ----------
    applications
        As for `BokehTornado`.
    hosts
        Names of the server.
    **options
        As for `BokehTornado`.
    """

    def __init__(self, applications: Any, *, hosts: Hosts, **options: Any) -> None:
        super().__init__(applications, **options)
        self._hosts = hosts
        self.add_transform(_Headers)

    @property
    def hosts(self) -> Hosts:
        """Names of the server."""
        return self._hosts

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> Any:
        """Return the handler of a request."""
        if not self._hosts.allow(_only(request.headers, "Host")):
            return self.get_handler_delegate(request, _Refused)
        if request.path in _UNUSED:
            return self.get_handler_delegate(request, _Missing)
        found = super().find_handler(request, **options)
        if issubclass(getattr(found, "handler_class", RequestHandler), WSHandler):
            found.handler_class = _WebSocket
        return found


class _WebSocket(WSHandler):
    def check_origin(self, origin: str) -> bool:
        app: Any = self.application
        return app.hosts.allow_origin(origin, self.request.headers.get("Host"))


class _Refused(RequestHandler):
    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(REFUSED)


class _Missing(RequestHandler):
    def prepare(self) -> None:
        self.send_error(404)


class _Headers(OutputTransform):
    """Security headers of every answer; only the page's own inline scripts may run."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in HEADERS.items():
            headers[name] = value
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        allowed = dict(_POLICY)
        if headers.get("Content-Type", "").startswith("text/html"):
            digests = (hashlib.sha256(script).digest() for script in _SCRIPT.findall(chunk))
            hashes = (f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
            allowed["script-src"] += "".join(hashes)
        headers["Content-Security-Policy"] = "; ".join(f"{k} {v}" for k, v in allowed.items())
        return status_code, headers, chunk


def _only(headers: HTTPHeaders, name: str) -> str | None:
    """Return the value of a header that occurs once."""
    found = headers.get_list(name)
    return found[0] if len(found) == 1 else None

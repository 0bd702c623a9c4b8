"""Host check: a server answers to its own names alone.

A page elsewhere can let a name of its own point to 127.0.0.1 (DNS rebinding). For the browser
it then has the same origin as our server and may read all that the server answers. What it cannot
change is the ``Host`` header, which says the name that the browser was asked for.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from curiosity_bluesky.errors import InputError

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]@/]+))(?::\d{1,5})?")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names that all servers of this machine share: from a page of these the port counts, too."""

REFUSED = (
    "This server does not answer to the host name it was asked for. Ask for it by 127.0.0.1, "
    "localhost or the address it was told to listen on; start it with --host-name NAME if it has "
    "another name, such as behind a reverse proxy.\n"
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer; what may be loaded (Content-Security-Policy) depends on the page."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Hosts:
    """Names that a server answers to.

    Parameters
    ----------
    names
        Host names and addresses, lower case, without port.
    any_address
        Whether every literal address will do: where the server listens on all interfaces. (A
        page that has an address for its name was served from there.)
    """

    names: frozenset[str]
    any_address: bool = False

    @classmethod
    def of(cls, bound: str = "127.0.0.1", extra: Iterable[str] = ()) -> Hosts:
        """Names of a server that listens on an address.

        Parameters
        ----------
        bound
            Host name or address that it listens on.
        extra
            Other names that it is reached by, such as through a reverse proxy.

        Raises
        ------
        InputError
            If one is no host name.
        """
        names = {*_LOCAL, bound.lower().strip("[]")}
        for given in extra:
            name = _bare(given)
            if name is None or name != given.strip().lower().strip("[]"):
                raise InputError(
                    f"--host-name is {given!r}; expected a host name without scheme, port or "
                    "wildcard, such as maps.example.org"
                )
            names.add(name)
        everywhere = bound in ("", "0.0.0.0", "::", "[::]")
        if everywhere:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(names), everywhere)

    def allow(self, header: str | None) -> bool:
        """Whether a ``Host`` header holds one of the names, with or without a port."""
        name = _bare(header)
        if name is None:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self.any_address

    def allow_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a WebSocket may be opened: from no page, or from one of this server.

        Parameters
        ----------
        origin
            ``Origin`` header: where the page comes from; programs send none.
        host
            ``Host`` header.
        """
        if origin is None:
            return True
        netloc = urlsplit(origin).netloc.lower()
        if netloc == (host or "").lower():
            return bool(netloc)
        # A proxy may ask for this server by its address instead of the page's name.
        return _bare(netloc) in self.names - _LOCAL


def _bare(header: str | None) -> str | None:
    """Return the host of ``HOST[:PORT]`` in lower case, without brackets; None if it is none."""
    found = _HOST.fullmatch((header or "").lower())
    if found is None:
        return None
    name = (found[1] or found[2]).removesuffix(".")
    return name if found[1] or _NAME.fullmatch(name) else None


class HostCheck:
    """ASGI application that passes on what is asked for by the server's own names.

    Parameters
    ----------
    app
        The application.
    hosts
        Its names.
    """

    def __init__(self, app: App, hosts: Hosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host, origin = (_header(scope, name) for name in (b"host", b"origin"))
        own = self.hosts.allow(host)
        if kind == "websocket":
            own = own and self.hosts.allow_origin(origin, host)
        if not own:
            await _refuse(kind, receive, send)
            return

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                ours = {**HEADERS, "Content-Security-Policy": "frame-ancestors 'none'"}
                added = [
                    (name.lower().encode(), value.encode())
                    for name, value in ours.items()
                    if name.lower().encode() not in given
                ]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, safely)


def _header(scope: Message, name: bytes) -> str | None:
    found = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    # Two would be read differently by different programs: as if there were a wrong one.
    return found[0] if len(found) == 1 else None if not found else ""


async def _refuse(kind: str, receive: Receive, send: Send) -> None:
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        return
    body = REFUSED.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})

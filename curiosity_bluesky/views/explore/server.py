"""The server of the explorer page: to this machine alone, unless it is told otherwise."""

from __future__ import annotations

import io
import re
import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import HTTPError, RequestHandler

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hosts import Hosts
from curiosity_bluesky.views.explore.page import Page
from curiosity_bluesky.views.explore.projections import Projections
from curiosity_bluesky.views.explore.security import CheckedTornado
from curiosity_bluesky.views.explore.state import SharedState, ViewState
from curiosity_bluesky.views.explore.upload import LARGEST

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class PageServer:
    """Server of the page.

    Bokeh's server, with thumbnails beside it. To be used in one thread, which runs it.

    Parameters
    ----------
    room
        What is shown.
    port
        0 takes one that is free.
    host
        Address of the interface; anybody who reaches it sees everything and may save selections.
    descriptor, method
        By which images are compared, and how they are projected, first.
    cache
        Where maps are kept; default: the user's cache.
    host_names
        Names that the page is reached by besides `host`, 127.0.0.1 and localhost, such as through
        a reverse proxy. It answers to no others.

    Attributes
    ----------
    address : str
        Of the page, without its path.

    Raises
    ------
    InputError
        If the port cannot be used, or the room has nothing to show so.
    """

    def __init__(
        self,
        room: SharedState,
        port: int = 5010,
        host: str = "127.0.0.1",
        descriptor: str | None = None,
        method: str = "pca",
        cache: Path | None = None,
        host_names: Sequence[str] = (),
    ) -> None:
        hosts = Hosts.of(host, host_names)
        visit = ViewState(room, descriptor, method)  # its errors before anything is started
        port = _free(host, port)
        self.address = f"http://{host}:{port}"
        self.room = room
        self.projections = Projections(cache)
        self._pool = ThreadPoolExecutor(1, "describe")
        self._first = self.projections.ask(visit.vectors(), "pca")
        thumbnails = f"thumbnail/{room.digest}"

        def show(document: Document) -> None:
            context: Any = document.session_context
            request = context.request if context is not None else None
            given = (request.arguments.get("selection") if request is not None else None) or []
            page = Page(
                document, room, self.projections, self._pool, thumbnails, self._here(request),
                descriptor, method,
            )  # fmt: skip
            key = given[0].decode("ascii", "replace") if given else None
            if key is not None and not _KEY.fullmatch(key):
                key = "?"  # nothing that a path could be made of
            page.open(key)

        loop = IOLoop()
        try:
            sockets = bind_sockets(port, host)
        except OSError as error:
            raise InputError(_taken(port, error)) from None
        app = CheckedTornado(
            {"/explore": Application(FunctionHandler(show))},
            hosts=hosts,
            # An upload in base64, and what goes around it.
            websocket_max_message_size_bytes=2 * LARGEST,
            extra_patterns=[
                (r"/", _Home),
                (rf"/thumbnail/{room.digest}/(\d{{1,9}})\.png", _Thumbnail, {"room": room}),
            ],
            use_index=False,
            # A page whose connection broke for a moment finds what it showed again.
            unused_session_lifetime_milliseconds=60_000,
        )
        # Files come over the WebSocket, of a user with the page: no upload needs more than this.
        served = HTTPServer(app, max_body_size=2**16)
        served.add_sockets(sockets)
        self._server = BaseServer(loop, app, served)

    def _here(self, request: Any) -> str:
        host = request.headers.get("Host") if request is not None else None
        return f"http://{host}" if host else self.address

    @property
    def link(self) -> str:
        """Address of the page."""
        return f"{self.address}/explore"

    def run(self, ready: Callable[[], Any] | None = None, signals: bool = True) -> None:
        """Serve until it is stopped; Ctrl-C and SIGTERM stop it too.

        Parameters
        ----------
        ready
            Called when it serves.
        signals
            Whether it listens to signals; only the main thread may.
        """
        loop = self._server.io_loop
        self._first.result()
        self._server.start()
        if signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: loop.add_callback_from_signal(loop.stop))
        if ready is not None:
            loop.add_callback(ready)
        try:
            loop.start()
        finally:
            self._server.stop(wait=False)
            self.projections.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Stop serving; from any thread."""
        loop = self._server.io_loop
        loop.add_callback(loop.stop)


class _Home(RequestHandler):
    def get(self) -> None:
        self.redirect("/explore")


class _Thumbnail(RequestHandler):
    def initialize(self, room: SharedState) -> None:
        self._room = room

    def get(self, row: str) -> None:
        thumbnails, number = self._room.collection.thumbnails, int(row)
        if thumbnails is None or number >= len(thumbnails):
            raise HTTPError(404)
        # The address changes with the collection: what lies there stays.
        self.set_header("Cache-Control", "private, max-age=31536000, immutable")
        self.set_header("Content-Type", "image/png")
        self.write(png_of(thumbnails[number]))


def png_of(values: np.ndarray) -> bytes:
    """Return grey values as a PNG.

    Parameters
    ----------
    values
        (rows, cols), 0 to 255.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(np.asarray(values, np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _free(host: str, port: int) -> int:
    """Return the port, or a free one for 0: Bokeh must know it before it listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise InputError(_taken(port, error)) from None
        return probe.getsockname()[1]


def _taken(port: int, error: Exception) -> str:
    return f"port {port} cannot be used ({error}); choose another: --port"

"""A network between a client and a Tiled server that fails when it is told to."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

BUFFER = 65536


class Proxy:
    """Passes connections on to a server, until it is told otherwise.

    Attributes
    ----------
    up : bool
        Whether connections are accepted; False refuses new ones and cuts those there are.
    delay : float
        Before each piece of a request is passed on, s.
    swallow : bytes
        Of the next request that holds these bytes the answer is lost, after the server has
        carried it out; empty: of none.
    swallowed : int
        How many answers were lost so.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}/api/v1"
        self.up = True
        self.delay = 0.0
        self.swallow = b""
        self.swallowed = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Refuse connections from now on and end those there are."""
        self.up = False
        for pair in self._pairs:
            self._end(*pair)
        self._pairs.clear()

    def mend(self, port: int | None = None) -> None:
        """Pass on again, to another port if one is given."""
        if port is not None:
            self._target = ("127.0.0.1", port)
        self.up = True

    def close(self) -> None:
        """End all of it."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket()
            try:
                if not self.up:
                    raise OSError
                server.connect(self._target)
            except OSError:
                self._end(client, server)
                continue
            pair = (client, server)
            self._pairs.append(pair)
            lost = threading.Event()  # set: the answer that comes next is lost
            for function in (self._up, self._down):
                threading.Thread(target=function, args=(*pair, lost), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(BUFFER):
                time.sleep(self.delay)
                if self.swallow and self.swallow in data:
                    self.swallow = b""
                    lost.set()
                server.sendall(data)
        self._end(client, server)

    def _down(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(BUFFER):
                if lost.is_set():
                    self.swallowed += 1
                    break
                client.sendall(data)
        self._end(client, server)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

"""Authentication on 0MQ sockets by CURVE, in the handshake before the first message.

0MQ keeps the parts of a message until the last one has come, and counts no bytes meanwhile. So a
socket that listens must know who sends before it takes anything: CURVE, 0MQ's own handshake, in
which a client proves that it has a key. The key is derived from the token that both sides share,
so that there is nothing else to hand out. The key of the server is the same for all: that a server
knows the token is said by the seal of its messages (`codec`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import zmq
from zmq.utils import z85

from curiosity_bluesky.errors import InputError

PART = 2**20
"""Maximum bytes of a part of a message from a peer that is not authenticated yet."""

_OVERHEAD = 1024
"""Upper bound of the bytes that encryption adds to a part."""

_HANDSHAKE_MS = 5000
_ZAP = "inproc://zeromq.zap.01"
"""Address of 0MQ's authentication protocol (RFC 27)."""

_SERVER = z85.encode(hashlib.sha256(b"curiosity_bluesky: server of every socket").digest())


def check_available() -> None:
    """Raise InputError if this 0MQ has no CURVE."""
    if not zmq.has("curve"):
        raise InputError(
            "0MQ was built here without CURVE (libsodium), by which strangers are refused; install "
            "pyzmq as a wheel: pip install --force-reinstall --only-binary :all: pyzmq"
        )


def _keys(token: str) -> tuple[bytes, bytes]:
    """Return the public and the secret key of a token."""
    secret = z85.encode(hmac.digest(token.encode(), b"curiosity_bluesky: client", "sha256"))
    return zmq.curve_public(secret), secret


def authenticate(socket: zmq.Socket, token: str) -> None:
    """Set the keys of a token on a client socket, before it connects.

    Parameters
    ----------
    socket
        Not connected yet.
    token
        The token.
    """
    check_available()
    socket.curve_publickey, socket.curve_secretkey = _keys(token)
    socket.curve_serverkey = zmq.curve_public(_SERVER)


def split_message(data: bytes) -> list[bytes]:
    """Split a message into parts that a guarded socket accepts."""
    return [data[k : k + PART] for k in range(0, len(data), PART)] or [b""]


class Authenticator:
    """Authenticator of the sockets of one context: admits clients with the token.

    No peer is let in before `answer` is called; it does not wait.

    Parameters
    ----------
    context
        Of the sockets; it can have one guard.
    token
        What one has to know.

    Attributes
    ----------
    socket : zmq.Socket
        To be polled: when it can be read, `answer`.
    refused : int
        How many were refused.
    """

    def __init__(self, context: zmq.Context, token: str) -> None:
        check_available()
        self.refused = 0
        self._known = z85.decode(_keys(token)[0])
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_ZAP)

    def guard(self, socket: zmq.Socket) -> None:
        """Guard a socket that is not bound yet; the size of a message part is limited too."""
        socket.curve_server = True
        socket.curve_secretkey = _SERVER
        socket.zap_domain = b"curiosity"
        socket.setsockopt(zmq.MAXMSGSIZE, PART + _OVERHEAD)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)

    def answer(self) -> None:
        """Answer the authentication requests that are waiting."""
        while True:
            try:
                asked = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            known = self._is_known(asked)
            self.refused += not known
            code, words = (b"200", b"OK") if known else (b"400", b"another token")
            number = asked[1] if len(asked) > 1 else b""
            self.socket.send_multipart([b"1.0", number, code, words, b"", b""])

    def _is_known(self, asked: Sequence[bytes]) -> bool:
        # Version, number, domain, address, identity, mechanism, key.
        given = asked[6] if len(asked) == 7 and asked[5] == b"CURVE" else b""
        return hmac.compare_digest(given, self._known)


class Monitor:
    """Monitor of refused connections of a client socket.

    Parameters
    ----------
    socket
        Not connected yet. Close the monitor before it.

    Attributes
    ----------
    socket : zmq.Socket
        To be polled: when it can be read, `said`.
    """

    def __init__(self, socket: zmq.Socket) -> None:
        self._of = socket
        self.socket = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        )

    def said(self) -> str:
        """Return the reason: ``token``, ``protocol`` or, for any other, "".

        In none of these cases does 0MQ connect again by itself.
        """
        event, value = _event(self.socket.recv_multipart()[0])
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "token"
        if (
            event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            and value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
        ):
            return "protocol"
        return ""

    def close(self) -> None:
        """Stop monitoring."""
        self._of.disable_monitor()


def _event(frame: bytes) -> tuple[int, int]:
    return int.from_bytes(frame[:2], "little"), int.from_bytes(frame[2:6], "little")

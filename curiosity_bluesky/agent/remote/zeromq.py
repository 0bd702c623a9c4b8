"""Transport of documents over 0MQ, signed with a token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from bluesky.callbacks.zmq import Proxy, Publisher, RemoteDispatcher

from curiosity_bluesky.agent.remote import codec, tokens
from curiosity_bluesky.errors import InputError

logger = logging.getLogger(__name__)

_LINGER_MS = 1000
"""Maximum seconds at the end of a process for the last documents."""


class SealedPublisher(Publisher):
    """Document callback that publishes to a 0MQ proxy; it neither waits nor raises.

    It is bluesky's own `Publisher`, with msgpack under a seal in place of pickle. No one need
    listen. What cannot be sent is said once and is no trouble of the run: the catalogue has it.

    Parameters
    ----------
    address
        Of the proxy's side for publishers, such as ``tcp://127.0.0.1:5567``.
    token
        What listeners know, too. Default: ``$CURIOSITY_AGENT_TOKEN``.
    agent
        Address of an agent on this machine that listens: where no token is given, the one that it
        has left for its owner is taken.

    Raises
    ------
    InputError
        If there is no token, or the address is none.

    Examples
    --------
    ::

        RE.subscribe(SealedPublisher("tcp://127.0.0.1:5567"))
    """

    def __init__(self, address: str, token: str | None = None, *, agent: str | None = None) -> None:
        tokens.endpoint(address)
        token = _given(token) if agent is None else tokens.token_for(agent, token)
        super().__init__(address, serializer=codec.serializer(token))
        self._socket.linger = _LINGER_MS  # 0MQ's own default is to wait for ever
        self._said = False

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Send one document."""
        try:
            super().__call__(name, doc)
        except Exception as error:  # of any document, and of 0MQ
            if not self._said:
                self._said = True
                logger.warning("a %s document could not be published: %s", name, error)


def _given(token: str | None) -> str:
    """Return a token, or that of the environment."""
    if token is not None:
        return tokens.check_token(token, "the documents")
    if (found := tokens.given_token()) is not None:
        return found
    raise InputError(
        "documents for other processes are sealed with a token and there is none; set "
        f"{tokens.ENVIRONMENT} to the same words on both sides (`curiosity queue serve` says them)"
    )


@contextlib.contextmanager
def document_listener(
    address: str, token: str | None, *callbacks: Callable[[str, Any], Any]
) -> Iterator[RemoteDispatcher]:
    """Pass the documents of a proxy to callbacks, in a thread, within the context.

    Parameters
    ----------
    address
        Of the proxy's side for listeners, such as ``tcp://127.0.0.1:5568``.
    token
        Default: ``$CURIOSITY_AGENT_TOKEN``.
    *callbacks
        Each is called with name and document.

    Raises
    ------
    InputError
        If there is no token.
    """
    dispatcher = RemoteDispatcher(address, deserializer=codec.deserializer(_given(token)))
    for callback in callbacks:
        dispatcher.subscribe(callback)

    def listen() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            dispatcher.start()

    def end() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    thread = threading.Thread(target=listen, name="documents", daemon=True)
    thread.start()
    try:
        yield dispatcher
    finally:
        # Its own `stop` is for the thread that listens, which closes all when this is cancelled.
        with contextlib.suppress(RuntimeError):  # closed: the thread has ended by itself
            dispatcher.loop.call_soon_threadsafe(end)
        thread.join(5.0)


def run_proxy(incoming: str, outgoing: str) -> None:
    """Forward documents of publishers to subscribers, until the process ends.

    Parameters
    ----------
    incoming, outgoing
        Where to listen for publishers and for listeners, such as ``tcp://127.0.0.1:5567``.

    Raises
    ------
    InputError
        If an address cannot be used.
    """
    import zmq

    try:
        proxy = Proxy(incoming, outgoing)
    except zmq.ZMQError as error:
        raise InputError(
            f"{incoming} and {outgoing} cannot be listened on ({error}); choose other ports"
        ) from None
    proxy.start()

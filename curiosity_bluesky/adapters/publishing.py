"""How a RunEngine tells an agent elsewhere of its runs, without being asked."""

from __future__ import annotations

from bluesky.callbacks.zmq import Publisher

from curiosity_bluesky.adapters import tokens
from curiosity_bluesky.adapters.wire import serializer


def publisher(address: str, token: str | None = None, *, agent: str | None = None) -> Publisher:
    """Return a document callback that publishes to a proxy, for ``curiosity agent --documents``.

    It is bluesky's own `Publisher`, with msgpack under a seal in place of pickle.

    Parameters
    ----------
    address
        Where the proxy (``bluesky-0MQ-proxy``) takes documents in, ``tcp://HOST:PORT``.
    token
        The agent's. None: ``$CURIOSITY_AGENT_TOKEN``, or that of `agent`.
    agent
        Address of an agent on this machine, which has left its token for its owner.

    Raises
    ------
    InputError
        If there is no token, or the address is none.

    Examples
    --------
    ::

        RE.subscribe(publisher("tcp://127.0.0.1:5567"))
    """
    host, port = tokens.endpoint(address)
    return Publisher(
        f"{host}:{port}", serializer=serializer(tokens.token_for(agent or address, token))
    )

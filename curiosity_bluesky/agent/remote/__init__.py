"""The agent as another process: client and server, and the protocol between them, over 0MQ."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.agent.remote.client import ask_agent as ask_agent
    from curiosity_bluesky.agent.remote.codec import decode as decode
    from curiosity_bluesky.agent.remote.codec import encode as encode
    from curiosity_bluesky.agent.remote.remote_agent import FALLBACK as FALLBACK
    from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent as RemoteAgent
    from curiosity_bluesky.agent.remote.server import AgentServer as AgentServer
    from curiosity_bluesky.agent.remote.sources import CatalogFollower as CatalogFollower
    from curiosity_bluesky.agent.remote.sources import CatalogReader as CatalogReader
    from curiosity_bluesky.agent.remote.sources import Subscriber as Subscriber
    from curiosity_bluesky.agent.remote.tokens import endpoint as endpoint
    from curiosity_bluesky.agent.remote.tokens import given_token as given_token
    from curiosity_bluesky.agent.remote.zeromq import SealedPublisher as SealedPublisher
    from curiosity_bluesky.agent.remote.zeromq import document_listener as document_listener
    from curiosity_bluesky.agent.remote.zeromq import run_proxy as run_proxy

_MODULES = {
    "AgentServer": "server",
    "CatalogFollower": "sources",
    "CatalogReader": "sources",
    "FALLBACK": "remote_agent",
    "RemoteAgent": "remote_agent",
    "SealedPublisher": "zeromq",
    "Subscriber": "sources",
    "ask_agent": "client",
    "decode": "codec",
    "document_listener": "zeromq",
    "encode": "codec",
    "endpoint": "tokens",
    "given_token": "tokens",
    "run_proxy": "zeromq",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

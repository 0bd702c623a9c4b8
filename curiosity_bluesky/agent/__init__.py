"""The agent: documents in, proposals out."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.agent.curiosity_agent import Agent as Agent
    from curiosity_bluesky.agent.curiosity_agent import AgentAway as AgentAway
    from curiosity_bluesky.agent.curiosity_agent import Cancelled as Cancelled
    from curiosity_bluesky.agent.curiosity_agent import CuriosityAgent as CuriosityAgent
    from curiosity_bluesky.agent.curiosity_agent import Decided as Decided

_MODULES = {
    "Agent": "curiosity_agent",
    "AgentAway": "curiosity_agent",
    "Cancelled": "curiosity_agent",
    "CuriosityAgent": "curiosity_agent",
    "Decided": "curiosity_agent",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

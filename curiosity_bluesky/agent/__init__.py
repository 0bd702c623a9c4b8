"""The agent: documents in, proposals out."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.agent.curiosity_agent import Agent as Agent
    from curiosity_bluesky.agent.curiosity_agent import AgentUnreachable as AgentUnreachable
    from curiosity_bluesky.agent.curiosity_agent import CuriosityAgent as CuriosityAgent
    from curiosity_bluesky.agent.curiosity_agent import DecisionResult as DecisionResult
    from curiosity_bluesky.agent.curiosity_agent import TrainingCancelled as TrainingCancelled
    from curiosity_bluesky.agent.remote.remote_agent import RemoteAgent as RemoteAgent

_MODULES = {
    "Agent": "curiosity_agent",
    "AgentUnreachable": "curiosity_agent",
    "CuriosityAgent": "curiosity_agent",
    "DecisionResult": "curiosity_agent",
    "RemoteAgent": "remote.remote_agent",
    "TrainingCancelled": "curiosity_agent",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

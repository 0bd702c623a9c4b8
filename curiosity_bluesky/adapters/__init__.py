"""The agent and the plan behind the protocols of other packages."""

# pyright: reportUnsupportedDunderAll=false
__all__ = ["bluesky_adaptive", "queueserver"]

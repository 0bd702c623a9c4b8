"""Pictures of runs."""

from curiosity_bluesky.views.figure import RunPicture
from curiosity_bluesky.views.live import LiveView

__all__ = ["LiveView", "RunPicture"]

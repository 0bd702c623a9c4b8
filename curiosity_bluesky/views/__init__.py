"""Pictures of runs."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.views.figure import RunPicture as RunPicture
    from curiosity_bluesky.views.live import LiveView as LiveView

_MODULES = {
    "LiveView": "live",
    "RunPicture": "figure",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

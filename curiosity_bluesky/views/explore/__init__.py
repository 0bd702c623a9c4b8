"""The explorer page: maps of everything that was measured, in the browser."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.views.explore.server import PageServer as PageServer
    from curiosity_bluesky.views.explore.state import SharedState as SharedState

_MODULES = {
    "PageServer": "server",
    "SharedState": "state",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

"""Pictures of runs, and what a command shows of one."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.views.comparison_figure import draw_comparison as draw_comparison
    from curiosity_bluesky.views.decision_figure import draw_decision as draw_decision
    from curiosity_bluesky.views.decision_figure import (
        save_decision_picture as save_decision_picture,
    )
    from curiosity_bluesky.views.hits import save_hits as save_hits
    from curiosity_bluesky.views.live import LiveView as LiveView
    from curiosity_bluesky.views.progress import ProgressLine as ProgressLine
    from curiosity_bluesky.views.progress import show_progress as show_progress
    from curiosity_bluesky.views.property_figure import draw_property_maps as draw_property_maps
    from curiosity_bluesky.views.report import RunReport as RunReport
    from curiosity_bluesky.views.report import check_picture as check_picture
    from curiosity_bluesky.views.report import show_run as show_run
    from curiosity_bluesky.views.run_figure import RunPicture as RunPicture

_MODULES = {
    "LiveView": "live",
    "ProgressLine": "progress",
    "RunPicture": "run_figure",
    "RunReport": "report",
    "check_picture": "report",
    "draw_comparison": "comparison_figure",
    "draw_property_maps": "property_figure",
    "draw_decision": "decision_figure",
    "save_decision_picture": "decision_figure",
    "save_hits": "hits",
    "show_progress": "progress",
    "show_run": "report",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

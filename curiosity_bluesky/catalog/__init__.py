"""Where runs are kept: Tiled, written through a journal that loses nothing."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.catalog import Catalog as Catalog
    from curiosity_bluesky.catalog.catalog import connect as connect
    from curiosity_bluesky.catalog.locations import DEFAULT as DEFAULT
    from curiosity_bluesky.catalog.locations import check_place as check_place
    from curiosity_bluesky.catalog.scan_ids import last_scan_id as last_scan_id

_MODULES = {
    "Catalog": "catalog",
    "DEFAULT": "locations",
    "check_place": "locations",
    "connect": "catalog",
    "last_scan_id": "scan_ids",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

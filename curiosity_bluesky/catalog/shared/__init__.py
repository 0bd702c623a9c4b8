"""A catalogue that several machines share: Tiled on PostgreSQL, arrays in files."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.shared.cluster import Cluster as Cluster
    from curiosity_bluesky.catalog.shared.server import SharedCatalogue as SharedCatalogue
    from curiosity_bluesky.catalog.shared.tables import Tables as Tables

_MODULES = {
    "Cluster": "cluster",
    "SharedCatalogue": "server",
    "Tables": "tables",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

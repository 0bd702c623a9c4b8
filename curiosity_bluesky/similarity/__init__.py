"""Search of everything that was measured, by what it looks like."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.similarity.archive import import_files as import_files
    from curiosity_bluesky.similarity.descriptors.protocol import Descriptor as Descriptor
    from curiosity_bluesky.similarity.image import Image as Image
    from curiosity_bluesky.similarity.index.collection import Collection as Collection
    from curiosity_bluesky.similarity.index.collection import Entry as Entry
    from curiosity_bluesky.similarity.index.collection import Hit as Hit
    from curiosity_bluesky.similarity.index.index import Index as Index
    from curiosity_bluesky.similarity.search import SearchResult as SearchResult
    from curiosity_bluesky.similarity.search import similar as similar

_MODULES = {
    "Collection": "index.collection",
    "Descriptor": "descriptors.protocol",
    "Entry": "index.collection",
    "Hit": "index.collection",
    "Image": "image",
    "Index": "index.index",
    "SearchResult": "search",
    "import_files": "archive",
    "similar": "search",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

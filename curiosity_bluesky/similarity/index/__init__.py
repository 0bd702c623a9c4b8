"""Index of the descriptors of all images in a catalogue, stored beside the runs."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.similarity.index.index import Index as Index
    from curiosity_bluesky.similarity.index.indexer import Indexer as Indexer

_MODULES = {
    "Index": "index",
    "Indexer": "indexer",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

"""Search everything ever measured by what it looks like."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.similarity.descriptors.protocol import Descriptor as Descriptor
    from curiosity_bluesky.similarity.image import Image as Image
    from curiosity_bluesky.similarity.index.collection import Collection as Collection
    from curiosity_bluesky.similarity.index.collection import Entry as Entry
    from curiosity_bluesky.similarity.index.collection import Hit as Hit

_MODULES = {
    "Collection": "index.collection",
    "Descriptor": "descriptors.protocol",
    "Entry": "index.collection",
    "Hit": "index.collection",
    "Image": "image",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

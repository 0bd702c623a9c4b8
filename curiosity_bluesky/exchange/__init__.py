"""Files of the field, in and out: npz, HDF5 (NSID, USID), vendors' files; sidpy datasets.

A file format is read by one module here, as `Field`: arrays with named axes. Samples, the
similarity index and the command line read files through this room. Importing it is cheap:
h5py, sidpy and the readers of the vendors' files are imported when a file needs them.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.exchange.datasets import sample_to_sidpy as sample_to_sidpy
    from curiosity_bluesky.exchange.datasets import to_sidpy as to_sidpy
    from curiosity_bluesky.exchange.images import read_images as read_images
    from curiosity_bluesky.exchange.nsid import read_nsid as read_nsid
    from curiosity_bluesky.exchange.nsid import write_nsid as write_nsid
    from curiosity_bluesky.exchange.readers import Dim as Dim
    from curiosity_bluesky.exchange.readers import Field as Field
    from curiosity_bluesky.exchange.readers import read_fields as read_fields
    from curiosity_bluesky.exchange.recorded import RecordedSample as RecordedSample
    from curiosity_bluesky.exchange.sample import Sample as Sample

_MODULES = {
    "Dim": "readers",
    "Field": "readers",
    "RecordedSample": "recorded",
    "Sample": "sample",
    "read_fields": "readers",
    "read_images": "images",
    "read_nsid": "nsid",
    "sample_to_sidpy": "datasets",
    "to_sidpy": "datasets",
    "write_nsid": "nsid",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)

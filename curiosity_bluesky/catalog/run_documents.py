"""Documents of a run as they were emitted, from its journal or from Tiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curiosity_bluesky.catalog.connection import Unreachable
from curiosity_bluesky.catalog.document_counts import journalled_documents
from curiosity_bluesky.catalog.journal import journals
from curiosity_bluesky.documents import Document, in_order
from curiosity_bluesky.errors import InputError

if TYPE_CHECKING:
    from curiosity_bluesky.catalog.catalog import Catalog

_NOT_ACCEPTABLE = 406
"""What an HTTP server answers that cannot give what is asked in that form."""

_EXPORTER = (
    "media_types: {BlueskyRun: {application/json-seq: "
    "bluesky_tiled_plugins.exporters:json_seq_exporter}} and "
    "file_extensions: {json-seq: application/json-seq}"
)


def documents_of(catalog: Catalog, key: int | str) -> list[Document]:
    """Return the documents of a run; see `Catalog.documents`."""
    spoilt = None
    if isinstance(key, str) and len(key) >= 5:
        for path in journals(catalog.journal):
            if path.stem.startswith(key):
                if found := journalled_documents(path):
                    return found
                spoilt = path

    def ask(run: Any) -> list[Document]:
        path = catalog.journal / f"{run.start['uid']}.jsonl"
        if path.exists() and (found := journalled_documents(path)):
            return found
        back = [(name, dict(doc)) for name, doc in run.documents()]
        # Of a run without a stop document Tiled makes up an empty one.
        return [(name, dict(doc)) for name, doc in in_order(back) if doc]

    try:
        return catalog.read(key, ask)
    except InputError as error:
        if spoilt is None or isinstance(error, Unreachable):
            raise
        raise InputError(
            f"run {key} is not in {catalog.where}, and its journal does not begin with a start "
            f"document that can be read; `curiosity recover` says which lines of {spoilt} "
            "cannot, and keeps it"
        ) from None
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) != _NOT_ACCEPTABLE:
            raise
        raise InputError(
            f"the Tiled server at {catalog.where} does not give documents; add to its "
            f"configuration {_EXPORTER}"
        ) from None

"""RunEngine and catalogue."""

import logging
import os

from bluesky import RunEngine

from curiosity_bluesky import connect, end_in_order, read
from curiosity_bluesky.errors import Unreachable
from curiosity_bluesky.similarity.index import Indexer

# $CURIOSITY_CATALOG, else ./runs. It is served when it is first asked or written to, so that the
# prompt comes at once.
catalog = connect(serve=False)
try:
    known = f"{len(catalog)} runs"
except Unreachable:  # nothing is lost: what is measured waits in the journal
    known = "whose server does not answer yet"

RE = RunEngine({})
end_in_order(RE)  # SIGTERM and a closed terminal: devices are told, the run is closed
writer = catalog.writer()
RE.subscribe(writer)
# What a run looks like is there for `curiosity similar` when it has closed.
indexer = Indexer(catalog)
RE.subscribe(indexer)

# A long training says how far it is.
logging.basicConfig(format="%(message)s", level=logging.WARNING)
logging.getLogger("curiosity_bluesky").setLevel(logging.INFO)

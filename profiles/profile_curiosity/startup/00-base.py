"""RunEngine and catalogue."""

import logging
import os

from bluesky import RunEngine

from curiosity_bluesky import connect, end_in_order, predict, read
from curiosity_bluesky.catalog import last_scan_id
from curiosity_bluesky.errors import Unreachable
from curiosity_bluesky.similarity.index import Indexer
from curiosity_bluesky.utils.wording import plural

# $CURIOSITY_CATALOG, else ./runs. It is served when it is first asked or written to, so that the
# prompt comes at once.
catalog = connect(serve=False)
try:
    known = f"{len(catalog)} {plural(len(catalog), 'run')}"
except Unreachable:  # nothing is lost: what is measured waits in the journal
    known = "whose server does not answer yet"

RE = RunEngine({"scan_id": last_scan_id(catalog)})  # counted on from the last one
end_in_order(RE)  # SIGTERM and a closed terminal: devices are told, the run is closed
writer = catalog.writer()
RE.subscribe(writer)
# What a run looks like is there for `curiosity similar` when it has closed.
indexer = Indexer(catalog)
RE.subscribe(indexer)

# A long training says how far it is.
logging.basicConfig(format="%(message)s", level=logging.WARNING)
logging.getLogger("curiosity_bluesky").setLevel(logging.INFO)

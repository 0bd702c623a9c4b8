"""RunEngine and catalogue."""

import logging
import os

from bluesky import RunEngine

from curiosity_bluesky import connect, read

catalog = connect()  # $CURIOSITY_CATALOG, else ./runs

RE = RunEngine({})
writer = catalog.writer()
RE.subscribe(writer)

# A long training says how far it is.
logging.basicConfig(format="%(message)s", level=logging.WARNING)
logging.getLogger("curiosity_bluesky").setLevel(logging.INFO)

"""RunEngine, catalogue, and the documents for other processes."""

import logging
import os

from bluesky import RunEngine

from curiosity_bluesky import connect, end_in_order
from curiosity_bluesky.agent.remote.zeromq import SealedPublisher
from curiosity_bluesky.catalog import last_scan_id
from curiosity_bluesky.views import show_progress

catalog = connect()  # $CURIOSITY_CATALOG, else ./runs

RE = RunEngine({"scan_id": last_scan_id(catalog)})  # counted on from the last one
# SIGTERM: devices are told, the run is closed. The worker catches what a plan raises and would live
# on, so the catalogue is closed here, and the process ended.
end_in_order(RE, last=catalog.close)
RE.subscribe(catalog.writer())
show_progress(RE)
if "CURIOSITY_DOCUMENTS" in os.environ:  # address of a 0MQ proxy
    RE.subscribe(SealedPublisher(os.environ["CURIOSITY_DOCUMENTS"]))  # with $CURIOSITY_AGENT_TOKEN

# A long training says how far it is.
logging.basicConfig(format="%(message)s", level=logging.WARNING)
logging.getLogger("curiosity_bluesky").setLevel(logging.INFO)

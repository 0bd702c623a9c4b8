"""What a catalogue lists: runs, whatever is in them, and not the index beside them."""

import asyncio

import numpy as np
import pytest
from event_model import compose_run
from scans import Crude, put, scan

from curiosity_bluesky.catalog import connect
from curiosity_bluesky.catalog.listing import runs_only
from curiosity_bluesky.similarity.index import Index
from curiosity_bluesky.similarity.index.collection import Entry
from curiosity_bluesky.similarity.index.run_images import image_of


@pytest.mark.slow
def test_what_a_run_calls_like_the_index_is_read_and_the_index_is_not_listed(tmp_path):
    values = scan(0)
    run = compose_run()
    described = run.compose_descriptor(
        name="similarity",
        data_keys={
            "similarity": {
                "source": "file:a",
                "dtype": "array",
                "dtype_numpy": values.dtype.str,
                "shape": list(values.shape),
            }
        },
    )
    event = described.compose_event(data={"similarity": values}, timestamps={"similarity": 0.0})
    with connect(tmp_path / "runs") as catalog:
        uid = put(catalog, scan(1))
        Index(catalog, [Crude()]).update()
        writer = catalog.writer()
        for name, doc in [
            ("start", run.start_doc),
            ("descriptor", described.descriptor_doc),
            ("event", event),
            ("stop", run.compose_stop()),
        ]:
            writer(name, doc)
        catalog.flush()
        new = run.start_doc["uid"]
        image = image_of(catalog.client, Entry(new, "similarity", "similarity", "similarity"))
        np.testing.assert_array_equal(image.values, values)
        assert list(catalog.client) == [uid, new] and len(catalog.client) == 2
        assert len(Index(catalog, [Crude()]).collection()) == 1  # the index is there all the same

    async def looked_up(*path):
        tree = runs_only(f"sqlite:///{tmp_path / 'runs' / 'catalog.db'}")
        await tree.startup()
        try:
            return (await tree.lookup_adapter(list(path))).node.key
        finally:
            await tree.shutdown()

    # Tiled's server goes step by step as yet; whoever asks for the whole path gets there too.
    assert asyncio.run(looked_up(new, "similarity")) == "similarity"
    assert asyncio.run(looked_up("similarity")) == "similarity"

"""The table of streams and data keys, against stored runs, the records and the documentation."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from curiosity_bluesky import documents
from curiosity_bluesky.documents.schema import STREAMS, markdown
from curiosity_bluesky.learning import Anomaly, Training

ROOT = Path(__file__).parents[2]
STORED = sorted((ROOT / "tests/data/stored-runs").glob("*.jsonl.gz"))
RECORDS = {f"curiosity:{stream.record}": stream for stream in STREAMS.values()}


def descriptors(path):
    with gzip.open(path, "rt") as lines:
        written = [json.loads(line) for line in lines]
    pairs = [(d["name"], d["doc"]) if isinstance(d, dict) else tuple(d) for d in written]
    return [doc for name, doc in pairs if name == "descriptor"]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name.split(".")[0])
def test_what_the_plan_wrote_is_what_the_schema_says(path):
    found = descriptors(path)
    assert found
    for descriptor in found:
        stream = STREAMS[descriptor["name"]]
        written = {
            key: about
            for key, about in descriptor["data_keys"].items()
            if about["source"] in RECORDS
        }
        assert {about["source"] for about in written.values()} <= {f"curiosity:{stream.record}"}
        for name, about in written.items():
            if name.endswith(documents.PREDICTED):
                assert about["dtype_numpy"] == "<f4" and len(about["shape"]) == 1
                continue
            key = stream[name]
            dtype = "string" if about["dtype"] == "string" else about["dtype_numpy"]
            assert (dtype, about.get("units", ""), tuple(about.get("dims", ()))) == (
                *(key.dtype, key.units, key.dims),
            ), name
        lacking = {key.name for key in stream.own if not key.optional} - set(written)
        assert all("<" in name for name in lacking), lacking


def test_every_stream_was_written_by_one_of_the_stored_runs():
    assert {d["name"] for path in STORED for d in descriptors(path)} >= set(STREAMS) - {
        *("flags", "predictions")  # of later versions
    }


def test_records_have_the_fields_that_their_stream_declares():
    for stream, record in ((documents.FLAGS, Anomaly), (documents.LEARNING, Training)):
        fields = {field.name for field in dataclasses.fields(record)}
        assert set(STREAMS[stream].scalars) == fields


def test_the_documentation_has_the_tables_of_the_schema():
    assert markdown() in (ROOT / "docs/documents.md").read_text(), (
        "docs/documents.md differs from `python -m curiosity_bluesky.documents.schema`"
    )

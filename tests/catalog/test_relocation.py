"""A catalogue that was copied or moved is read where it is now, and the original where it was."""

from __future__ import annotations

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import bluesky.plans as bp
import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from ophyd.sim import SynAxis
from support import QUICK, collected_run

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.relocation import update_moved_paths
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import read_stream
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.hdf5 import plain_uri_of, uri_of
from sim_devices import SyntheticSample

SAMPLE = SyntheticSample((18, 16), seed=1, points=16)  # no smaller image is indexed


def measured(catalog) -> str:
    """Measure a run into a catalogue, return its uid."""
    RE = RunEngine({})
    RE.subscribe(catalog.writer(100))
    instrument = simulated_instrument(SAMPLE, speed=math.inf)
    uid, _ = collected_run(RE, instrument, num_points=3, strategy="random", maps_every=0)
    catalog.flush()
    return uid


def counted(catalog) -> str:
    RE = RunEngine({})
    RE.subscribe(catalog.writer(100))
    [uid] = RE(bp.count([SynAxis(name="motor")]))
    catalog.flush()
    return uid


def assets(directory: Path) -> list[str]:
    with closing(sqlite3.connect(directory / "catalog.db")) as database:
        return [uri for (uri,) in database.execute("SELECT data_uri FROM assets")]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A catalogue with a run, and what is read of it there."""
    where = tmp_path_factory.mktemp("original") / "my runs"
    with connect(where) as catalog:
        uid = measured(catalog)
        return where, uid, read(catalog[uid]), read_stream(catalog[uid], "survey")


def test_all_of_a_catalogue_is_in_its_directory(original):
    """Of a space in its name, too: Tiled does not unquote what it is given."""
    where = original[0]
    assert [path.name for path in where.parent.iterdir()] == ["my runs"]
    assert list((where / "data").rglob("zarr.json"))


def read_there(catalog, original) -> None:
    _, uid, points, survey = original
    assert catalog.runs()[0].uid == uid
    xr.testing.assert_identical(read(catalog[uid]), points)
    xr.testing.assert_identical(read_stream(catalog[uid], "survey"), survey)


@pytest.mark.slow
def test_a_copy_is_read_and_written_while_the_original_is_served(original, tmp_path):
    where = original[0]
    with connect(where) as first:
        copy = shutil.copytree(where, tmp_path / "a copy")  # with the note of its server
        with connect(copy, create=False) as second:
            assert second._connection._server is not None  # its own, not that of the original
            read_there(second, original)
            added = counted(second)
            assert len(second) == 2 and second[added].stop["exit_status"] == "success"
            read_there(first, original)
            assert len(first) == 1
    assert not [uri for uri in assets(copy) if str(where.parent) in uri]
    assert not [uri for uri in assets(where) if str(copy.parent) in uri]


def test_a_moved_catalogue_is_read_and_moved_back_too(original, tmp_path):
    there = first = shutil.copytree(original[0], tmp_path / "first")
    for place in (tmp_path / "per%20cent", tmp_path / "deeper" / "µ", first):
        place.parent.mkdir(exist_ok=True)
        there = Path(shutil.move(there, place))
        update_moved_paths(there)
        assert all(str(place) in uri for uri in assets(there))
    with connect(first, create=False) as catalog:
        read_there(catalog, original)


def test_nothing_is_written_where_nothing_was_moved(original, tmp_path):
    copy = shutil.copytree(original[0], tmp_path / "copy")
    assert update_moved_paths(copy) == len(assets(copy)) > 0
    before = (copy / "catalog.db").read_bytes()
    assert update_moved_paths(copy) == 0
    assert (copy / "catalog.db").read_bytes() == before


def test_files_elsewhere_stay_and_files_of_the_catalogue_follow(original, tmp_path):
    where = original[0]
    copy = shutil.copytree(where, tmp_path / "copy")
    outside = "file://localhost/data/images/a.h5"
    beside = f"{plain_uri_of(where)}-2/assets/b.h5"  # its path begins alike
    inside = f"{uri_of(where)}/assets/c.h5"
    with closing(sqlite3.connect(copy / "catalog.db")) as database, database:
        for uri in (outside, beside, inside):
            database.execute("INSERT INTO assets (data_uri, is_directory) VALUES (?, 0)", (uri,))
    journal = RunJournal(copy / "journal", "0123-4567")
    journal.append("start", {"uid": "0123-4567", "time": 1.0})
    for number, uri in enumerate((outside, inside)):
        journal.append("stream_resource", {"uid": str(number), "uri": uri})
    journal.close()
    update_moved_paths(copy)
    found = assets(copy)
    moved = f"{plain_uri_of(copy)}/assets/c.h5"
    assert outside in found and beside in found and moved in found and inside not in found
    text = (copy / "journal" / "0123-4567.jsonl").read_text()
    assert outside in text and moved in text and inside not in text


def test_what_an_earlier_version_wrote_after_the_move_is_read_too(original, tmp_path):
    """It left two rows for one file: the tables as they were called before and after."""
    copy = shutil.copytree(original[0], tmp_path / "copy")
    tables = f"sqlite://localhost/{copy}/tables.db"
    with closing(sqlite3.connect(copy / "catalog.db")) as database, database:
        database.execute("INSERT INTO assets (data_uri, is_directory) VALUES (?, 0)", (tables,))
    with connect(copy, create=False) as catalog:
        read_there(catalog, original)
    assert assets(copy).count(tables) == 1


@pytest.mark.parametrize("name", ["runs#1", "a?b"])
def test_a_directory_whose_name_no_database_can_have_is_refused(name, tmp_path):
    """Tiled would write the tables of `runs#1` and of `runs#2` into one file, `runs`."""
    with pytest.raises(InputError, match="in its path, which no catalogue can have"):
        connect(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_images_that_are_indexed_are_found_in_a_copy(original, tmp_path):
    from curiosity_bluesky.similarity.index import Index

    where, uid, *_ = original
    with connect(where) as catalog:
        Index(catalog).update()
        expected = Index(catalog).collection()
    copy = shutil.copytree(where, tmp_path / "copy")
    with connect(copy, create=False) as catalog:
        found = Index(catalog).collection()
        assert [e.uid for e in found.entries] == [e.uid for e in expected.entries] == [uid]
        np.testing.assert_array_equal(found.thumbnails, expected.thumbnails)


@pytest.mark.slow
def test_a_survey_in_a_file_follows_the_catalogue(tmp_path):
    pytest.importorskip("ophyd_async")
    from async_support import with_async

    RE = RunEngine({})
    with connect(tmp_path / "runs") as catalog:
        RE.subscribe(catalog.writer(100))
        instrument = simulated_instrument(SAMPLE, speed=math.inf)
        with_async(RE, instrument, "imager", files=catalog.assets)
        collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
        expected = read_stream(catalog[-1], "survey")
        documents = catalog.documents(-1)
    moved = Path(shutil.move(tmp_path / "runs", tmp_path / "moved"))
    with connect(moved, create=False) as catalog:
        xr.testing.assert_identical(read_stream(catalog[-1], "survey"), expected)
        back = dict(catalog.documents(-1))
        assert uri_of(moved) in back["stream_resource"]["uri"]
        assert dict(documents)["stream_resource"]["uri"] != back["stream_resource"]["uri"]

"""The index: what is in it, what is never done twice, and what it does no harm to."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import event_model
import httpx
import numpy as np
import pytest
import torch
from bluesky import RunEngine
from bluesky.plan_stubs import null
from bluesky.preprocessors import run_wrapper
from scans import Crude, CrudeOfTomorrow, put, scan
from support import collected_run, slowly
from synthetic.wallpaper import random_image
from tiled.client import from_uri
from tiled.queries import Key

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog import embedded_server
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.devices.pfm import loop_fields
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.archive import documents_of
from curiosity_bluesky.similarity.descriptors import names
from curiosity_bluesky.similarity.descriptors.texture import Texture
from curiosity_bluesky.similarity.image_files import FileImage
from curiosity_bluesky.similarity.index import Index, Indexer, storage, update
from curiosity_bluesky.similarity.index import indexer as indexing
from curiosity_bluesky.similarity.index.storage import IndexStorage
from sim_devices import SyntheticSample

UIDS: dict[str, str] = {}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a catalogue that is read alone, indexed with Crude."""
    with connect(tmp_path_factory.mktemp("shared") / "runs") as catalog:
        RE = RunEngine({})
        RE.subscribe(catalog.writer())
        film = SyntheticSample((20, 18), seed=1, points=16)
        instrument = simulated_instrument(film, speed=math.inf)
        UIDS["film"], _ = collected_run(RE, instrument, sample="film", strategy="random", seed=3)
        RE(run_wrapper(null()))
        UIDS["two"] = put(catalog, scan(1), scan(2), sample="two", bias=2.5)
        UIDS["open"] = put(catalog, scan(3), sample="open", stop=False)
        UIDS["flat"] = put(catalog, np.zeros((24, 24)), scan(4), sample="flat")
        UIDS["small"] = put(catalog, np.ones((8, 8)) * scan(5, 8))
        Index(catalog, [Crude()]).update()
        yield catalog


def sources(collection):
    return {entry.source for entry in collection.entries}


def test_every_image_is_there_with_scale_channel_and_status(shared):
    found = Index(shared, [Crude()]).collection()
    by_run = {entry.uid: entry for entry in found.entries}
    film = by_run[UIDS["film"]]
    assert (film.stream, film.key, film.channel) == ("survey", "imager_amplitude", "amplitude")
    assert film.shape == (20, 18) and film.um_per_pixel == pytest.approx((0.02, 0.02))
    assert film.metadata["sample"] == "film" and film.metadata["exit_status"] == "success"
    two = [entry for entry in found.entries if entry.uid == UIDS["two"]]
    assert {entry.channel for entry in two} == {"a", "b"}
    assert two[0].um_per_pixel == pytest.approx((0.1, 0.2))
    assert by_run[UIDS["open"]].metadata["exit_status"] == "open"
    assert len(found) == 5  # neither the maps of the film, nor what is flat or small
    assert found.thumbnails is not None and found.thumbnails.shape == (5, 48, 48)
    row = [entry.channel for entry in found.entries].index("b")
    uid = found.entries[row].uid
    expected = Crude()(Image_of(scan(2) if uid == UIDS["two"] else scan(4)))
    np.testing.assert_array_equal(found.vectors["crude"][row], expected)


def Image_of(values):
    from curiosity_bluesky.similarity.image import Image

    return Image.checked(values)


def test_nobody_counts_what_is_in_the_folders_of_the_index(shared, monkeypatch):
    asked, send = [], httpx.Client.send

    def noted(self, request, **options):
        asked.append(str(request.url))
        return send(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", noted)
    Index(shared, [Crude()]).update()
    there = [url for url in asked if "/similarity/" in url]
    assert there and not [url for url in there if "fields=count" in url]


def test_a_second_update_describes_nothing_and_what_was_refused_is_not_tried_again(shared):
    crude = Crude()
    again = Index(shared, [crude]).update()
    assert again.images == 0 and crude.asked == 0 and again.failures == []
    assert again.indexed == 7  # the refused ones are known
    state = Index(shared, [crude]).state()
    reasons = {one["uid"]: one["reason"] for one in state["refused"]}
    assert set(reasons) == {UIDS["flat"], UIDS["small"]}
    assert "0 everywhere" in reasons[UIDS["flat"]] and "(8, 8)" in reasons[UIDS["small"]]


def test_loops_give_a_run_its_properties_and_runs_without_loops_none(shared):
    entries = {entry.uid: entry for entry in Index(shared, [Crude()]).collection().entries}
    properties = entries[UIDS["film"]].properties
    low, high = properties["coercive_negative"], properties["coercive_positive"]
    assert low < 0 < high and properties["loop_area"] > 0
    points = read(shared[UIDS["film"]])
    spectra = points["spectrometer_response"].values
    fields = [loop_fields(points["bias"].values, each) for each in spectra]
    medians = {
        "imprint": [one.imprint for one in fields],
        "coercive_bias": [(f.coercive_positive - f.coercive_negative) / 2 for f in fields],
    }
    for name, values in medians.items():
        assert properties[name] == pytest.approx(np.nanmedian(values))
    assert all(math.isfinite(value) for value in properties.values())
    assert entries[UIDS["two"]].properties == {}


@pytest.mark.quick("where0-*", "where5-*", "where9-*")
@pytest.mark.parametrize(
    ("where", "runs"),
    [
        ({"sample": "two"}, {"two"}),
        (["sample=two"], {"two"}),
        (["bias>=2"], {"two"}),
        (["bias<=2"], set()),
        ({"bias >=": 2.5, "sample": "two"}, {"two"}),
        (["plan_name=scan", "channel=b"], {"two", "flat"}),
        (["exit_status=open"], {"open"}),
        (["stop.exit_status=success", "plan_name=scan"], {"two", "flat"}),
        (["coercive_bias>=0"], {"film"}),
        (["since=2001-01-01", "sample=film"], {"film"}),
        (["since=2199-01-01"], set()),
        (["sample=nobody"], set()),
    ],
)
def test_metadata_and_what_was_derived_say_which_images_are_meant(shared, where, runs):
    found = Index(shared, [Crude()]).collection(where)
    assert {entry.uid for entry in found.entries} == {UIDS[name] for name in runs}
    assert len(found.vectors["crude"]) == len(found)


@pytest.mark.quick("sample=*", "since=*")
@pytest.mark.parametrize("where", ["sample", "=two", "sample=", "bias>=much", "since=soon"])
def test_a_condition_that_is_none_is_said(shared, where):
    with pytest.raises(InputError, match="expected"):
        Index(shared, [Crude()]).collection([where])


def ways_to_list(catalog):
    """Yield what clients of all sorts see of a catalogue."""
    yield list(catalog), len(catalog), catalog[-1].start["uid"], [r.uid for r in catalog.runs()]
    served = catalog._connection.open().context
    client = from_uri(str(served.api_uri), api_key=served.api_key)
    runs = [run.metadata["start"]["uid"] for run in client.values()]
    yield runs, len(client), client[-1].metadata["start"]["uid"], list(client)
    import databroker.client

    plain = databroker.client.CatalogOfBlueskyRuns(
        client.context, item=client.item, structure_clients=client.structure_clients
    )
    yield list(plain), len(plain), plain[-1].metadata["start"]["uid"], list(plain.v2)


@pytest.mark.slow
def test_no_client_takes_the_index_for_a_run(tmp_path):
    with connect(tmp_path / "runs") as catalog:
        uids = [put(catalog, scan(n)) for n in range(2)]
        before = list(ways_to_list(catalog))
        Index(catalog, [Crude()]).update()
        assert list(ways_to_list(catalog)) == before
        assert before == [(uids, 2, uids[-1], uids)] * 3
        assert len(catalog.search(Key("plan_name") == "scan")) == 2
        assert catalog.recover() == [] and len(catalog.documents(uids[0])) == 4


@pytest.mark.slow
def test_on_a_server_that_lists_the_index_our_catalogue_takes_it_for_no_run(tmp_path, monkeypatch):
    ours = embedded_server._config

    def plain(*args):
        config = ours(*args)
        config["trees"][0]["tree"] = "catalog"
        return config

    monkeypatch.setattr(embedded_server, "_config", plain)
    with connect(tmp_path / "runs") as catalog:
        uid = put(catalog, scan(0))
        assert Index(catalog, [Crude()]).update().images == 1
        assert len(catalog.client) == 2  # it is there, and this test would see it
        assert list(catalog) == [uid] and len(catalog) == 1
        assert catalog[-1].start["uid"] == uid and catalog[uid].start["uid"] == uid
        assert [run.uid for run in catalog.runs()] == [uid]
        assert len(Index(catalog, [Crude()]).collection({"plan_name": "scan"})) == 1


CHILD = """
import sys
from scans import Crude
from curiosity_bluesky import connect
from curiosity_bluesky.similarity.index import index, update, workers as pool
update.COMMIT = 3
print("ready", flush=True)
pool.WORTH = 2
catalog, workers = connect(sys.argv[1]), int(sys.argv[2])
say = lambda n: print(n, flush=True)
index.Index(catalog, [Crude(0.05)]).update(workers=workers, progress=say)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_the_middle_it_goes_on_with_what_was_not_committed(tmp_path, workers):
    with connect(tmp_path / "runs") as catalog:
        for n in range(4):
            put(catalog, *(scan(10 * n + k) for k in range(5)))
        path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "runs"), str(workers)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "11":
                break
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)  # whoever is left of its processes would keep it open
        store = IndexStorage(catalog)
        committed = {row.source for batch in store.batches() for row in batch.rows}
        assert 6 <= len(committed) < 20
        crude = Crude()
        done = Index(catalog, [crude]).update()
        assert done.images == crude.asked == 20 - len(committed)
        found = Index(catalog, [crude]).collection()
        assert len(found) == 20 == len(sources(found))
        means = sorted(found.vectors["crude"][:, 0])
        expected = sorted(scan(10 * n + k).mean() for n in range(4) for k in range(5))
        np.testing.assert_allclose(means, expected, rtol=1e-6)


@pytest.mark.slow
def test_what_is_half_written_counts_for_nothing_and_is_removed_when_nobody_writes_it(
    tmp_path, monkeypatch
):
    with connect(tmp_path / "runs") as catalog:
        put(catalog, scan(0))
        Index(catalog, [Crude()]).update()
        store = IndexStorage(catalog)
        [whole] = store.batches()
        images, crude = store._folder("images-1"), store._folder("crude-1")
        # A process that died between making a node and writing what is in it.
        array = crude[next(iter(crude))]
        source = array.data_sources()[0]
        for folder, kind, node, key in (
            (crude, "array", array, "p-left"),
            (images, "table", images[whole.key], "p-half"),
        ):
            empty = type(source)(structure=node.structure(), structure_family=kind)
            left = {"time": 0.0, "sha256": "0", "arrays": {}}
            folder.new(kind, [empty], key=key, metadata=left)
        crude.write_array(np.zeros(3), key="p-young", metadata={"time": time.time()})
        again = Crude()
        assert len(Index(catalog, [again]).collection()) == 1
        assert Index(catalog, [again]).update().images == 0 == again.asked
        assert "p-half" not in list(images) and "p-left" not in list(crude)
        assert "p-young" in list(crude)  # somebody may be about to commit it
        assert len(Index(catalog, [again]).collection()) == 1


@pytest.mark.slow
def test_an_array_that_was_damaged_is_not_used_and_done_again(tmp_path, caplog):
    with connect(tmp_path / "runs") as catalog:
        uids = [put(catalog, scan(n)) for n in range(2)]
        for uid in uids:
            Index(catalog, [Crude()]).update([uid])
        before = Index(catalog, [Crude()]).collection()
        folder = IndexStorage(catalog)._folder("crude-1")
        arrays = list(folder.values())
        arrays[0].write(np.full((1, 4), 7, np.float32))
        one = Index(catalog, [Crude()])
        [entry] = one.collection().entries
        assert one.left_out == 1 and "1 images" in caplog.text and "damaged" in caplog.text
        arrays[1].write(np.full((1, 4), 7, np.float32))
        with pytest.raises(InputError, match="cannot be read; `curiosity index`"):
            Index(catalog, [Crude()]).collection()
        assert Index(catalog, [Crude()]).update().images == 2
        after = Index(catalog, [Crude()]).collection()
        assert after.entries == before.entries and entry in after.entries
        np.testing.assert_array_equal(after.vectors["crude"], before.vectors["crude"])
        assert not set(IndexStorage(catalog)._folder("crude-1")) & {a.item["id"] for a in arrays}


class Other(Crude):
    """Something else to compare by."""

    name = "other"


class Unable(Crude):
    """Fails with whatever it is given."""

    name = "unable"

    def __call__(self, image):
        raise ZeroDivisionError("a defect")


@pytest.mark.slow
def test_what_some_images_lack_is_said_and_hides_no_image_that_has_what_is_required(
    tmp_path, caplog
):
    with connect(tmp_path / "runs") as catalog:
        old = put(catalog, scan(0), scan(1))
        Index(catalog, [Crude()]).update()
        new = put(catalog, scan(2))
        crude = Crude()
        both = Index(catalog, [crude, Other()])
        both.update([new])
        assert {entry.uid for entry in both.collection().entries} == {new}
        assert both.left_out == 2 and "2 images" in caplog.text and "other-1" in caplog.text
        required = Index(catalog, [Crude(), Other()], require=["crude"])
        found = required.collection()
        assert [entry.uid for entry in found.entries] == [old, old, new]
        assert list(found.vectors) == ["crude"]
        assert required.left_out == 0 and required.lacking == {"other": 2}
        with pytest.raises(InputError, match="no descriptor 'texture'"):
            Index(catalog, [Crude()], require=["texture"])
        # With a kind that is new, what was stored stays bit for bit, and why not, too.
        unable = Index(catalog, [crude, Unable()])
        assert unable.update([old]).images == 2 and crude.asked == 1
        assert Index(catalog, [crude, Unable(), Other()]).update().images == 3
        assert crude.asked == 1
        reasons = {one["uid"]: one["reason"] for one in both.state()["refused"]}
        assert set(reasons) == {old, new}
        assert all(why.count("a defect") == 1 for why in reasons.values())
        found = required.collection()
        assert list(found.vectors) == ["crude", "other"] and required.lacking == {"other": 0}
        expected = [Crude()(Image_of(scan(n))) for n in range(3)]
        np.testing.assert_array_equal(found.vectors["crude"], expected)


@pytest.mark.slow
def test_two_that_index_at_once_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(update, "COMMIT", 2)
    monkeypatch.setattr(storage, "MANY", 3)
    with connect(tmp_path / "runs") as catalog:
        for n in range(3):
            put(catalog, scan(2 * n), scan(2 * n + 1))
        both = [Index(catalog, [Crude(0.02)]) for _ in range(2)]
        threads = [threading.Thread(target=one.update) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        last = Index(catalog, [Crude()])
        assert last.update().images == 0
        found = last.collection()
        assert len(found) == 6 == len(sources(found))


@pytest.mark.slow
def test_small_batches_are_merged_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MANY", 3)
    with connect(tmp_path / "runs") as catalog:
        uids = [put(catalog, scan(n)) for n in range(4)]
        found, count = Index(catalog, [Crude()]), []
        for uid in uids:
            found.update([uid])
            count.append(len(IndexStorage(catalog).batches()))
        assert count == [1, 2, 1, 2]
        fresh = Index(catalog, [Crude()])
        collection = fresh.collection()
        assert [entry.uid for entry in collection.entries] == uids
        np.testing.assert_allclose(
            collection.vectors["crude"][:, 0], [scan(n).mean() for n in range(4)], rtol=1e-6
        )
        assert all(entry.metadata["plan_name"] == "scan" for entry in collection.entries)
        store = IndexStorage(catalog)
        used = {batch.arrays["crude-1"][0] for batch in store.batches()}
        assert set(store._folder("crude-1")) == used  # what was merged is gone


@pytest.mark.slow
def test_an_index_of_another_version_is_said_and_both_live_side_by_side(tmp_path):
    with connect(tmp_path / "runs") as catalog:
        put(catalog, scan(0), scan(1))
        with pytest.raises(InputError, match="nothing in .* is indexed yet; `curiosity index`"):
            Index(catalog, [Crude()]).collection()
        Index(catalog, [Crude()]).update()
        new = Index(catalog, [CrudeOfTomorrow()])
        with pytest.raises(InputError, match="has crude-1, thumbnail-1.* but crude-2 is wanted"):
            new.collection()
        assert new.update().images == 2
        assert new.state()["other_versions"] == ["crude-1"]
        old = Crude()
        assert len(new.collection()) == 2
        assert Index(catalog, [old]).update().images == 0 == old.asked
        assert len(Index(catalog, [old]).collection()) == 2


def test_a_run_that_was_open_is_looked_at_again(tmp_path):
    with connect(tmp_path / "runs") as catalog:
        docs = list(documents_of([FileImage("a", scan(0))], {"sample": "s"}))
        writer = catalog.writer()
        for document in docs[:-1]:
            writer(*document)
        found = Index(catalog, [Crude()])
        found.update()
        assert found.collection().entries[0].metadata["exit_status"] == "open"
        writer(*docs[-1])
        assert found.update().images == 0
        assert found.collection().entries[0].metadata["exit_status"] == "success"


def test_a_selection_is_kept_once_and_read_back(tmp_path):
    with connect(tmp_path / "runs") as catalog:
        found = Index(catalog, [Crude()])
        assert found.selections() == []
        chosen = {"name": "stripes", "sources": [["u", "survey", "k", 0]], "seed": 3}
        key = found.save_selection(chosen)
        assert found.save_selection(dict(chosen)) == key
        assert Index(catalog, [Crude()]).selection(key) == chosen
        [line] = found.selections()
        assert line["id"] == key and line["name"] == "stripes" and line["time"] > 0
        with pytest.raises(InputError, match=f"no selection 'other' in .*; there is {key}"):
            found.selection("other")
        assert len(catalog) == 0


def test_a_run_is_indexed_as_it_closes(RE, tmp_path, instrument, monkeypatch):
    monkeypatch.setattr(
        "curiosity_bluesky.similarity.index.index.known", lambda: {"crude": Crude()}
    )
    with connect(tmp_path / "runs") as catalog:
        indexer = Indexer(catalog)
        RE.subscribe(catalog.writer())
        RE.subscribe(indexer)
        big = SyntheticSample((20, 18), seed=1, points=16)
        devices = simulated_instrument(big, speed=math.inf)
        uid, _ = collected_run(RE, devices, num_points=2, strategy="random", maps_every=0)
        assert indexer.flush(60)
        found = Index(catalog).collection()
        assert sources(found) == {(uid, "survey", "imager_amplitude", 0)}
        quick = found.entries[0]
        indexer.close()
        assert Index(catalog).update().images == 0
        # From documents as from Tiled.
        Index(catalog).update(rebuild=True)
        later = Index(catalog).collection().entries[0]
        assert later == quick


@pytest.mark.slow
@pytest.mark.parametrize("pages", [False, *slowly(True)])
def test_an_event_that_a_pause_repeated_is_the_same_image_from_documents_as_from_tiled(
    tmp_path, monkeypatch, pages
):
    monkeypatch.setattr(
        "curiosity_bluesky.similarity.index.index.known", lambda: {"crude": Crude()}
    )
    with connect(tmp_path / "runs") as catalog:
        indexer, writer = Indexer(catalog), catalog.writer()
        run = event_model.compose_run(metadata={"plan_name": "scan"})
        key = {"source": "", "dtype": "array", "dtype_numpy": "<f4", "shape": [24, 24]}
        stream = run.compose_descriptor(name="survey", data_keys={"imager_a": key})
        docs = [("start", run.start_doc), ("descriptor", stream.descriptor_doc)]
        for n, number in enumerate((1, 2, 2, 3)):
            data = {"imager_a": scan(n)}
            event = stream.compose_event(data=data, timestamps={"imager_a": 0}, seq_num=number)
            docs += [("event", event)]
        for name, doc in [*docs, ("stop", run.compose_stop())]:
            writer(name, doc)
            if pages and name == "event":
                if doc["seq_num"] == 2 and doc["data"]["imager_a"][0, 0] == scan(2)[0, 0]:
                    continue  # of pages nobody takes a repetition
                name, doc = "event_page", event_model.pack_event_page(doc)
            indexer(name, doc)
        assert indexer.flush(60)
        indexer.close()
        catalog.flush()
        quick = Index(catalog).collection()
        assert Index(catalog).update().images == 0
        Index(catalog).update(rebuild=True)
        later = Index(catalog).collection()
        assert [entry.event for entry in quick.entries] == [0, 1, 2]
        assert quick.entries == later.entries
        np.testing.assert_array_equal(quick.vectors["crude"], later.vectors["crude"])


@pytest.mark.slow
def test_what_the_callback_cannot_do_is_said_and_done_later(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(
        "curiosity_bluesky.similarity.index.index.known", lambda: {"crude": Crude()}
    )
    docs = list(documents_of([FileImage("a", scan(0)), FileImage("b", scan(1))], {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        away = connect("http://127.0.0.1:9/api/v1")
    # Where warnings are errors, none may reach the RunEngine.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        indexer = Indexer(away)
        indexer("event", {"descriptor": "of nobody"})
        for document in docs:
            indexer(*document)
        assert indexer.flush(60)
        indexer.close()
        assert re.search("not indexed yet .*`curiosity index` indexes it later", caplog.text)
        Indexer(away)("start", {})  # what is broken ends nothing either
        assert "kind 'start' cannot be used" in caplog.text
    with connect(tmp_path / "runs") as catalog:
        indexer, writer = Indexer(catalog), catalog.writer()
        for name, doc in docs:
            writer(name, doc)
            broken = {**doc, "data": {}} if name == "event" else doc
            indexer(name, broken)
        catalog.flush()
        assert indexer.flush(60)
        indexer.close()
        assert "kind 'event' cannot be used" in caplog.text
        assert Index(catalog).update().images == 2
        found = Index(catalog).collection()
        np.testing.assert_allclose(
            found.vectors["crude"][:, 0], [scan(0).mean(), scan(1).mean()], rtol=1e-6
        )


@pytest.mark.slow
def test_all_kinds_are_indexed_as_a_run_closes_and_added_to_an_index_that_has_one(
    tmp_path, monkeypatch
):
    with connect(tmp_path / "runs") as catalog:
        old = put(catalog, random_image("p4m", np.random.default_rng(0), 96))
        Index(catalog, ["texture"]).update()
        before = Index(catalog, ["texture"]).collection().vectors["texture"]
        indexer, writer = Indexer(catalog), catalog.writer()
        values = random_image("p6", np.random.default_rng(1), 96)
        for name, doc in documents_of([FileImage("a", values)], {}):
            writer(name, doc)
            indexer(name, doc)
        catalog.flush()
        assert indexer.flush(120)
        indexer.close()
        everything = Index(catalog)
        found = everything.collection()
        assert list(found.vectors) == list(names())
        assert [entry.labels["symmetry"] for entry in found.entries] == ["p6"]

        def again(self, image):
            raise AssertionError("it is there")

        monkeypatch.setattr(Texture, "__call__", again)
        assert everything.update().images == 1 and everything.state()["refused"] == []
        found = everything.collection()
        assert [entry.uid == old for entry in found.entries] == [True, False]
        np.testing.assert_array_equal(found.vectors["texture"][:1], before)


class Busy(Crude):
    """Does not come to an end, and says how many threads it may have."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go, self.threads = threading.Event(), threading.Event(), 0

    def __call__(self, image):
        self.began.set()
        self.go.wait(60)
        self.threads = torch.get_num_threads()
        return super().__call__(image)


@pytest.mark.slow
def test_what_does_not_keep_up_is_left_for_later_and_nobody_waits_for_it(
    tmp_path, monkeypatch, caplog
):
    busy, before = Busy(), torch.get_num_threads()
    monkeypatch.setattr("curiosity_bluesky.similarity.index.index.known", lambda: {"crude": busy})
    monkeypatch.setattr(indexing, "RUNS_WAITING", 1)
    monkeypatch.setattr(indexing, "BYTES", 4 * 24 * 24 * 4)
    torch.set_num_threads(2)
    try:
        with connect(tmp_path / "runs") as catalog:
            indexer, writer = Indexer(catalog), catalog.writer()
            # Four images are all that is kept, of all runs together.
            for n, images in enumerate((2, 2, 1)):
                channels = [FileImage(f"a{k}", scan(10 * n + k)) for k in range(images)]
                for name, doc in documents_of(channels, {}):
                    writer(name, doc)
                    indexer(name, doc)
                assert busy.began.wait(60)  # the first is in hand, and waits for nobody any more
            catalog.flush()
            assert "brings more than" in caplog.text
            indexer.close(0.1)
            assert "2 runs are not indexed yet" in caplog.text
            busy.go.set()
            assert indexer.flush(60)
            assert busy.threads == 1 and torch.get_num_threads() == 2
            assert Index(catalog).state()["images"] == 4
            assert Index(catalog).update().images == 1
    finally:
        torch.set_num_threads(before)


LAST = """
import sys
from scans import Crude, put, scan
from curiosity_bluesky import connect
from curiosity_bluesky.similarity.index import index, indexer
from curiosity_bluesky.similarity.archive import documents_of
from curiosity_bluesky.similarity.image_files import FileImage
index.known = lambda: {"crude": Crude(0.5)}
catalog = connect(sys.argv[1])
writer, indexer = catalog.writer(), indexer.Indexer(catalog)
for document in documents_of([FileImage("a", scan(0)), FileImage("b", scan(1))], {}):
    writer(*document)
    indexer(*document)
"""


@pytest.mark.slow
def test_the_last_run_of_a_process_is_indexed_before_it_ends(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, "-c", LAST, str(tmp_path / "runs")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    with connect(tmp_path / "runs") as catalog:
        assert len(Index(catalog, [Crude()]).collection()) == 2


@pytest.mark.slow
def test_other_processes_describe_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("curiosity_bluesky.similarity.index.workers.WORTH", 2)
    with connect(tmp_path / "runs") as catalog:
        for n in range(6):
            put(catalog, *(scan(10 * n + k) for k in range(4)))
        assert Index(catalog, ["texture"]).update(workers=2).images == 24
        several = Index(catalog, ["texture"]).collection()
        Index(catalog, ["texture"]).update(rebuild=True)
        alone = Index(catalog, ["texture"]).collection()
        assert alone.entries == several.entries
        np.testing.assert_allclose(alone.vectors["texture"], several.vectors["texture"], atol=1e-6)

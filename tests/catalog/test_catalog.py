"""Runs outlive the process, are found again, and no document is lost on the way."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import math
import re
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import bluesky.plans as bp
import httpx
import numpy as np
import pyarrow
import pytest
import xarray as xr
from bluesky import RunEngine
from bluesky.plan_stubs import null
from bluesky.preprocessors import run_wrapper
from ophyd.sim import SynAxis, SynSignalWithRegistry
from support import (
    QUICK,
    collected_run,
    comparable,
    events,
    normal,
    paused_run,
    slowly,
    whole_events,
)
from tiled.queries import Key

from curiosity_bluesky import CuriosityAgent, connect, curiosity_plan, read
from curiosity_bluesky.catalog.directory import running_server
from curiosity_bluesky.catalog.embedded_server import EmbeddedServer
from curiosity_bluesky.catalog.journal import RunJournal
from curiosity_bluesky.catalog.summaries import summary_of
from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.documents import Incomplete, read_stream
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.views.report import show_run
from sim_devices import Sample, SyntheticSample


@pytest.fixture
def catalog(tmp_path):
    with connect(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """A catalogue for all tests that look for runs of their own alone."""
    with connect(tmp_path_factory.mktemp("common") / "runs") as opened:
        yield opened


@pytest.fixture(scope="module")
def measured(common):
    """Uid and documents of a run of eight points on the film, which tests only read."""
    RE = RunEngine({})
    RE.subscribe(common.writer())
    film = SyntheticSample((16, 14), seed=1, points=16)
    instrument = simulated_instrument(film, speed=math.inf)
    return collected_run(RE, instrument, num_points=8, sample="film")


def python(code: str, *args: object) -> str:
    """Run code in a new process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_reads_back_number_for_number_with_its_axes(common, measured, film):
    ds = read(common[measured[0]])
    assert ds.sizes == {"point": 8, "bias": 16}
    np.testing.assert_array_equal(ds["bias"], film.axis)
    assert ds["bias"].attrs["units"] == "V"
    response = ds["spectrometer_response"]
    assert response.dims == ("point", "bias") and response.dtype == film.spectra["response"].dtype
    pixels = list(zip(ds["row"].values, ds["col"].values, strict=True))
    assert len(set(pixels)) == 8
    for pixel, spectrum in zip(pixels, response.values, strict=True):
        np.testing.assert_array_equal(spectrum, film.spectra["response"][pixel])
    np.testing.assert_allclose(ds["x"], film.x[ds["col"]])
    np.testing.assert_allclose(ds["stage_y"], film.y[ds["row"]])
    assert set(ds["reason"].values) <= {"seed", "curious", "random"}
    assert ds.attrs["sample"] == "film"


def test_streams_read_back_with_the_dimensions_that_were_declared(common, measured, film):
    run = common[measured[0]]
    survey = read_stream(run, "survey")
    assert survey["imager_amplitude"].dims == ("event", "y", "x")
    np.testing.assert_array_equal(survey["x"], film.x)
    np.testing.assert_array_equal(survey["imager_amplitude"][0], film.images["amplitude"])
    maps = read_stream(run, "maps")
    assert maps["error"].dims == ("event", "y", "x")
    assert np.isfinite(maps["error"].values).any()
    with pytest.raises(InputError, match="no stream 'nonsense'; it has"):
        read_stream(run, "nonsense")


def test_what_comes_back_is_what_was_emitted_document_for_document(common, measured):
    uid, emitted = measured
    back = list(common[uid].documents())
    for name in ("start", "stop"):
        [there] = [doc for n, doc in back if n == name]
        [here] = [doc for n, doc in emitted if n == name]
        assert normal(there) == normal(here)
    streams = {doc["uid"]: doc["name"] for name, doc in emitted if name == "descriptor"}

    def all_events(documents):
        return sorted(
            (streams[d["descriptor"]], d["seq_num"], normal(d["data"]))
            for n, d in documents
            if n == "event"
        )

    assert all_events(back) == all_events(emitted)


@pytest.mark.slow
def test_a_run_reads_at_every_moment_while_it_is_written(RE, catalog, instrument):
    RE.subscribe(catalog.writer())
    uids, points, refused = [], [], []

    def look(name, doc):
        if name == "start":
            uids.append(doc["uid"])
            catalog.flush()
        elif name == "descriptor" or (name == "event" and doc["seq_num"] % 3 == 0):
            [summary] = [summary_of(run, catalog.journal) for run in catalog.client.values()]
            assert summary.status == "open"
            try:  # past the flush of the catalogue: in the middle of what is written
                points.append(read(catalog.client[uids[0]]).sizes["point"])
            except InputError as error:
                refused.append(str(error))

    RE.subscribe(look)
    collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
    assert all("no measured point" in said or "nothing is measured yet" in said for said in refused)
    assert refused and points and points == sorted(points)
    assert read(catalog[uids[0]]).sizes["point"] == 7


def test_a_stream_without_an_event_says_so(RE, common, instrument):
    uid, emitted = collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
    [primary] = [d["uid"] for n, d in emitted if n == "descriptor" and d["name"] == "primary"]
    writer = common.writer()
    for name, doc in emitted[:-1]:
        if not (name == "event" and doc["descriptor"] == primary):
            writer(name, doc)
    for ask in (read, lambda run: read_stream(run, "primary")):
        with pytest.raises(InputError, match="nothing is measured yet in stream 'primary'"):
            ask(common[uid])
    [listed] = [run for run in common.runs() if run.uid == uid]
    assert (listed.points, listed.status) == (0, "open")


@pytest.mark.slow
def test_what_has_half_arrived_is_left_out(RE, catalog, instrument):
    RE.subscribe(catalog.writer())
    uid, _ = collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
    whole = read(catalog[uid])
    primary, decisions = (catalog[uid][name].base for name in ("primary", "decisions"))
    # As the writer leaves it between two requests: a spectrum without its row,
    spectra = primary["spectrometer_response"]
    spectra.patch(np.ones((1, 16), "f4"), offset=(7,), extend=True)
    assert read(catalog[uid]).equals(whole)
    # with its row, but before its prediction,
    row = primary["internal"].read()[-1:]
    row = row.assign(seq_num=8, decision_id=7, time=row["time"] + 1)
    primary["internal"].append_partition(0, pyarrow.Table.from_pandas(row, preserve_index=False))
    assert read(catalog[uid]).equals(whole)
    # and all of it, before its decision.
    primary["spectrometer_response_predicted"].patch(
        np.ones((1, 16), "f4"), offset=(7,), extend=True
    )
    assert read_stream(catalog[uid], "primary").sizes["event"] == 8
    assert read(catalog[uid]).equals(whole)
    row = decisions["internal"].read()[-1:].assign(seq_num=8, decision_id=7)
    decisions["internal"].append_partition(0, pyarrow.Table.from_pandas(row, preserve_index=False))
    assert read(catalog[uid]).sizes["point"] == 8


@pytest.mark.slow
def test_a_row_that_was_sent_twice_does_not_shift_the_others(RE, catalog, instrument):
    # Tiled's writer sends a row again when the answer to it got lost.
    uid, emitted = collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
    writer = catalog.writer()
    for name, doc in emitted:
        writer(name, doc)
        if name == "event" and "stage_x" in doc["data"] and doc["seq_num"] == 3:
            table = catalog[uid]["primary"].base["internal"]
            row = table.read()[-1:]
            table.append_partition(0, pyarrow.Table.from_pandas(row, preserve_index=False))
    ds = read(catalog[uid])
    points = events(emitted, "primary")
    assert list(ds["decision_id"].values) == [point["decision_id"] for point in points]
    for spectrum, point in zip(ds["spectrometer_response"].values, points, strict=True):
        np.testing.assert_array_equal(spectrum, point["spectrometer_response"])


@pytest.mark.slow
def test_who_is_behind_catches_up_with_one_request_a_stream(RE, common, film):
    uid, emitted = collected_run(RE, simulated_instrument(film, speed=math.inf), strategy="random")
    *most, (name, stop) = emitted
    last = next(doc for n, doc in reversed(most) if n == "event")
    writer = common.writer()
    # A pause has repeated the last event; nothing ends the run and with it all that waits.
    for document in [*most, ("event", last)]:
        writer(*document)
    writer.flush()
    assert [len(common[uid][stream]["time"]) for stream in ("decisions", "primary")] == [8, 8]
    log = (Path(common.where) / "access.log").read_text()
    rows = re.findall(rf"PATCH /\S*{uid}/primary/internal", log)
    assert 0 < len(rows) < 4
    writer(name, stop)
    writer.close()
    assert sorted(comparable(*d) for d in emitted) == sorted(
        comparable(*d) for d in common.documents(uid)
    )


@pytest.mark.slow
def test_a_point_that_a_pause_repeated_counts_once_for_reader_and_agent(RE, catalog, film):
    noisy = simulated_instrument(film, speed=math.inf, noise=0.1)
    RE.subscribe(catalog.writer())
    emitted = []
    plan = curiosity_plan(
        [noisy.spectrometer],
        noisy.stage.x,
        noisy.stage.y,
        noisy.imager,
        4,
        strategy="random",
        options={"parameters": QUICK},
    )
    expectations = itertools.count(1)
    # Between the second spectrum and its checkpoint.
    assert paused_run(
        RE,
        plan,
        lambda _, msg: getattr(msg.obj, "name", "") == "expectation" and next(expectations) == 2,
        lambda name, doc: emitted.append((name, doc)),
    )
    numbers = [event["seq_num"] for event in whole_events(emitted, "primary")]
    assert numbers == [1, 2, 2, 3, 4]
    points = [point["spectrometer_response"] for point in events(emitted, "primary")]
    assert not np.array_equal(points[1], points[2])  # measured again, with other noise
    ds = read(catalog[-1])
    assert list(ds["decision_id"].values) == [0, 1, 2, 3]
    del points[2]
    np.testing.assert_array_equal(ds["spectrometer_response"], points)
    explorer = CuriosityAgent.from_documents(catalog[-1].documents()).explorer
    np.testing.assert_array_equal([o.spectrum for o in explorer.observations], points)


@pytest.mark.slow
def test_rows_that_a_server_gives_in_another_order_are_read_in_theirs(RE, catalog, instrument):
    # As PostgreSQL may; here SQLite does after what it goes by is turned round.
    RE.subscribe(catalog.writer())
    uid, _ = collected_run(RE, instrument, num_points=8)
    expected = read(catalog[uid])
    with closing(sqlite3.connect(Path(catalog.where) / "tables.db")) as tables, tables:
        for (name,) in tables.execute("SELECT name FROM sqlite_master WHERE name LIKE 'table_%'"):
            tables.execute(f'UPDATE "{name}" SET rowid = -rowid')
    numbers = catalog[uid]["primary"].base["internal"].read()["seq_num"]
    assert list(numbers) == list(range(8, 0, -1))
    xr.testing.assert_identical(read(catalog[uid]), expected)


@pytest.mark.slow
def test_the_channels_of_a_survey_read_back_in_their_order(RE, catalog, film):
    image, cube = film.images["amplitude"], film.spectra["response"]
    sample = Sample(
        "two",
        {"topography": image, "amplitude": image[::-1] ** 2},
        {"response": cube, "phase": cube[::-1] ** 2},
        *(film.axis, film.x, film.y),
    )
    RE.subscribe(catalog.writer())
    instrument = simulated_instrument(sample, speed=math.inf)
    uid, _ = collected_run(RE, instrument, num_points=4, strategy="random", parameters=QUICK)
    explorer = CuriosityAgent.from_documents(catalog[uid].documents()).explorer
    assert list(explorer.survey.channels) == ["imager_topography", "imager_amplitude"]
    np.testing.assert_array_equal(explorer.survey.stack, list(sample.images.values()))
    ds = read(catalog[uid])
    both = np.concatenate([ds["spectrometer_response"], ds["spectrometer_phase"]], axis=1)
    np.testing.assert_array_equal([o.spectrum for o in explorer.observations], both)


@pytest.mark.slow
def test_what_a_run_lacks_is_said_when_it_is_read(RE, catalog, instrument):
    uid, emitted = collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
    writer = catalog.writer()
    for name, doc in emitted:
        writer(name, doc)
    whole = catalog[uid]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Incomplete)
        assert read(whole).sizes["point"] == 7
    # As it was when Tiled lost a batch: it counts what is no longer there.
    counts = {**whole.metadata["stop"]["num_events"], "primary": 9}
    whole.update_metadata({"stop": {**whole.metadata["stop"], "num_events": counts}})
    with pytest.warns(Incomplete, match="lacks 2 of 9 spectra: `curiosity recover`"):
        read(catalog[uid])
    assert "2 of 9 spectra" in dict(show_run(catalog, uid).rows())["missing"]
    table = catalog[uid]["decisions"].base["internal"]
    rows = table.read()[:4]
    catalog[uid]["decisions"].base.delete_contents("internal", recursive=True, external_only=False)
    again = catalog[uid]["decisions"].base.create_appendable_table(
        schema=pyarrow.Table.from_pandas(rows, preserve_index=False).schema, key="internal"
    )
    again.append_partition(0, pyarrow.Table.from_pandas(rows, preserve_index=False))
    with pytest.warns(Incomplete, match="the decisions of 3 spectra, which are left out"):
        assert read(catalog[uid]).sizes["point"] == 4


@pytest.mark.slow
def test_motors_called_x_and_y_are_not_taken_for_the_position_of_the_pixel(RE, catalog, instrument):
    RE.subscribe(catalog.writer())
    # Motors that stop a little short of where they are sent.
    x, y = (SynAxis(name=name, readback_func=lambda position: position - 1e-3) for name in "xy")
    detectors = [instrument.spectrometer]
    RE(
        curiosity_plan(
            detectors, x, y, instrument.imager, 4, strategy="random", options={"parameters": QUICK}
        )
    )
    ds = read(catalog[-1])
    film = instrument.sample
    np.testing.assert_array_equal(ds["x"], film.x[ds["col"]])
    np.testing.assert_array_equal(ds["y"], film.y[ds["row"]])
    np.testing.assert_allclose(ds["x_readback"], ds["x"] - 1e-3)
    assert {"x", "y"} <= set(ds.coords) and {"x_readback", "y_readback"} <= set(ds.data_vars)


@pytest.mark.slow
def test_a_writer_alone_keeps_its_catalogue_alive(RE, instrument, tmp_path):
    RE.subscribe(connect(tmp_path / "runs").writer())
    gc.collect()
    collected_run(RE, instrument, num_points=7, strategy="random", parameters=QUICK)
    with connect(tmp_path / "runs") as catalog:  # joins the one that is still there
        deadline = time.monotonic() + 60
        while catalog.runs()[0].status == "open" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert read(catalog[-1]).sizes["point"] == 7


FIND = """
import json
from curiosity_bluesky import connect, read
with connect(where, create=False) as catalog:
    [run] = catalog.runs(sample="PTO", strategy="random", plan_name="curiosity_plan")
    nothing = catalog.runs(sample="other") + catalog.runs(since="2999-01-01")
    points = read(catalog[-1]).sizes["point"]
    found = json.dumps([run.uid, run.points, run.status, len(nothing), points])
"""


@pytest.mark.parametrize("where", ["here", *slowly("in a new process")])
def test_a_catalogue_that_was_closed_is_opened_again_and_has_the_run(
    RE, tmp_path, instrument, where
):
    with connect(tmp_path / "runs") as catalog:
        RE.subscribe(catalog.writer())
        uid, _ = collected_run(RE, instrument, num_points=3, sample="PTO", strategy="random")
    names = {"where": str(tmp_path / "runs")}
    if where == "here":
        exec(FIND, names)
    else:
        code = f"import sys; where = sys.argv[1]\n{FIND}\nprint(found)"
        names["found"] = python(code, names["where"])
    assert json.loads(names["found"]) == [uid, 3, "success", 0, 3]


@pytest.mark.slow
def test_a_process_that_ends_at_once_and_closes_nothing_loses_nothing(film_file, tmp_path):
    """As a script does that forgets to close, and IPython on ``exit``."""
    code = """
import sys
import threading
from bluesky import RunEngine
from curiosity_bluesky import connect, curiosity_plan
from curiosity_bluesky.demo import simulated_instrument
from sim_devices import open_sample
film = simulated_instrument(open_sample(sys.argv[1]), speed=float("inf"))
catalog = connect(sys.argv[2])
RE = RunEngine({})
RE.subscribe(catalog.writer())
few = {"patch_size": 3, "n_seeds": 30}
devices = [film.spectrometer], film.stage.x, film.stage.y, film.imager
print(*RE(curiosity_plan(*devices, 30, strategy="random", options={"parameters": few})))
"""
    uid = python(code, film_file, tmp_path / "runs").split()[-1]
    with connect(tmp_path / "runs", create=False) as catalog:
        [run] = catalog.runs()
        assert (run.uid, run.points, run.status) == (uid, 30, "success")
        assert read(catalog[uid]).sizes["point"] == 30
    assert not list((tmp_path / "runs" / "journal").iterdir())


@pytest.mark.slow
def test_a_second_process_joins_the_directory_that_another_has_open(common, measured):
    code = """
import sys
from curiosity_bluesky import connect
with connect(sys.argv[1]) as catalog:
    print(len(catalog), catalog[sys.argv[2]].start["plan_name"])
"""
    there = len(common)
    assert python(code, common.where, measured[0]).split() == [str(there), "curiosity_plan"]
    assert len(common) == there  # and is still there for the first


def test_whoever_was_slower_joins_the_server_of_whoever_was_quicker(tmp_path, monkeypatch):
    others = []

    def look(directory):
        found = running_server(directory)
        if not others:  # another process takes the directory just after this one looked
            # What a killed server left behind must lead nobody astray.
            (directory / "server.json").write_text('{"uri": "http://127.0.0.1:9", "api_key": "k"}')
            others.append(EmbeddedServer(directory))
        return found

    monkeypatch.setattr("curiosity_bluesky.catalog.connection.running_server", look)
    with connect(tmp_path / "runs") as catalog:
        assert len(catalog) == 0
    with pytest.raises(InputError, match="is served by another process already; join it"):
        EmbeddedServer(tmp_path / "runs")
    others[0].close()


@pytest.mark.slow
def test_a_process_serves_two_catalogues_and_each_keeps_its_key(RE, catalog, tmp_path):
    token = RE.subscribe(catalog.writer())
    with connect(tmp_path / "others") as second:
        RE(bp.count([SynAxis(name="first")]))  # the client that it has, and a new one
        RE.unsubscribe(token)
        RE.subscribe(second.writer())
        RE(bp.count([SynAxis(name="second")]))
        catalog.flush()
        second.flush()
        for where, name in ((tmp_path / "runs", "first"), (tmp_path / "others", "second")):
            with connect(where, create=False) as again:
                assert len(again) == 1 and list(again[-1].start["detectors"]) == [name]
        own = running_server(tmp_path / "runs"), running_server(tmp_path / "others")
        assert own[0] and own[1] and own[0][1] != own[1][1]
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            answer = httpx.get(f"{own[0][0]}/search/", params={"api_key": own[1][1]})
            answer.raise_for_status()
    assert not list(catalog.journal.iterdir())


def test_runs_are_searched_with_tiled_queries(RE, common, instrument):
    RE.subscribe(common.writer())
    RE(bp.count([instrument.spectrometer], md={"sample": "A"}))
    RE(bp.count([instrument.spectrometer], md={"sample": "B"}))
    assert len(common.search(Key("sample") == "A")) == 1
    assert [run.sample for run in common.runs(plan_name="count")] == ["A", "B"]
    assert [run.sample for run in common.runs(sample="B")] == ["B"]
    with pytest.raises(InputError, match="expected a time such as"):
        common.runs(since="yesterday-ish")


@pytest.mark.slow
def test_the_last_runs_are_those_started_last_wherever_they_are(RE, catalog, instrument):
    emitted = []
    for sample in "ABAB":
        RE(bp.count([instrument.spectrometer], md={"sample": sample}), lambda *d: emitted.append(d))
    starts = [k for k, (name, _) in enumerate(emitted) if name == "start"]
    runs = [emitted[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    uids = [run[0][1]["uid"] for run in runs]
    writer = catalog.writer()
    for run in (runs[2], runs[0], runs[3]):  # written in another order than they began in
        for name, doc in run:
            writer(name, doc)
    catalog.flush()
    journal = RunJournal(catalog.journal, uids[1])  # Tiled has not heard of this one
    for name, doc in runs[1][:-1]:
        journal.append(name, doc)

    def listed(**asked):
        return [run.uid for run in catalog.runs(**asked)]

    assert listed() == listed(last=9) == uids
    for n in (1, 2, 3):
        assert listed(last=n) == uids[-n:]
    assert listed(sample="A", last=1) == uids[2:3] and listed(sample="B", last=2) == uids[1::2]
    assert (catalog.count(), catalog.count(sample="B"), catalog.count(sample="C")) == (4, 2, 0)
    assert catalog.count(since="2999-01-01") == 0 == len(listed(since="2999-01-01", last=5))
    journal.close()
    with pytest.raises(InputError, match="the last 0 runs"):
        catalog.runs(last=0)


def test_the_journal_is_gone_once_tiled_has_the_run(RE, common):
    journal, there = common.journal, []
    RE.subscribe(common.writer())
    RE.subscribe(lambda _, doc: there.append((journal / f"{doc['uid']}.jsonl").exists()), "start")
    [uid] = RE(run_wrapper(null()))
    common.flush()
    assert there == [True] and not (journal / f"{uid}.jsonl").exists()


def run_with_files(RE: RunEngine, tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Documents of a run whose detector writes files and emits references."""
    camera = SynSignalWithRegistry(
        func=lambda: np.ones((3, 3)), name="camera", save_path=str(tmp_path)
    )
    emitted: list[tuple[str, dict[str, Any]]] = []
    RE(bp.count([camera], 2), lambda name, doc: emitted.append((name, doc)))
    assert {"resource", "datum"} <= {name for name, _ in emitted}
    return emitted


@pytest.mark.parametrize("at_once", [True, False], ids=["two runs at once", "one by one"])
def test_documents_about_files_are_journalled_with_their_run(RE, tmp_path, monkeypatch, at_once):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    runs = [run_with_files(RE, tmp_path) for _ in range(2)]
    if at_once:
        order = [document for pair in zip(*runs, strict=True) for document in pair]
    else:  # then a resource need not say whose it is
        for emitted in runs:
            next(doc for name, doc in emitted if name == "resource").pop("run_start")
        order = [document for emitted in runs for document in emitted]
    with pytest.warns(UserWarning, match="waits in"):  # nobody is there: every journal stays
        catalog = connect("http://127.0.0.1:9/api/v1")
    with catalog:
        writer = catalog.writer()
        for document in order:
            writer(*document)
    journals = {path.stem: path for path in catalog.journal.glob("*.jsonl")}
    assert set(journals) == {emitted[0][1]["uid"] for emitted in runs}
    for emitted in runs:
        lines = map(json.loads, journals[emitted[0][1]["uid"]].read_text().splitlines())
        expected = [(name, normal(doc)) for name, doc in emitted]
        assert [(line["name"], normal(line["doc"])) for line in lines] == expected
    assert not writer._run_of._parents  # a long session does not gather what ended


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        connect(tmp_path / "file" / "runs")
    with pytest.raises(InputError, match="no catalogue at"):
        connect(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="is it running"):
        connect("http://127.0.0.1:9/api/v1", create=False)


def test_a_missing_run_is_said_in_one_line(common):
    there = len(common)
    with pytest.raises(InputError, match=f"no run 'abcdef' in .*, which holds {there} runs"):
        common["abcdef"]
    with pytest.raises(InputError, match=f"no run {-there - 1}"):
        common[-there - 1]


def test_a_run_without_spectra_says_so_when_it_is_read(RE, common):
    RE.subscribe(common.writer())
    uids = []
    RE(run_wrapper(null()), {"start": [lambda name, doc: uids.append(doc["uid"])]})
    with pytest.raises(InputError, match="holds no measured point"):
        read(common[uids[0]])


def test_a_catalogue_is_there_whole_or_not_at_all(tmp_path):
    def look():
        while not done.wait(0.002):
            if database.exists():
                with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
                    # What Tiled writes last when it makes one.
                    found = opened.execute("SELECT name FROM sqlite_master").fetchall()
                    seen.append(("alembic_version",) in found)

    database, seen, done = tmp_path / "runs" / "catalog.db", [], threading.Event()
    database.parent.mkdir()
    left = database.with_name("catalog.db.new-0")
    left.write_bytes(b"half of one, by a process that was killed")
    watching = threading.Thread(target=look)
    watching.start()
    with connect(database.parent) as catalog:
        assert len(catalog) == 0
        done.set()
        watching.join()
    assert seen and all(seen)
    assert not left.exists()


def test_an_answer_of_500_says_that_its_connection_is_closed():
    """Else a client asks there again and hears of no error but a reset."""
    from curiosity_bluesky.catalog.embedded_server import _said_to_close

    async def fails(scope, receive, send):
        await send({"type": "http.response.start", "status": scope["status"], "headers": []})
        await send({"type": "http.response.body", "body": b""})
        if scope["status"] == 500:
            raise ZeroDivisionError  # as Starlette does once it has answered

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(_said_to_close(fails)({"type": "http", "status": 200}, None, send))
    assert sent[0]["headers"] == []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_said_to_close(fails)({"type": "http", "status": 500}, None, send))
    assert (b"connection", b"close") in sent[2]["headers"]


def test_what_the_server_s_database_says_goes_to_the_server_s_log(tmp_path, capfd):
    """On a full disk each connection that is put back says so in twenty lines."""
    with connect(tmp_path / "runs"):
        logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool").error("during reset")
    assert "during reset" in (tmp_path / "runs" / "server.log").read_text()
    assert capfd.readouterr().err == ""

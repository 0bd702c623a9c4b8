"""What people do with a shared catalogue: keys, commands, backups, several servers."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import numpy as np
import pandas as pd
import pytest
from async_support import with_async
from bluesky import RunEngine
from bluesky_tiled_plugins import subscribe_to_streams
from sharing import (
    as_user,
    made_run,
    measured_run,
    once,
    open_directory,
    put,
    resumed_by,
    same,
    spectrum,
)
from support import collected_run, comparable, events, slowly, until, whole_events
from tiled.client import from_uri
from tiled.mimetypes import TILED_SQL_TABLE_MIMETYPE
from tiled.storage import parse_storage, register_storage, unregister_storage
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource, Management
from tiled.structures.table import TableStructure

from curiosity_bluesky import connect, read
from curiosity_bluesky.catalog.journal import journals
from curiosity_bluesky.catalog.run_uploader import RunUploader
from curiosity_bluesky.catalog.shared.cluster import DATABASES, Cluster, free_port
from curiosity_bluesky.catalog.shared.server import (
    TiledServer,
    configuration,
    make_key,
    prepare,
)
from curiosity_bluesky.catalog.shared.tables import Tables, check_connections
from curiosity_bluesky.cli import main
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.index import Index

pytestmark = pytest.mark.timeout(900)  # on a machine that is busy with other things


def curiosity(*arguments):
    """Run the command in this process, as its entry point does."""
    saved, sys.argv = sys.argv, ["curiosity", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, f"exit code {end.code}"
    finally:
        sys.argv = saved


def test_nobody_reads_without_a_key(shared):
    for path in ("metadata/", "search/", "auth/principal"):
        assert httpx.get(f"{shared.uri}/{path}").status_code == 401


def test_a_key_that_only_reads_writes_nothing_and_its_run_waits(shared, tmp_path):
    home = tmp_path / "instrument"
    documents = list(made_run(90, 0, 2))
    with as_user(shared, shared.read_key, home) as catalog:
        before = len(catalog)
        writer = catalog.writer(retry=(0.1, 0.2))
        for document in documents:
            writer(*document)
        until(lambda: writer.offline)
        assert "401" in writer.offline and "create:node" in writer.offline
        assert len(catalog) == before
        [path] = journals(catalog.journal)
    with as_user(shared, shared.write_key, home) as catalog:
        [taken] = catalog.recover()
        assert (taken.uid, taken.status) == (path.stem, "written")
        assert same(documents, catalog.documents(taken.uid))
        assert journals(catalog.journal) == []


def test_a_key_can_end_by_itself_and_be_taken_back(shared, tmp_path):
    password = shared.environment["CURIOSITY_ADMIN_PASSWORD"]
    brief = make_key(shared.uri, password, write=False, note="a guest", expires_in=1)

    def refused() -> bool:
        try:
            with as_user(shared, brief, tmp_path / "guest", create=False):
                return False
        except InputError as error:
            return "TILED_API_KEY" in str(error)

    until(refused)
    with pytest.raises(InputError, match="CURIOSITY_ADMIN_PASSWORD"):
        make_key(shared.uri, "guessed", write=True, note="nobody")


@pytest.mark.slow
def test_a_key_that_writes_may_write_anew_what_went_in_by_halves(shared, tmp_path):
    documents = list(made_run(91, 0, 3))
    with as_user(shared, shared.write_key, tmp_path / "instrument") as catalog:
        feed = RunUploader(catalog.client, 1)
        for name, doc in documents[:-3]:
            feed(name, doc)
        uid, _ = put(catalog, documents)
        assert journals(catalog.journal) == []
        assert same(documents, catalog.documents(uid)) and once(documents, catalog)


def test_a_key_cannot_make_one_that_may_more(shared):
    headers = {"Authorization": f"Apikey {shared.read_key}"}
    for scopes, allowed in ((["read:data"], True), (["write:data"], False)):
        asked = {"scopes": scopes, "expires_in": 60}
        answer = httpx.post(f"{shared.uri}/auth/apikey", json=asked, headers=headers)
        assert answer.is_success == allowed, answer.text


def test_the_command_for_keys_prints_one(shared):
    env = {**os.environ, **shared.environment}
    command = [sys.executable, "-m", "curiosity_bluesky.catalog.shared", "key", shared.uri]
    options = ["--note", "AFM 3", "--expires", "2d"]
    made = subprocess.run([*command, *options], env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    about = httpx.get(f"{shared.uri}/auth/apikey", headers={"Authorization": f"Apikey {key}"})
    assert about.json()["note"] == "AFM 3"
    assert set(about.json()["scopes"]) == {"read:metadata", "read:data"}
    wrong = subprocess.run(
        [*command, "--note", "x", "--expires", "soon"], env=env, text=True, capture_output=True
    )
    assert wrong.returncode == 2 and "expected such as 12h" in wrong.stderr


def test_the_server_answers_to_its_own_names_alone(shared):
    for path in ("", "metadata/", "nothing"):
        for name, refused in (("evil.example", True), ("localhost", False), ("127.0.0.1:1", False)):
            answer = httpx.get(f"{shared.uri}/{path}", headers={"Host": name})
            assert (answer.status_code == 403) == refused


@pytest.mark.slow
def test_the_server_does_not_start_without_its_variables(shared):
    env = {**os.environ, **shared.environment, "CURIOSITY_SECRET_KEY": ""}
    command = [sys.executable, "-m", "tiled", "serve", "config", str(configuration())]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode and "CURIOSITY_SECRET_KEY must be set" in done.stderr


def interrupted(shared, home, seed):
    """Write a run as far as its third spectrum; return its uid and what all of it would be."""
    whole = []
    measured_run(lambda *document: whole.append(document), seed)
    third = whole.index(("event", whole_events(whole, "primary")[2]))
    with as_user(shared, shared.write_key, home) as catalog:
        uid, _ = put(catalog, whole[: third + 1])
    return uid, whole


@pytest.mark.slow
def test_the_commands_work_as_with_a_directory(shared, tmp_path, capsys):
    uid, _ = interrupted(shared, tmp_path / "home", 70)
    where = ("--catalog", shared.uri, "--json")
    curiosity("recover", *where)
    [recovered] = json.loads(capsys.readouterr().out)
    assert recovered["uid"] == uid and recovered["interrupted"]
    curiosity("runs", "--sample", "film-70", *where)
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["uid"], listed["status"], listed["points"]) == (uid, "interrupted", 3)
    curiosity("show", uid[:8], *where)
    assert len(json.loads(capsys.readouterr().out)["points"]) == 3


@pytest.mark.slow
def test_two_go_on_with_one_run_at_once(shared, tmp_path):
    uid, whole = interrupted(shared, tmp_path / "home", 71)
    with as_user(shared, shared.write_key, tmp_path / "home") as catalog:
        assert [taken.uid for taken in catalog.recover()] == [uid]
    results = resumed_by(shared, tmp_path, uid, 71, 2)
    assert len({result["uid"] for result in results}) == len(results) >= 1
    assert {result["status"] for result in results} == {"success"}
    spectra = [point["spectrometer_response"] for point in events(whole, "primary")]
    for resumed in results:
        np.testing.assert_array_equal(resumed["spectra"], spectra)
        assert resumed["pixels"] == results[0]["pixels"]


@pytest.mark.slow
def test_images_are_indexed_and_found_and_the_index_is_no_run(shared, tmp_path, capsys):
    with as_user(shared, shared.write_key, tmp_path / "home") as catalog:
        uids = [put(catalog, made_run(80, number, 1))[0] for number in range(2)]
        index = Index(catalog, ["texture"])
        index.update(uids)
        entries = [e for e in index.collection().entries if e.uid in uids]
        assert {entry.uid for entry in entries} == set(uids)
    with as_user(shared, shared.read_key, tmp_path / "reader", create=False) as catalog:
        assert {run.plan_name for run in catalog.runs()} <= {"made", "curiosity_plan"}
    curiosity("similar", uids[0], "--catalog", shared.uri, "--json")
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert uids[1] in {hit["uid"] for hit in hits}


def test_a_run_with_an_infinite_number_keeps_nobody_from_listing_the_others(shared, tmp_path):
    documents = list(made_run(65, 0, 1))
    odd = {"limit": math.inf, "small": 5e-324, "large": 2**50}
    documents[0][1].update(sample="endless", **odd)
    with as_user(shared, shared.write_key, tmp_path / "home") as catalog:
        uid, _ = put(catalog, documents)
        assert journals(catalog.journal) == []
        [run] = catalog.runs(sample="endless")
        start = catalog[uid].start
    assert run.uid == uid
    assert isinstance(start["limit"], float) and start["limit"] > 1e308
    assert start["small"] == 5e-324 and isinstance(start["large"], int)


@pytest.mark.slow
def test_files_of_detectors_are_registered_and_read(shared, instrument, tmp_path):
    RE = RunEngine({})
    with as_user(shared, shared.write_key, tmp_path / "home") as catalog:
        with_async(RE, instrument, "imager", files=shared.directory / "assets")
        RE.subscribe(catalog.writer())
        uid, _ = collected_run(RE, instrument, num_points=7)
        catalog.flush()
        assert journals(catalog.journal) == []
        run = catalog[uid]
        [key] = [k for k in run["survey"] if k.startswith("imager_")][:1]
        assert np.isfinite(run["survey"][key].read()).all()
        assert read(run).sizes["point"] == 7


def test_what_two_write_at_once_is_not_mixed(shared, tmp_path):
    with (
        as_user(shared, shared.write_key, tmp_path / "one") as one,
        as_user(shared, shared.write_key, tmp_path / "two") as two,
    ):
        runs = [list(made_run(70, number, 2)) for number in range(2)]
        writers = [catalog.writer() for catalog in (one, two)]
        for documents in zip(*runs, strict=True):
            for writer, document in zip(writers, documents, strict=True):
                writer(*document)
        for catalog in (one, two):
            catalog.flush()
        for emitted, reader in zip(runs, (two, one), strict=True):  # each reads the other's
            stored = reader.documents(emitted[0][1]["uid"])
            assert sorted(comparable(*d) for d in stored) == sorted(comparable(*d) for d in emitted)


def test_who_subscribes_hears_of_a_run_while_it_is_written(shared, tmp_path):
    heard = threading.Event()
    reader = from_uri(shared.uri, api_key=shared.read_key)
    with (
        subscribe_to_streams(reader, lambda update: heard.set(), streams={"primary": None}),
        as_user(shared, shared.write_key, tmp_path / "instrument") as instrument,
    ):
        put(instrument, list(made_run(60, 0, 2))[:-1])
        assert heard.wait(20)


@pytest.mark.slow
def test_two_servers_share_one_catalogue_through_redis(shared, tmp_path):
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("Redis is not installed (apt-get install redis-server)")
    port = free_port()
    command = [
        found,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    servers = []
    try:
        environment = {**shared.environment, "CURIOSITY_STREAMING": f"redis://127.0.0.1:{port}"}
        servers = [TiledServer(environment, tmp_path / f"tiled{n}.log") for n in range(2)]
        clients = [
            from_uri(server.uri, api_key=key)
            for server, key in zip(servers, (shared.write_key, shared.read_key), strict=True)
        ]
        heard = threading.Event()
        documents = list(made_run(61, 0, 2))
        with subscribe_to_streams(clients[1], lambda _: heard.set(), streams={"primary": None}):
            feed = RunUploader(clients[0], 1)
            for name, doc in documents:
                feed(name, doc)
            assert heard.wait(20)
        run = clients[1][documents[0][1]["uid"]]
        values = read(run)["spm_response"].values
        np.testing.assert_array_equal(values, [spectrum(61, 0, n) for n in range(2)])
    finally:
        for server in servers:
            server.close()
        redis.terminate()
        redis.wait(20)


@pytest.mark.slow
def test_what_was_backed_up_is_read_from_another_postgresql(shared, tmp_path, monkeypatch):
    with as_user(shared, shared.write_key, tmp_path / "home") as catalog:
        uid, documents = put(catalog, made_run(50, 0, 3))
    files = shared.directory / "files"
    with open_directory() as backup:
        # What the databases name is in the files that are copied after them.
        for name in DATABASES:
            shared.cluster.dump(name, backup / f"{name}.sql")
        shutil.copytree(files, backup / "files")
        shutil.rmtree(files / uid)
        with Cluster(backup / "postgres") as cluster:
            for name in DATABASES:
                cluster.restore(name, backup / f"{name}.sql")
            environment = {**shared.environment, **cluster.environment}
            server = TiledServer(environment, backup / "tiled.log")
            try:
                # Keys are in the backup, too.
                reader = from_uri(server.uri, api_key=shared.read_key)
                with pytest.raises(Exception, match="50[0-9]|40[0-9]"):
                    reader[uid]["survey/image_height"].read()
                shutil.copytree(backup / "files" / uid, files / uid, dirs_exist_ok=True)
                monkeypatch.setenv("TILED_API_KEY", shared.read_key)
                with connect(server.uri, create=False) as catalog:
                    assert same(documents, catalog.documents(uid)) and once(documents, catalog)
            finally:
                server.close()


@pytest.mark.slow
def test_what_is_prepared_twice_is_prepared(shared):
    prepare(shared.environment)
    with pytest.raises(InputError, match="tiled catalog init"):
        prepare({**shared.environment, "PGPASSWORD": "wrong"})


@pytest.fixture
def tables(shared, monkeypatch):
    """Yield Tiled's storage for tables of this PostgreSQL, as its server has it."""
    for name, value in shared.environment.items():
        monkeypatch.setenv(name, value)
    storage = parse_storage(f"postgresql://127.0.0.1:{shared.cluster.port}/tiled_tables")
    register_storage(storage)
    yield storage
    storage.dispose()
    unregister_storage(storage)


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, *slowly(6)])
def test_rows_come_back_in_the_order_they_were_written_whoever_else_writes(shared, tables, times):
    frame = pd.DataFrame({"seq_num": [1], **{f"value{k}": [0.0] for k in range(10)}})
    structure = TableStructure.from_pandas(frame)
    mixed = []

    def write():
        for _ in range(times):
            source = DataSource(
                structure_family=StructureFamily.table,
                structure=structure,
                mimetype=TILED_SQL_TABLE_MIMETYPE,
                management=Management.writable,
            )
            made = Tables.init_storage(tables, source)
            uri, parameters = made.assets[0].data_uri, made.parameters
            table = Tables(uri, structure, parameters["table_name"], parameters["dataset_id"])
            for number in range(1, 41):
                table.append_partition(0, frame.assign(seq_num=number))
            numbers = list(table.read(["seq_num"])["seq_num"])
            if numbers != list(range(1, 41)):
                mixed.append(numbers)
            # as when a run is written anew: its pages are filled by others
            delete = f'DELETE FROM "{table.table_name}" WHERE _dataset_id = {table.dataset_id}'
            shared.cluster.sql(delete, "tiled_tables")
            shared.cluster.sql(f'VACUUM "{table.table_name}"', "tiled_tables")
            written.add(table.table_name)

    written = set()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write) for _ in range(4)]:
            done.result()
    assert mixed == []
    [name] = written
    indices = shared.cluster.sql(
        f"SELECT indexdef FROM pg_indexes WHERE tablename = '{name}'", "tiled_tables"
    )
    assert "(_dataset_id, _order)" in indices


@pytest.mark.slow
def test_no_request_has_a_connection_that_postgresql_has_forgotten(shared, tables):
    check_connections(tables)
    for _ in range(2):
        with closing(tables.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        shared.cluster.restart(crash=True)

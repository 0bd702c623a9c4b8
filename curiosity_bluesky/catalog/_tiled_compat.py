"""Private, undocumented and pinned parts of Tiled and of what it stands on: all of them here.

Each name is in `UPSTREAM` with what it is needed for; tests/catalog/test_tiled_compat.py has a
test for each, which fails with the name when it moves. docs/upstream.md has the issue behind it.

Importing this module imports nothing of Tiled: functions import what they need, and the names in
`_CLASSES` are imported from where they are when they are first used.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import dataclasses
import functools
import importlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer as RunNormalizer
    from tiled.adapters.sql import SQLAdapter as SQLAdapter
    from tiled.authn_database.orm import Role as Role
    from tiled.catalog.adapter import CatalogContainerAdapter as CatalogContainerAdapter
    from tiled.catalog.adapter import from_uri as from_uri
    from tiled.catalog.orm import Node as Node
    from tiled.config import StreamingCacheConfig as StreamingCacheConfig
    from tiled.mimetypes import TILED_SQL_TABLE_MIMETYPE as TILED_SQL_TABLE_MIMETYPE
    from tiled.profiles import list_profiles as list_profiles
    from tiled.profiles import load_profiles as load_profiles
    from tiled.storage import RemoteSQLStorage as RemoteSQLStorage
    from tiled.storage import SQLStorage as SQLStorage

_CLASSES = {
    "CatalogContainerAdapter": "tiled.catalog.adapter",
    "Node": "tiled.catalog.orm",
    "RemoteSQLStorage": "tiled.storage",
    "Role": "tiled.authn_database.orm",
    "RunNormalizer": "bluesky_tiled_plugins.writing.tiled_writer",
    "SQLAdapter": "tiled.adapters.sql",
    "SQLStorage": "tiled.storage",
    "StreamingCacheConfig": "tiled.config",
    "TILED_SQL_TABLE_MIMETYPE": "tiled.mimetypes",
    "from_uri": "tiled.catalog.adapter",
    "list_profiles": "tiled.profiles",
    "load_profiles": "tiled.profiles",
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_CLASSES[name]), name)


@dataclass(frozen=True)
class Upstream:
    """A name of another package that may move without notice.

    Parameters
    ----------
    name
        ``module:attribute``, or ``module:class.attribute``.
    why
        What it is needed for.
    within
        What its source must hold: an attribute of its instances.
    value
        What it must be equal to, for a constant.
    """

    name: str
    why: str
    within: str = ""
    value: Any = None

    def __str__(self) -> str:
        return f"{self.name} {self.within}".strip()


_TABLES = "one request at a time uses the tables"
_RELOCATION = "paths of a catalogue that was copied or moved"
_MAKING = "a catalogue's database is made whole or not at all"
_RUNS = "runs are listed without the index beside them"
_FILES = "runs are listed from the files of a catalogue that no server has"
_ROWS = "rows of PostgreSQL's tables have an order"
_FOLLOWING = "clients of a directory go on with its next server"

UPSTREAM: tuple[Upstream, ...] = (
    Upstream("tiled.storage:SQLStorage._connection_pool", _TABLES),
    Upstream("tiled.storage:SQLStorage._adbc_connection", _TABLES),
    Upstream("tiled.storage:get_storage", _TABLES),
    Upstream("tiled.utils:ensure_uri", _TABLES),
    Upstream(
        "tiled.server.settings:get_settings", "settings of each of two servers in one process"
    ),
    Upstream(
        "tiled.server.app:build_app",
        "settings of each server",
        "dependency_overrides[get_settings]",
    ),
    Upstream("tiled.server.app:build_app_from_config", "serving with a check of the host"),
    Upstream(
        "fastapi.dependencies.utils:solve_dependencies",
        "dependencies of a route are inspected once",
        "get_dependant(",
    ),
    Upstream("tiled.config:parse_configs", "serving with a check of the host"),
    Upstream("tiled.server.logging_config:LOGGING_CONFIG", "log files in the directory"),
    Upstream("tiled.alembic_utils:stamp_head", _MAKING),
    Upstream("tiled.catalog.alembic_constants:ALEMBIC_DIR", _MAKING),
    Upstream("tiled.catalog.alembic_constants:ALEMBIC_INI_TEMPLATE_PATH", _MAKING),
    Upstream("tiled.catalog.core:initialize_database", _MAKING),
    Upstream("tiled.adapters.zarr:create_array", "files that a killed server left"),
    Upstream("tiled.adapters.zarr:ZarrArrayAdapter.init_storage", "the same", "create_array("),
    Upstream("tiled.catalog.adapter:CatalogContainerAdapter.apply_conditions", _RUNS),
    Upstream("tiled.catalog.adapter:CatalogContainerAdapter.lookup_adapter", _RUNS),
    Upstream("tiled.catalog.adapter:from_uri", _RUNS),
    Upstream("tiled.catalog.orm:Node.key", _RUNS),
    Upstream("tiled.catalog.orm:Node.parent", _RUNS),
    Upstream("tiled.catalog.orm:Node.__tablename__", "a catalogue is recognised", value="nodes"),
    Upstream("tiled.catalog.orm:Asset.__tablename__", _RELOCATION, value="assets"),
    Upstream("tiled.catalog.orm:Asset.data_uri", _RELOCATION),
    Upstream(
        "tiled.catalog.orm:DataSourceAssetAssociation.__tablename__",
        _RELOCATION,
        value="data_source_asset_association",
    ),
    Upstream("tiled.catalog.orm:DataSourceAssetAssociation.asset_id", _RELOCATION),
    Upstream("tiled.catalog.orm:DataSourceAssetAssociation.data_source_id", _FILES),
    Upstream("tiled.catalog.orm:DataSource.__tablename__", _FILES, value="data_sources"),
    *(
        Upstream(f"tiled.catalog.orm:DataSource.{column}", _FILES)
        for column in ("node_id", "structure_id", "mimetype", "parameters")
    ),
    Upstream("tiled.catalog.orm:Structure.__tablename__", _FILES, value="structures"),
    Upstream("tiled.catalog.orm:Structure.structure", _FILES),
    Upstream("tiled.catalog.orm:Node.specs", _FILES),
    Upstream("tiled.catalog.orm:Node", _FILES, 'Column("metadata"'),
    Upstream("tiled.adapters.sql:SQLAdapter.init_storage", _ROWS, "_dataset_id"),
    Upstream("tiled.adapters.sql:SQLAdapter.init_storage", _ROWS, "_partition_id"),
    Upstream("tiled.adapters.sql:SQLAdapter", _ROWS, "self.order_by_args"),
    Upstream("tiled.storage:RemoteSQLStorage.connect", _ROWS),
    Upstream("tiled.mimetypes:TILED_SQL_TABLE_MIMETYPE", _ROWS),
    Upstream(
        "tiled.server.connection_pool:get_database_engine",
        "connections that outlived a restart of PostgreSQL",
    ),
    Upstream("tiled.catalog.adapter:Context", "the same", "self.database_settings = "),
    Upstream("tiled.catalog.adapter:Context", "the same", "self.engine = "),
    Upstream("tiled.catalog.adapter:Context", "the same", "self.writable_storage"),
    Upstream(
        "sqlalchemy.dialects.postgresql.base:PGDialect",
        "large floats in PostgreSQL's JSON",
        "self._json_deserializer = ",
    ),
    Upstream("tiled.config:StreamingCacheConfig", "subscriptions to a tree of our own"),
    Upstream("tiled.authn_database.orm:Role.scopes", "roles of services"),
    Upstream("tiled.profiles:load_profiles", "the URI of a profile"),
    Upstream("tiled.profiles:list_profiles", "the URI of a profile"),
    Upstream("tiled.serialization.table:deserialize_arrow", "the index in one request"),
    Upstream("tiled.client.context:Context", "when the server last answered", "self.http_client ="),
    Upstream("tiled.client.transport:Transport", _FOLLOWING, "self.transport = transport"),
    Upstream("httpx:Client.__init__", _FOLLOWING, "self._transport = "),
    Upstream(
        "bluesky_tiled_plugins.writing.tiled_writer:RunNormalizer.subscribe",
        "the writer of the run is reached",
    ),
    Upstream(
        "bluesky_tiled_plugins.writing.tiled_writer:_RunWriter",
        "batches of a backlog, single events when live",
        "self._batch_size: int = batch_size",
    ),
    Upstream("bluesky_tiled_plugins.exporters:json_seq_exporter", "documents of a run"),
)
"""Every such name that this package uses of Tiled, bluesky-tiled-plugins and SQLAlchemy."""

DATASET, PARTITION = "_dataset_id", "_partition_id"
"""Columns of Tiled's tables that say which stream and which partition a row is of."""


def one_request_at_a_time(uri: str, timeout: float) -> None:
    """Let one request at a time have Tiled's connection to the tables.

    Writers that meet in SQLite would be told that the database is locked. (DuckDB is worse
    off: Tiled 0.2.20 gives all its threads one and the same connection at once; a thread that
    is done with it rolls it back, and with it the rows that another has appended and not
    committed yet, whose request is answered with 200 all the same.) With a pool of one, the
    next waits until the connection is given back.

    Parameters
    ----------
    uri
        Of the database of the tables.
    timeout
        Seconds that a request waits for its turn.
    """
    from sqlalchemy.pool import QueuePool
    from tiled.storage import get_storage
    from tiled.utils import ensure_uri

    storage: Any = get_storage(ensure_uri(uri))
    pool = QueuePool(
        storage._adbc_connection.adbc_clone, pool_size=1, max_overflow=0, timeout=timeout
    )
    storage.__dict__["_connection_pool"] = pool  # where its cached property keeps it


def keep_settings(app: Any, api_key: str, anonymous_read: bool) -> None:
    """Let an app keep its key when there is another one in this process.

    Tiled 0.2.20 writes the settings of each app that it makes into one object which all of them
    use: of two catalogues that a process serves, the first would refuse its own clients.

    Parameters
    ----------
    app
        What `build_app` returned.
    api_key, anonymous_read
        Its settings.
    """
    from tiled.server.settings import get_settings

    mine = {"single_user_api_key": api_key, "allow_anonymous_access": anonymous_read}
    settings = app.dependency_overrides[get_settings]().model_copy(update=mine)
    app.dependency_overrides[get_settings] = lambda: settings


def build_app(configuration: Any) -> Any:
    """Return the ASGI application of a Tiled server, for what `parse_configuration` returned."""
    from tiled.server.app import build_app_from_config

    _inspect_dependencies_once()
    return build_app_from_config(configuration)


def _inspect_dependencies_once() -> None:
    """Let FastAPI inspect the dependencies of a route once, and not with each request.

    FastAPI 0.165.0 does so for an app that overrides a dependency, as each of Tiled's does: it
    is a quarter of all that a request costs. The override is looked up before, and still is.
    """
    from fastapi.dependencies import utils

    inspect: Any = getattr(utils, "get_dependant", None)
    if inspect is None or hasattr(inspect, "__wrapped__"):  # a later FastAPI is slow, not broken
        return

    @functools.lru_cache(maxsize=8192)
    def remembered(**given: Any) -> Any:
        return inspect(**{k: list(v) if type(v) is tuple else v for k, v in given.items()})

    @functools.wraps(inspect)
    def once(**given: Any) -> Any:
        try:  # scopes are lists, which no cache takes
            return remembered(**{k: tuple(v) if type(v) is list else v for k, v in given.items()})
        except TypeError:  # nor one that is called and has no hash
            return inspect(**given)

    utils.get_dependant = once


def parse_configuration(path: Path) -> Any:
    """Return the configuration in a file; it raises what Tiled, YAML or the file raise."""
    from tiled.config import parse_configs

    return parse_configs(path)


def logging_configuration() -> dict[str, Any]:
    """Return a copy of how Tiled's server logs, for `logging.config.dictConfig`."""
    from tiled.server.logging_config import LOGGING_CONFIG

    return copy.deepcopy(LOGGING_CONFIG)


def create_catalog(database: Path) -> None:
    """Make the database of an empty catalogue: all of it, or nothing.

    Tiled offers to (``init_if_not_exists``), which takes it seconds, in a process of its own,
    table after table, and goes on when this one is killed: a process that opened the directory
    meanwhile would take half a database for a whole one.

    Parameters
    ----------
    database
        Its file. One that is there and not empty stays as it is.
    """
    if database.exists() and database.stat().st_size > 0:
        return
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.alembic_utils import stamp_head
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.catalog.core import initialize_database

    for left in database.parent.glob(f"{database.name}.new-*"):  # by one that was killed
        left.unlink()
    new = database.with_name(f"{database.name}.new-{secrets.token_hex(4)}")
    uri = f"sqlite+aiosqlite:///{new}"

    async def make() -> None:
        engine = create_async_engine(uri)
        try:
            await initialize_database(engine)
        finally:
            await engine.dispose()

    def make_and_stamp() -> None:
        asyncio.run(make())
        stamp_head(Path(ALEMBIC_INI_TEMPLATE_PATH), Path(ALEMBIC_DIR), uri)

    # In a thread: the caller may have an event loop of its own under way.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(make_and_stamp).result()
    new.replace(database)


def allow_leftover_arrays() -> None:
    """Let Tiled make an array where a server that was killed has left files of one.

    Tiled 0.2.20 makes the files of an array, and then commits the node they belong to. Of a
    server killed in between, the files are left, and each attempt to write that array again
    would fail, since files are there. Tiled has looked before whether a node is there: so no
    node owns the files in its place.
    """
    from tiled.adapters import zarr

    if not isinstance(zarr.create_array, functools.partial):
        zarr.create_array = functools.partial(zarr.create_array, overwrite=True)


def wrap_transport(context: Any, wrap: Callable[[Any], Any]) -> None:
    """Send the requests of a Tiled client through a transport of ours.

    Parameters
    ----------
    context
        Of the client.
    wrap
        Returns the transport, for the one that sends.
    """
    transport = context.http_client._transport
    transport.transport = wrap(transport.transport)


def ping_before_use(context: Any) -> None:
    """Let a catalogue in PostgreSQL test each connection before a request has it.

    Parameters
    ----------
    context
        That of a `CatalogContainerAdapter`.
    """
    from tiled.server.connection_pool import get_database_engine

    context.database_settings = dataclasses.replace(context.database_settings, pool_pre_ping=True)
    context.engine = get_database_engine(context.database_settings)


def parse_json_by(context: Any, parse: Callable[[str], Any]) -> None:
    """Let a catalogue parse the JSON of its database with a function.

    Parameters
    ----------
    context
        That of a `CatalogContainerAdapter`.
    parse
        What the text means.
    """
    dialect: Any = context.engine.sync_engine.dialect
    dialect._json_deserializer = parse


def at_checkout(storage: Any, check: Callable[[Any, Any, Any], None]) -> None:
    """Call a function with each connection to the tables before a request has it.

    Parameters
    ----------
    storage
        A `SQLStorage`.
    check
        As SQLAlchemy's event ``checkout`` has it; it raises `DisconnectionError` for a
        connection that is of no use.
    """
    from sqlalchemy import event

    event.listen(storage._connection_pool, "checkout", check)


def set_batch_size(run_writer: Any, events: int) -> None:
    """Set how many events the writer of a run collects for one request."""
    run_writer._batch_size = events

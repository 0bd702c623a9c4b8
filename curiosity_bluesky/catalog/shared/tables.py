"""Tiled's tables in PostgreSQL, with what Tiled 0.2.20 lacks where several write at once."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

from sqlalchemy.exc import DisconnectionError

from curiosity_bluesky.catalog._tiled_compat import (
    DATASET,
    PARTITION,
    RemoteSQLStorage,
    SQLAdapter,
    SQLStorage,
    at_checkout,
)

_ORDER = "_order"
"""Column that says in which order rows came; what SQLite and DuckDB call ``rowid``."""

_making = threading.Lock()
_made: set[tuple[str, str]] = set()
"""Databases and tables that this process has seen to."""


class Tables(SQLAdapter):
    """A table of a stream, whose rows come back in the order in which they were written.

    Tiled asks PostgreSQL for rows in no order but that of partitions, of which a stream has
    one. Each of its connections fills a page of its own, and pages from which rows were deleted
    are filled again: rows come back mixed up, while Tiled's arrays, which belong to them by
    number, do not. So each row gets a number from PostgreSQL here.

    Tiled also gives the index of every table the same name, so that only the first table of
    a database has one; here each has. And it drops a table that it finds empty when it has
    deleted a run, with the rows that another client wrote since it looked; here none is ever
    empty.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.storage, RemoteSQLStorage):
            # Of tables that Tiled's own adapter made.
            if (self.storage.uri, self.table_name) not in _made:
                _see_to(self.storage, self.table_name)
            # Not among the columns of the structure, which the base class would insist on.
            self.order_by_args = [*self.order_by_args, {"column": _ORDER, "direction": "asc"}]

    @classmethod
    def init_storage(cls, storage: SQLStorage, data_source: Any, path_parts: Any = None) -> Any:
        """Make the table of a new stream, if no table has its columns yet."""
        # Two that make the same one at once: PostgreSQL tells one of them that it is there,
        # IF NOT EXISTS or not.
        with _making:
            made = super().init_storage(storage, data_source, path_parts)
        if isinstance(storage, RemoteSQLStorage):
            _see_to(storage, made.parameters["table_name"])
        return made


def _see_to(storage: RemoteSQLStorage, table: str) -> None:
    """Give a table the column, the index and the row that it lacks."""
    name = f"'\"{table}\"'::regclass"
    with _making, closing(storage.connect()) as connection:
        with connection.cursor() as cursor:
            # Of several servers the first does it, the others wait and find it done.
            cursor.execute(f"SELECT pg_advisory_xact_lock(hashtext('{table}'))")
            cursor.execute(
                f"SELECT 1 FROM pg_attribute WHERE attrelid = {name} AND attname = '{_ORDER}'"
            )
            # Asked first: ALTER TABLE waits for all who read, for a backup too, and all others
            # wait for it, whether there is something to do or not.
            if cursor.fetchone() is None:
                cursor.execute(f'ALTER TABLE "{table}" ADD COLUMN "{_ORDER}" bigserial')
            cursor.execute(
                f'CREATE INDEX IF NOT EXISTS "{table[:50]}_in_order" '
                f'ON "{table}" ({DATASET}, "{_ORDER}")'
            )
            # Data sets count from 1. (No column of a stream's table has to have a value.)
            cursor.execute(
                f'INSERT INTO "{table}" ({DATASET}, {PARTITION}) SELECT 0, 0 '
                f'WHERE NOT EXISTS (SELECT FROM "{table}" WHERE {DATASET} = 0) '
                f"AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = {name} "
                f"AND attnum > 0 AND attnotnull AND attname <> '{_ORDER}')"
            )
        connection.commit()
        _made.add((storage.uri, table))


def check_connections(storage: RemoteSQLStorage) -> None:
    """Let no request have a connection to a server that was restarted meanwhile.

    Tiled 0.2.20 would hand out each of them once more, and answer 500 each time.
    """

    def ask(connection: Any, record: Any, proxy: Any) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
            connection.rollback()
        except Exception as error:  # each driver has its own
            raise DisconnectionError(str(error)) from error

    at_checkout(storage, ask)

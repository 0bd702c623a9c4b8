"""The tree of a shared catalogue, for the configuration of a Tiled server."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from curiosity_bluesky.catalog._tiled_compat import (
    TILED_SQL_TABLE_MIMETYPE,
    RemoteSQLStorage,
    StreamingCacheConfig,
    allow_leftover_arrays,
    from_uri,
    parse_json_by,
    ping_before_use,
)
from curiosity_bluesky.catalog.listing import RunsOnlyContainer
from curiosity_bluesky.catalog.shared.tables import Tables, check_connections
from curiosity_bluesky.errors import InputError


def shared_runs(
    uri: str, *, needs: Sequence[str] = (), streaming: str | None = None, **kwargs: Any
) -> RunsOnlyContainer:
    """Return the tree for Tiled's configuration, ``profiles/tiled-server/config.yml``.

    Parameters
    ----------
    uri
        Of the database of the catalogue.
    needs
        Environment variables that the configuration names. Tiled would take ``${NAME}`` for
        the value of one that is not set, the password of the administrator, too.
    streaming
        Where what was just written waits for those who subscribed to it: ``memory``, or the
        URI of a Redis. Tiled hands ``streaming_cache`` on to its own tree alone.
    **kwargs
        As for Tiled's ``catalog``.

    Raises
    ------
    InputError
        If an environment variable is not set.
    """
    unset = [name for name in needs if not os.environ.get(name)]
    if unset:
        raise InputError(
            f"{', '.join(unset)} must be set in the environment of the server; "
            "docs/shared-catalogue.md says to what"
        )
    allow_leftover_arrays()
    cache = StreamingCacheConfig(uri=streaming).model_dump() if streaming else None
    adapters = {TILED_SQL_TABLE_MIMETYPE: Tables, **kwargs.pop("adapters_by_mimetype", {})}
    plain = from_uri(uri, cache_config=cache, adapters_by_mimetype=adapters, **kwargs)
    context = plain.context
    # As for the tables: no request is to fail because PostgreSQL was restarted before it.
    ping_before_use(context)
    parse_json_by(context, from_json)
    for storage in context.writable_storage.values():
        if isinstance(storage, RemoteSQLStorage):
            check_connections(storage)
    return RunsOnlyContainer(context, plain.node)


def from_json(text: str) -> Any:
    """Return what PostgreSQL has as JSON; a float comes back as one.

    PostgreSQL writes out 1e300 with all its zeros, and Python takes that for an integer, which
    no answer of Tiled can hold: one run with such a number, as which Tiled's writer puts down
    infinity, and no client could list the runs any more.
    """
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)
